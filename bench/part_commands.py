"""Commands on the parts of a benchmark: list ours, begin a new one, and check it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from bench.display import console
from bench.errors import UserError


def degradations() -> None:
    """List the degradations: what their levels count, their range, and their options."""
    from bench import physics

    table = Table(box=box.SIMPLE_HEAD)
    for header in ("degradation", "level", "from", "to", "easy, medium, hard", "options"):
        table.add_column(header)
    for name in physics.names():
        kind = physics.find(name)
        low, high = kind.levels
        options = physics.DEGRADATIONS.defaults(name)
        table.add_row(
            name, kind.unit, f"{low:g}", f"{high:g}", ", ".join(f"{p:g}" for p in kind.presets),
            ", ".join(f"{key}={value}" for key, value in options.items() if key != "steps"),
        )  # fmt: skip
    console.print(table)


def methods() -> None:
    """List the methods: what they support, their size by default, and what a sweep varies."""
    from bench.methods import find, names

    table = Table(box=box.SIMPLE_HEAD)
    for header in ("method", "kind", "supports", "parameters", "presets", "searched"):
        table.add_column(header, justify="right" if header == "parameters" else "left")
    for name in names():
        method = find(name)
        table.add_row(
            name, method.kind, method.supported.removesuffix(" physics"),
            f"{method.parameters():,}" if method.kind != "classical" else "",
            ", ".join(method.presets), ", ".join(method.space()),
        )  # fmt: skip
    console.print(table)


def check(
    parts: Annotated[
        list[str] | None, typer.Argument(help="names, or dotted paths such as my_pkg.models:MyNet")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="check all parts of ours")] = False,
    kind: Annotated[
        str | None, typer.Option(help="method, degradation, reader, loss or metric")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="a file on which to try the reader")
    ] = None,
) -> None:
    """Check whether a part of your own fulfils the contract of its kind."""
    from bench import contracts

    if not parts and not every:
        raise UserError("name a part, such as my_pkg.models:MyNet, or --all")
    wanted = [*(contracts.ours() if every else ()), *((kind, part) for part in parts or [])]
    found: Counter[str] = Counter()
    for one, part in wanted:
        for outcome in contracts.check(part, one, file):
            console.print(str(outcome), markup=False, highlight=False, soft_wrap=True)
            found[outcome.result] += 1
    counts = f"{found['passed']} passed, {found['not checked']} not checked"
    if found["failed"]:
        raise UserError(f"check: {found['failed']} failed, {counts}")
    console.print(f"check: {counts}", highlight=False)


def new(
    kind: Annotated[
        str, typer.Argument(help="method, network, degradation, reader, loss or metric")
    ],
    name: Annotated[str, typer.Argument(help="lower-case letters, digits and _")],
    package: Annotated[
        str | None,
        typer.Option(help="your own package; default: ReconBench itself, if it is checked out"),
    ] = None,
) -> None:
    """Write the file of a new part, its search space and its test, which work as they are."""
    from bench import new as files

    written = files.write(kind, name, package)
    for file in written.files:
        shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        console.print(str(shown), markup=False, highlight=False)
    console.print(
        f"\nFill it in, then: reconbench check {written.path}", markup=False, highlight=False
    )


COMMANDS: dict[str, Callable[..., None]] = {
    "degradations": degradations,
    "methods": methods,
    "check": check,
    "new": new,
}
