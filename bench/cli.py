"""The command line: run, plan, audit, degrade, gallery, check, methods, report, replay and more."""

import os
import signal
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from bench import apply_commands, markup, part_commands, report_commands, spec
from bench.display import console, show_notices
from bench.errors import UserError, printable, unknown
from bench.places import Place
from bench.spec import FILTERS, Benchmark

if TYPE_CHECKING:
    from bench.rules import Shrinkable

DEFAULT_SPEC = Path(__file__).parent / "specs" / "small_data.yaml"

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
# Of the errors for wrong arguments and options, Typer exports only this subclass.
USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]
READER = "dataset."  # prefix of the keys of --set that are for the reader
AUDIT_SIZE = 128  # pixels along each side at which images are compared

SpecPath = Annotated[
    Path | None, typer.Argument(help="benchmark file; default: the small-data benchmark")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change a key of the file, e.g. seeds=1"),
]
Smoke = Annotated[
    bool, typer.Option("--smoke", help="shrink everything to a check that takes seconds")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUES",
        help="run these cells alone, e.g. method=tv,unet or level=0.1 or n_train=25; may be "
        "repeated, all must hold; the other cells stay pending until the command is run without it",
    ),
]
Events = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="add one JSON line for each event of the run"),
]
Run = Annotated[str, typer.Argument(help="run folder, e.g. results/small_data")]


@app.command()
def run(
    path: SpecPath = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="run folder, or s3:// or gs://; default: results/<name>"),
    ] = None,
    settings: Settings = None,
    smoke: Smoke = False,
    only: Only = None,
    events: Events = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="log every trial to tensorboard, mlflow or wandb; may be repeated"),
    ] = None,
    nodes: Annotated[
        int, typer.Option(help="wait until the Ray cluster has this many nodes", min=1)
    ] = 1,
    wait: Annotated[float, typer.Option(help="seconds to wait for --nodes", min=0)] = 900.0,
) -> None:
    """Run a benchmark, or finish one that was interrupted; then print its leaderboard."""
    wanted = _filters(only)
    benchmark, may_shrink = _load(path, settings, smoke)
    # Imported late: errors in the benchmark file should not wait for Ray.
    from bench import report, runner

    ended = runner.run(
        benchmark, out, only=wanted, may_shrink=may_shrink, events=events, log_to=log or [],
        nodes=nodes, wait=wait, console=console,
    )  # fmt: skip
    if not ended.complete:
        print("interrupted; rerun the same command to resume", file=sys.stderr)
        raise typer.Exit(130)
    report.show(ended.board, ended.benchmark, console)
    _show_paths(ended.store.folder)
    if ended.failed:
        for cell, reason in ended.failed.items():
            console.print(f"failed: {cell}: {reason}", markup=False, highlight=False)
        raise UserError(
            f"{len(ended.failed)} of {len(ended.chosen)} cells failed (named above); "
            "the same command tries them again"
        )


@app.command()
def plan(
    path: SpecPath = None,
    settings: Settings = None,
    smoke: Smoke = False,
    only: Only = None,
    price: Annotated[float, typer.Option(help="price of one core for an hour", min=0)] = 0.0,
    measure: Annotated[
        bool, typer.Option(help="measure a few steps of every method to estimate the time")
    ] = True,
) -> None:
    """Show what a run would do: its cells, trials, refits, optimiser steps, and about how long."""
    wanted = _filters(only)
    benchmark, may_shrink = _load(path, settings, smoke)
    from bench import cells, estimate, rules

    show_notices(console, rules.foreign_code(benchmark))
    benchmark, notices = rules.check(benchmark)
    show_notices(console, notices)
    prepared = rules.prepare(benchmark, may_shrink)
    show_notices(console, prepared.notices)
    chosen = cells.matching(cells.cells_of(prepared.benchmark), wanted)
    from bench import sweep

    show_notices(console, sweep.check_room(chosen))
    lines = estimate.lines(prepared.benchmark, chosen, measure)
    table = Table(title=benchmark.name, title_justify="left", box=box.SIMPLE_HEAD)
    for header in ("method", "kind", "cells", "trials", "refits", "steps at most", "core-hours"):
        table.add_column(header, justify="left" if header in ("method", "kind") else "right")
    for line in lines:
        table.add_row(
            line.method, line.kind,
            *(f"{number:,}" for number in (line.cells, line.trials, line.refits, line.steps)),
            f"{line.hours:.3f}" if measure else "-",
        )  # fmt: skip
    console.print(table)
    console.print(f"{len(chosen)} cells", highlight=False)
    if measure:
        total, cores = sum(line.hours for line in lines), os.cpu_count() or 1
        cost = f", {total * price:.2f} at {price:g} an hour" if price else ""
        here = timedelta(seconds=round(3600 * total / cores))
        console.print(
            f"At most {total:.2f} core-hours{cost}; about {here} on the {cores} cores here. "
            f"Trials that are stopped early reduce it.",
            highlight=False,
        )


