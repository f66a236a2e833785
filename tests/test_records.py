"""Counts over tasks of methods whose true order is known."""

import numpy as np
import pandas as pd
import pytest

from bench import records
from bench.statistics import Estimate, estimate

# The true means of two tasks: (method, kind, n_train) -> what it is above tv.
TASKS = [
    {("tv", "classical", 0): 0, ("strong", "learned", 10): 2, ("strong", "learned", 50): 3,
     ("weak", "learned", 10): -2, ("weak", "learned", 50): 1},
    {("tv", "classical", 0): 0, ("strong", "learned", 10): 1, ("strong", "learned", 50): -1,
     ("weak", "learned", 10): 1, ("weak", "learned", 50): -3},
]  # fmt: skip


def scored(truth: dict, sign: int) -> tuple[pd.DataFrame, Estimate]:
    """Make rows of one task, with subjects that differ more than methods do."""
    rng = np.random.default_rng(3)
    subject = rng.normal(0, 2, 30)
    rows = pd.DataFrame(
        {
            "cell": f"{method}-{n_train}", "method": method, "kind": kind, "n_train": n_train,
            "seed": 0, "subject": k, "image": k,
            "psnr": sign * (25 + gain + subject[k] + rng.normal(0, 0.2)),
        }
        for (method, kind, n_train), gain in truth.items()
        for k in range(30)
    )  # fmt: skip
    return rows.drop_duplicates("cell"), estimate(rows, "psnr", sign)


@pytest.mark.parametrize("sign", [1, -1])
def test_counts_are_those_of_the_truth(sign: int) -> None:
    cells = pd.concat([records.of_task(*scored(truth, sign)) for truth in TASKS])
    strong, weak = records.summary(cells).itertuples(index=False, name=None)
    assert strong[:5] == ("strong", 4, 3, 0, 1)
    assert weak[:5] == ("weak", 4, 2, 0, 2)
    # `strong` is behind tv in one cell; `weak` is first where both gain 1, and nowhere else.
    assert (strong[7], weak[7]) == (3, 1)
    assert strong[5:7] == pytest.approx(((2 + 3 + 1 - 1) / 4, -1), abs=0.15)
    assert (strong[8], weak[8]) == pytest.approx(((4 + 2 + 0 + 2) / 4, -2), abs=0.15)


def test_a_method_without_rivals_or_yardstick_has_neither_lead_nor_gain() -> None:
    tasks = {("strong", "learned", 10): 0}, {("tv", "classical", 0): 0}
    cells = pd.concat([records.of_task(*scored(truth, 1)) for truth in tasks])
    (only,) = records.summary(cells).itertuples()
    assert (only.cells, only.beats, str(only.first)) == (1, 0, "1")
    assert np.isnan(only.gain) and np.isnan(only.lead)
