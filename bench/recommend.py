"""Which method to use at a level, with so many training images, and within limits of cost.

Where a run has no cells at just this level or number of images, the scores of its neighbours are
interpolated, linearly in the logarithm and image by image, so that the methods stay paired and the
verdicts are those of the report's corrected test. Beyond the levels of a run nothing is said.

Imports neither PyTorch nor Ray.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from bench import timing_table
from bench.errors import UserError, unknown
from bench.score_columns import STANDARD, ScoreColumn
from bench.statistics import ALPHA, BEATS, Estimate, estimate

# What may be limited: columns of the rows, with the unit in which they are stated.
COSTS = {"infer_ms": "ms/image", "parameters": "parameters", "train_seconds": "s of training"}


@dataclass(frozen=True)
class Recommendation:
    """The method to use, and the evidence for it.

    Attributes:
        method: its label; the cheapest of those that tie with the best.
        n_train: the number of training images of the cells that speak for it; 0 if it needs none.
        cell: the measured cell nearest to what was asked, whose model can be used.
        certain: whether it is shown to be better than every other method.
        tied: the methods that are not shown to be worse than the best, this one among them.
        table: a line for each method that came into question, best first: `method`, `mean`, `low`,
            `high` of the objective, `to_best` (the difference to the best), `p` (of that
            difference, corrected), and `COSTS`.
        sentences: all this in words.
    """

    method: str
    n_train: int
    cell: str
    certain: bool
    tied: list[str]
    table: pd.DataFrame
    sentences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(self.sentences)


@dataclass(frozen=True)
class _Candidate:
    """A method, and the cells whose weighted mean stands for it."""

    method: str
    kind: str
    cells: Mapping[tuple[float, str], float]  # by level and id
    sizes: Mapping[int, float]
    costs: Mapping[str, float]


def recommend(
    rows: pd.DataFrame,
    level: float | None = None,
    *,
    degradation: str | None = None,
    n_train: int | None = None,
    limits: Mapping[str, float] | None = None,
    objective: ScoreColumn = STANDARD["psnr"],
    rising: Collection[str] = (),
    timing: pd.DataFrame = timing_table.EMPTY,
) -> Recommendation:
    """Recommend a method of a run.

    Args:
        rows: all rows of the run.
        level: of the degradation; may be left out if the run has only one.
        degradation: its label; may be left out if the run has only one.
        n_train: number of training images at hand; default: as many as the run has used at most.
        limits: the most that a method may cost, by column (`COSTS`).
        objective: the metric that decides.
        rising: cells whose networks still improved when their training ended.
        timing: what `timing_table.read` returns. Its times of single images replace those of the
            rows if it has one for every cell at these levels that ran here.

    Raises:
        UserError: the run has no such degradation, the level is beyond those of the run, or no
            method keeps within the limits.
    """
    rows = _of_degradation(rows, degradation)
    levels = _level_weights(rows, level)
    estimates = {
        one: estimate(rows[rows["level"] == one], objective.name, objective.sign) for one in levels
    }
    rows = rows[rows["level"].isin(levels)]
    costs = rows.reindex(columns=[*COSTS]).astype(float).groupby(rows["cell"]).mean()
    costs["infer_ms"], device = timing_table.of_single_images(timing, costs["infer_ms"])
    times = _times(limits or {}, device)
    left_out: list[str] = []
    candidates = {
        one.method: one
        for one in _candidates(rows, levels, costs, n_train, left_out)
        if _is_scored(one, estimates, left_out) and _is_within(one, limits or {}, left_out)
    }
    if not candidates:
        reason = f"no method of the run comes into question: {'; '.join(left_out)}."
        raise UserError(" ".join([reason, *times]).rstrip("."))
    by = _combine(candidates, estimates)
    mean = objective.sign * pd.Series(by.mean, by.cells)
    best = str(mean.idxmax())
    tied = [one for one in by.cells if by.verdict(best, one) != BEATS]
    chosen = candidates[min(tied, key=lambda one: _price(candidates[one], -mean[one]))]
    recommendation = Recommendation(
        chosen.method,
        max(chosen.sizes),
        max(chosen.cells, key=lambda one: chosen.cells[one])[1],
        tied == [best],
        sorted(tied, key=lambda one: -mean[one]),
        _table(candidates, by, best),
    )
    reference = _best_classical(chosen, candidates, by)
    task = f"{rows['degradation'].iloc[0]} {_level(level, levels):g}"
    recommendation.sentences.extend(
        [
            *_use(recommendation, chosen, by, task, objective),
            *_next(recommendation, reference, by, objective),
            *_against_classical(chosen, reference, by, objective),
            *_basis(chosen, levels, n_train),
            *_cautions(chosen, by, rising),
            *([f"Left out: {'; '.join(left_out)}."] if left_out else []),
            *times,
        ]
    )
    return recommendation


def _of_degradation(rows: pd.DataFrame, degradation: str | None) -> pd.DataFrame:
    known = sorted(rows["degradation"].unique())
    if not known:
        raise UserError("no cell of the run has finished yet")
    if degradation is None and len(known) > 1:
        raise UserError(f"the run has several degradations: choose one of {', '.join(known)}")
    name = known[0] if degradation is None else degradation
    if name not in known:
        raise unknown("degradation of the run:", name, known)
    return rows[rows["degradation"] == name]


def _level_weights(rows: pd.DataFrame, level: float | None) -> dict[float, float]:
    levels = sorted(float(one) for one in rows["level"].unique())
    named = ", ".join(f"{one:g}" for one in levels)
    if level is None and len(levels) > 1:
        raise UserError(f"the run has several levels: name one from {named}, or one between them")
    wanted = levels[0] if level is None else level
    if not levels[0] <= wanted <= levels[-1]:
        raise UserError(
            f"level {wanted:g} is beyond those of the run ({named}); run the benchmark at it"
        )
    return _weights(levels, wanted)


def _weights(known: list[float], wanted: float) -> dict[float, float]:
    """Weigh the neighbours of a number, linearly in the logarithm (or as it is, next to 0)."""
    if wanted in known:
        return {wanted: 1.0}
    low, high = max(k for k in known if k < wanted), min(k for k in known if k > wanted)
    scale = math.log if low > 0 else float
    part = (scale(wanted) - scale(low)) / (scale(high) - scale(low))
    return {low: 1 - part, high: part}


def _level(level: float | None, levels: Mapping[float, float]) -> float:
    return next(iter(levels)) if level is None else level


def _times(limits: Collection[str], device: str) -> list[str]:
    """Describe how the times were measured that the limits refer to."""
    sentences = []
    if "infer_ms" in limits and device:
        sentences.append(f"Times of single images are those of `reconbench timing` on {device}.")
    elif "infer_ms" in limits:
        sentences.append(
            "Times of images are rough, since they were measured while other trials ran; "
            "`reconbench timing` measures times that compare."
        )
    if "train_seconds" in limits:
        sentences.append(
            "Times of training are rough, since they were measured while other trials ran."
        )
    return sentences


def _candidates(
    rows: pd.DataFrame,
    levels: Mapping[float, float],
    costs: pd.DataFrame,
    n_train: int | None,
    left_out: list[str],
) -> list[_Candidate]:
    """Find for each method the cells that stand for it."""
    lines = rows.drop_duplicates("cell")
    found = []
    for method, own in lines.groupby("method", sort=True):
        per_level = [set(own["n_train"][own["level"] == one]) for one in levels]
        sizes = sorted(set.intersection(*per_level))
        weights = _size_weights(str(method), sizes, n_train, left_out)
        cells = {
            (float(level), str(cell)): levels[level] * weights[size]
            for level, size, cell in zip(own["level"], own["n_train"], own["cell"], strict=True)
            if size in weights
        }
        if not cells:
            continue
        dearest = costs.loc[[cell for _, cell in cells]].max(skipna=False)
        found.append(
            _Candidate(
                str(method),
                own["kind"].iloc[0],
                cells,
                weights,
                {name: float(dearest[name]) for name in COSTS},
            )
        )
    return found


def _size_weights(
    method: str, sizes: list[int], n_train: int | None, left_out: list[str]
) -> dict[int, float]:
    if not sizes:
        left_out.append(f"{method} (was not run at every level in question)")
        return {}
    if n_train is None or n_train >= sizes[-1]:
        return {int(sizes[-1]): 1.0}
    if n_train < sizes[0]:
        left_out.append(f"{method} (was trained on {sizes[0]} images at least)")
        return {}
    return {int(size): one for size, one in _weights([*map(float, sizes)], n_train).items()}


def _is_scored(
    candidate: _Candidate, estimates: Mapping[float, Estimate], left_out: list[str]
) -> bool:
    whole = all(cell in estimates[level].whole for level, cell in candidate.cells)
    if not whole:
        left_out.append(f"{candidate.method} (has no score on some images)")
    return whole


def _is_within(candidate: _Candidate, limits: Mapping[str, float], left_out: list[str]) -> bool:
    for column, most in limits.items():
        cost = candidate.costs[column]
        if not cost <= most:
            stated = "unknown" if math.isnan(cost) else f"{cost:,.{0 if cost >= 100 else 2}f}"
            left_out.append(f"{candidate.method} ({stated} {COSTS[column]})")
            return False
    return True


def _combine(candidates: Mapping[str, _Candidate], estimates: Mapping[float, Estimate]) -> Estimate:
    """Average the estimates of each method's cells by their weights, subject by subject."""
    if len({one.units.shape[1] for one in estimates.values()}) > 1:
        raise UserError("the levels were not scored on the same subjects; name a level of the run")
    parts: dict[str, list[np.ndarray]] = {"mean": [], "units": [], "seeds": [], "spread": []}
    for candidate in candidates.values():
        found = [
            (weight, estimates[level], estimates[level].cells.index(cell))
            for (level, cell), weight in candidate.cells.items()
        ]
        parts["mean"].append(sum(w * by.mean[k] for w, by, k in found))
        parts["units"].append(sum(w * by.units[k] for w, by, k in found))
        parts["seeds"].append(sum(w**2 * by.between_seeds[k] for w, by, k in found))
        parts["spread"].append(sum(w**4 * by.spread[k] for w, by, k in found))
    mean, units, seeds, spread = (np.array(one) for one in parts.values())
    sign = next(iter(estimates.values())).sign
    return Estimate(list(candidates), mean, units, seeds, spread, sign)