@app.command()
def audit(
    path: Annotated[Path, typer.Argument(help="images (a file or folder) or a benchmark file")],
    settings: Settings = None,
    pictures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="draw a contact sheet of what was read, e.g. sheet.png"),
    ] = None,
) -> None:
    """Read images and report what matters for a benchmark: files, subjects, copies, scale."""
    overrides = dict(_setting(text) for text in settings or [])
    if path.suffix.lower() in (".yaml", ".yml"):
        chosen = spec.load(path, overrides)
    else:
        images = {"path": str(path), "image_size": AUDIT_SIZE}
        chosen = spec.load(DEFAULT_SPEC, {"dataset": images, **overrides})
    from bench import audit as audits
    from bench import data

    dataset = data.load(chosen.dataset)
    page = audits.page(vars(dataset.audit))
    console.print(page, markup=False, highlight=False, soft_wrap=True)
    if pictures is not None:
        from bench import gallery

        _save(gallery.contact_sheet(dataset), pictures)
        console.print(str(pictures), markup=False, highlight=False)


@app.command()
def degrade(
    path: Annotated[Path, typer.Argument(help="an image, a volume, or a folder of them")],
    degradation: Annotated[str, typer.Option(help="its name; see `reconbench degradations`")],
    level: Annotated[float, typer.Option(help="its level")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where pictures go")] = Path("degraded"),
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="an option of the degradation, e.g. mask=poisson_disc, or of the reader, "
            "e.g. dataset.window=[40,400]",
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="pixels along each side", min=16, max=1024)] = 128,
    count: Annotated[int, typer.Option(help="images to show of those found", min=1)] = 4,
    measured: Annotated[
        bool, typer.Option("--measured", help="undersample the file's own k-space")
    ] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="a classical method to try on it; may be repeated")
    ] = None,
) -> None:
    """Show what a degradation does to images: x, y, A_dagger(y) and the mask, as PNG files."""
    given = dict(_setting(text) for text in settings or [])
    options = {key: value for key, value in given.items() if not key.startswith(READER)}
    reading = {key.removeprefix(READER): given[key] for key in given if key not in options}
    from bench import gallery

    gallery.check_methods(method or [], degradation)
    if measured:
        gallery.check_cartesian(degradation)
        results = iter([gallery.degrade_kspace(path, level, method or [], reading, **options)])
    else:
        results = gallery.degrade(
            path, degradation, level, size, count, method or [], reading, **options
        )
    written: Counter[str] = Counter()
    for result in results:
        # The whole id, since the folders of several patients may contain files of the same name.
        stem = spec.slug(result.id.removesuffix(Path(result.id).suffix))
        written[stem] += 1
        stem += f"_{written[stem]}" if written[stem] > 1 else ""
        file = out / f"{stem}-{spec.slug(degradation)}-{level:g}.png"
        _save(gallery.montage([result.panels]), file)
        console.print(str(file), markup=False, highlight=False)
        for note in result.notes:
            console.print(f"  {note}", markup=False, highlight=False, soft_wrap=True)
        for what, score in result.scores.items():
            console.print(f"  {what}: {score}", markup=False, highlight=False)


