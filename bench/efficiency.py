"""How many training images, or which level, it takes a method to overtake the best classical one.

The gain over the classical method is fitted by a saturating power law of the number of training
images n, gain = a - b n^-c with b, c > 0 (Cortes et al., NIPS 6, 1993; Hestness et al., 2017, arXiv
1712.00409). Intervals come from resampled subjects, the same for all sizes, to which the variation
between seeds is added.

Imports neither PyTorch nor Ray: report and dashboard both take words and numbers from here.
"""

import copy
import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64

from bench.statistics import BEATS, Estimate

RESAMPLES = 1000
TAILS = [2.5, 97.5]
EXPONENTS = np.geomspace(0.1, 3, 40)
POINTS = 30  # of a fitted curve


@dataclass(frozen=True)
class Efficiency:
    """A method's gain over a classical method against the number of its training images.

    Attributes:
        method: its label.
        reference: the label of the classical method.
        sizes: numbers of training images, ascending.
        overtakes: the number at which the fitted gain becomes positive, and the ends of its 95 %
            interval; -inf below the smallest size, inf above the largest.
        shown_at: the sizes at which the verdict is that it beats the reference.
        law: a, b and c of the fitted gain.
        curve: `n_train, fit, low, high`: the objective by the fit, with a 95 % band.
    """

    method: str
    reference: str
    sizes: list[int]
    overtakes: tuple[float, float, float]
    shown_at: list[int]
    law: tuple[float, float, float]
    curve: pd.DataFrame

    @property
    def shown_from(self) -> int | None:
        """The smallest size from which on every verdict is that it beats the reference."""
        since = len(self.sizes) - len(self.shown_at)
        whole = self.shown_at and self.sizes[since:] == self.shown_at
        return self.shown_at[0] if whole else None

    def sentence(self, task: str) -> str:
        """Describe it in a sentence."""
        first, last = self.sizes[0], self.sizes[-1]
        at, low, high = self.overtakes
        whole = f"on {task}, {self.method}"
        if at == math.inf:
            bound = "" if low == math.inf else f" [{_images(low, first, last)}, more than {last}]"
            return f"{whole} never overtakes tuned {self.reference} up to {last} images{bound}."
        where = f"already at {first} images" if at == -math.inf else f"at {at:.0f} images"
        bounds = f" [{_images(low, first, last)}, {_images(high, first, last)}]"
        if high == -math.inf:
            where, bounds = f"at {first} images, the fewest that it had, or before", ""
        test = "the corrected test does not show it at any size"
        if self.shown_from is not None:
            test = f"the corrected test shows it from {self.shown_from} images on"
        elif self.shown_at:
            test = (
                f"the corrected test shows it at {', '.join(map(str, self.shown_at))} images only"
            )
        return f"{whole} overtakes tuned {self.reference} {where}{bounds}; {test}."


def _images(number: float, first: int, last: int) -> str:
    if number == -math.inf:
        return f"at most {first}"
    return f"more than {last}" if number == math.inf else f"{number:.0f}"


def sample_efficiency(lines: pd.DataFrame, by: Estimate) -> list[Efficiency]:
    """Fit every method that has several training-set sizes in a task.

    Args:
        lines: one line per cell: `cell, method, kind, n_train`.
        by: the objective of the same cells.
    """
    lines = lines[lines["cell"].isin(by.whole)]
    reference = best_classical(lines, by)
    subjects = by.units.shape[1]
    if reference is None or subjects < 2:
        return []
    weights, rng = _resamples(subjects)
    rng = copy.deepcopy(rng)
    # The mean of each cell over all subjects, then over each resample.
    means = by.units @ weights
    found = []
    other = by.cells.index(reference)
    name = str(lines.set_index("cell")["method"][reference])
    learned = lines.loc[lines["n_train"] > 0, ["method", "n_train", "cell"]]
    ordered = learned.sort_values(["method", "n_train"])
    for method, own in ordered.groupby("method", sort=False):
        sizes = own["n_train"].tolist()
        if len(sizes) < 2 or own["n_train"].duplicated().any() or reference in set(own["cell"]):
            continue
        cells = [by.cells.index(cell) for cell in own["cell"]]
        gain = by.sign * (means[cells] - means[other])
        noise = np.sqrt(by.between_seeds[cells])[:, None] * rng.normal(
            0, 1, (len(cells), RESAMPLES)
        )
        gain[:, 1:] += noise
        laws = _fit(np.array(sizes, dtype=float), gain)
        at = _overtakes(laws, sizes)
        beats = [by.verdict(cell, reference) == BEATS for cell in own["cell"]]
        found.append(
            Efficiency(
                str(method),
                name,
                [int(size) for size in sizes],
                (float(at[0]), *_percentiles(at[1:])),
                [int(size) for size, one in zip(sizes, beats, strict=True) if one],
                (float(laws[0, 0]), float(laws[1, 0]), float(laws[2, 0])),
                _curve(laws, sizes, by.sign, float(by.mean[other])),
            )
        )
    return found


