"""The report of a run: leaderboard as CSV, Markdown and HTML, and the audit of the data."""

import base64
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from bench import badges, markdown
from bench.audit import page as audit_page
from bench.metrics import PERFECT
from bench.report.edges import at_edge
from bench.report.leaderboard import Leaderboard, of_store
from bench.score_columns import ScoreColumn
from bench.spec import Benchmark
from bench.store import Store

__all__ = ["Leaderboard", "audit_page", "show", "write"]

HTML = markdown.TEMPLATES.overlay(autoescape=True, finalize=None)
LEADING = {"rank": "rank", "method": "method", "n_train": "images"}
TRAILING = {
    "to_best": "to the best",
    "parameters": "parameters",
    "train_seconds": "training (s)",
    "infer_ms": "ms/image",
    "trials": "trials",
    "steps": "steps spent",
    "tied_with_best": "",
}
# Columns to drop in a narrow terminal, in this order.
DISPENSABLE = ["to_best", "trials", "train_seconds", "steps", "parameters", "infer_ms"]
PICTURE_SIDE = 160


def write(store: Store) -> Leaderboard:
    """Write the report of what a run folder holds so far, and return its leaderboard.

    Raises:
        UserError: the folder holds no run.
    """
    spec, rows = store.spec(), store.rows()
    manifest, trials = store.manifest(), store.trials()
    audit, cells = manifest.get("audit", {}), manifest.get("cells", 0)
    board = of_store(store, rows, trials)
    objective = board.objective
    strips = _strips(store, rows, objective)
    findings = [
        f"{line} and is left out; rerun the run's command to compute it again"
        for line in store.damaged
    ]
    if len(board.table) < cells:
        findings.append(f"Unfinished: {len(board.table)} of {cells} cells have results.")
    board = replace(board, findings=[*findings, *board.findings])
    store.write_report("leaderboard.csv", board.table.to_csv(index=False))
    page = {
        "spec": spec,
        "headers": list(shown(board).values()),
        "tasks": _tasks(board),
        "findings": board.findings,
        "audit": audit,
        "notes": [
            *_notes(spec, audit, _same_measurements(rows), objective),
            *(f"{notice}." for notice in manifest.get("notices") or []),
            *(
                f"At the edge of its search space, which may be too small: {where}."
                for where in at_edge(trials, _methods(rows), manifest.get("spaces", {}), objective)
            ),
        ],
    }
    for kind, templates in (("md", markdown.TEMPLATES), ("html", HTML)):
        text = templates.get_template(f"leaderboard.{kind}").render(**page, strips=strips)
        store.write_report(f"leaderboard.{kind}", text)
    store.write_report("audit.json", json.dumps(audit, indent=1))
    store.write_report("audit.md", audit_page(audit))
    return board


def show(board: Leaderboard, spec: Benchmark, console: Console) -> None:
    """Print a leaderboard, without the columns for which the console is too narrow."""
    tasks = _tasks(board)
    endless = console.options.update(width=10_000)
    metrics = [one.name for one in reversed(board.metrics) if one != board.objective]
    dispensable = [*DISPENSABLE, *metrics]
    for dropped in range(len(dispensable) + 1):
        tables = [_table(spec, shown(board), task, dispensable[:dropped]) for task in tasks]
        widths = [console.measure(table, options=endless).maximum for table in tables]
        if max(widths, default=0) <= console.width:
            break
    for table in tables:
        console.print(table)
    if dropped:
        console.print("The report has more columns than this terminal.", style="dim")
    for finding in board.findings:
        console.print(finding, markup=False, highlight=False, soft_wrap=True)


def shown(board: Leaderboard) -> dict[str, str]:
    """Map the columns that pages show to their headings."""
    return {**LEADING, **{one.name: one.title for one in board.metrics}, **TRAILING}


def _table(
    spec: Benchmark, headings: dict[str, str], task: dict[str, Any], without: Collection[str]
) -> Table:
    title = f"{spec.dataset.label}: {task['title']}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for key, header in headings.items():
        if key not in without:
            words = key in ("method", "tied_with_best")
            justify: JustifyMethod = "left" if words else "right"
            # Only the verdict is wrapped: a number in two parts misleads.
            wrap = key == "tied_with_best"
            table.add_column(header, justify=justify, no_wrap=not wrap, overflow="fold")
    for line in task["lines"]:
        cells = zip(headings, line, strict=True)
        table.add_row(*(text for key, text in cells if key not in without))
    return table


