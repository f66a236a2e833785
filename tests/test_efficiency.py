import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare

from bench import curves, mean_ranks
from bench.efficiency import along_levels, fewer_is_better, sample_efficiency
from bench.statistics import Estimate, estimate

SIZES = [10, 25, 50, 100, 200]


def law(n: np.ndarray) -> np.ndarray:
    return 1.0 - 5 * n**-0.5


def scored(
    rng: np.random.Generator, means: dict[int, float], subjects: int = 40, sign: int = 1
) -> tuple[pd.DataFrame, Estimate]:
    """Make a task of `tv`, of mean 25, and of `net`, whose gains are given by size."""
    difficulty = rng.normal(0, 2, subjects)
    parts = []
    for n_train, gain in {0: 0.0, **means}.items():
        for seed in range(3 if n_train else 1):
            psnr = 25 + sign * gain + difficulty + rng.normal(0, 0.3, subjects)
            psnr += rng.normal(0, 0.05) * bool(n_train)
            parts.append(
                pd.DataFrame(
                    {
                        "cell": f"n{n_train:03}",
                        "method": "net" if n_train else "tv",
                        "kind": "learned" if n_train else "classical",
                        "n_train": n_train,
                        "seed": seed,
                        "subject": range(subjects),
                        "image": range(subjects),
                        "psnr": psnr,
                    }
                )
            )
    rows = pd.concat(parts, ignore_index=True)
    return rows.drop_duplicates("cell"), estimate(rows, "psnr", sign)


def test_the_interval_contains_the_number_at_which_the_true_law_crosses() -> None:
    """The law is 0 at 25 images; where lower is better, too."""
    rng = np.random.default_rng(0)
    inside, at = [], []
    for k in range(60):
        lines, by = scored(rng, {n: float(law(np.array(n))) for n in SIZES}, sign=(-1) ** k)
        (found,) = sample_efficiency(lines, by)
        inside.append(found.overtakes[1] <= 25 <= found.overtakes[2])
        at.append(found.overtakes[0])
    assert np.mean(inside) >= 0.9
    assert np.median(at) == pytest.approx(25, rel=0.1)


def test_the_sentence_of_sample_efficiency() -> None:
    lines, by = scored(np.random.default_rng(1), {n: float(law(np.array(n))) for n in SIZES})
    (found,) = sample_efficiency(lines, by)
    at, low, high = found.overtakes
    assert found.sentence("noise 0.1") == (
        f"on noise 0.1, net overtakes tuned tv at {at:.0f} images [{low:.0f}, {high:.0f}]; the "
        f"corrected test shows it from 50 images on."
    )
    assert found.curve["low"].le(found.curve["fit"]).all()
    assert found.curve["fit"].iloc[-1] == pytest.approx(25 + law(np.array(200.0)), abs=0.8)


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (-3.0, "never overtakes tuned tv up to 200 images."),
        (3.0, "overtakes tuned tv at 10 images, the fewest that it had, or before; the corrected "
              "test shows it from 10 images on."),
    ],
)  # fmt: skip
def test_a_method_that_never_or_always_leads(shift: float, words: str) -> None:
    means = {n: float(law(np.array(n))) + shift for n in SIZES}
    lines, by = scored(np.random.default_rng(2), means)
    (found,) = sample_efficiency(lines, by)
    assert found.sentence("x") == f"on x, net {words}"


def test_a_lead_that_the_test_does_not_show_at_every_larger_size() -> None:
    lines, by = scored(np.random.default_rng(7), {10: 1.0, 25: 0.02, 50: 1.0})
    (found,) = sample_efficiency(lines, by)
    assert found.shown_at == [10, 50]
    assert found.sentence("x").endswith("the corrected test shows it at 10, 50 images only.")


def test_one_size_or_no_classical_method_has_no_sentence() -> None:
    lines, by = scored(np.random.default_rng(3), {10: 1.0})
    assert sample_efficiency(lines, by) == []
    assert sample_efficiency(lines.assign(kind="learned"), by) == []


def test_fewer_images_that_are_better_are_pointed_out_with_a_cause() -> None:
    lines, by = scored(np.random.default_rng(4), {10: 0.5, 25: 1.0, 50: 0.5})
    for rise, cause in ((0.2, "steps, not images, were"), (0.0, "curve had flattened")):
        curve = pd.DataFrame(
            {"cell": "n050", "seed": 0, "step": range(1, 9), "psnr": 20 + rise * np.arange(8)}
        )
        (sentence,) = fewer_is_better("x", lines, by, curves.gains(curve), "{:.1f}".format)
        assert sentence.startswith("x: net is better with 25 training images than with 50, by 0.")
        assert cause in sentence
    none = curves.gains(curve[:0])
    assert "no validation curve" in fewer_is_better("x", lines, by, none, str)[0]
    fitted = lines.assign(kind=lines["kind"].replace("learned", "fitted"))
    assert "takes no optimiser steps" in fewer_is_better("x", fitted, by, none, str)[0]


def test_along_levels() -> None:
    rng = np.random.default_rng(5)
    gains = {0.1: -1.0, 0.2: -0.5, 0.4: 0.5, 0.8: 1.0}
    tasks = {level: scored(rng, {10: gain - 9, 25: gain}) for level, gain in gains.items()}
    (sentence,) = along_levels(tasks, "noise")
    assert "on noise, net (25 training images) overtakes the best classical method" in sentence
    at = float(sentence.partition("at level ")[2].split()[0])
    assert at == pytest.approx(math.sqrt(0.2 * 0.4), rel=0.1)
    assert "from there upwards" in sentence
    (sentence,) = along_levels({0.4: tasks[0.4], 0.8: tasks[0.8]}, "noise")
    assert "at every level from 0.4 to 0.8" in sentence
    assert along_levels({0.4: tasks[0.4]}, "noise") == []


def test_mean_ranks_and_their_critical_difference_are_demsars() -> None:
    """The critical difference of 4 methods on 14 tasks is 1.25 in the paper's example."""
    rng = np.random.default_rng(6)
    scores = rng.normal([0, 0.2, 2, 2.2], 0.5, (14, 4))
    ranks = (-scores).argsort(axis=1).argsort(axis=1) + 1
    table = pd.DataFrame(
        [(t, f"m{k}", 0, ranks[t, k]) for t in range(14) for k in range(4)],
        columns=["task", "method", "n_train", "rank"],
    )
    found = mean_ranks.over_tasks(table)
    assert found is not None
    assert found.critical == pytest.approx(1.25, abs=0.01)
    assert found.p == pytest.approx(friedmanchisquare(*ranks.T).pvalue)
    assert found.ranks["m3"] == pytest.approx(ranks[:, 3].mean())
    assert [set(found.ranks.index[a : b + 1]) for a, b in found.groups] == [
        {"m3", "m2"}, {"m1", "m0"},
    ]  # fmt: skip
    assert "differs from" in found.sentence()
    assert mean_ranks.over_tasks(table[table["task"] == 0]) is None