def _price(candidate: _Candidate, loss: float) -> tuple[float, ...]:
    """Order methods by parameters, then by the time of an image; unknown costs come last."""
    known = (candidate.costs[name] for name in ("parameters", "infer_ms"))
    return (*(math.inf if math.isnan(one) else one for one in known), loss)


def _table(candidates: Mapping[str, _Candidate], by: Estimate, best: str) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "method": by.cells,
            "mean": by.mean,
            "low": by.low,
            "high": by.high,
            "to_best": [by.gain(one, best)[0] for one in by.cells],
            "p": [by.p_value(one, best) for one in by.cells],
            **{name: [one.costs[name] for one in candidates.values()] for name in COSTS},
        }
    )
    return table.sort_values("mean", ascending=by.sign < 0, ignore_index=True)


def _use(
    found: Recommendation, chosen: _Candidate, by: Estimate, task: str, objective: ScoreColumn
) -> list[str]:
    k = by.cells.index(chosen.method)
    interval = objective.interval(float(by.low[k]), float(by.high[k]))
    score = f"{objective.label} {objective.text(float(by.mean[k]))}{interval}"
    if found.certain:
        others = len(by.cells) - 1
        why = f"it beats each of the {others} other methods" if others else "there is no other"
        sentences = [f"On {task}, use {chosen.method}: {score}; {why}."]
    else:
        names = ", ".join(
            f"{one} ({objective.text(float(by.mean[by.cells.index(one)]))})" for one in found.tied
        )
        sentences = [
            f"On {task}, cannot tell which is best of {names}: the corrected test shows no "
            f"difference to the first.",
            f"Use {chosen.method}, the cheapest of them (fewest parameters, then least time an "
            f"image): {score}.",
        ]
    return sentences


