"""Degradations: one file each; `create` builds one by its file's name, or by a path."""

from typing import Any

from bench.errors import UserError
from bench.physics._convolution import Convolution
from bench.physics._draws import BatchNoise, poisson, standard_normal, uniform
from bench.physics._mri import MRI
from bench.physics._noise_levels import NoiseLevels
from bench.physics._parallel_beam import ParallelBeam
from bench.physics._solvers import regularised_inverse
from bench.physics.base import Denoising, Physics, Size
from bench.physics.mri_cartesian import MRICartesian
from bench.physics.paired import Paired
from bench.physics.super_resolution import SuperResolution
from bench.registry import Registry

__all__ = [
    "DEGRADATIONS", "MRI", "BatchNoise", "Convolution", "Denoising", "MRICartesian", "NoiseLevels",
    "Paired", "ParallelBeam", "Physics", "SuperResolution", "create", "find", "names",
    "poisson", "regularised_inverse", "standard_normal", "uniform",
]  # fmt: skip

DEGRADATIONS: Registry[type[Physics]] = Registry(
    "degradation",
    ("bench.physics",),
    Physics,
    "a class that extends bench.physics.Physics",
    reserved=("level", "image_size"),
)


def names() -> list[str]:
    """List the degradations."""
    return DEGRADATIONS.names()


def find(given: str | type[Physics]) -> type[Physics]:
    """Return the class of a degradation: see `Registry.find`."""
    return DEGRADATIONS.find(given)


def create(
    name: str | type[Physics], level: float | int, image_size: Size, /, **options: Any
) -> Physics:
    """Build the physics of a degradation at one level.

    Args:
        name: the degradation's name, such as "gaussian_noise", its dotted path, or its class.
        level: its strength, in the unit that its class states.
        image_size: pixels along each side of the images, or (height, width).
        options: keywords of its class.

    Raises:
        UserError: unknown name or option, an option of the wrong type, or a level out of range.
    """
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise UserError(f"{find(name).name}: level {level!r} is no number")
    physics: Physics = DEGRADATIONS.build(name, float(level), image_size, **options)
    return physics
