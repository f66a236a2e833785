"""The leaderboard: one line per cell, ranked within its task."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from bench import badges as badge_texts
from bench import curves, efficiency, mean_ranks, records, score_columns, timing_table
from bench.efficiency import Efficiency
from bench.mean_ranks import MeanRanks
from bench.score_columns import STANDARD, ScoreColumn
from bench.statistics import DIFFERENCES, Estimate, compare, estimate
from bench.store import Store

COLUMNS = [
    "rank", "rank_low", "rank_high", "method", "degradation", "level", "n_train",
    "psnr", "psnr_low", "psnr_high", "ssim", "ssim_low", "ssim_high",
    "parameters", "train_seconds", "infer_ms", "trials", "seeds",
    "tied_with_best", "badges", "replay", "against_classical", "steps", *DIFFERENCES,
    "gain_last_quarter", "psnr_2x", "psnr_4x", "flops",
    "residual_to_noise", "error_seen", "error_unseen", "train_cpu_seconds",
]  # fmt: skip
TASK = ["degradation", "level"]
TRUST = ("residual_to_noise", "error_seen", "error_unseen")  # see `bench.trust`
NAMED = 5  # images named in a sentence
FEW = 3  # networks named in a sentence


@dataclass(frozen=True)
class Leaderboard:
    """The table, and a sentence per task that sums it up.

    Attributes:
        table: a line per cell: `COLUMNS`, then `<metric>, <metric>_low, <metric>_high` of each
            metric beside PSNR and SSIM.
        findings: the sentences.
        metrics: the metrics that it shows.
        objective: the metric by which it ranks.
        efficiency: by task, what it takes each method to overtake the best classical one.
        ranks: the mean ranks over tasks; None where there is one task, or one method.
        lines: the table with `cell`, `kind` and `label`, as the figures need them.
        record: what each method that learns does over all tasks, see `bench.records`; None where
            there is one task.
        device: on which `reconbench timing` measured `timing_table.COSTS` of `lines`; empty if it
            was not called.
    """

    table: pd.DataFrame
    findings: list[str]
    metrics: Sequence[ScoreColumn] = (STANDARD["psnr"], STANDARD["ssim"])
    objective: ScoreColumn = STANDARD["psnr"]
    efficiency: Mapping[str, list[Efficiency]] = field(default_factory=dict)
    ranks: MeanRanks | None = None
    lines: pd.DataFrame = field(default_factory=pd.DataFrame)
    record: pd.DataFrame | None = None
    device: str = ""


def of_store(
    store: Store,
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    validations: pd.DataFrame | None = None,
) -> Leaderboard:
    """Build the leaderboard of a run folder, with the metrics that the run declares.

    Args:
        store: the run folder.
        rows: all its rows.
        trials: all its trials.
        validations: those of all its refits; None: they are read.
    """
    curve = store.curves() if validations is None else validations
    manifest, spec = store.manifest(), store.spec()
    columns = score_columns.of_run(manifest)
    objective = columns.get(spec.objective, columns["psnr"])
    metrics = score_columns.listed(columns, objective.name)
    board = build(
        rows, trials, badge_texts.of_run(manifest), str(store.folder), spec.budget.steps, metrics,
        objective, curves.gains(curve), manifest.get("simulated") or (),
    )  # fmt: skip
    device, costs = timing_table.of_one_device(timing_table.read(store.folder))
    if board.lines.empty or not device:
        return board
    return replace(board, lines=board.lines.join(costs, on="cell"), device=device)


def build(
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    badges: list[str],
    run: str,
    refit_steps: int = 0,
    metrics: Sequence[ScoreColumn] = (STANDARD["psnr"], STANDARD["ssim"]),
    objective: ScoreColumn = STANDARD["psnr"],
    gains: pd.DataFrame | None = None,
    simulated: Sequence[str] = (),
) -> Leaderboard:
    """Rank the cells of every task by the mean of a metric over the test images.

    Args:
        rows: all rows of a run.
        trials: all its trials.
        badges: those of every line.
        run: the run folder, as the replay commands name it.
        refit_steps: optimiser steps of a network's refit; `steps` counts them and those of trials.
        metrics: the metrics to show: PSNR, SSIM and others.
        objective: the metric by which cells are ranked.
        gains: what networks still gained at the end of their training, see `bench.curves.gains`.
        simulated: degradations that simulate what the dataset could have brought.
    """
    gains = curves.gains(pd.DataFrame(columns=list(curves.COLUMNS))) if gains is None else gains
    tables: list[pd.DataFrame] = []
    findings: list[str] = []
    sizes: dict[str, list[Efficiency]] = {}
    by_level: dict[str, dict[float, tuple[pd.DataFrame, Estimate]]] = {}
    compared: list[pd.DataFrame] = []
    for (degradation, level), part in rows.groupby(TASK):
        estimates = {one.name: estimate(part, one.name, one.sign) for one in metrics}
        by = estimates[objective.name]
        lines = compare(_lines(part, estimates), by)
        ascending = [True, objective.direction == "lower"]
        tables.append(
            lines.sort_values(["rank", objective.name], ascending=ascending, kind="stable")
        )
        task = f"{degradation} {level:g}"
        whole = lines[lines["rank"].notna()]
        if len(whole):
            findings += _findings(task, whole, by, objective) + _too_few(task, by)
        findings += _unscored(task, lines) + _rising(task, lines, gains)
        sizes[task] = efficiency.sample_efficiency(lines, by)
        findings += _sentence_case(one.sentence(task) for one in sizes[task])
        compared.append(records.of_task(lines, by))
        findings += efficiency.fewer_is_better(task, lines, by, gains, objective.text)
        by_level.setdefault(str(degradation), {})[float(lines["level"].iloc[0])] = lines, by
    further = [one.name for one in metrics if one.name not in COLUMNS]
    columns = [*COLUMNS, *(f"{name}{end}" for name in further for end in ("", "_low", "_high"))]
    if not tables:
        return Leaderboard(pd.DataFrame(columns=columns), [], metrics, objective)
    for degradation, tasks in by_level.items():
        findings += _sentence_case(efficiency.along_levels(tasks, degradation))
    table = pd.concat(tables, ignore_index=True)
    ranks = mean_ranks.over_tasks(table.assign(task=[*zip(*map(table.get, TASK), strict=True)]))
    findings += [ranks.sentence()] if ranks else []
    counts = trials.groupby("cell").size()
    table["trials"] = table["cell"].map(counts).fillna(0).astype(int)
    searched = trials.groupby("cell")["step"].sum() if "step" in trials else pd.Series(dtype=int)
    refits = table["seeds"].where(table["kind"] == "learned", 0) * refit_steps
    table["steps"] = table["cell"].map(searched).fillna(0).astype(int) + refits
    rising = table["cell"].isin(gains.index[gains["rising"].astype(bool)])
    table["badges"] = [
        badge_texts.of_line(
            badge_texts.of_task(badges, task, simulated), not images, one, kind == "external"
        )
        for task, images, kind, one in zip(
            *(table[name] for name in ("degradation", "unscored", "kind")), rising, strict=True
        )
    ]
    for name, column in (("gain_last_quarter", "gain"), ("psnr_2x",) * 2, ("psnr_4x",) * 2):
        table[name] = table["cell"].map(gains[column]).astype(float)
    table["replay"] = [
        "" if kind == "external" else badge_texts.replay(run, cell)
        for cell, kind in zip(table["cell"], table["kind"], strict=True)
    ]
    table["label"] = [
        f"{method} · {n_train}" if n_train else method
        for method, n_train in zip(table["method"], table["n_train"], strict=True)
    ]
    record = records.summary(pd.concat(compared)) if len(compared) > 1 else None
    return Leaderboard(table[columns], findings, metrics, objective, sizes, ranks, table, record)


def _lines(rows: pd.DataFrame, estimates: Mapping[str, Estimate]) -> pd.DataFrame:
    """Build the lines of one task, without the columns that need the whole run."""
    by_cell = rows.groupby("cell")
    lines = by_cell[["method", "kind", *TASK, "n_train", "parameters"]].first()
    lines[["train_seconds", "infer_ms"]] = by_cell[["train_seconds", "infer_ms"]].mean()
    for name in ("flops", "train_cpu_seconds", *TRUST):  # which runs of earlier versions lack
        lines[name] = by_cell[name].mean() if name in rows else float("nan")
    lines["seeds"] = by_cell["seed"].nunique()
    lines["task"] = by_cell["task"].first() if "task" in rows else ""
    psnr = estimates["psnr"]
    lines = lines.loc[psnr.cells].reset_index()
    for name, values in estimates.items():
        lines[name], lines[f"{name}_low"], lines[f"{name}_high"] = (
            values.mean, values.low, values.high,
        )  # fmt: skip
    lines["images"] = rows["image"].nunique()
    lines["unscored"] = [psnr.unscored.get(cell, []) for cell in psnr.cells]
    return lines


def _unscored(task: str, lines: pd.DataFrame) -> list[str]:
    """Name the images on which a method has no score."""
    return [
        f"{task}: {line['method']}{_of_size(line['n_train'])} has no score on "
        f"{len(line['unscored'])} of {line['images']} test images "
        f"({', '.join(line['unscored'][:NAMED])}{', ...' if len(line['unscored']) > NAMED else ''})"
        ", where a pixel of its reconstruction is not finite; it has no rank, and its means are "
        "over the other images."
        for _, line in lines.iterrows()
        if line["unscored"]
    ]


def _sentence_case(sentences: Iterable[str]) -> list[str]:
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _rising(task: str, lines: pd.DataFrame, gains: pd.DataFrame) -> list[str]:
    """Name the networks that still improved when their steps ended."""
    rising = gains[gains["rising"].astype(bool)].rename(columns={"psnr": "reached"})
    own = lines[["cell", "method", "n_train"]].join(rising, on="cell", how="inner")
    if own.empty:
        return []
    own = own.sort_values("gain", ascending=False)
    longer = (own[f"psnr_{times}x"] - own["reached"] for times in curves.LONGER)
    named = [
        f"{method}{_of_size(n_train)} by {gain:.2f} dB (projected: {twice:+.1f} dB with twice the "
        f"steps, {four_times:+.1f} dB with four times)"
        for method, n_train, gain, twice, four_times in zip(
            own["method"], own["n_train"], own["gain"], *longer, strict=True
        )
    ]
    others = f"; and {len(named) - FEW} more by less" if len(named) > FEW else ""
    return [
        f"{task}: the budget was too small for {len(named)} of "
        f"{int((lines['kind'] == 'learned').sum())} networks, whose validation PSNR still rose in "
        f"the last quarter of their steps: {'; '.join(named[:FEW])}{others}."
    ]


def _of_size(n_train: int) -> str:
    """Add a training-set size to a method's name; nothing where it needs no training images."""
    return f" ({n_train} training images)" if n_train else ""