def _notes(
    spec: Benchmark, audit: dict[str, Any], same_measurements: bool, objective: ScoreColumn
) -> list[str]:
    """Describe how the numbers were obtained, and the images."""
    data, budget = spec.dataset, spec.budget
    one_seed = spec.seeds == 1
    return [
        f"Mean over {data.n_test} test images of {data.image_size}x{data.image_size} pixels that "
        f"no search has seen, and over {_counted(spec.seeds, 'seed')} of every method that is not "
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
        f"{_counted(budget.trials, 'trial')} (fewer where it has fewer configurations); networks "
        f"with up to {budget.steps} optimiser steps of {budget.batch_size} images in each.",
        "The measurements were byte-identical for all methods of a task."
        if same_measurements
        else "THE MEASUREMENTS WERE NOT THE SAME for all methods: do not compare these lines.",
        "Training seconds are those of one refit; they and ms/image were measured while "
        "other trials ran.",
        *audit.get("notes", []),
    ]


def _methods(rows: pd.DataFrame) -> dict[str, str]:
    """Look up the method of each cell."""
    return dict(rows[["cell", "method"]].drop_duplicates().itertuples(index=False, name=None))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _tasks(board: Leaderboard) -> list[dict[str, Any]]:
    """Group the leaderboard by task, its numbers as text."""
    return [
        {
            "title": f"{degradation}, level {level:g}",
            "lines": [_texts(line, board.metrics, board.objective) for _, line in part.iterrows()],
        }
        for (degradation, level), part in board.table.groupby(["degradation", "level"], sort=False)
    ]


def _texts(line: pd.Series, metrics: Sequence[ScoreColumn], objective: ScoreColumn) -> list[str]:
    return [
        _rank(line),
        str(line["method"]),
        str(line["n_train"] or "-"),
        *(_with_interval(line, one) for one in metrics),
        "-"
        if line["rank"] == 1 or pd.isna(line["to_best"])
        else _with_interval(line, replace(objective, name="to_best"), "+"),
        f"{line['parameters']:,}" if line["parameters"] else "-",
        f"{line['train_seconds']:.1f}" if line["train_seconds"] else "-",
        f"{line['infer_ms']:.2f}",
        str(line["trials"]),
        f"{line['steps']:,}" if line["steps"] else "-",
        ", ".join(filter(None, [_standing(line), line["against_classical"]])),
    ]


def _with_interval(line: pd.Series, metric: ScoreColumn, sign: str = "") -> str:
    mean, low, high = (
        metric.number(line[f"{metric.name}{end}"], sign) for end in ("", "_low", "_high")
    )
    return f"{mean} [{low}, {high}]"


def _rank(line: pd.Series) -> str:
    if pd.isna(line["rank"]):
        return "-"
    low, high = line["rank_low"], line["rank_high"]
    return f"{line['rank']}" if low == high else f"{line['rank']} ({low}-{high})"


def _standing(line: pd.Series) -> str:
    if pd.isna(line["rank"]):
        return badges.UNSCORED
    return "best" if line["rank"] == 1 else "tied with best" if line["tied_with_best"] else ""


def _same_measurements(rows: pd.DataFrame) -> bool:
    """Return whether all cells of a task reconstructed byte-identical measurements."""
    if rows.empty:
        return True
    per_image = rows.groupby(["degradation", "level", "image"])["measurement_hash"].nunique()
    return bool((per_image == 1).all())


def _strips(store: Store, rows: pd.DataFrame, objective: ScoreColumn) -> list[dict[str, Any]]:
    """Collect for each task the first stored test image: ground truth, and every reconstruction."""
    strips = []
    for (degradation, level, task), part in rows.groupby(["degradation", "level", "task"]):
        scores = part.groupby(["cell", "method", "n_train"], sort=False)[objective.name].mean()
        pictures = []
        ascending = objective.direction == "lower"
        for cell, method, n_train in scores.sort_values(ascending=ascending).index:
            if kept := store.read_pictures(cell):
                name = f"{method}, {n_train} images" if n_train else method
                pictures.append({"name": name, "png": _png(kept["x_hat"])})
        if kept := store.read_pictures(str(task)):
            pictures.insert(0, {"name": "ground truth", "png": _png(kept["x"])})
        strips.append({"title": f"{degradation}, level {level:g}", "pictures": pictures})
    return strips


def _png(images: np.ndarray) -> str:
    """Encode the first of several images as PNG in base64; 0 is black and 1 white."""
    image = images[0, 0]
    grey = Image.fromarray((255 * np.clip(image, 0, 1)).round().astype(np.uint8))
    scale = max(1, PICTURE_SIDE // max(grey.size))
    buffer = io.BytesIO()
    grey.resize((grey.width * scale, grey.height * scale), Image.Resampling.NEAREST).save(
        buffer, "PNG"
    )
    return base64.b64encode(buffer.getvalue()).decode()
