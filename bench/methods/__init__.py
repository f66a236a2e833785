"""Methods: one file each under `classical/` and `learned/`; `create` builds one by name."""

import inspect
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

import search_spaces
from bench import plugins
from bench.errors import UserError, unknown
from bench.methods.base import Classical, Reconstructor
from bench.methods.denoiser import DenoiserNetwork, maps_images
from bench.physics import Physics
from bench.physics import find as find_physics
from bench.registry import Registry

__all__ = [
    "METHODS",
    "Classical",
    "Reconstructor",
    "checked",
    "code_of",
    "controls_of",
    "create",
    "expand",
    "find",
    "lacks",
    "names",
    "options_of",
    "parameters_of",
    "recipe_of",
    "serves",
    "sizes_of",
    "space_of",
]


def _is_method(thing: Any) -> bool:
    """Return whether a thing is a network or may build one."""
    if inspect.isclass(thing):
        return issubclass(thing, nn.Module) and not issubclass(thing, Physics)
    return callable(thing) and not isinstance(thing, Physics)


METHODS: Registry[Callable[..., nn.Module]] = Registry(
    "method",
    ("bench.methods.classical", "bench.methods.learned"),
    Reconstructor,
    "a class that extends torch.nn.Module, or a function that builds a network",
    accepts=_is_method,
    reserved=("physics",),
)


def names(kind: str | None = None) -> list[str]:
    """List the methods, or those of one kind: "classical" or "learned"."""
    ours = METHODS.ours()
    return [
        name
        for name in METHODS.names()
        if kind is None
        or kind == (ours[name].split(".")[2] if name in ours else _kind(METHODS.find(name)))
    ]


def find(name: str) -> Callable[..., nn.Module]:
    """Return the class of a method, or what builds it: see `Registry.find`."""
    return METHODS.find(name)


def create(name: str, physics: Physics | None = None, **config: Any) -> nn.Module:
    """Build a reconstructor.

    Args:
        name: a method's name, or a dotted path such as `my_pkg.models:MyNet`.
        physics: of the task, for a class whose constructor has a parameter of that name.
        config: keywords of its class, or `preset` and what is to differ from it.

    Raises:
        UserError: unknown method, keyword or preset.
    """
    kind = find(name)
    known = options_of(name)
    plugins.check_options(name, config, [*known, "preset"])
    chosen = {key: value for key, value in expand(name, config).items() if key in known}
    options = checked(name, chosen)
    if "physics" in plugins.options_of(kind):
        options["physics"] = physics
    model = kind(**options)
    return DenoiserNetwork(model) if maps_images(model) else model


def checked(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keywords of a method and convert them to its constructor's types.

    Raises:
        UserError: an unknown keyword, or a value that its annotation does not allow.
    """
    return METHODS.checked(name, config)


def parameters_of(name: str, **config: Any) -> int:
    """Count the parameters of a network without making it."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in create(name, **config).parameters())


def options_of(name: str) -> list[str]:
    """List the keywords of a method that a configuration may give."""
    return list(METHODS.options(name))


def expand(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write out the preset that a configuration names.

    Raises:
        UserError: the method has no preset of that name.
    """
    rest = {key: value for key, value in config.items() if key != "preset"}
    if "preset" not in config:
        return rest
    presets = getattr(find(name), "presets", {})
    preset = str(config["preset"])
    if preset not in presets:
        raise unknown(f"preset of {name}:", preset, presets)
    return {**presets[preset], **rest}


def recipe_of(name: str) -> dict[str, Any]:
    """Return what a method's publication says of its training, as fields of a `training.Recipe`."""
    return dict(getattr(find(name), "recipe", {}))


def controls_of(name: str) -> dict[str, Mapping[str, Any]]:
    """Return the configurations to run beside a method, by the names they add to its label."""
    return dict(getattr(find(name), "controls", {}))


def is_built_in(name: str) -> bool:
    """Return whether a method is one of ours."""
    return name in METHODS.ours()


def is_learned(name: str) -> bool:
    """Return whether a method has weights to train."""
    return _kind(find(name)) == "learned"


def is_deterministic(name: str) -> bool:
    """Return whether every seed of a method gives the same images."""
    return getattr(find(name), "deterministic", False)


def sizes_of(name: str, sizes: list[int]) -> list[int]:
    """Return the training-set sizes at which a method is run.

    All of them for a learned method; [0] for a classical one; the largest for a classical one
    that looks at training images all the same.
    """
    if is_learned(name):
        return sizes
    return [max(sizes)] if getattr(find(name), "uses_training_images", True) else [0]


def serves(name: str, degradation: str) -> bool:
    """Return whether a method reconstructs measurements of a degradation."""
    return issubclass(find_physics(degradation), getattr(find(name), "serves", Physics))


def code_of(name: str) -> str:
    """Return a digest of the code of a method from elsewhere; nothing for one of ours."""
    return METHODS.code(name)


def lacks(name: str) -> str | None:
    """Return the extra of ours that installs what a method needs and is not there, or None."""
    package, extra = getattr(find(name), "requires", None) or (None, "")
    return extra if package is not None and find_spec(package) is None else None


def space_of(name: str, fixed: Mapping[str, Any] | None = None) -> search_spaces.Space:
    """Return a method's search space, less what the benchmark file holds fixed."""
    own = getattr(find(name), "search_space", None)
    if own is not None:
        try:
            space = search_spaces.check(own, name)
        except ValueError as error:
            raise UserError(str(error)) from None
    else:
        # A network from elsewhere says nothing of its parameters: its training alone is varied.
        space = search_spaces.load("_training" if ":" in name and is_learned(name) else name)
    chosen = expand(name, fixed or {})
    return {key: entry for key, entry in space.items() if key not in chosen}


def _kind(method: Callable[..., nn.Module]) -> str:
    return getattr(method, "kind", "learned")
