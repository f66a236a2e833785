"""Best configurations that lie at the edge of their search space: the space may be too small.

The search spaces are read from the run's manifest. Looking them up by the names of the methods
would import the code that a run folder, perhaps a stranger's, names.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench.score_columns import STANDARD, ScoreColumn
from search_spaces import Space

MARGIN = 0.03  # fraction of a range, at either end


def at_edge(
    trials: pd.DataFrame,
    methods: Mapping[str, str],
    spaces: Mapping[str, Space],
    objective: ScoreColumn = STANDARD["psnr"],
) -> list[str]:
    """Name the cells whose best trial has a parameter at the edge of its range.

    Args:
        trials: all trials of a run.
        methods: the label of each cell's method; a cell without one is skipped.
        spaces: search space by the label of the method; a method without one is skipped.
        objective: the metric that decides which trial is the best.
    """
    best = best_trials(trials, objective)
    found = []
    for cell in sorted(best):
        config, space = best[cell], spaces.get(methods.get(cell, ""), {})
        found += [
            f"{cell}: {key} = {config[key]:g} of {entry['low']:g} to {entry['high']:g}"
            for key, entry in space.items()
            if key in config and _is_at_edge(config[key], entry)
        ]
    return found


def best_trials(
    trials: pd.DataFrame, objective: ScoreColumn = STANDARD["psnr"]
) -> dict[str, dict[str, Any]]:
    """Return the configuration of each cell's best trial, which its refits have."""
    if trials.empty:
        return {}
    complete = trials[trials["state"] == "complete"].dropna(subset=[objective.name])
    ordered = complete.sort_values(
        [objective.name, "trial"], ascending=[objective.direction == "lower", True]
    )
    best = ordered.groupby("cell").head(1)
    return {
        str(cell): json.loads(str(config))
        for cell, config in zip(best["cell"], best["config"], strict=True)
    }


def _is_at_edge(value: Any, entry: dict[str, Any]) -> bool:
    if "choices" in entry:
        return False
    scale = math.log if entry.get("log") else float
    low, here, high = (scale(number) for number in (entry["low"], value, entry["high"]))
    return not low + MARGIN * (high - low) <= here <= high - MARGIN * (high - low)
