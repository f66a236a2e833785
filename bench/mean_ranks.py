"""Mean ranks of methods over the tasks of a run, and their critical difference.

Demsar, Journal of Machine Learning Research 7, 2006: tasks are the unit, methods are ranked within
each, Friedman's test asks whether any differ, and Nemenyi's critical difference how far apart two
mean ranks must be. Imports neither PyTorch nor Ray.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import friedmanchisquare, studentized_range

ALPHA = 0.05


@dataclass(frozen=True)
class MeanRanks:
    """Mean ranks over tasks.

    Attributes:
        ranks: by method (with its training-set size), the best first.
        tasks: number of tasks.
        p: of Friedman's test; NaN with fewer than three methods.
        critical: the difference from which on two mean ranks differ.
        groups: runs of neighbours in `ranks` (indices of first and last) that do not differ.
    """

    ranks: pd.Series
    tasks: int
    p: float
    critical: float
    groups: list[tuple[int, int]]

    def sentence(self) -> str:
        """Describe them in a sentence."""
        first = f"Over {self.tasks} tasks, {self.ranks.index[0]} has the best mean rank"
        first += f" ({self.ranks.iloc[0]:.2f} of {len(self.ranks)})"
        span = self.ranks.iloc[-1] - self.ranks.iloc[0]
        few = f"; {self.tasks} tasks are few for this test" if self.tasks < 5 else ""
        if not self.p <= ALPHA or span < self.critical:
            return f"{first}, but no difference of mean ranks is shown{few}."
        apart = self.ranks.index[self.ranks - self.ranks.iloc[0] >= self.critical]
        named = ", ".join(map(str, apart[:4])) + (
            f" and {len(apart) - 4} others" if len(apart) > 4 else ""
        )
        return f"{first}; it differs from {named or 'none'} (critical difference " + (
            f"{self.critical:.2f}, Nemenyi){few}."
        )


def named(method: str, n_train: int) -> str:
    """Name a method with its training-set size; without, if it needs no training images."""
    return f"{method}, {n_train} images" if n_train else str(method)


def over_tasks(table: pd.DataFrame) -> MeanRanks | None:
    """Average the ranks of what was scored in every task; None with fewer than two of either.

    Args:
        table: one line per cell: `task, method, n_train`, and `rank` (missing if not scored on
            every image).
    """
    names = [named(*one) for one in zip(table["method"], table["n_train"], strict=True)]
    ranked = table.assign(name=names).dropna(subset=["rank"])
    wide = ranked.pivot_table(index="task", columns="name", values="rank").astype(float)
    wide = wide.dropna(axis=1)
    if len(wide) < 2 or wide.shape[1] < 2:
        return None
    ranks = wide.rank(axis=1).mean().sort_values(kind="stable")
    tasks, count = wide.shape
    enough = count > 2
    with np.errstate(invalid="ignore"):  # where all are equal
        p = float(friedmanchisquare(*wide.rank(axis=1).T.to_numpy()).pvalue) if enough else math.nan
    quantile = float(studentized_range.ppf(1 - ALPHA, count, math.inf)) / math.sqrt(2)
    critical = quantile * math.sqrt(count * (count + 1) / (6 * tasks))
    return MeanRanks(ranks, tasks, p, critical, _groups(ranks.tolist(), critical))


def _groups(ranks: list[float], critical: float) -> list[tuple[int, int]]:
    """Find the longest runs of ranks, ascending, that are closer than the critical difference."""
    runs: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = max(k for k, other in enumerate(ranks) if other - rank < critical)
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
