"""Methods: one file each under `classical/` and `learned/`; `create` builds one by name."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from torch import nn

import search_spaces
from bench import physics, plugins
from bench.errors import unknown
from bench.methods import classical, learned
from bench.methods.base import Classical, Reconstructor
from bench.physics import Physics

__all__ = [
    "Classical",
    "Reconstructor",
    "create",
    "find",
    "lacks",
    "names",
    "serves",
    "sizes_of",
    "space_of",
]

ENTRY_POINTS = "reconbench.methods"


def names(kind: str | None = None) -> list[str]:
    """List the methods, or those of one kind: "classical" or "learned"."""
    built_in = [
        name
        for package in (classical, learned)
        if kind in (None, package.__name__.rpartition(".")[2])
        for name in plugins.modules(package)
    ]
    foreign = [
        point.name
        for point in entry_points(group=ENTRY_POINTS)
        if kind in (None, _kind(point.load()))
    ]
    return built_in + foreign


def find(name: str) -> type[nn.Module]:
    """Return the class of a method: built in, of an entry point, or at a dotted path.

    Raises:
        UserError: there is none of that name, or its path cannot be imported.
    """
    if ":" in name:
        return plugins.from_path(name)
    for package in (classical, learned):
        if name in plugins.modules(package):
            return plugins.class_in(f"{package.__name__}.{name}", Reconstructor)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return point.load()
    raise unknown("method", name, names())


def create(name: str, **config: Any) -> nn.Module:
    """Build a reconstructor.

    Args:
        name: a method's name, or a dotted path such as `my_pkg.models:MyNet`.
        config: keywords of its class.

    Raises:
        UserError: unknown method or keyword.
    """
    kind = find(name)
    plugins.check_options(name, config, plugins.options_of(kind))
    return kind(**config)


def is_learned(name: str) -> bool:
    """Tell whether a method has weights to train."""
    return _kind(find(name)) == "learned"


def is_deterministic(name: str) -> bool:
    """Tell whether every seed of a method gives the same images."""
    return getattr(find(name), "deterministic", False)


def sizes_of(name: str, sizes: list[int]) -> list[int]:
    """Give the training-set sizes at which a method is run.

    All of them for a learned method; [0] for a classical one; the largest for a classical one
    that looks at training images all the same.
    """
    if is_learned(name):
        return sizes
    return [max(sizes)] if getattr(find(name), "uses_training_images", True) else [0]


def serves(name: str, degradation: str) -> bool:
    """Tell whether a method reconstructs measurements of a degradation."""
    return issubclass(physics.find(degradation), getattr(find(name), "serves", Physics))


def lacks(name: str) -> str | None:
    """Give the extra of ours that installs what a method needs and is not there, or None."""
    package, extra = getattr(find(name), "requires", None) or (None, "")
    return extra if package is not None and find_spec(package) is None else None


def space_of(name: str, fixed: Mapping[str, Any] | None = None) -> search_spaces.Space:
    """Return a method's search space, less what the benchmark file holds fixed."""
    own = getattr(find(name), "search_space", None)
    space = search_spaces.load(name) if own is None else search_spaces.check(own, name)
    return {key: entry for key, entry in space.items() if key not in (fixed or {})}


def _kind(method: type[nn.Module]) -> str:
    return getattr(method, "kind", "learned")
