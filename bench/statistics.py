"""Means over the test images of a task, their intervals, and comparisons of its cells.

The unit is one subject under one training seed. Images of one subject are not independent, so they
are joined to the subject's contribution to the mean. Subjects and seeds are two crossed random
factors, like cases and readers in a study of observers: the variance of a mean is that between
subjects plus that between seeds, each divided by its number, and an interval is Student's, with
Satterthwaite's degrees of freedom (Hillis, Statistics in Medicine 26(3), 2007, for readers and
cases). Differences of two cells are taken within each subject. With one seed, an interval does not
know how much another training would change.

A verdict uses a corrected test. For each pair of cells, p is the larger of that of the interval and
that of Wilcoxon's signed-rank test over the subjects: a difference must hold for other trainings,
and must not rest on a few subjects. Holm's correction (Scand. J. Statist. 6(2), 1979) is over all
pairs of cells of the task, since the best cell is itself chosen from the scores. A cell's rank is
bounded by the numbers of cells that beat it and that it beats.

Imports neither PyTorch nor Ray: report and dashboard both take numbers and verdicts from here.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from scipy.special import stdtr, stdtrit

from bench import signed_rank
from bench.errors import UserError

CONFIDENCE = 0.95
ALPHA = 1 - CONFIDENCE
BEATS, TIES, LOSES = "beats", "ties with", "loses to"
# The metric that is defined for every finite reconstruction.
ALWAYS = "psnr"
CHUNK = 2**18  # numbers that are compared at once; more would leave the cache
# Columns that `compare` adds: differences to the best cell, and to the best classical one.
DIFFERENCES = [
    f"{name}{end}" for name in ("to_best", "to_classical") for end in ("", "_low", "_high", "_p")
]


@dataclass(frozen=True)
class Estimate:
    """The mean of a metric for each cell of a task, and how sure it is.

    Attributes:
        cells: their ids, sorted.
        mean: over test images and seeds.
        units: the contribution of each subject to the mean, averaged over the seeds; the mean of a
            cell's units is its `mean`. NaN for a subject without any score.
        between_seeds: the part of each mean's variance that is due to the seeds; 0 with one seed.
        spread: what that part adds to Satterthwaite's denominator: its square by its degrees of
            freedom.
        sign: 1 where greater values are better, -1 where lower ones are.
        unscored: by cell, the images on which one of its refits has no finite score. The mean of
            such a cell is over its other images and cannot be compared with other cells': it has
            neither a rank nor a gain.
    """

    cells: list[str]
    mean: Float64[np.ndarray, " cells"]
    units: Float64[np.ndarray, "cells subjects"]
    between_seeds: Float64[np.ndarray, " cells"]
    spread: Float64[np.ndarray, " cells"]
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
        return self.mean - self._half

    @property
    def high(self) -> Float64[np.ndarray, " cells"]:
        """Upper bounds of the 95 % intervals."""
        return self.mean + self._half

    @cached_property
    def _half(self) -> Float64[np.ndarray, " cells"]:
        variance, freedom = _variance(self.units, self.between_seeds, self.spread)
        return _half_width(variance, freedom)

    @property
    def subjects_needed(self) -> int:
        """Number of subjects with which Wilcoxon's test of one pair can survive the correction.

        With n subjects its smallest p is 2^(1-n).
        """
        pairs = len(self.whole) * (len(self.whole) - 1) // 2
        return 1 + math.ceil(math.log2(max(pairs, 1) / ALPHA))

    def gain(self, cell: str, over: str) -> tuple[float, float, float]:
        """Return the mean difference of two of `whole`, `cell` - `over`, and its 95 % interval.

        Raises:
            ValueError: one of them has no score on some image.
        """
        a, b = self._index(cell, over)
        gain, low, high = self._gains([a], b)[:, 0].tolist()
        return gain, low, high

    def differences(self, over: str) -> Float64[np.ndarray, "whole 4"]:
        """Return the mean difference of each of `whole` to one of them, the ends of its 95 %
        interval, and its corrected p.
        """
        gains = self._gains(self._index(*self.whole), *self._index(over))
        return np.stack([*gains, self._corrected[self._among_whole[over]]], axis=1)

    def _gains(self, a: list[int], b: int) -> Float64[np.ndarray, "3 cells"]:
        variance, freedom = _variance(
            self.units[a] - self.units[b],
            self.between_seeds[a] + self.between_seeds[b],
            self.spread[a] + self.spread[b],
        )
        gain = self.mean[a] - self.mean[b]
        half = np.where(np.equal(a, b), 0, _half_width(variance, freedom))
        return np.stack([gain, gain - half, gain + half])

    def p_value(self, cell: str, over: str) -> float:
        """Return the corrected p of the difference of two of `whole`.

        Raises:
            ValueError: one of them has no score on some image.
        """
        self._index(cell, over)
        return float(self._corrected[self._among_whole[cell], self._among_whole[over]])

    def verdict(self, cell: str, over: str) -> str:
        """State in words how two of `whole` compare, by the corrected test.

        Raises:
            ValueError: one of them has no score on some image.
        """
        if self.p_value(cell, over) > ALPHA:
            return TIES
        a, b = self._index(cell, over)
        return BEATS if self.sign * (self.mean[a] - self.mean[b]) > 0 else LOSES

    def rank_interval(self) -> Int64[np.ndarray, "2 whole"]:
        """Bound the rank of each of `whole`, 1 for the best mean: all bounds hold together with
        95 % confidence.
        """
        mean = self.sign * self.mean[self._index(*self.whole)]
        wins = (self._corrected <= ALPHA) & (mean[:, None] > mean)
        return np.stack([1 + wins.sum(axis=0), len(mean) - wins.sum(axis=1)])

    def _index(self, *cells: str) -> list[int]:
        if any(cell not in self._among_whole for cell in cells):
            raise ValueError(f"{' and '.join(cells)} were not both scored on every image")
        return [self.cells.index(cell) for cell in cells]

    @cached_property
    def _among_whole(self) -> dict[str, int]:
        return {cell: place for place, cell in enumerate(self.whole)}

    @cached_property
    def _corrected(self) -> Float64[np.ndarray, "whole whole"]:
        """The corrected p of every pair of `whole`."""
        chosen = self._index(*self.whole)
        units, mean = self.units[chosen], self.mean[chosen]
        seeds, spread = self.between_seeds[chosen], self.spread[chosen]
        a, b = np.triu_indices(len(chosen), 1)
        p = np.empty(len(a))
        for start in range(0, len(a), step := max(1, CHUNK // max(units.shape[1], 1))):
            part = slice(start, start + step)
            i, j = a[part], b[part]
            difference = units[i] - units[j]
            variance, freedom = _variance(difference, seeds[i] + seeds[j], spread[i] + spread[j])
            student = _student(mean[i] - mean[j], variance, freedom)
            p[part] = np.maximum(student, signed_rank.p_values(difference))
        matrix = np.ones((len(chosen), len(chosen)))
        matrix[a, b] = matrix[b, a] = holm(p)
        return matrix


def holm(p: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """Correct p-values for their number, after Holm."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    steps = np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * steps))
    return corrected