@functools.lru_cache(maxsize=1)
def _resamples(
    subjects: int,
) -> tuple[Float64[np.ndarray, "subjects samples"], np.random.Generator]:
    """Draw the weights of the subjects: all alike, then of each resample, the same for all tasks.

    Also returns the generator as it is then.
    """
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(subjects, np.full(subjects, 1 / subjects), RESAMPLES) / subjects
    return np.concatenate([np.full((1, subjects), 1 / subjects), drawn]).T, rng


def best_classical(lines: pd.DataFrame, by: Estimate) -> str | None:
    """Return the classical cell of a task with the best mean, if there is any."""
    classical = lines["cell"][lines["kind"] == "classical"]
    means = by.sign * pd.Series(by.mean, by.cells)[classical]
    return str(means.idxmax()) if len(means) else None


def _fit(
    n: Float64[np.ndarray, " sizes"], gains: Float64[np.ndarray, "sizes samples"]
) -> Float64[np.ndarray, "3 samples"]:
    """Fit a - b n^-c to each sample, by least squares for each of `EXPONENTS`.

    Two sizes allow no choice of c, for which 0.5 is taken. A falling course becomes a constant.
    """
    exponents, basis, inverse = _courses(tuple(n))
    found = inverse @ gains
    error = ((basis @ found - gains) ** 2).sum(axis=1)
    error[found[:, 1] <= 0] = np.inf
    best, every = error.argmin(axis=0), np.arange(gains.shape[1])
    mean = gains.mean(axis=0)
    constant = np.stack([mean, np.zeros_like(mean), np.ones_like(mean)])
    law = np.stack([*found[best, :, every].T, exponents[best]])
    return np.where(error[best, every] < ((gains - mean) ** 2).sum(axis=0), law, constant)


