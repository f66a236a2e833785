"""Best configurations that lie at the edge of their search space: the space may be too small."""

import json
import math
from typing import Any

import pandas as pd

from bench import methods
from bench.errors import UserError
from bench.spec import Benchmark

MARGIN = 0.03  # fraction of a range, at either end


def at_edge(trials: pd.DataFrame, spec: Benchmark) -> list[str]:
    """Name the cells whose best trial has a parameter at the edge of its range.

    Args:
        trials: all trials of a run.
        spec: its benchmark, which says what was searched.
    """
    if trials.empty:
        return []
    complete = trials[trials["state"] == "complete"].dropna(subset=["psnr"])
    best = complete.sort_values(["psnr", "trial"], ascending=[False, True]).groupby("cell").head(1)
    found = []
    for line in best.sort_values("cell").itertuples():
        method = next((m for m in spec.methods if str(line.cell).endswith(f"-{m.label}")), None)
        if method is None:
            continue
        try:
            space = methods.space_of(method.name, method.fixed)
        except UserError:  # a method of a package that is not installed here
            continue
        config = json.loads(str(line.config))
        found += [
            f"{line.cell}: {key} = {config[key]:g} of {entry['low']:g} to {entry['high']:g}"
            for key, entry in space.items()
            if key in config and _is_at_edge(config[key], entry)
        ]
    return found


def _is_at_edge(value: Any, entry: dict[str, Any]) -> bool:
    if "choices" in entry:
        return False
    scale = math.log if entry.get("log") else float
    low, here, high = (scale(number) for number in (entry["low"], value, entry["high"]))
    return not low + MARGIN * (high - low) <= here <= high - MARGIN * (high - low)
