"""What the sweep may vary: one YAML file per method.

Each key is a parameter of the method or of the training recipe:

    width:  {choices: [8, 12, 16], default: 12}
    lr:     {low: 1.0e-4, high: 1.0e-2, log: true, default: 2.0e-3}
    depth:  {low: 2, high: 4, default: 3}            # whole numbers: an integer range

A method's first trial uses the defaults. A method without parameters has an empty file or none.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Space = dict[str, dict[str, Any]]


def load(method: str) -> Space:
    """Read the search space of a built-in method; empty where it has no file."""
    return {name: dict(entry) for name, entry in _read(method).items()}


@cache
def _read(method: str) -> Space:
    path = Path(__file__).with_name(f"{method}.yaml")
    space = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
    return check(space or {}, path.name)


def check(space: Mapping[str, Mapping[str, Any]], origin: str) -> Space:
    """Verify that each parameter is a choice or a range and that its default lies in it.

    Raises:
        ValueError: one that is neither; the message begins with `origin`.
    """
    if not isinstance(space, Mapping):
        raise ValueError(f"{origin}: a search space maps parameters to choices or ranges")
    for name, entry in space.items():
        if not (isinstance(entry, Mapping) and (_is_choice(entry) or _is_range(entry))):
            raise ValueError(f"{origin}: {name!r} needs choices or low and high, with its default")
    return {name: dict(entry) for name, entry in space.items()}


def _is_choice(entry: Mapping[str, Any]) -> bool:
    choices = entry.get("choices")
    return (
        set(entry) == {"choices", "default"}
        and isinstance(choices, list | tuple)
        and entry["default"] in choices
    )


def _is_range(entry: Mapping[str, Any]) -> bool:
    if not {"low", "high", "default"} <= set(entry) <= {"low", "high", "default", "log"}:
        return False
    low, default, high = (entry[key] for key in ("low", "default", "high"))
    if not all(isinstance(end, int | float) for end in (low, default, high)):
        return False
    return low <= default <= high and not (entry.get("log") and low <= 0)


def defaults(space: Space) -> dict[str, Any]:
    """Set every parameter to its default."""
    return {name: entry["default"] for name, entry in space.items()}


def size(space: Space) -> float:
    """Count the configurations: 1 without parameters, infinite with a range of real numbers."""
    counts = (_values(entry) for entry in space.values())
    return math.prod(math.inf if values is None else len(values) for values in counts)


def configurations(space: Space) -> list[dict[str, Any]]:
    """List every configuration of a finite space, the defaults first."""
    every = [
        dict(zip(space, values, strict=True))
        for values in itertools.product(*(_values(entry) or () for entry in space.values()))
    ]
    return sorted(every, key=lambda one: one != defaults(space))


def _values(entry: Mapping[str, Any]) -> Sequence[Any] | None:
    """List the values of a parameter; None if it is a range of real numbers."""
    if "choices" in entry:
        return entry["choices"]
    return range(entry["low"], entry["high"] + 1) if _is_integer(entry) else None


def _is_integer(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry["low"], int) and isinstance(entry["high"], int)


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Ask an Optuna trial for a value of every parameter."""
    return {name: _suggest_one(trial, name, entry) for name, entry in space.items()}


def _suggest_one(trial: Any, name: str, entry: Mapping[str, Any]) -> Any:
    if "choices" in entry:
        return trial.suggest_categorical(name, entry["choices"])
    ask = trial.suggest_int if _is_integer(entry) else trial.suggest_float
    return ask(name, entry["low"], entry["high"], log=entry.get("log", False))