@app.command("gallery")
def gallery_command(
    path: Annotated[
        Path | None, typer.Argument(help="an image; default: a slice of the brain template")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="a .png")] = Path("degradations.png"),
    size: Annotated[int, typer.Option(help="pixels along each side", min=16, max=1024)] = 128,
) -> None:
    """Draw every degradation at three levels on one page."""
    from bench import gallery

    _save(gallery.gallery(path, size), out)
    console.print(str(out), markup=False, highlight=False)


@app.command()
def report(folder: Run) -> None:
    """Write the report of a run, finished or not, and print its leaderboard."""
    from bench import report as reports
    from bench.store import Store

    store = Store(folder)
    board = reports.write(store)
    if board.table.empty:
        raise UserError(f"{folder}: no cell has finished yet")
    reports.show(board, store.spec(), console)
    _show_paths(store.folder)


for commands in (part_commands.COMMANDS, report_commands.COMMANDS, apply_commands.COMMANDS):
    for name, command in commands.items():
        app.command(name)(command)


def main() -> None:
    """Run the command line; a `UserError` ends in one line and exit status 2."""
    _guarded(app)


def run_script() -> None:
    """Entry point of bench/run.py: `reconbench run` as a script."""
    script = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    script.command()(run)
    _guarded(script)


def _guarded(application: typer.Typer) -> None:
    try:
        status = application(standalone_mode=False)
    except UserError as error:
        status = _refuse(str(error))
    except USAGE_ERROR as error:
        status = _refuse_usage(error)
    except OSError as error:
        if error.filename is None:
            raise
        status = _refuse(f"{error.filename}: {error.strerror}")
    except typer.Abort:
        print("interrupted", file=sys.stderr)
        status = 130
    except SystemExit as ended:  # our own commands raise Typer's exceptions instead
        if ended.code == signal.SIGTERM:  # raised by Ray while it starts
            status = 130
        else:
            status = _refuse("code that the benchmark file names has called sys.exit")
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(reason: str) -> int:
    """Print the error on one line, and return the exit status."""
    print(f"error: {printable(' '.join(reason.split()))}", file=sys.stderr)
    return 2


def _refuse_usage(error: Any) -> int:
    """Print what is wrong with the arguments; without any, Typer has already printed the help."""
    reason = error.format_message().rstrip(".")
    return _refuse(f"{reason}; see {error.ctx.command_path} --help") if reason else 2


def _load(
    path: Path | None, settings: list[str] | None, smoke: bool
) -> tuple[Benchmark, "Shrinkable"]:
    """Read a benchmark file; return also which sizes of image sets the user left open."""
    given = dict(_setting(text) for text in settings or [])
    benchmark = spec.load(path or DEFAULT_SPEC, given)
    from bench import rules

    if smoke:
        return benchmark.smoke(), rules.Shrinkable(True, True)
    open_sizes = rules.shrinkable(benchmark)
    return benchmark, open_sizes._replace(training=path is None and "n_train" not in given)


def _filters(only: list[str] | None) -> dict[str, list[str]]:
    """Read `--only` options: each key with the values that are kept."""
    wanted: dict[str, list[str]] = {}
    for text in only or []:
        key, equals, values = text.partition("=")
        if key not in FILTERS:
            raise unknown("key of --only:", key, FILTERS)
        if not equals or not values:
            raise UserError(f"--only {text}: write it as {key}=VALUE or {key}=VALUE,VALUE")
        wanted.setdefault(key, []).extend(value.strip() for value in values.split(","))
    return wanted


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}: write it as key=value, e.g. --set budget.trials=4")
    return key.strip(), markup.read(value, f"--set {text}")


def _save(picture: Any, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be written ({error})") from None


def _show_paths(folder: Place) -> None:
    console.print(f"\nReport:    {folder / 'report' / 'leaderboard.html'}", highlight=False)
    if not isinstance(folder, Path):
        return  # the dashboard reads local folders
    dashboard = Path(__file__).parent.parent / "dashboard" / "app.py"
    if dashboard.is_relative_to(Path.cwd()):
        dashboard = dashboard.relative_to(Path.cwd())
    binary = Path(sys.executable).with_name("streamlit")
    command = binary.relative_to(Path.cwd()) if binary.is_relative_to(Path.cwd()) else "streamlit"
    console.print(f"Dashboard: {command} run {dashboard} -- {folder}", highlight=False)
