import json

import pandas as pd
import pytest

from bench import methods
from bench.edges import at_edge

SPACES = {
    "tv": methods.find("tv").space(),
    "nlm": methods.find("nlm").space(),
    "held": methods.find("tv").space({"weight": 0.05}),
}

METHODS = {f"template-gaussian_noise-0.1-n0-{name}": name for name in ("tv", "my-tv", "held")}


def trial(cell: str, number: int, psnr: float, state: str = "complete", **config: float) -> dict:
    return {
        "cell": cell, "trial": number, "psnr": psnr, "state": state, "config": json.dumps(config),
    }  # fmt: skip


@pytest.mark.parametrize(("weight", "named"), [(0.051, True), (4.9, True), (0.7, False)])
def test_only_the_best_trial_counts(weight: float, named: bool) -> None:
    cell = "template-gaussian_noise-0.1-n0-tv"
    trials = pd.DataFrame(
        [
            trial(cell, 0, 20.0, weight=5.0),
            trial(cell, 1, 25.0, weight=weight),
            trial(cell, 2, 30.0, "pruned", weight=0.05),
        ]
    )
    found = at_edge(trials, METHODS, SPACES)
    assert found == ([f"{cell}: weight = {weight:g} of 0.05 to 5"] if named else [])


def test_the_space_is_that_of_the_whole_label() -> None:
    line = trial("template-gaussian_noise-0.1-n0-my-tv", 0, 20.0, weight=0.05)
    spaces = {**SPACES, "my-tv": {"weight": {"low": 0.0, "high": 0.1, "default": 0.05}}}
    assert at_edge(pd.DataFrame([line]), METHODS, spaces) == []


def test_what_was_held_fixed_or_never_tried_is_not_named() -> None:
    assert at_edge(pd.DataFrame(), METHODS, SPACES) == []
    held = trial("template-gaussian_noise-0.1-n0-held", 0, 20.0, weight=0.05)
    assert at_edge(pd.DataFrame([held]), METHODS, SPACES) == []