def _findings(task: str, lines: pd.DataFrame, by: Estimate, objective: ScoreColumn) -> list[str]:
    """State for each training-set size which method that learns is best, and how it compares with
    the best classical method.
    """
    ranked = lines.sort_values(objective.name, ascending=objective.direction == "lower")
    ranked["words"] = [objective.text(value) for value in ranked[objective.name]]
    classical = ranked[ranked["kind"] == "classical"]
    learned = ranked[ranked["kind"] != "classical"]
    if classical.empty or learned.empty:
        winner = ranked.iloc[0]
        return [f"{task}: best is {winner['method']} with {winner['words']}."]
    reference = classical.iloc[0]
    sentences = []
    for _, group in learned.groupby("n_train"):
        network = group.iloc[0]
        kind = ", fitted in closed form" if network["kind"] == "fitted" else ""
        gain, low, high = by.gain(network["cell"], reference["cell"])
        verdict = by.verdict(network["cell"], reference["cell"])
        size = int(network["n_train"])
        where = f"{task}, {size} training images" if size else task
        sentences.append(
            f"{where}: {network['method']} ({network['words']}{kind}) "
            f"{verdict} {reference['method']} ({reference['words']}), the best classical "
            f"method: {objective.text(gain, '+')}{objective.interval(low, high, '+')}, "
            f"{_p(by.p_value(network['cell'], reference['cell']))}."
        )
    return sentences


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def _too_few(task: str, by: Estimate) -> list[str]:
    """Warn that a task has too few test subjects for any verdict."""
    subjects, needed = by.units.shape[1], by.subjects_needed
    if len(by.whole) < 2 or subjects >= needed:
        return []
    return [
        f"{task}: with {subjects} test subjects no difference can be shown, so that all cells tie; "
        f"to compare {len(by.whole)} cells it takes at least {needed}."
    ]
