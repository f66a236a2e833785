"""The mean of a network over the turned and mirrored copies of its input."""

from collections.abc import Callable
from itertools import product

from jaxtyping import Float
from torch import Tensor

FLIPS: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]


def dihedral_mean(
    network: Callable[[Tensor], Tensor], x: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b k h w"]:
    """Average what a network makes of an image turned and mirrored in all eight ways.

    Each result is turned back first, so that the mean turns with the image, which few training
    images do not teach a network. "Enhanced prediction" in Timofte, Rothe and Van Gool, CVPR 2016
    (arXiv 1511.02228).
    """
    copies = []
    for turned, axes in product((False, True), FLIPS):
        result = network((x.mT if turned else x).flip(axes)).flip(axes)
        copies.append(result.mT if turned else result)
    return sum(copies[1:], copies[0]) / len(copies)
