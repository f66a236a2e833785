"""The report of a run: leaderboard as CSV, Markdown, LaTeX, HTML and JSON, and the data's audit."""

import base64
import gzip
import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs
from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table

from bench import charts, lesion_table, markdown, summary
from bench.audit import page as audit_page
from bench.edges import at_edge, best_trials
from bench.report import figures, machine, notes, pictures, tex, texts
from bench.report.leaderboard import Leaderboard, of_store
from bench.spec import Benchmark
from bench.store import Store

__all__ = ["Leaderboard", "audit_page", "pages", "show", "write"]

HTML = markdown.TEMPLATES.overlay(autoescape=True, finalize=None)
# Columns to drop in a narrow terminal, in this order.
DISPENSABLE = ["to_best", "trials", "steps", "flops", "parameters"]


def write(store: Store) -> Leaderboard:
    """Write the report of what a run folder holds so far, and return its leaderboard.

    Raises:
        UserError: the folder holds no run.
    """
    spec = store.spec()
    rows, trials, validations = store.rows(), store.trials(), store.curves()
    manifest = store.manifest()
    audit, cells = manifest.get("audit", {}), manifest.get("cells", 0)
    board = of_store(store, rows, trials, validations)
    gallery = pictures.gallery(store, board)
    findings = [
        f"{line} and is left out; rerun the run's command to compute it again"
        for line in store.damaged
    ]
    if (done := notes.own_cells(board)) < cells:
        findings.append(f"Unfinished: {done} of {cells} cells have results.")
    board = replace(board, findings=[*findings, *board.findings])
    lesions = lesion_table.read(store.folder, rows["cell"].unique())
    written = pages(board, spec, manifest, rows, trials, gallery, lesions)
    content = {"rows": rows, "trials": trials, "curves": validations}
    compact = summary.write(store.sources, content, board.lines)
    for name, text in written.items():
        store.write_report(name, text)
    for name, table in compact.items():
        store.write_report(name, table)
    store.write_report("audit.json", json.dumps(audit, indent=1))
    store.write_report("audit.md", audit_page(audit))
    return board


def pages(
    board: Leaderboard,
    spec: Benchmark,
    manifest: dict[str, Any],
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    gallery: list[dict[str, Any]],
    lesions: pd.DataFrame | None = None,
    others: Sequence[Benchmark] = (),
) -> dict[str, str]:
    """Write the files of a report as text, by name.

    Args:
        board: the leaderboard.
        spec: the benchmark.
        manifest: of the run.
        rows: all rows.
        trials: all trials.
        gallery: see `pictures.gallery`.
        lesions: what `reconbench lesions` has found, if it was called.
        others: the benchmarks of the runs that were merged with this one.
    """
    objective, audit = board.objective, manifest.get("audit", {})
    lines = board.lines.reindex(columns=["cell", "method", "replay"])
    methods, replay = (
        dict(zip(lines["cell"], lines[name], strict=True)) for name in ("method", "replay")
    )
    edges = at_edge(trials, methods, manifest.get("spaces", {}), objective)
    discs = lesion_table.none() if lesions is None else lesions
    page = {
        "spec": spec,
        "headers": list(texts.shown(board).values()),
        "overview": texts.overview(board),
        "record": texts.record(board),
        "record_headers": texts.RECORD,
        "trust_headers": texts.TRUST,
        "cost_headers": ["method", "images", *texts.COSTS.values()],
        "device": board.device,
        "lesions": texts.lesions(discs),
        "lesion_headers": texts.LESIONS,
        "lesion_contrast": "".join(f"{contrast:g}" for contrast in discs["contrast"][:1]),
        "tasks": texts.tasks(board),
        "findings": board.findings,
        "objective": objective,
        "conclusion": notes.conclusion(board),
        "limits": notes.limits(board, spec, manifest, rows),
        "audit": audit,
        "settings": best_trials(trials, objective),
        "replay": replay,
        "notes": [
            *notes.notes([spec, *others], audit, notes.same_measurements(rows), objective),
            *(
                f"At the edge of its search space, which may be too small: {where}."
                for where in edges
            ),
        ],
    }
    interactive = {
        "gallery": gallery,
        "figures": figures.of_board(board),
        "undrawn": figures.undrawn(board),
        "config": charts.CONFIG,
        "plotly": _plotly(),
    }
    return {
        "leaderboard.csv": board.table.to_csv(index=False),
        "leaderboard.tex": tex.page(board),
        "report.json": machine.page(board, page, manifest),
        "leaderboard.md": markdown.TEMPLATES.get_template("leaderboard.md").render(**page),
        "leaderboard.html": HTML.get_template("leaderboard.html").render(**page, **interactive),
    }


def show_lesions(lines: pd.DataFrame, console: Console) -> None:
    """Print what the lesion test has found."""
    table = Table(title="Are small lesions shown?", title_justify="left", box=box.SIMPLE_HEAD)
    for header in texts.LESIONS:
        table.add_column(header, justify="left" if header in ("task", "method") else "right")
    for line in texts.lesions(lines):
        table.add_row(*line)
    console.print(table)


def _plotly() -> str:
    """Pack Plotly's JavaScript, which the page unpacks: it would take 5 MB as it is."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def show(board: Leaderboard, spec: Benchmark, console: Console) -> None:
    """Print a leaderboard, without the columns for which the console is too narrow."""
    tasks = texts.tasks(board)
    endless = console.options.update(width=10_000)
    metrics = [one.name for one in reversed(board.metrics) if one != board.objective]
    dispensable = [*DISPENSABLE, *metrics]
    for dropped in range(len(dispensable) + 1):
        tables = [_table(spec, texts.shown(board), task, dispensable[:dropped]) for task in tasks]
        widths = [console.measure(table, options=endless).maximum for table in tables]
        if max(widths, default=0) <= console.width:
            break
    for table in tables:
        console.print(table)
    if dropped:
        console.print("The report has more columns than this terminal.", style="dim")
    for finding in board.findings:
        console.print(finding, markup=False, highlight=False, soft_wrap=True)


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
