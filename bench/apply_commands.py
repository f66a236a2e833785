"""Commands that take a method of a run elsewhere: reconstruct files with it, or export it."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from bench import markup
from bench.display import console
from bench.errors import UserError

Run = Annotated[str, typer.Argument(help="run folder, e.g. results/small_data")]
Method = Annotated[str, typer.Option(help="label of a method, id of a cell, or best")]
Degradation = Annotated[str | None, typer.Option(help="the task's degradation")]
Level = Annotated[float | None, typer.Option(help="the task's level")]
Task = Annotated[str | None, typer.Option(help="id of the task")]
Size = Annotated[int | None, typer.Option(help="number of training images")]


def reconstruct(
    folder: Run,
    path: Annotated[
        Path, typer.Argument(metavar="INPUT", help="a file, or a folder of files at any depth")
    ],
    out: Annotated[
        Path, typer.Option(metavar="OUTPUT", help="a new folder; for a single file, or a new file")
    ],
    method: Method = "best",
    degradation: Degradation = None,
    level: Level = None,
    n_train: Size = None,
    task: Task = None,
    degrade: Annotated[
        bool, typer.Option("--degrade", help="the input is not degraded yet: do so first, to try")
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="write the spread over the trainings too")
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(help="side of overlapping tiles; default: only for large images", min=32),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="how files are read and scaled, e.g. dataset.scale=[0,1] or dataset.axes=shw",
        ),
    ] = None,
) -> None:
    """Reconstruct your own files with a method of a run; headers and geometry are kept."""
    reading = dict(_setting(text) for text in settings or [])
    from bench import reconstruct as files
    from bench import rules
    from bench.opened import Run

    run = Run(folder)
    for notice in rules.foreign_code(run.spec):
        console.print(notice, markup=False, highlight=False, soft_wrap=True)
    screen = Console(stderr=True)
    which = {"degradation": degradation, "level": level, "n_train": n_train, "task": task}
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as bar:
        line = bar.add_task("reconstructing", total=1.0)

        def report(done: float, warning: str) -> None:
            if not warning:
                bar.update(line, completed=done)
            else:
                bar.console.print(warning, markup=False, highlight=False, soft_wrap=True)

        outcome = files.reconstruct(
            run, path, out, method, which=which, degrade=degrade, uncertainty=uncertainty,
            tile=tile, reading=reading, report=report,
        )  # fmt: skip
    _show(outcome)


def export(
    folder: Run,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="a new folder")],
    method: Method = "best",
    degradation: Degradation = None,
    level: Level = None,
    n_train: Size = None,
    task: Task = None,
) -> None:
    """Write a method of a run as a folder: weights, settings, ONNX, and its model card."""
    from bench import export as exporting
    from bench import rules
    from bench.opened import Run

    run = Run(folder)
    for notice in rules.foreign_code(run.spec):
        console.print(notice, markup=False, highlight=False, soft_wrap=True)
    which = {"degradation": degradation, "level": level, "n_train": n_train, "task": task}
    done = exporting.export(run, out, method, which=which)
    console.print(f"{done.cell}: {', '.join(done.files)}", markup=False, soft_wrap=True)
    if done.reason:
        console.print(f"without ONNX: {done.reason}", markup=False, soft_wrap=True)
    console.print(f"written: {done.folder}", markup=False, highlight=False, soft_wrap=True)


def _show(outcome: Any) -> None:
    """Print what was reconstructed, where it is, and what was left out."""
    lines = [f"{outcome.about}: {outcome.slices} slices"]
    if outcome.scores:
        means = [sum(column) / len(outcome.scores) for column in zip(*outcome.scores, strict=True)]
        before, after = (f"{means[k]:.2f} dB, SSIM {means[k + 1]:.3f}" for k in (0, 2))
        lines.append(f"against the input: A_dagger(y) {before}; reconstruction {after}")
    lines += [f"left out: {file}: {reason}" for file, reason in outcome.skipped.items()]
    count = len(outcome.written)
    more = f" and {count - 1} more" if count > 1 else ""
    lines.append(f"written: {outcome.written[0]}{more}")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _setting(text: str) -> tuple[str, Any]:
    """Read `dataset.key=value`."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip().startswith("dataset."):
        raise UserError(f"--set {text}: write it as dataset.KEY=VALUE, e.g. dataset.scale=[0,1]")
    return key.strip().removeprefix("dataset."), markup.read(value, f"--set {text}")


COMMANDS: dict[str, Callable[..., None]] = {"reconstruct": reconstruct, "export": export}
