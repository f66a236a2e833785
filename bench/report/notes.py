"""The words of a report: its conclusion, its limits, and how its numbers were obtained."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench import badges, mean_ranks
from bench.report.leaderboard import TASK, Leaderboard
from bench.score_columns import PERFECT, ScoreColumn
from bench.spec import Benchmark


def conclusion(board: Leaderboard) -> list[str]:
    """Write one sentence per task: which method is best, and by how much."""
    sentences = []
    for (degradation, level), lines in board.table.groupby(TASK, sort=False):
        whole = lines[lines["rank"].notna()]
        if whole.empty:
            continue
        best = whole.iloc[0]
        score = board.objective.text(best[board.objective.name])
        tied = int(whole["tied_with_best"].sum()) - 1
        sentences.append(
            f"{degradation}, level {level:g}: {mean_ranks.named(best['method'], best['n_train'])} "
            f"is best with {score}"
            + (f", tied with {tied} other{'s' * (tied > 1)}" if tied else "")
            + (f", and {best['against_classical']}" if best["against_classical"] else "")
            + "."
        )
    return sentences


def limits(
    board: Leaderboard, spec: Benchmark, manifest: dict[str, Any], rows: pd.DataFrame
) -> list[str]:
    """List what a reader must bear in mind before believing the conclusion."""
    rising = int(board.table["badges"].str.contains(badges.RISING, regex=False).sum())
    learned = int((board.lines["kind"] == "learned").sum()) if len(board.lines) else 0
    found = [
        *(f"Badge of every line: {badge}." for badge in badges.of_run(manifest)),
        *(
            f"{label}: k-space was simulated from magnitudes, which makes reconstruction easier "
            f"than it is; these lines have the badge {badges.SIMULATED}."
            for label in manifest.get("simulated") or []
        ),
        *(f"{notice}." for notice in manifest.get("notices") or []),
        *["One seed per network: another training could change its place."] * (spec.seeds == 1),
    ]
    if rising:
        found.append(
            f"{rising} of {learned} networks still improved when their steps ended: with more "
            "steps their order may change."
        )
    if own_cells(board) < manifest.get("cells", 0):
        found.append("The run is unfinished.")
    return [
        *found,
        *_disagreements(board, rows),
        "The verdicts hold for images like these test images, and for these search spaces and "
        "budgets.",
    ]


def own_cells(board: Leaderboard) -> int:
    """Count the cells with results that the run itself has made."""
    return int((board.lines["kind"] != "external").sum()) if len(board.lines) else 0


def _disagreements(board: Leaderboard, rows: pd.DataFrame) -> list[str]:
    """Point out metrics and conventions that put another method first."""
    shown = [one for one in board.metrics if one != board.objective]
    objective = board.objective
    others = {
        f"{one.label} ({convention})" if convention != "image" else one.label: (column, one.sign)
        for one in [objective, *shown]
        for convention in one.conventions
        if (column := one.column(convention)) in rows and column != objective.name
    }
    sentences = []
    for (degradation, level), part in rows.groupby(TASK):
        means = part.groupby("cell")[[objective.name, *(c for c, _ in others.values())]].mean()
        means = means[means[objective.name].notna()]
        if means.empty:
            continue
        first = str((objective.sign * means[objective.name]).idxmax())
        named = {
            label: str((sign * means[column]).idxmax())
            for label, (column, sign) in others.items()
            if means[column].notna().any()
        }
        labels = board.lines.set_index("cell")["label"]
        disagree = [
            f"{label} puts {labels[cell]} first" for label, cell in named.items() if cell != first
        ]
        if disagree:
            sentences.append(
                f"{degradation} {level:g}: by {objective.label}, {labels[first]} is first, but "
                f"{', '.join(disagree)}."
            )
    return sentences


def notes(
    specs: Sequence[Benchmark],
    audit: dict[str, Any],
    same_measurements: bool,
    objective: ScoreColumn,
) -> list[str]:
    """Describe how the numbers of one run, or of several merged ones, were obtained."""
    data = specs[0].dataset
    seeds, budgets = [spec.seeds for spec in specs], [spec.budget for spec in specs]
    trials = [one.trials or spec.budget.trials for spec in specs for one in spec.methods]
    steps = [one.steps for one in budgets]
    batch = [one.batch_size for one in budgets]
    one_seed = min(seeds) == 1
    return [
        f"Mean over {data.n_test} test images of {data.image_size}x{data.image_size} pixels that "
        f"no search has seen, and over {_counted(seeds, 'seed')} of every method that is not "
        f"deterministic. PSNR and SSIM with data range 1, SSIM with a 7x7 uniform window. PSNR is "
        f"at most {PERFECT:g} dB, that of a perfect reconstruction.",
        *(
            [
                f"Search, choice of weights and ranks use {objective.label} "
                f"({objective.direction} is better)."
            ]
            if objective.name != "psnr"
            else []
        ),
        "[low, high] is the 95 % interval over subjects and seeds, Student's; differences are "
        'paired by subject. "Beats" and "loses to" mean that a difference passes both '
        "Student's test over subjects and seeds and Wilcoxon's signed-rank test over subjects, "
        "after Holm's correction for all pairs of lines of the task (p at most 0.05); otherwise "
        "they tie. A rank's range, in brackets, follows from these verdicts."
        + (" With one seed, nothing shows how much another training would change." * one_seed),
        f"Every method was tuned on the same {data.n_val} validation images with "
        f"{_counted(trials, 'trial')} (fewer where it has fewer configurations); networks with up "
        f"to {_counted(steps, 'optimiser step')} of {_counted(batch, 'image')} in each.",
        "The measurements were byte-identical for all methods of a task."
        if same_measurements
        else "THE MEASUREMENTS WERE NOT THE SAME for all methods: do not compare these lines.",
        "Error seen and unseen: the parts of x_hat - x, in per cent of |x|, that the measurement "
        "shows well and hardly, by the singular values of A above or below a tenth of the "
        "greatest. An unseen error is invented or left out, and no measurement contradicts it. "
        "Residual / noise: how far A x_hat is from y; 1 is as far as the truth is, less is a fit "
        "to the noise.",
        "GFLOP/image counts PyTorch's convolutions and products of matrices, without Fourier "
        "transforms. CPU-seconds of training are those of one refit and its validations, on all "
        "threads together, without waiting. Other times are shown if `reconbench timing` has "
        "measured them with nothing beside; those in leaderboard.csv were measured while other "
        "trials ran, and cannot be compared.",
        *audit.get("notes", []),
    ]


def _counted(numbers: Sequence[int], what: str) -> str:
    """Count with the plural where it is due: "1 seed", "3 or 16 trials"."""
    different = " or ".join(str(number) for number in sorted(set(numbers)))
    return f"{different} {what}{'' if max(numbers) == 1 else 's'}"


def same_measurements(rows: pd.DataFrame) -> bool:
    """Return whether all cells of a task reconstructed byte-identical measurements."""
    if rows.empty:
        return True
    per_image = rows.groupby(["degradation", "level", "image"])["measurement_hash"].nunique()
    return bool((per_image == 1).all())
