"""Degradations: one file each; `create` builds one by its file's name."""

import sys
from typing import Any

from bench import plugins
from bench.errors import unknown
from bench.physics.base import Physics
from bench.plugins import check_options, class_in, options_of

__all__ = ["Physics", "create", "find", "names"]


def names() -> list[str]:
    """List the degradations."""
    return plugins.modules(sys.modules[__name__])


def find(name: str) -> type[Physics]:
    """Return the class of a degradation.

    Raises:
        UserError: there is none of that name.
    """
    if name not in names():
        raise unknown("degradation", name, names())
    return class_in(f"{__name__}.{name}", Physics)


def create(name: str, level: float, image_size: int, **options: Any) -> Physics:
    """Build the physics of a degradation at one level.

    Args:
        name: the degradation's name, such as "gaussian_noise".
        level: its strength, in the unit that its class states.
        image_size: pixels along each side of the images.
        options: keywords of its class.

    Raises:
        UserError: unknown name or option, or a level out of range.
    """
    kind = find(name)
    check_options(name, options, options_of(kind, reserved=("level", "image_size")))
    return kind(level, image_size, **options)
