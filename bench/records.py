"""How each method that learns does over all tasks: against the best classical one, and the others.

A cell is compared with the best classical cell of its task, whatever that learned from, and with
the cells that had as many training images. Imports neither PyTorch nor Ray.
"""

import numpy as np
import pandas as pd

from bench.efficiency import best_classical
from bench.statistics import BEATS, LOSES, TIES, Estimate

VERDICTS = [BEATS, TIES, LOSES]
COLUMNS = ["method", "n_train", "against", "gain", "first", "lead"]


def of_task(lines: pd.DataFrame, by: Estimate) -> pd.DataFrame:
    """Compare the cells of one task that learned from training images.

    Args:
        lines: one line per cell: `cell, method, kind, n_train`.
        by: the objective of the same cells.

    Returns:
        one line per cell: `method, n_train, against` (the verdict against the best classical cell;
        missing without one), `gain` over that cell, `first` (it has the best mean of the cells with
        as many training images and of the classical ones, or is not shown to be worse than that),
        and `lead` over the best of the other cells that learned from as many images, NaN without
        one. Differences are positive where the cell is better.
    """
    lines = lines[lines["cell"].isin(by.whole)]
    mean = dict(zip(by.cells, by.sign * by.mean, strict=True))
    reference = best_classical(lines, by)
    learned = lines[(lines["kind"] != "classical") & (lines["n_train"] > 0)]
    equals = {n_train: own.tolist() for n_train, own in learned.groupby("n_train")["cell"]}
    found = []
    for cell, method, n_train in learned[["cell", "method", "n_train"]].to_numpy():
        others = [mean[one] for one in equals[n_train] if one != cell]
        best = max([*equals[n_train], *([reference] if reference else [])], key=mean.__getitem__)
        found.append(
            {
                "method": method,
                "n_train": n_train,
                "against": by.verdict(cell, reference) if reference else None,
                "gain": mean[cell] - mean[reference] if reference else np.nan,
                "first": by.verdict(cell, best) != LOSES,
                "lead": mean[cell] - max(others) if others else np.nan,
            }
        )
    return pd.DataFrame(found, columns=COLUMNS)


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Count the cells of each method, the one that is first most often at the top.

    Args:
        cells: those of all tasks, see `of_task`.

    Returns:
        one line per method: `method, cells`, the numbers of each of `VERDICTS`, `gain` (mean),
        `least` (the smallest gain), `first` (a number of cells), `lead` (mean).
    """
    verdicts = {verdict: cells["against"] == verdict for verdict in VERDICTS}
    # Without a type, the sum of a single True would be True.
    first = cells["first"].astype(int)
    by_method = cells.assign(**verdicts, first=first, share=first).groupby("method")
    table = by_method.agg(
        cells=("gain", "size"),
        **{verdict: (verdict, "sum") for verdict in VERDICTS},
        gain=("gain", "mean"),
        least=("gain", "min"),
        first=("first", "sum"),
        lead=("lead", "mean"),
        share=("share", "mean"),
    )
    table = table.sort_values(["share", "gain"], ascending=False, kind="stable")
    return table.drop(columns="share").reset_index()