def _next(
    found: Recommendation, reference: str | None, by: Estimate, objective: ScoreColumn
) -> list[str]:
    """Compare a winner with the second, unless that is the best classical method."""
    if not found.certain or len(by.cells) < 2:
        return []
    second = str(found.table["method"].iloc[1])
    if second == reference:
        return []
    return [f"Next is {second}: {_difference(found.method, second, by, objective)}."]


def _difference(method: str, other: str, by: Estimate, objective: ScoreColumn) -> str:
    gain, low, high = by.gain(method, other)
    interval = objective.interval(low, high, "+")
    return f"{objective.text(gain, '+')}{interval}, p = {by.p_value(method, other):.2g}"


def _best_classical(
    chosen: _Candidate, candidates: Mapping[str, _Candidate], by: Estimate
) -> str | None:
    """Find what a method that learns is compared with."""
    classical = [name for name, one in candidates.items() if one.kind == "classical"]
    if not classical or chosen.kind == "classical":
        return None
    return max(classical, key=lambda one: by.sign * by.mean[by.cells.index(one)])


def _against_classical(
    chosen: _Candidate, reference: str | None, by: Estimate, objective: ScoreColumn
) -> list[str]:
    if reference is None:
        return []
    return [
        f"It {by.verdict(chosen.method, reference)} {reference}, the best classical method: "
        f"{_difference(chosen.method, reference, by, objective)}."
    ]


def _basis(chosen: _Candidate, levels: Mapping[float, float], n_train: int | None) -> list[str]:
    sizes = sorted(chosen.sizes)
    sentences = []
    if len(levels) > 1:
        between = " and ".join(f"{one:g}" for one in levels)
        sentences.append(f"Interpolated between the levels {between}, not measured at this one.")
    if len(sizes) > 1:
        sentences.append(
            f"Interpolated between {sizes[0]} and {sizes[1]} training images, not measured with "
            f"{n_train}."
        )
    elif sizes[0]:
        more = "; with more it was not measured" if n_train and n_train > sizes[0] else ""
        sentences.append(f"Measured with {sizes[0]} training images{more}.")
    return sentences


def _cautions(chosen: _Candidate, by: Estimate, rising: Collection[str]) -> list[str]:
    sentences = []
    subjects, needed = by.units.shape[1], by.subjects_needed
    if len(by.cells) > 1 and subjects < needed:
        sentences.append(
            f"With {subjects} test subjects no difference can reach p < {ALPHA:.2g} after the "
            f"correction; to compare {len(by.cells)} methods it takes at least {needed}."
        )
    if any(cell in rising for _, cell in chosen.cells):
        sentences.append(
            "Its validation scores still rose when its training ended: with more steps it may be "
            "better than stated."
        )
    return sentences
