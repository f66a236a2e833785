"""Means over the test images of a task, and how sure they are.

The test images of one subject are not independent, so subjects are resampled, not images
(cluster bootstrap). All cells of a task are scored on the same images, so they share each
resample: differences and ranks are paired.
"""

import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy.stats import DegenerateDataWarning, bootstrap, rankdata

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
        unscored: the images on which a cell has no finite score, in some refit. Its mean is that
            of its other images, which compares with no other cell's: it has neither a rank nor a
            gain.
    """

    cells: list[str]
    mean: Float64[np.ndarray, " cells"]
    resampled: Float64[np.ndarray, "cells resamples"]
    unscored: dict[str, list[str]] = field(default_factory=dict)

    @property
    def whole(self) -> list[str]:
        """The cells with a score on every image."""
        return [cell for cell in self.cells if cell not in self.unscored]

    @property
    def low(self) -> Float64[np.ndarray, " cells"]:
        """Lower bounds of the 95 % intervals."""
        return self._percentile(TAILS[0])

    @property
    def high(self) -> Float64[np.ndarray, " cells"]:
        """Upper bounds of the 95 % intervals."""
        return self._percentile(TAILS[1])

    def _percentile(self, tail: float) -> Float64[np.ndarray, " cells"]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN")  # nothing is known of such a cell
            return np.nanpercentile(self.resampled, tail, axis=1)

    def rank_interval(self) -> Int64[np.ndarray, "2 whole"]:
        """Bound the rank of each of `whole`, 1 for the greatest mean, with 95 % confidence."""
        count = len(self.whole)
        resampled = self.resampled[[self.cells.index(cell) for cell in self.whole]]
        if np.isnan(resampled).any() or not count:
            return np.array([[1] * count, [count] * count], dtype=np.int64)
        ranks = rankdata(-resampled, axis=0, method="min")
        return np.percentile(ranks, TAILS, axis=1, method="nearest")

    def gain(self, cell: str, over: str) -> tuple[float, float, float]:
        """Return the mean difference of two of `whole` and its 95 % interval.

        Raises:
            ValueError: one of them has no score on some image.
        """
        if {cell, over} & self.unscored.keys():
            raise ValueError(f"{cell} and {over} were not both scored on every image")
        a, b = self.cells.index(cell), self.cells.index(over)
        low, high = np.percentile(self.resampled[a] - self.resampled[b], TAILS)
        return float(self.mean[a] - self.mean[b]), float(low), float(high)


def estimate(rows: pd.DataFrame, metric: str) -> Estimate:
    """Average a metric for each cell of one task, over the images on which it is finite.

    Args:
        rows: the rows of one task.
        metric: the column.

    Raises:
        ValueError: the cells were not all scored on the same images.
    """
    if len(rows.groupby("cell")["image"].agg(frozenset).unique()) > 1:
        raise ValueError("the cells of a task were scored on different images")
    finite = rows[metric].where(np.isfinite(rows[metric].astype(float)))
    per_image = finite.groupby([rows[key] for key in ("cell", "subject", "image")]).mean()
    per_subject = per_image.groupby(level=["cell", "subject"])
    sums = per_subject.sum().unstack("subject").to_numpy(dtype=float)
    counts = per_subject.count().unstack("subject").to_numpy(dtype=float)
    cells = sorted(rows["cell"].unique())
    lacking = rows[finite.isna()].groupby("cell")["image"].unique()
    unscored = {str(cell): list(map(str, images)) for cell, images in lacking.items()}

    def mean_over(subjects: np.ndarray, axis: int = -1) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # of a cell without any score
            return sums[:, subjects].sum(axis=-1) / counts[:, subjects].sum(axis=-1)

    every = np.arange(counts.shape[1])
    if len(every) < 2:  # one subject says nothing about others
        return Estimate(cells, mean_over(every), np.full((len(cells), 1), np.nan), unscored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of a cell without any score
        result = bootstrap(
            (every,),
            mean_over,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=200,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    return Estimate(cells, mean_over(every), result.bootstrap_distribution, unscored)
