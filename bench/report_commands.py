"""Commands on finished runs: compare, recommend, replay, score methods from elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from bench.display import console, show_notices
from bench.errors import UserError

Run = Annotated[str, typer.Argument(help="run folder, e.g. results/small_data")]
Levels = Annotated[
    list[float] | None, typer.Option("--level", help="only tasks of this level; may be repeated")
]


def compare(
    runs: Annotated[list[str], typer.Argument(help="run folders of the same images and tasks")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="write the report there as well")
    ] = None,
) -> None:
    """Show several runs on one board, if they measured and scored the same images alike."""
    from bench import report
    from bench.report.combine import combine
    from bench.store import Store

    stores = [Store(run) for run in runs]
    board, rows, trials = combine(stores)
    spec, manifest = stores[0].spec(), stores[0].manifest()
    report.show(board, spec, console)
    if out is not None:
        others = [store.spec() for store in stores[1:]]
        pages = report.pages(board, spec, {**manifest, "cells": 0}, rows, trials, [], others=others)
        for name, text in pages.items():
            _write(out / name, text)
        console.print(f"\nReport:    {out / 'leaderboard.html'}", markup=False, highlight=False)


def measurements(
    folder: Run,
    out: Annotated[Path, typer.Option(metavar="DIR", help="where they go")],
    level: Levels = None,
) -> None:
    """Write the measurements of the test images, for a method that runs elsewhere."""
    from bench import external
    from bench.store import Store

    for written in external.write_measurements(Store(folder), out, level or []):
        console.print(str(written), markup=False, highlight=False)


def score(
    folder: Run,
    predictions: Annotated[
        Path, typer.Option(metavar="PATH", help="folder or HDF5 file with the reconstructions")
    ],
    name: Annotated[str, typer.Option(help="of the method, on the board")],
    level: Levels = None,
    n_train: Annotated[
        int, typer.Option(help="number of training images that it has used", min=0)
    ] = 0,
) -> None:
    """Score reconstructions that were made elsewhere, and put them on the board as external."""
    from bench import external, report
    from bench.store import Store

    store = Store(folder)
    for cell in external.score(store, predictions, name, level or [], n_train):
        console.print(f"scored: {cell}", markup=False, highlight=False)
    report.show(report.write(store), store.spec(), console)


def recommend(
    folder: Run,
    level: Annotated[float | None, typer.Option(help="level of the degradation")] = None,
    degradation: Annotated[str | None, typer.Option(help="its label in the run")] = None,
    n_train: Annotated[
        int | None, typer.Option(help="number of training images at hand", min=0)
    ] = None,
    max_ms: Annotated[
        float | None, typer.Option(help="most milliseconds that an image may take", min=0)
    ] = None,
    max_parameters: Annotated[
        float | None, typer.Option(help="most parameters that a network may have", min=0)
    ] = None,
    max_train_seconds: Annotated[
        float | None, typer.Option(help="most seconds that a training may take", min=0)
    ] = None,
) -> None:
    """Name the method to use at a level and number of training images, with the evidence."""
    from bench.opened import Run as OpenRun

    found = OpenRun(folder).recommend(
        level, degradation=degradation, n_train=n_train, max_ms=max_ms,
        max_parameters=max_parameters, max_train_seconds=max_train_seconds,
    )  # fmt: skip
    console.print(str(found), markup=False, highlight=False, soft_wrap=True)


def lesions(
    folder: Run,
    radius: Annotated[
        list[int] | None, typer.Option(help="in pixels; may be repeated; default: 2 and 4", min=1)
    ] = None,
    contrast: Annotated[float, typer.Option(help="of images in [0, 1]")] = 0.2,
    images: Annotated[int, typer.Option(help="test images that are used", min=1)] = 24,
    level: Levels = None,
) -> None:
    """Add small lesions to test images: which methods show them, and which draw others?"""
    import pandas as pd

    from bench import lesion_table, report
    from bench import lesions as discs
    from bench.store import Store

    store = Store(folder)
    tables = []
    for found in discs.examine(store, radius or [2, 4], contrast, images, level or []):
        tables.append(found)
        console.print(f"examined: {found['cell'].iloc[0]}", markup=False, highlight=False)
    lines = pd.concat(tables, ignore_index=True)
    file = store.write_report(lesion_table.FILE, lines.to_csv(index=False))
    report.show_lesions(lines, console)
    report.write(store)
    console.print(f"\n{file}", markup=False, highlight=False)


def timing(folder: Run, level: Levels = None) -> None:
    """Time reconstruction and training of each method, when nothing else runs."""
    from bench import report, timing_table
    from bench import timing as clock
    from bench.store import Store

    store = Store(folder)
    table, noisy = timing_table.read(store.folder), 0
    for found, busy in clock.measure(store, level or []):
        table = timing_table.merged(table, found)
        store.write_report(timing_table.FILE, table.to_csv(index=False))
        beside = busy > clock.QUIET
        noisy += beside
        note = f" (no times: other processes kept {busy:.1f} cores busy)" if beside else ""
        console.print(f"measured: {found['cell'].iloc[0]}{note}", markup=False, highlight=False)
    report.write(store)
    file = store.folder / "report" / timing_table.FILE
    console.print(f"\n{file}", markup=False, highlight=False)
    if noisy:
        console.print(f"{noisy} cells have no times: repeat the command when nothing else runs.")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None


def replay(
    folder: Run,
    cells: Annotated[
        list[str] | None, typer.Argument(help="ids of cells, as in its rows; default: all")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", help="only this seed; may be repeated")
    ] = None,
) -> None:
    """Train the best configurations of cells again; compare test PSNR with the stored one."""
    from bench import rules
    from bench.replay import replay as again
    from bench.store import Store

    store = Store(folder)
    show_notices(console, rules.foreign_code(store.spec()))
    chosen = cells or sorted(store.rows()["cell"].unique())
    shown, greatest = None, None
    for refit in again(store, chosen, seed or ()):
        if len(chosen) > 1 and refit.cell != shown:
            console.print(refit.cell, highlight=False)
            shown = refit.cell
        difference = refit.now - refit.before
        greatest = max(greatest or 0.0, abs(difference))
        console.print(
            f"seed {refit.seed}: {refit.now:.4f} dB now, {refit.before:.4f} dB in the run, "
            f"difference {difference:+.4f} dB",
            highlight=False,
        )
    if greatest is None:
        raise UserError("--seed: these cells have no refit with such a seed")
    if len(chosen) > 1:
        console.print(f"greatest difference {greatest:.4f} dB", highlight=False)


COMMANDS: dict[str, Callable[..., None]] = {
    "compare": compare,
    "lesions": lesions,
    "measurements": measurements,
    "recommend": recommend,
    "replay": replay,
    "score": score,
    "timing": timing,
}
