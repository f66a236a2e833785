"""The cells of all tasks of a run, as the page Overview compares them; independent of Streamlit."""

import numpy as np
import pandas as pd

from bench.efficiency import best_classical
from bench.mean_ranks import named
from bench.statistics import Estimate

COLUMNS = ["task", "label", "value", "gain", "low", "high", "n"]


def of_task(lines: pd.DataFrame, by: Estimate, n: int) -> pd.DataFrame:
    """Compare the cells of a task with its best classical one.

    Args:
        lines: one line per cell: `cell, task, method, kind, n_train`.
        by: the metric of the same cells.
        n: number of test images.

    Returns:
        the lines that have a score on every image, with `label` (as mean ranks name it), `value`,
        and `gain` over the best classical cell, positive where better, with its 95 % interval
        (`low, high`); NaN without a classical cell.
    """
    lines = lines[lines["cell"].isin(by.whole)]
    reference = best_classical(lines, by)
    means = pd.Series(by.mean, by.cells)
    found = []
    for cell in lines["cell"]:
        gain = (np.nan,) * 3 if reference is None else by.gain(cell, reference)
        first, *bounds = (by.sign * one for one in gain)
        found.append((means[cell], first, min(bounds), max(bounds)))
    scores = pd.DataFrame(found, columns=["value", "gain", "low", "high"], index=lines.index)
    labels = [named(*one) for one in zip(lines["method"], lines["n_train"], strict=True)]
    return lines.assign(label=labels, n=n).join(scores)


def largest(lines: pd.DataFrame, n_train: int) -> pd.DataFrame:
    """Keep one cell of each method in each task: that with the most training images.

    Args:
        lines: see `of_task`, of several tasks.
        n_train: the number of training images that are available.

    Returns:
        lines whose `label` is the method alone.
    """
    lines = lines[lines["n_train"] <= n_train].sort_values("n_train", kind="stable")
    lines = lines.drop_duplicates(["task", "method"], keep="last").sort_index()
    return lines.assign(label=lines["method"])


def ranked(lines: pd.DataFrame, sign: int) -> pd.DataFrame:
    """Rank the given cells within their tasks, and sort them by the mean of their ranks.

    Args:
        lines: see `of_task`, of several tasks.
        sign: 1 where greater values are better, else -1.
    """
    better = lines.assign(better=sign * lines["value"]).groupby("task")["better"]
    lines = lines.assign(rank=better.rank(ascending=False, method="min"))
    mean = lines.groupby("label")["rank"].transform("mean")
    return lines.assign(mean_rank=mean).sort_values(["mean_rank", "label"], kind="stable")
