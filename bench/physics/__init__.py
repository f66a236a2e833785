"""Degradations: one file each; `create` builds one by its file's name."""

import sys
from typing import Any

from bench import plugins
from bench.errors import UserError, unknown
from bench.physics._convolution import Convolution
from bench.physics._mri import MRI
from bench.physics._parallel_beam import ParallelBeam
from bench.physics.base import Denoising, Physics, Size
from bench.physics.mri_cartesian import MRICartesian
from bench.physics.super_resolution import SuperResolution
from bench.plugins import checked_options, class_in

__all__ = [
    "MRI", "Convolution", "Denoising", "MRICartesian", "ParallelBeam", "Physics",
    "SuperResolution", "create", "find", "names",
]  # fmt: skip

RESERVED = ("level", "image_size")


def names() -> list[str]:
    """List the degradations."""
    return list(plugins.modules(sys.modules[__name__]))


def find(name: str) -> type[Physics]:
    """Return the class of a degradation.

    Raises:
        UserError: there is none of that name.
    """
    if name not in names():
        raise unknown("degradation", name, names())
    return class_in(f"{__name__}.{name}", Physics)


def create(name: str, level: float | int, image_size: Size, /, **options: Any) -> Physics:
    """Build the physics of a degradation at one level.

    Args:
        name: the degradation's name, such as "gaussian_noise".
        level: its strength, in the unit that its class states.
        image_size: pixels along each side of the images, or (height, width).
        options: keywords of its class.

    Raises:
        UserError: unknown name or option, an option of the wrong type, or a level out of range.
    """
    kind = find(name)
    if isinstance(level, bool) or not isinstance(level, int | float):
        raise UserError(f"{name}: level {level!r} is no number")
    return kind(float(level), image_size, **checked_options(name, kind, options, RESERVED))
