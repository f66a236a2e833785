"""Reads a benchmark file; a mistake is reported in one line that names the key."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench import markup
from bench.errors import UserError, spelling
from bench.spec.benchmark import Benchmark
from bench.spec.parts import Budget, MethodSpec, Search


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Benchmark:
    """Read a benchmark file, with dotted-key overrides such as {"dataset.image_size": 128}.

    Raises:
        UserError: the file is missing or not a YAML mapping, or a key or value is wrong.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such benchmark file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    content = markup.read(text, str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: a benchmark file is a YAML mapping with keys such as 'methods'")
    for key, value in (overrides or {}).items():
        _set(content, key, value)
    return parse(content, " ".join([str(path), *(f"with {key}=..." for key in overrides or {})]))


def parse(content: Mapping[str, Any], origin: str = "benchmark") -> Benchmark:
    """Validate a benchmark given as a mapping; `origin` names it in errors.

    Raises:
        UserError: one line with the first wrong key or value.
    """
    try:
        return Benchmark.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{origin}: {_explain(error)}") from None


def _set(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    node: Any = content
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        raise UserError(f"{dotted}: {'.'.join(parents)!r} is not a mapping")
    node[last] = value


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


def _explain(error: ValidationError) -> str:
    """Turn pydantic's first error into one line, with the nearest spelling of an unknown key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "benchmark"
    if first["type"] == "extra_forbidden":
        *parents, given = [part for part in first["loc"] if isinstance(part, str)]
        known = sorted(_fields_at(parents))
        return f"unknown key {key!r}{spelling(given, known)} (known: {', '.join(known)})"
    wrong = _one_line(first["msg"].removeprefix("Value error, "))
    return f"{key}: {wrong} (given: {str(first['input'])[:80]!r})"


def _fields_at(parents: list[str]) -> Iterator[str]:
    nested: dict[str, type[BaseModel]] = {"budget": Budget, "search": Search, "methods": MethodSpec}
    model = nested.get(parents[0] if parents else "", Benchmark)
    yield from model.model_fields
