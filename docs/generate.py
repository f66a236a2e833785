"""Pages that are generated from the code: keys of a benchmark file, and parts of every kind."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bench import methods, metrics, physics, spec
from bench.data import GIVEN, raw, reading, sources
from bench.methods.losses import LOSSES
from bench.options import defaults_of

SECTIONS = {
    "": spec.Benchmark,
    "dataset": spec.DatasetSpec,
    "degradations": spec.DegradationSpec,
    "methods": spec.MethodSpec,
    "budget": spec.Budget,
    "search": spec.Search,
}


def write(folder: Path) -> None:
    """Write the generated pages into a folder."""
    folder.mkdir(exist_ok=True)
    for name, lines in {
        "benchmark_file": benchmark_file(),
        "degradations": degradations(),
        "methods": methods_page(),
        "readers": readers(),
        "scores": scores(),
    }.items():
        text = "\n".join(lines) + "\n"
        file = folder / f"{name}.md"
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def benchmark_file() -> Iterator[str]:
    """Describe every key of every section, from the models that check them."""
    for name, model in SECTIONS.items():
        yield f"### `{name}`" if name else "### At the top"
        yield f"\n{inspect.getdoc(model)}\n"
        yield "| key | values | default | meaning |\n|---|---|---|---|"
        for key, field in model.model_fields.items():
            yield _row(f"`{key}`", _values(field), _default(field), field.description or "")
        yield ""


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    section = next((one for one in (kind, *get_args(kind)) if _is_section(one)), None)
    if section:
        (name,) = [name for name, model in SECTIONS.items() if model is section]
        return f"see `{name}`"
    choices = [repr(one) for one in get_args(kind) if isinstance(one, str)]
    text = " or ".join(choices) or re.sub(r"<class '(\w+)'>|typing\.", r"\1", str(kind))
    bounds = {
        symbol: value
        for limit in field.metadata
        for symbol, name in ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))
        if (value := getattr(limit, name, None)) is not None
    }
    return ", ".join([f"`{text}`", *(f"{symbol} {value:g}" for symbol, value in bounds.items())])


def _is_section(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    return "" if isinstance(value, BaseModel) else f"`{value!r}`"


def degradations() -> Iterator[str]:
    """Describe every degradation: its equation and source, its level, its options."""
    for name in physics.names():
        kind = physics.find(name)
        low, high = kind.levels
        yield f"## {name}\n\n{_module_text(kind)}\n"
        yield (
            f"Level: {kind.unit}; from {low:g} to {high:g}. Easy, medium and hard: "
            f"{', '.join(f'{one:g}' for one in kind.presets)}.\n"
        )
        yield from _options(kind, physics.DEGRADATIONS.defaults(name))


def methods_page() -> Iterator[str]:
    """Describe every method: its equation and paper, what it supports, its options."""
    headings = {
        "classical": "Classical", "fitted": "Fitted in closed form", "learned": "Networks",
    }  # fmt: skip
    for kind, heading in headings.items():
        yield f"## {heading}\n"
        for name in methods.names(kind):
            method = methods.find(name)
            size = f" {method.parameters():,} parameters." if kind == "learned" else ""
            yield f"### {name}\n\n{_module_text(method.target)}\n"
            yield f"Supports {method.supported}.{size}\n"
            defaults = {key: one.default for key, one in method.options.items()}
            yield from _options(method.target, defaults, [*method.space()])


def readers() -> Iterator[str]:
    """Describe the options of all readers of files, of raw k-space, and of each reader."""
    common = defaults_of(reading.read, GIVEN)
    yield "### Every format\n"
    yield from _options(reading.read, common)
    yield "### Raw k-space\n"
    own = defaults_of(raw.read, ("measured", *GIVEN))
    shared = ", ".join(f"`{key}`" for key in own if key in common)
    yield f"With `measured: true`. Of the options above, only these apply: {shared}.\n"
    yield from _options(raw.read, {key: one for key, one in own.items() if key not in common})
    for name in sources.READERS.names():
        if options := sources.READERS.defaults(name):
            module = sources.find(name)
            yield f"### `source: {name}`\n"
            yield from _options(module.read if sources.reads(module) else module.make, options)


def scores() -> Iterator[str]:
    """List the metrics and the losses, each with the first sentence about it."""
    for heading, registry in (("Metrics", metrics.METRICS), ("Losses", LOSSES)):
        yield f"### {heading}\n"
        yield "| name | meaning |\n|---|---|"
        for name in registry.names():
            text, _, _ = _module_text(registry.find(name)).partition("\n\n")
            yield _row(f"`{name}`", " ".join(text.split()))
        yield ""


def _module_text(part: Any) -> str:
    """Return the docstring of a part's file: what it does, and where it was published."""
    return inspect.cleandoc(inspect.getmodule(part).__doc__ or "")  # type: ignore[union-attr]


def _options(
    part: Any, defaults: dict[str, Any], searched: list[str] | None = None
) -> Iterator[str]:
    if not defaults:
        return
    documented = reversed(inspect.getmro(part)) if inspect.isclass(part) else [part]
    meanings = {key: text for one in documented for key, text in _args(one)}
    yield "| option | default | meaning |" + (" searched |" if searched else "")
    yield "|---|---|---|" + ("---|" if searched else "")
    for key, default in defaults.items():
        shown = "required" if default is inspect.Parameter.empty else f"`{default!r}`"
        extra = ["yes" if key in searched else ""] if searched else []
        yield _row(f"`{key}`", shown, meanings.get(key, ""), *extra)
    yield ""


def _args(part: Any) -> Iterator[tuple[str, str]]:
    """Read the section Args of a docstring: each name with its description."""
    _, _, section = inspect.cleandoc(part.__doc__ or "").partition("Args:\n")
    section = section.partition("\n\n")[0]
    for entry in re.split(r"\n(?= {4}\S)", section):
        name, colon, text = entry.partition(":")
        if colon:
            yield name.strip(), " ".join(text.split())


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
