"""The cells of all tasks of a run, as the page Overview compares them; independent of Streamlit."""

import pandas as pd

from bench.mean_ranks import named


def of_task(cells: pd.DataFrame, column: str, sign: int) -> pd.DataFrame:
    """Compare the cells of a task with its best classical one.

    Args:
        cells: with their scores, see `dashboard.run.scores`.
        column: that of the metric which ranks them.
        sign: 1 where greater values are better, else -1.

    Returns:
        the lines that have a score on every image, with `label` (as mean ranks name it), `value`,
        and `gain` over the best classical cell, positive where better, with its 95 % interval
        (`low, high`); NaN without a classical cell.
    """
    whole = cells[cells["rank"].notna()]
    bounds = sign * whole[["to_classical_low", "to_classical_high"]]
    return whole.assign(
        label=[named(*one) for one in zip(whole["method"], whole["n_train"], strict=True)],
        value=whole[column],
        gain=sign * whole["to_classical"],
        low=bounds.min(axis=1),
        high=bounds.max(axis=1),
    )


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