@functools.lru_cache(maxsize=8)
def _courses(n: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the exponents to try, and of each the courses 1 and -n^-c with their inverse."""
    exponents = EXPONENTS if len(n) > 2 else np.array([0.5])
    powers = np.array(n) ** -exponents[:, None]
    basis = np.stack([np.ones_like(powers), -powers], axis=2)
    return exponents, basis, np.linalg.pinv(basis)


def _overtakes(
    laws: Float64[np.ndarray, "3 samples"], sizes: list[int]
) -> Float64[np.ndarray, " samples"]:
    """Return where each fitted gain becomes positive; -inf and inf beyond the sizes."""
    a, b, c = laws
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        at = np.where(a > 0, (b / a) ** (1 / c), np.inf)
    return np.where(at <= sizes[0], -np.inf, np.where(at > sizes[-1], np.inf, at))


def _percentiles(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the bounds of a 95 % interval; -inf and inf are values like others."""
    low, high = np.percentile(values, TAILS, method="nearest")
    return float(low), float(high)


def _curve(laws: np.ndarray, sizes: list[int], sign: int, reference: float) -> pd.DataFrame:
    n = np.geomspace(sizes[0], sizes[-1], POINTS)
    a, b, c = laws
    gains = a - b * n[:, None] ** -c
    low, high = np.percentile(np.sort(gains[:, 1:]), TAILS, axis=1)  # faster if sorted
    bounds = (gains[:, 0], low, high) if sign > 0 else (gains[:, 0], high, low)
    fit, low, high = (reference + sign * one for one in bounds)
    return pd.DataFrame({"n_train": n, "fit": fit, "low": low, "high": high})


def fewer_is_better(
    task: str, lines: pd.DataFrame, by: Estimate, gains: pd.DataFrame, text: Callable[..., str]
) -> list[str]:
    """Point out where a method is better with fewer training images, with the likely cause.

    Args:
        task: its name, for the sentences.
        lines: one line per cell: `cell, method, kind, n_train`.
        by: the objective of the same cells.
        gains: see `bench.curves.gains`.
        text: writes a value of the objective.
    """
    found = []
    whole = lines[lines["cell"].isin(by.whole) & (lines["n_train"] > 0)]
    ordered = whole.sort_values(["method", "n_train"])
    cells = ordered[["method", "n_train", "cell", "kind"]].to_numpy()
    for (method, few, cell, _), (other, many, larger, kind) in itertools.pairwise(cells):
        if method != other:
            continue
        gain, *bounds = (by.sign * one for one in by.gain(cell, larger))
        if min(bounds) > 0:
            found.append(
                f"{task}: {method} is better with {few} training images than with {many}, by "
                f"{text(gain)}. {_cause(larger, kind, gains)}"
            )
    return found


def _cause(cell: str, kind: str, gains: pd.DataFrame) -> str:
    if kind != "learned":
        return (
            "It takes no optimiser steps: the cause is the configuration that its search found, or "
            "which images were added."
        )
    if cell not in gains.index:
        return (
            "Likely cause: the same number of steps shows each of more images less often, so that "
            "steps, not images, were what it lacked; no validation curve was kept to confirm it."
        )
    line = gains.loc[cell]
    if line["rising"]:
        return (
            f"Likely cause: steps, not images, were what it lacked, since its validation PSNR "
            f"still rose by {line['gain']:.2f} dB in the last quarter of them."
        )
    return (
        "Its validation curve had flattened, so the steps sufficed: the cause is rather the "
        "configuration that its search found, or which images were added."
    )


def along_levels(
    tasks: Mapping[float, tuple[pd.DataFrame, Estimate]], degradation: str
) -> list[str]:
    """State at which levels of a degradation each method that learns leads classical ones.

    Between levels the gain is interpolated, linearly in the logarithm of the level.

    Args:
        tasks: by level, lines and objective of its cells; see `sample_efficiency`.
        degradation: its name, for the sentences.
    """
    points: dict[tuple[str, int], dict[float, tuple[float, float]]] = {}
    for level, (lines, by) in sorted(tasks.items()):
        lines = lines[lines["cell"].isin(by.whole)]
        reference = best_classical(lines, by)
        if reference is None:
            continue
        learned = lines[lines["kind"] != "classical"]
        names = zip(learned["cell"], learned["method"], learned["n_train"], strict=True)
        for cell, method, n_train in names:
            gain, low, high = (by.sign * one for one in by.gain(cell, reference))
            place = points.setdefault((str(method), int(n_train)), {})
            place[level] = gain, abs(high - low) / 3.92
    largest = {method: max(n for name, n in points if name == method) for method, _ in points}
    return [
        f"on {degradation}, {method} ({n_train} training images) {_ahead(found)}."
        for (method, n_train), found in points.items()
        if n_train == largest[method] and len(found) > 1
    ]


def _ahead(points: Mapping[float, tuple[float, float]]) -> str:
    levels, gain = list(points), np.array([mean for mean, _ in points.values()])
    ahead = gain > 0
    reference = "the best classical method"
    if ahead.all() or not ahead.any():
        where = f"{'every' if ahead.all() else 'no'} level from {levels[0]:g} to {levels[-1]:g}"
        return f"has a better mean than {reference} at {where}"
    changes = np.flatnonzero(np.diff(ahead))
    if len(changes) > 1:
        named = ", ".join(f"{level:g}" for level, one in zip(levels, ahead, strict=True) if one)
        return f"has a better mean than {reference} at the levels {named} only"
    error = np.array([error for _, error in points.values()])
    rng = np.random.default_rng(0)
    drawn = gain + np.nan_to_num(error) * rng.normal(0, 1, (RESAMPLES, len(gain)))
    upwards = bool(ahead[-1])
    crossings = [_crossing(levels, one if upwards else -one) for one in (gain, *drawn)]
    low, high = _percentiles(crossings[1:])
    word = "upwards" if upwards else "downwards"
    bounds = ", ".join(
        f"below {levels[0]:g}" if at == -math.inf else
        f"above {levels[-1]:g}" if at == math.inf else f"{at:.2g}"
        for at in (low, high)
    )  # fmt: skip
    return f"overtakes {reference} at level {crossings[0]:.2g} [{bounds}], from there {word}"


def _crossing(levels: list[float], gain: Float64[np.ndarray, " levels"]) -> float:
    """Return the level from which on a gain is positive; -inf and inf beyond the levels."""
    behind = np.flatnonzero(gain <= 0)
    if not len(behind):
        return -math.inf
    if behind[-1] == len(gain) - 1:
        return math.inf
    k = int(behind[-1])
    part = -gain[k] / (gain[k + 1] - gain[k])
    if levels[k] <= 0:
        return levels[k] + part * (levels[k + 1] - levels[k])
    return levels[k] * (levels[k + 1] / levels[k]) ** part
