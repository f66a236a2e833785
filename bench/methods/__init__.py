"""Methods: a folder for each kind, one file for each; `create` builds one by name."""

from typing import Any

from torch import nn

from bench.methods.base import Classical, Fitted, Reconstructor, prepare, training_physics
from bench.methods.method import METHODS, Given, Method, find
from bench.physics import Physics

__all__ = [
    "METHODS",
    "Classical",
    "Fitted",
    "Given",
    "Method",
    "Reconstructor",
    "create",
    "find",
    "names",
    "prepare",
    "training_physics",
]


def names(kind: str | None = None) -> list[str]:
    """List the methods, or those of one kind: "classical", "learned" or "fitted"."""
    ours = METHODS.ours()
    return [
        name
        for name in METHODS.names()
        if kind is None or kind == (ours[name].split(".")[2] if name in ours else find(name).kind)
    ]


def create(given: Given, physics: Physics | None = None, **config: Any) -> nn.Module:
    """Build a reconstructor: see `find` and `Method.create`."""
    return find(given).create(physics, **config)
