"""The command line: run, plan, audit, degrade, gallery, degradations, methods, report, replay."""

import os
import platform
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from bench import __version__, markup, plugins, spec
from bench.errors import UserError, printable, unknown
from bench.places import Place
from bench.spec import Benchmark, DegradationSpec, MethodSpec

DEFAULT_SPEC = Path(__file__).parent / "specs" / "small_data.yaml"
RECORDED = ("ray", "torch", "optuna", "numpy", "scikit-image", "nilearn", "scipy")

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
READER = "dataset."  # begins the keys of --set that are for the reader
AUDIT_SIZE = 128  # pixels a side at which images are compared
LOG_WIDTH = 190  # a log file has no width of its own
# What a terminal would obey, or read from right to left.
CONTROLS = {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
UNSAFE = dict.fromkeys(CONTROLS - {ord("\n")}, "\N{REPLACEMENT CHARACTER}")


class _Console(Console):
    """Shows what stands in files, but obeys none of it."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Replace the control characters of text."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(text.translate(UNSAFE), style)


console = _Console(width=None if sys.stdout.isatty() else LOG_WIDTH)

SpecPath = Annotated[
    Path | None, typer.Argument(help="benchmark file; default: the small-data benchmark")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="change a key of the file, e.g. seeds=1"),
]
OutFolder = Annotated[
    str | None, typer.Option(metavar="DIR", help="run folder; default: results/<name>")
]
Smoke = Annotated[
    bool, typer.Option("--smoke", help="shrink everything to a check that takes seconds")
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY=VALUES",
        help="run these cells alone, e.g. method=tv,unet or level=0.1 or n_train=25; may be "
        "repeated, all must hold; the rest waits for another run of the same command without",
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
        typer.Option(metavar="DIR", help="run folder, s3:// and gs:// too; default results/<name>"),
    ] = None,
    settings: Settings = None,
    smoke: Smoke = False,
    only: Only = None,
    events: Events = None,
    log: Annotated[
        list[str] | None,
        typer.Option(help="tell tensorboard, mlflow or wandb of every trial; may be repeated"),
    ] = None,
    nodes: Annotated[
        int, typer.Option(help="begin when the Ray cluster has so many nodes", min=1)
    ] = 1,
    wait: Annotated[float, typer.Option(help="seconds to wait for --nodes", min=0)] = 900.0,
) -> None:
    """Run a benchmark, or finish one that was interrupted; then print its leaderboard."""
    wanted = _filters(only)
    benchmark = _load(path, settings, smoke)
    may_shrink = _may_shrink(benchmark, path, settings, smoke)
    benchmark = _checked(benchmark)
    _check_log(events)
    # Imported late: naming what is wrong should not wait for Ray.
    from bench import cluster

    cluster.connect()
    from bench import methods, report, sweep
    from bench.store import Store
    from bench.sweep import loggers

    store = Store(out or Path("results") / benchmark.name)
    loggers.check(log or [], store.folder)
    benchmark, split, audit = _prepared(benchmark, may_shrink)
    every = sweep.cells_of(benchmark)
    chosen = sweep.matching(every, wanted)
    with store.claimed():
        for line in store.set_aside_damaged():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        store.begin(benchmark, _digests(split, benchmark.n_train))
        record = {
            "started": store.manifest().get("started", _now()),
            "cells": len(every),
            "trials": sum(sweep.trials_of(cell, benchmark.budget) for cell in every),
            "audit": audit,
            "spaces": {m.label: methods.space_of(m.name, m.fixed) for m in benchmark.methods},
            **_surroundings(),
            "starts": _starts(store.manifest().get("starts", [])),
        }
        count = f"{len(chosen)} of {len(every)}" if len(chosen) < len(every) else f"{len(every)}"
        console.print(
            f"{benchmark.name}: {count} cells -> {store.folder}", markup=False, highlight=False
        )
        outcome = sweep.run(
            benchmark, chosen, split, store, console, events, log or [], nodes, wait,
            record=record,
        )  # fmt: skip
        board = report.write(store)
        whole = outcome.complete and not outcome.failed and len(chosen) == len(every)
        if whole and not store.manifest().get("finished"):
            store.write_manifest(finished=_now())
    if not outcome.complete:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130)
    report.show(board, benchmark, console)
    _farewell(store.folder)
    if outcome.failed:
        for cell, reason in outcome.failed.items():
            console.print(f"failed: {cell}: {reason}", markup=False, highlight=False)
        raise UserError(
            f"{len(outcome.failed)} of {len(chosen)} cells failed (named above); "
            "the same command tries them again"
        )


@app.command()
def plan(
    path: SpecPath = None,
    settings: Settings = None,
    smoke: Smoke = False,
    only: Only = None,
    price: Annotated[float, typer.Option(help="of one core for an hour", min=0)] = 0.0,
    measure: Annotated[
        bool, typer.Option(help="measure a few steps of every method to estimate the time")
    ] = True,
) -> None:
    """Show what a run would do: its cells, trials, refits, optimiser steps, and about how long."""
    wanted = _filters(only)
    benchmark = _load(path, settings, smoke)
    may_shrink = _may_shrink(benchmark, path, settings, smoke)
    benchmark, _, _ = _prepared(_checked(benchmark), may_shrink)
    from bench import estimate, methods, sweep

    table = Table(title=benchmark.name, title_justify="left", box=box.SIMPLE_HEAD)
    for header in ("method", "kind", "cells", "trials", "refits", "steps at most", "core-hours"):
        table.add_column(header, justify="left" if header in ("method", "kind") else "right")
    chosen = sweep.matching(sweep.cells_of(benchmark), wanted)
    sweep.check_room(chosen, console)
    prices = estimate.prices(benchmark, chosen) if measure else {}
    hours: dict[str, float] = defaultdict(float)
    for cell in chosen if measure else []:
        seconds = estimate.seconds_of(
            cell, prices[cell.method.label, cell.task.degradation.label], benchmark,
            sweep.trials_of(cell, benchmark.budget), sweep.seeds_of(cell, benchmark),
        )  # fmt: skip
        hours[cell.method.label] += seconds / 3600
    counts = Counter(cell.method.label for cell in chosen)
    for method in benchmark.methods:
        mine = [cell for cell in chosen if cell.method == method]
        if not mine:
            continue
        learned = methods.is_learned(method.name)
        count, trials = counts[method.label], sweep.trials_of(mine[0], benchmark.budget)
        refits = count * sweep.seeds_of(mine[0], benchmark)
        steps = (count * trials + refits) * benchmark.budget.steps if learned else 0
        table.add_row(
            method.label, "learned" if learned else "classical",
            *(f"{number:,}" for number in (count, count * trials, refits, steps)),
            f"{hours[method.label]:.3f}" if measure else "-",
        )  # fmt: skip
    console.print(table)
    console.print(f"{len(chosen)} cells", highlight=False)
    if measure:
        total, cores = sum(hours.values()), os.cpu_count() or 1
        cost = f", {total * price:.2f} at {price:g} an hour" if price else ""
        here = timedelta(seconds=round(3600 * total / cores))
        console.print(
            f"At most {total:.2f} core-hours{cost}; about {here} on the {cores} cores here. "
            f" Trials that are stopped early make it less.",
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
    """Read images and say what a benchmark on them should know: files, subjects, copies, scale."""
    overrides = dict(_setting(text) for text in settings or [])
    if path.suffix.lower() in (".yaml", ".yml"):
        chosen = spec.load(path, overrides)
    else:
        place = {"path": str(path), "image_size": AUDIT_SIZE}
        chosen = spec.load(DEFAULT_SPEC, {"dataset": place, **overrides})
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
        # The whole id: files of one name lie in many patients' folders.
        stem = spec.slug(result.id.removesuffix(Path(result.id).suffix))
        written[stem] += 1
        stem += f"_{written[stem]}" if written[stem] > 1 else ""
        file = out / f"{stem}-{degradation}-{level:g}.png"
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
def degradations() -> None:
    """List the degradations: what their levels count, their range, and their options."""
    from bench import physics

    table = Table(box=box.SIMPLE_HEAD)
    for header in ("degradation", "level", "from", "to", "easy, medium, hard", "options"):
        table.add_column(header)
    for name in physics.names():
        kind = physics.find(name)
        low, high = kind.levels
        options = plugins.defaults_of(kind, physics.RESERVED)
        table.add_row(
            name, kind.unit, f"{low:g}", f"{high:g}", ", ".join(f"{p:g}" for p in kind.presets),
            ", ".join(f"{key}={value}" for key, value in options.items() if key != "steps"),
        )  # fmt: skip
    console.print(table)


@app.command("methods")
def methods_command() -> None:
    """List the methods: what they serve, their size as published, and what a sweep varies."""
    from bench import methods

    table = Table(box=box.SIMPLE_HEAD)
    for header in ("method", "kind", "serves", "parameters", "presets", "searched"):
        table.add_column(header, justify="right" if header == "parameters" else "left")
    for name in methods.names():
        kind = methods.find(name)
        size = f"{methods.parameters_of(name):,}" if methods.is_learned(name) else ""
        table.add_row(
            name, "learned" if methods.is_learned(name) else "classical",
            getattr(kind, "serves", object).__name__.replace("Physics", "any"), size,
            ", ".join(getattr(kind, "presets", {})), ", ".join(methods.space_of(name)),
        )  # fmt: skip
    console.print(table)


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
    _farewell(store.folder)


@app.command()
def replay(
    folder: Run, cell: Annotated[str, typer.Argument(help="id of a cell, as in its rows")]
) -> None:
    """Train a cell's best configuration again and compare its test PSNR with the stored one."""
    from bench.replay import replay as again
    from bench.store import Store

    _name_code(Store(folder).spec())
    for seed, before, now in again(Store(folder), cell):
        console.print(
            f"seed {seed}: {now:.4f} dB now, {before:.4f} dB in the run, "
            f"difference {now - before:+.4f} dB",
            highlight=False,
        )


def main() -> None:
    """Run the command line; a `UserError` ends in one line and exit status 2."""
    _guarded(app)


def run_script() -> None:
    """Be `reconbench run`, for `bench/run.py`."""
    script = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    script.command()(run)
    _guarded(script)


def _guarded(application: typer.Typer) -> None:
    try:
        status = application(standalone_mode=False)
    except UserError as error:
        status = _refuse(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        status = _refuse(f"{error.filename}: {error.strerror}")
    except typer.Abort:
        print("interrupted", file=sys.stderr)
        status = 130
    except SystemExit as ended:  # ours end in Typer's own exceptions
        if ended.code == signal.SIGTERM:  # so Ray answers it while it starts
            status = 130
        else:
            status = _refuse("code that the benchmark file names has called sys.exit")
    sys.exit(status if isinstance(status, int) else 0)


def _refuse(reason: str) -> int:
    """Print on one line what is wrong, and return the exit status for it."""
    print(f"error: {printable(' '.join(reason.split()))}", file=sys.stderr)
    return 2


def _load(path: Path | None, settings: list[str] | None, smoke: bool) -> Benchmark:
    benchmark = spec.load(path or DEFAULT_SPEC, dict(_setting(text) for text in settings or []))
    return benchmark.smoke() if smoke else benchmark


def _filters(only: list[str] | None) -> dict[str, list[str]]:
    """Read `--only` options: each key with the values that pass."""
    keys = ("method", "degradation", "level", "n_train")
    wanted: dict[str, list[str]] = {}
    for text in only or []:
        key, equals, values = text.partition("=")
        if key not in keys:
            raise unknown("key of --only:", key, keys)
        if not equals or not values:
            raise UserError(f"--only {text}: write it as {key}=VALUE or {key}=VALUE,VALUE")
        wanted.setdefault(key, []).extend(value.strip() for value in values.split(","))
    return wanted


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--set {text}: write it as key=value, e.g. --set budget.trials=4")
    return key.strip(), markup.read(value, f"--set {text}")


def _may_shrink(
    benchmark: Benchmark, path: Path | None, settings: list[str] | None, smoke: bool
) -> tuple[bool, bool]:
    """Return whether nobody has chosen the sizes of the held-out sets, and those for training."""
    if smoke:
        return True, True
    named = {_setting(text)[0] for text in settings or []}
    held_out = benchmark.dataset.model_fields_set.isdisjoint({"n_val", "n_test"})
    return held_out, path is None and "n_train" not in named


def _prepared(
    benchmark: Benchmark, may_shrink: tuple[bool, bool]
) -> tuple[Benchmark, Any, dict[str, Any]]:
    """Read the images and part them; sizes that may shrink do where the images are few.

    Returns:
        the benchmark with the sizes of its sets, the sets, and the audit.
    """
    from bench import data

    dataset = data.load(benchmark.dataset)
    data.refuse_mixed(dataset)
    held_out, training = may_shrink
    if held_out:
        benchmark = _fitted(benchmark, dataset, training)
    split = data.split(
        dataset, max(benchmark.n_train), benchmark.dataset.n_val, benchmark.dataset.n_test
    )
    return benchmark, split, vars(dataset.audit)


def _fitted(benchmark: Benchmark, dataset: Any, training: bool) -> Benchmark:
    """Shrink the held-out sets, and the training sets too, to what a small dataset can fill."""
    from bench import data

    spec_of = benchmark.dataset
    sizes = data.fitting(dataset, benchmark.n_train, spec_of.n_val, spec_of.n_test, training)
    if sizes != (benchmark.n_train, spec_of.n_val, spec_of.n_test):
        console.print(
            f"{len(dataset)} images are few: {sizes[2]} for testing, {sizes[1]} for validation, "
            f"{' and '.join(map(str, sizes[0]))} for training",
            highlight=False,
        )
    return benchmark.with_sizes(*sizes)


def _name_code(benchmark: Benchmark) -> None:
    """Print which code of other packages a benchmark runs, before any of it is imported."""
    paths = [method.name for method in benchmark.methods if ":" in method.name]
    for module in dict.fromkeys(path.partition(":")[0] for path in paths):
        place = plugins.origin_of(module) or "not found"
        console.print(
            f"runs code of {module} ({place})", markup=False, highlight=False, soft_wrap=True
        )


def _checked(benchmark: Benchmark) -> Benchmark:
    """Refuse what only readers, degradations and methods can judge; write out their defaults."""
    from bench import data, physics, training

    benchmark = benchmark.model_copy(update={"dataset": data.resolve(benchmark.dataset)})
    data.check(benchmark.dataset)
    for degradation in benchmark.degradations:
        options = plugins.options_of(physics.find(degradation.name), physics.RESERVED)
        plugins.check_options(
            degradation.label, degradation.options, {*options, *DegradationSpec.model_fields}
        )
    for task in spec.tasks(benchmark):
        degradation = task.degradation
        physics.create(
            degradation.name, task.level, benchmark.dataset.image_size, **degradation.options
        )
    _name_code(benchmark)
    benchmark = _with_controls(_without_absent(benchmark))
    for method in benchmark.methods:
        training.check_space(method.name, method.fixed)
        _check_service(method, benchmark)
    return benchmark.with_options(
        data.defaults(benchmark.dataset),
        [
            plugins.defaults_of(physics.find(degradation.name), physics.RESERVED)
            for degradation in benchmark.degradations
        ],
    )


def _without_absent(benchmark: Benchmark) -> Benchmark:
    """Leave out, with a line each, the methods whose optional package is not installed."""
    from bench import methods

    here = []
    for method in benchmark.methods:
        extra = methods.lacks(method.name)
        if extra is None:
            here.append(method)
            continue
        console.print(
            f"{method.label} is left out: it needs pip install -e '.[{extra}]'",
            markup=False, highlight=False,
        )  # fmt: skip
    if not here:
        raise UserError("methods: none of them is installed (see above)")
    return benchmark.model_copy(update={"methods": here})


def _with_controls(benchmark: Benchmark) -> Benchmark:
    """Add what a method has to be compared with, as a GAN with its generator trained alone."""
    from bench import methods

    labels = {method.label for method in benchmark.methods}
    chosen: list[MethodSpec] = []
    for method in benchmark.methods:
        chosen.append(method)
        for name, control in methods.controls_of(method.name).items():
            label = f"{method.label}_{name}"
            if label not in labels and not control.keys() <= method.fixed.keys():
                fixed = {**method.fixed, **control}
                chosen.append(method.model_copy(update={"label": label, "fixed": fixed}))
    return benchmark.model_copy(update={"methods": chosen})


def _check_service(method: MethodSpec, benchmark: Benchmark) -> None:
    """Name the degradations a method does not serve; refuse it if it serves none."""
    from bench import methods

    missed = [
        degradation.label
        for degradation in benchmark.degradations
        if not methods.serves(method.name, degradation.name)
    ]
    kind = getattr(methods.find(method.name), "serves", object).__name__
    if len(missed) == len(benchmark.degradations):
        raise UserError(
            f"methods: {method.label} serves {kind} only, which no degradation of this benchmark "
            f"is ({', '.join(missed)}); leave it out"
        )
    if missed:
        console.print(
            f"{method.label} serves {kind} only: no cells for {', '.join(missed)}",
            highlight=False,
        )


def _check_log(events: Path | None) -> None:
    """Refuse now a file for events that cannot be written later."""
    try:
        if events is not None:
            events.parent.mkdir(parents=True, exist_ok=True)
            events.open("a").close()
    except OSError as error:
        raise UserError(f"--events {events}: cannot be written ({error.strerror})") from None


def _digests(split: Any, sizes: list[int]) -> dict[str, str]:
    """Hash each set of images by itself: with more to train on, the others stay as they were."""
    training = {f"train {size}": split.train.first(size).digest() for size in sizes}
    return {"val": split.val.digest(), "test": split.test.digest(), **training}


def _starts(before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add this start to the earlier ones; say which versions differ from those of the last."""
    now = {"at": _now(), **_surroundings()}
    if before:
        then, here = ({"code": one["git"], **one["versions"]} for one in (before[-1], now))
        moved = [
            f"{name} {then.get(name)} -> {here.get(name)}"
            for name in here
            if then.get(name) != here[name]
        ]
        if moved:
            console.print(
                f"warning: goes on under other versions ({', '.join(moved)}); what was run before "
                "stays as it is, and the report carries a badge",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
    return [*before, now]


def _surroundings() -> dict[str, Any]:
    """Record what the numbers may depend on."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {
            "reconbench": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in RECORDED},
        },
        "hardware": {
            "machine": platform.machine(),
            "system": platform.system(),
            "cpus": os.cpu_count(),
            "gpus": gpus,
        },
        "git": _revision(),
    }


def _revision() -> str | None:
    """The revision of the checkout that this code runs from; None outside one."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _save(picture: Any, file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be written ({error})") from None


def _farewell(folder: Place) -> None:
    console.print(f"\nReport:    {folder / 'report' / 'leaderboard.html'}", highlight=False)
    if not isinstance(folder, Path):
        return  # the dashboard reads local folders
    dashboard = Path(__file__).parent.parent / "dashboard" / "app.py"
    if dashboard.is_relative_to(Path.cwd()):
        dashboard = dashboard.relative_to(Path.cwd())
    binary = Path(sys.executable).with_name("streamlit")
    command = binary.relative_to(Path.cwd()) if binary.is_relative_to(Path.cwd()) else "streamlit"
    console.print(f"Dashboard: {command} run {dashboard} -- {folder}", highlight=False)
