"""A method that was found by name or path: its kind, its options, and how it is built."""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

import search_spaces
from bench import physics
from bench.data.measurement import Kind
from bench.errors import UserError, unknown
from bench.methods.base import Reconstructor
from bench.methods.denoiser import DenoiserNetwork, maps_images
from bench.methods.learned.base import Start, StartedNetwork
from bench.options import check_options, checked_options, options_of
from bench.physics import Physics
from bench.registry import Registry

Builder = Callable[..., nn.Module]


def _is_method(thing: Any) -> bool:
    """Return whether a thing is a network or may build one."""
    if inspect.isclass(thing):
        return issubclass(thing, nn.Module) and not issubclass(thing, Physics)
    return callable(thing) and not isinstance(thing, Physics)


METHODS: Registry[Builder | nn.Module] = Registry(
    "method",
    ("bench.methods.classical", "bench.methods.learned", "bench.methods.fitted"),
    Reconstructor,
    "a class that extends torch.nn.Module, a function that builds a network, or a network",
    accepts=_is_method,
    reserved=("physics",),
)


@dataclass(frozen=True)
class Method:
    """A method that was found.

    Attributes:
        name: what a benchmark file calls it.
        target: its class, a function that builds it, or a network. It may have the class
            attributes of `Reconstructor`; a user's method may leave out any of them.
    """

    name: str
    target: Builder | nn.Module

    def _says(self, attribute: str, default: Any) -> Any:
        return getattr(self.target, attribute, default)

    @property
    def built_in(self) -> bool:
        """Whether it is one of ours."""
        return self.name in METHODS.ours()

    @property
    def kind(self) -> str:
        """Its kind; a network without this attribute is learned if it has weights."""
        trainable = not isinstance(self.target, nn.Module) or any(
            weight.requires_grad for weight in self.target.parameters()
        )
        kind: str = self._says("kind", "learned" if trainable else "classical")
        return kind

    @property
    def learned(self) -> bool:
        """Whether it is trained by optimiser steps."""
        return self.kind == "learned"

    @property
    def deterministic(self) -> bool:
        """Whether every seed gives the same images."""
        return bool(self._says("deterministic", False))

    @property
    def uses_training_images(self) -> bool:
        """Whether it uses training images."""
        return bool(self._says("uses_training_images", True))

    @property
    def supported_physics(self) -> type[Physics]:
        """The kind of physics whose measurements it reconstructs."""
        # `serves` is the former name, still accepted in users' classes.
        kind: type[Physics] = self._says("serves", self._says("supported_physics", Physics))
        return kind

    @property
    def needs_linear(self) -> bool:
        """Whether it reconstructs measurements of linear operators only."""
        return bool(self._says("needs_linear", False))

    @property
    def supported(self) -> str:
        """What it supports, in words: "any physics", "linear physics", "Denoising"."""
        images = ", real images" if self.real_images_only else ""
        if self.supported_physics is not Physics:
            linear = "linear " if self.needs_linear else ""
            return f"{linear}{self.supported_physics.__name__}{images}"
        return f"{'linear' if self.needs_linear else 'any'} physics{images}"

    @property
    def real_images_only(self) -> bool:
        """Whether it cannot reconstruct complex images."""
        return bool(self._says("real_images_only", False))

    @property
    def recipe(self) -> dict[str, Any]:
        """The published training settings, as fields of a `training.Recipe`."""
        return dict(self._says("recipe", {}))

    @property
    def presets(self) -> dict[str, Mapping[str, Any]]:
        """Configurations with a name."""
        return dict(self._says("presets", {}))

    @property
    def controls(self) -> dict[str, Mapping[str, Any]]:
        """Configurations to run beside it, by the names that they add to its label."""
        return dict(self._says("controls", {}))

    @property
    def missing_extra(self) -> str | None:
        """Our optional extra that installs a missing requirement; None if nothing is missing."""
        package, extra = self._says("requires", None) or (None, "")
        return extra if package is not None and find_spec(package) is None else None

    @property
    def code(self) -> str:
        """A digest of the code of a user's method; empty for one of ours."""
        return METHODS.code(self.target)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The keywords that a configuration may give, by name."""
        options = METHODS.options(self._build)
        if not self.has_start:
            return options
        start = options_of(_start)["start"].replace(default=self._says("default_start", None))
        return {**options, "start": start}

    @property
    def has_start(self) -> bool:
        """Whether it has the option `start`: it corrects an image, whichever that is."""
        target = self.target
        return inspect.isclass(target) and issubclass(target, StartedNetwork)

    @property
    def _build(self) -> Builder:
        if not isinstance(self.target, nn.Module):
            return self.target
        network = self.target

        def copied() -> nn.Module:
            """Copy the network: training must not change the caller's."""
            return copy.deepcopy(network)

        return copied

    def sizes(self, sizes: list[int]) -> list[int]:
        """Return the training-set sizes at which it is run.

        All of them if it is learned or fitted; [0] if it is classical; the largest if it is
        classical but uses training images.
        """
        if self.kind != "classical":
            return sizes
        return [max(sizes)] if self.uses_training_images else [0]

    def supports(
        self,
        degradation: str | Physics,
        options: Mapping[str, Any] | None = None,
        brought: Kind | None = None,
    ) -> bool:
        """Return whether it reconstructs measurements of a degradation.

        Args:
            degradation: its name or dotted path, or the physics that was built.
            options: of its constructor, where it is not built yet.
            brought: the kind of measurement that the dataset brings.
        """
        if isinstance(degradation, Physics):
            kind, linear = type(degradation), degradation.linear
            imaginary = bool(getattr(degradation, "complex_image", False))
        else:
            kind = physics.find(degradation)
            linear = kind.is_linear(**(options or {}))
            imaginary = kind.has_complex_images(brought, **(options or {}))
        if imaginary and self.real_images_only:
            return False
        return issubclass(kind, self.supported_physics) and (linear or not self.needs_linear)

    def space(self, fixed: Mapping[str, Any] | None = None) -> search_spaces.Space:
        """Return its search space without the parameters that the benchmark file fixes.

        Raises:
            UserError: the search space of a user's class is invalid, or an unknown preset.
        """
        own = self._says("search_space", None)
        if own is not None:
            try:
                space = search_spaces.check(own, self.name)
            except ValueError as error:
                raise UserError(str(error)) from None
        elif self.built_in:
            space = search_spaces.load(self.name)
        else:
            # A user's class without a search space: only its training is varied.
            varied = self.learned and not isinstance(self.target, nn.Module)
            space = search_spaces.load("_training") if varied else {}
        chosen = self.expand(fixed or {})
        return {key: entry for key, entry in space.items() if key not in chosen}

    def expand(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the preset that a configuration names by its values.

        Raises:
            UserError: it has no preset of that name.
        """
        rest = {key: value for key, value in config.items() if key != "preset"}
        if "preset" not in config:
            return rest
        preset = str(config["preset"])
        if preset not in self.presets:
            raise unknown(f"preset of {self.name}:", preset, self.presets)
        return {**self.presets[preset], **rest}

    def checked(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Check its keywords and convert them to its constructor's types.

        Raises:
            UserError: an unknown keyword, or a value that its annotation does not allow.
        """
        rest = dict(config)
        start = {"start": rest.pop("start")} if self.has_start and "start" in rest else {}
        checked = METHODS.checked(self._build, rest, self.name)
        return {**checked, **checked_options(self.name, _start, start)}

    def create(self, physics: Physics | None = None, **config: Any) -> nn.Module:
        """Build the reconstructor.

        Args:
            physics: the task's physics, for a class whose constructor has a parameter of that name.
            config: keywords of its class, or `preset` and the values that differ from it.

        Raises:
            UserError: unknown keyword or preset, or a value out of range.
        """
        known = self.options
        check_options(self.name, config, [*known, "preset"])
        chosen = {key: value for key, value in self.expand(config).items() if key in known}
        options = self.checked(chosen)
        start = options.pop("start", self._says("default_start", None))
        if "physics" in options_of(self._build):
            options["physics"] = physics
        model = self._build(**options)
        if isinstance(model, StartedNetwork) and start == "tv":
            if physics is not None and not physics.linear:
                raise UserError(f"{self.name}: start: tv needs linear physics, not {physics.name}")
            model.start_from_tv()
        return DenoiserNetwork(model) if maps_images(model) else model

    def parameters(self, physics: Physics | None = None, **config: Any) -> int:
        """Count the parameters of a network without making it."""
        with torch.device("meta"):
            model = self.create(physics, **config)
        return sum(weight.numel() for weight in model.parameters())


Given = str | Builder | nn.Module | Method  # how a method may be given


def find(given: Given) -> Method:
    """Find a method.

    Args:
        given: its name, its dotted path, its class, a function that builds it, a network (each run
            trains a copy of it), or a `Method`.

    Raises:
        UserError: see `Registry.find`.
    """
    if isinstance(given, Method):
        return given
    target = METHODS.find(given)
    method = (
        Method if isinstance(target, nn.Module) else _method
    )  # a cache would keep networks alive
    return method(METHODS.name_of(given), target)


def _start(start: Start) -> Start:
    """Take the option of every network that corrects an image."""
    return start


_method = cache(Method)