def compare(lines: pd.DataFrame, by: Estimate) -> pd.DataFrame:
    """Rank the cells of a task and say how they compare.

    Args:
        lines: one line per cell: `cell, method, kind`.
        by: the metric of the same cells by which they are compared.

    Returns:
        the lines, in their order, with `rank, rank_low, rank_high` (missing for a cell that is not
        whole), `tied_with_best` (it is the best, or not shown to differ from it), for each method
        that learns `against_classical`: how it compares with the best classical method, and
        `DIFFERENCES`: the differences to the best and to the best classical cell, their intervals
        and corrected p.
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
    reference = ""
    if len(classical):
        reference = str(mean[classical["cell"]].idxmax())
        name = classical.set_index("cell")["method"][reference]
        learned = lines["cell"][(lines["kind"] != "classical") & lines["cell"].isin(whole)]
        verdicts = {cell: f"{by.verdict(cell, reference)} {name}" for cell in learned}
    ranks["against_classical"] = [verdicts.get(cell, "") for cell in by.cells]
    differences = np.full((len(by.cells), 2, 4), np.nan)
    for k, other in enumerate((best, reference)):
        if other:
            differences[np.isin(by.cells, whole), k] = by.differences(other)
    ranks[DIFFERENCES] = differences.reshape(len(by.cells), len(DIFFERENCES))
    return lines.drop(columns=ranks.columns, errors="ignore").join(ranks, on="cell")


def estimate(rows: pd.DataFrame, metric: str, sign: int = 1) -> Estimate:
    """Average a metric for each cell of one task.

    A cell has no score on an image if its reconstruction, and with it `psnr`, is not finite. An
    image on which the metric is undefined for every cell (a metric of the foreground, on an image
    without foreground) is left out for all cells.

    Args:
        rows: the rows of one task: `cell, seed, subject, image`, `psnr`, the metric.
        metric: the column.
        sign: 1 where greater values are better, -1 where lower ones are.

    Raises:
        UserError: the cells were not all scored on the same images.
    """
    cell, cells = pd.factorize(rows["cell"], sort=True)
    seed, seeds = pd.factorize(rows["seed"], sort=True)
    image, images = pd.factorize(rows["image"], sort=True)
    refits, refit = np.unique(cell * len(seeds) + seed, return_inverse=True)
    owner = refits // len(seeds)  # the cell of each refit
    index = refit * len(images) + image
    counts = np.bincount(index, minlength=len(refits) * len(images))
    if not counts.all():
        other = cells[owner[int(np.argmin(counts)) // len(images)]]
        raise UserError(f"rows/{other}: lacks test images that other cells of its task have")

    def scores(column: str) -> Float64[np.ndarray, "refits images"]:
        values = rows[column].to_numpy(dtype=float)
        values = np.where(np.isfinite(values), values, np.nan)
        table = np.bincount(index, values, minlength=len(counts)) / counts
        return table.reshape(len(refits), len(images))

    values = scores(metric)
    missing, broken = (_any(np.isnan(one), owner) for one in (values, scores(ALWAYS)))
    defined = ~missing.all(axis=0)
    unscored = {
        str(name): [str(one) for one in images[without]]
        for name, without in zip(cells, broken | (missing & defined), strict=True)
        if without.any()
    }
    subject = rows.groupby("image", sort=True)["subject"].first().to_numpy()[defined]
    code, subjects = pd.factorize(subject, sort=True)
    values, scored = values[:, defined], ~missing[:, defined]
    units = np.full((len(cells), len(subjects)), np.nan)
    mean = np.full(len(cells), np.nan)
    contributions = []
    for one in range(len(cells)):
        mine, present = _contributions(values[owner == one], scored[one], code, len(subjects))
        contributions.append(mine)
        if mine.size:
            units[one, present] = mine.mean(axis=0)
            mean[one] = mine.mean()
    between_seeds, spread = _between_seeds(contributions)
    names = [str(name) for name in cells]
    return Estimate(names, mean, units, between_seeds, spread, sign, unscored)


def _any(
    flags: Bool[np.ndarray, "refits images"], owner: Int64[np.ndarray, " refits"]
) -> Bool[np.ndarray, "cells images"]:
    """Return for each cell, whose refits follow each other, what is true for any refit."""
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.logical_or.reduceat(flags, starts, axis=0) if len(flags) else flags


def _contributions(
    values: Float64[np.ndarray, "seeds images"],
    scored: Bool[np.ndarray, " images"],
    code: Int64[np.ndarray, " images"],
    subjects: int,
) -> tuple[Float64[np.ndarray, "seeds scored_subjects"], Bool[np.ndarray, " subjects"]]:
    """Join the images of each subject to its contribution to the mean over images.

    A subject with more images weighs more: its contribution is the mean plus its distance from the
    mean, by its number of images over the average number. Subjects without a score are left out;
    also returns which have one.
    """
    count = np.bincount(code[scored], minlength=subjects)
    present = count > 0
    if not present.any():
        return np.empty((len(values), 0)), present
    sums = np.stack([np.bincount(code[scored], one[scored], minlength=subjects) for one in values])
    mean = sums.sum() / (len(values) * count.sum())
    weight = present.sum() / count.sum()
    return mean + weight * (sums - mean * count)[:, present], present


def _between_seeds(
    contributions: list[np.ndarray],
) -> tuple[Float64[np.ndarray, " cells"], Float64[np.ndarray, " cells"]]:
    """Estimate the part of each mean's variance that is due to seeds, and its `spread`.

    A few seeds estimate it badly: by luck it may seem to be next to nothing. So it is the larger of
    the cell's own estimate and that of all cells of the task that have several seeds.
    """
    found = {
        k: _mean_squares(units) for k, units in enumerate(contributions) if min(units.shape) > 1
    }
    part, spread = np.zeros((2, len(contributions)))
    if not found:
        return part, spread
    squares, freedom = (np.array([one[k] for one in found.values()]) for k in (0, 1))
    together = (squares * freedom).sum(axis=0) / freedom.sum(axis=0), freedom.sum(axis=0)
    for k, own in found.items():
        seeds, subjects = contributions[k].shape
        for (main, rest), (main_freedom, rest_freedom) in (own, together):
            excess = (main - rest) / (seeds * subjects)
            if excess > part[k]:
                part[k] = excess
                spread[k] = main**2 / main_freedom + rest**2 / rest_freedom
                spread[k] /= (seeds * subjects) ** 2
    return part, spread


def _mean_squares(
    units: Float64[np.ndarray, "seeds subjects"],
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Analyse the variance: mean squares of the seeds and of the rest, and degrees of freedom."""
    seeds, subjects = units.shape
    by_seed, by_subject = units.mean(axis=1, keepdims=True), units.mean(axis=0)
    freedom = seeds - 1, (seeds - 1) * (subjects - 1)
    rest = ((units - by_seed - by_subject + units.mean()) ** 2).sum() / freedom[1]
    return (float(subjects * by_seed.var(ddof=1)), float(rest)), freedom


