"""Means over the test images of a task, their confidence intervals, and comparisons of its cells.

The test images of one subject are not independent, so subjects are resampled, not images
(cluster bootstrap). All cells of a task are scored on the same images, so they share each
resample: differences and ranks are paired.

Imports neither PyTorch nor Ray: report and dashboard both take numbers and verdicts from here.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from scipy.stats import rankdata

from bench.errors import UserError

RESAMPLES = 2000
CONFIDENCE = 0.95
TAILS = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
BEATS, TIES, LOSES = "beats", "ties with", "loses to"
# The metric that is defined for every finite reconstruction.
ALWAYS = "psnr"


@dataclass(frozen=True)
class Estimate:
    """The mean of a metric for each cell of a task, and its distribution over resamples.

    Attributes:
        cells: their ids, sorted.
        mean: over test images and seeds.
        resampled: the mean in each resample of the subjects, shared by all cells.
        sign: 1 where greater values are better, -1 where lower ones are.
        unscored: by cell, the images on which one of its refits has no finite score. The mean of
            such a cell is over its other images and cannot be compared with other cells': it has
            neither a rank nor a gain.
    """

    cells: list[str]
    mean: Float64[np.ndarray, " cells"]
    resampled: Float64[np.ndarray, "cells resamples"]
    sign: int = 1
    unscored: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def whole(self) -> list[str]:
        """The cells with a score on every image."""
        means = zip(self.cells, self.mean, strict=True)
        return [cell for cell, mean in means if cell not in self.unscored and np.isfinite(mean)]

    @property
    def low(self) -> Float64[np.ndarray, " cells"]:
        """Lower bounds of the 95 % intervals."""
        return self._bounds[0]

    @property
    def high(self) -> Float64[np.ndarray, " cells"]:
        """Upper bounds of the 95 % intervals."""
        return self._bounds[1]

    @cached_property
    def _bounds(self) -> Float64[np.ndarray, "2 cells"]:
        bounds = np.percentile(self.resampled, TAILS, axis=1)
        # A cell with few scores has none in some resamples; one without any score has no bounds.
        some = np.isnan(bounds[0]) & np.isfinite(self.resampled).any(axis=1)
        if some.any():
            bounds[:, some] = np.nanpercentile(self.resampled[some], TAILS, axis=1)
        return bounds

    def rank_interval(self) -> Int64[np.ndarray, "2 whole"]:
        """Bound the rank of each of `whole`, 1 for the best mean, with 95 % confidence."""
        count = len(self.whole)
        resampled = self.resampled[[self.cells.index(cell) for cell in self.whole]]
        if np.isnan(resampled).any() or not count:
            return np.array([[1] * count, [count] * count], dtype=np.int64)
        ranks = rankdata(-self.sign * resampled, axis=0, method="min")
        return np.percentile(ranks, TAILS, axis=1, method="nearest").astype(np.int64)

    def gain(self, cell: str, over: str) -> tuple[float, float, float]:
        """Return the mean difference of two of `whole`, `cell` - `over`, and its 95 % interval.

        Raises:
            ValueError: one of them has no score on some image.
        """
        if cell not in self.whole or over not in self.whole:
            raise ValueError(f"{cell} and {over} were not both scored on every image")
        a, b = self.cells.index(cell), self.cells.index(over)
        low, high = np.percentile(self.resampled[a] - self.resampled[b], TAILS)
        return float(self.mean[a] - self.mean[b]), float(low), float(high)

    def verdict(self, cell: str, over: str) -> str:
        """State in words how two of `whole` compare: a tie is a difference that may be 0.

        Raises:
            ValueError: one of them has no score on some image.
        """
        _, *bounds = self.gain(cell, over)
        low, high = sorted(self.sign * bound for bound in bounds)
        return BEATS if low > 0 else LOSES if high < 0 else TIES


def compare(lines: pd.DataFrame, by: Estimate) -> pd.DataFrame:
    """Rank the cells of a task and say how they compare.

    Args:
        lines: one line per cell: `cell, method, kind`.
        by: the metric of the same cells by which they are compared.

    Returns:
        the lines, in their order, with `rank, rank_low, rank_high` (missing for a cell that is not
        whole), `tied_with_best` (it is the best, or the difference to it may be 0), and for each
        method that learns `against_classical`: how it compares with the best classical method.
    """
    whole = by.whole
    mean = by.sign * pd.Series(by.mean, by.cells)[whole]
    ranks = pd.DataFrame(index=by.cells)
    ranks["rank"] = mean.rank(ascending=False, method="min")
    for name, bounds in zip(("rank_low", "rank_high"), by.rank_interval(), strict=True):
        ranks[name] = pd.Series(bounds, whole)
    ranks = ranks.astype("Int64")
    best = str(mean.idxmax()) if whole else ""
    ranks["tied_with_best"] = [
        cell in mean.index and by.verdict(best, cell) != BEATS for cell in by.cells
    ]
    verdicts = {}
    classical = lines[(lines["kind"] == "classical") & lines["cell"].isin(whole)]
    if len(classical):
        reference = str(mean[classical["cell"]].idxmax())
        name = classical.set_index("cell")["method"][reference]
        learned = lines["cell"][(lines["kind"] != "classical") & lines["cell"].isin(whole)]
        verdicts = {cell: f"{by.verdict(cell, reference)} {name}" for cell in learned}
    ranks["against_classical"] = [verdicts.get(cell, "") for cell in by.cells]
    return lines.drop(columns=ranks.columns, errors="ignore").join(ranks, on="cell")


def estimate(rows: pd.DataFrame, metric: str, sign: int = 1) -> Estimate:
    """Average a metric for each cell of one task.

    A cell has no score on an image if its reconstruction, and with it `psnr`, is not finite. An
    image on which the metric is undefined for every cell (a metric of the foreground, on an image
    without foreground) is left out for all cells.

    Args:
        rows: the rows of one task: `cell, subject, image`, `psnr`, the metric.
        metric: the column.
        sign: 1 where greater values are better, -1 where lower ones are.

    Raises:
        UserError: the cells were not all scored on the same images.
    """
    cell, cells = pd.factorize(rows["cell"], sort=True)
    image, images = pd.factorize(rows["image"], sort=True)
    index = cell * len(images) + image
    counts = np.bincount(index, minlength=len(cells) * len(images))
    if not counts.all():
        other = cells[int(np.argmin(counts)) // len(images)]
        raise UserError(f"rows/{other}: lacks test images that other cells of its task have")

    def per_image(column: str) -> Float64[np.ndarray, "cells images"]:
        """Average over the refits, in an order that does not depend on that of the rows."""
        values = rows[column].to_numpy(dtype=float)
        values = np.where(np.isfinite(values), values, np.nan)
        order = np.lexsort((values, index))
        sums = np.bincount(index[order], values[order], minlength=len(counts))
        return (sums / counts).reshape(len(cells), len(images))

    values = per_image(metric)
    missing, broken = np.isnan(values), np.isnan(per_image(ALWAYS))
    defined = ~missing.all(axis=0)
    unscored = {
        str(name): [str(one) for one in images[without]]
        for name, without in zip(cells, broken | (missing & defined), strict=True)
        if without.any()
    }
    subject = rows.groupby("image", sort=True)["subject"].first().to_numpy()
    sums, scored = _by_subject(values[:, defined], subject[defined])
    mean = _ratio(sums.sum(axis=1), scored.sum(axis=1))
    if sums.shape[1] < 2:  # one subject gives no interval
        resampled = np.full((len(cells), 1), np.nan)
    else:
        weights = _resamples(sums.shape[1])
        # Not by BLAS, which may round equal cells differently, so that they would not tie.
        resampled = _ratio(*(np.einsum("cs,rs->cr", part, weights) for part in (sums, scored)))
    return Estimate([str(name) for name in cells], mean, resampled, sign, unscored)


def _by_subject(
    values: Float64[np.ndarray, "cells images"], subject: np.ndarray
) -> tuple[Float64[np.ndarray, "cells subjects"], Float64[np.ndarray, "cells subjects"]]:
    """Sum the finite values of each subject, and count them."""
    code, subjects = pd.factorize(subject, sort=True)
    sums = np.zeros((len(subjects), len(values)))
    counts = np.zeros_like(sums)
    np.add.at(sums, code, np.nan_to_num(values.T))
    np.add.at(counts, code, np.isfinite(values.T))
    return sums.T.copy(), counts.T.copy()


def _resamples(subjects: int) -> Float64[np.ndarray, "resamples subjects"]:
    """Draw the resamples: how often each subject is in each of them."""
    drawn = np.random.default_rng(0).integers(0, subjects, (RESAMPLES, subjects))
    weights = np.zeros((RESAMPLES, subjects))
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], drawn), 1)
    return weights


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # of a cell without any score
        return sums / counts
