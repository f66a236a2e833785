"""Means over the test images of a task, and how sure they are.

The test images of one subject are not independent, so subjects are resampled, not images
(cluster bootstrap). All cells of a task are scored on the same images, so they share each
resample: differences and ranks are paired.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy.stats import bootstrap, rankdata

RESAMPLES = 2000
CONFIDENCE = 0.95
TAILS = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]


@dataclass(frozen=True)
class Estimate:
    """A metric of each cell of a task.

    Attributes:
        cells: their ids.
        mean: over test images and seeds.
        resampled: the mean in each resample of the subjects, shared by all cells.
    """

    cells: list[str]
    mean: Float64[np.ndarray, " cells"]
    resampled: Float64[np.ndarray, "cells resamples"]

    @property
    def low(self) -> Float64[np.ndarray, " cells"]:
        """Lower bounds of the 95 % intervals."""
        return np.percentile(self.resampled, TAILS[0], axis=1)

    @property
    def high(self) -> Float64[np.ndarray, " cells"]:
        """Upper bounds of the 95 % intervals."""
        return np.percentile(self.resampled, TAILS[1], axis=1)

    def rank_interval(self) -> Int64[np.ndarray, "2 cells"]:
        """Bound each cell's rank, 1 for the greatest mean, with 95 % confidence."""
        if np.isnan(self.resampled).any():
            return np.array([[1] * len(self.cells), [len(self.cells)] * len(self.cells)])
        ranks = rankdata(-self.resampled, axis=0, method="min")
        return np.percentile(ranks, TAILS, axis=1, method="nearest")

    def gain(self, cell: str, over: str) -> tuple[float, float, float]:
        """Return the mean difference of two cells and its 95 % interval."""
        a, b = self.cells.index(cell), self.cells.index(over)
        low, high = np.percentile(self.resampled[a] - self.resampled[b], TAILS)
        return float(self.mean[a] - self.mean[b]), float(low), float(high)


def estimate(rows: pd.DataFrame, metric: str) -> Estimate:
    """Average a metric for each cell of one task.

    Args:
        rows: the rows of one task.
        metric: the column.

    Raises:
        ValueError: the cells were not all scored on the same images.
    """
    if len(rows.groupby("cell")["image"].agg(frozenset).unique()) > 1:
        raise ValueError("the cells of a task were scored on different images")
    per_image = rows.groupby(["cell", "subject", "image"])[metric].mean()
    per_subject = per_image.groupby(level=["cell", "subject"])
    sums = per_subject.sum().unstack("subject").to_numpy(dtype=float)
    counts = per_subject.size().unstack("subject").to_numpy(dtype=float)[0]
    cells = sorted(rows["cell"].unique())

    def mean_over(subjects: np.ndarray, axis: int = -1) -> np.ndarray:
        return sums[:, subjects].sum(axis=-1) / counts[subjects].sum(axis=-1)

    every = np.arange(len(counts))
    if len(every) < 2:  # one subject says nothing about others
        return Estimate(cells, mean_over(every), np.full((len(cells), 1), np.nan))
    result = bootstrap(
        (every,),
        mean_over,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=200,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Estimate(cells, mean_over(every), result.bootstrap_distribution)