def _variance(
    units: Float64[np.ndarray, "cells subjects"],
    between_seeds: Float64[np.ndarray, " cells"],
    spread: Float64[np.ndarray, " cells"],
) -> tuple[Float64[np.ndarray, " cells"], Float64[np.ndarray, " cells"]]:
    """Return the variance of each mean over subjects and seeds, and its degrees of freedom."""
    present = np.isfinite(units)
    count = present.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):  # of cells with fewer than two subjects
        mean = np.where(present, units, 0).sum(axis=-1) / count
        squares = np.where(present, units - mean[..., None], 0) ** 2
        by_subject = squares.sum(axis=-1) / (count - 1) / count
        variance = by_subject + between_seeds
        freedom = variance**2 / (by_subject**2 / (count - 1) + spread)
    return variance, np.where(variance == 0, np.maximum(count - 1, 1), freedom)


def _half_width(variance: np.ndarray, freedom: np.ndarray) -> Float64[np.ndarray, " cells"]:
    """Return half the width of 95 % intervals."""
    return stdtrit(freedom, 1 - ALPHA / 2) * np.sqrt(variance)


def _student(
    difference: Float64[np.ndarray, " pairs"], variance: np.ndarray, freedom: np.ndarray
) -> Float64[np.ndarray, " pairs"]:
    """Return the two-sided p of Student's test; 1 where there is no variance to be known."""
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * stdtr(freedom, -np.abs(difference) / np.sqrt(variance))
    return np.where(np.isnan(p) | (difference == 0), 1, p)
