"""What the sweep may vary: one YAML file a method, plain data that a person can print.

Each key is a parameter of the method or of the training recipe:

    width:  {choices: [8, 12, 16], default: 12}
    lr:     {low: 1.0e-4, high: 1.0e-2, log: true, default: 2.0e-3}
    depth:  {low: 2, high: 4, default: 3}            # whole numbers: an integer range

A method's first trial is always its defaults. An empty file is a method without parameters.
"""

from collections.abc import Mapping
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
        ValueError: one that is neither; `origin` names where it stands.
    """
    for name, entry in space.items():
        keys = set(entry)
        choice = keys == {"choices", "default"} and entry["default"] in entry["choices"]
        span = {"low", "high", "default"} <= keys <= {"low", "high", "default", "log"}
        if not choice and not (span and entry["low"] <= entry["default"] <= entry["high"]):
            raise ValueError(f"{origin}: {name!r} needs choices or low and high, with its default")
    return {name: dict(entry) for name, entry in space.items()}


def defaults(space: Space) -> dict[str, Any]:
    """Set every parameter to its default."""
    return {name: entry["default"] for name, entry in space.items()}


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Ask an Optuna trial for a value of every parameter."""
    return {name: _suggest_one(trial, name, entry) for name, entry in space.items()}


def _suggest_one(trial: Any, name: str, entry: Mapping[str, Any]) -> Any:
    if "choices" in entry:
        return trial.suggest_categorical(name, entry["choices"])
    whole = isinstance(entry["low"], int) and isinstance(entry["high"], int)
    ask = trial.suggest_int if whole else trial.suggest_float
    return ask(name, entry["low"], entry["high"], log=entry.get("log", False))
