"""Motion blur: y = k * x + n, where k is a straight line of given length; periodic boundary."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from bench.physics._convolution import Convolution
from bench.physics.base import Size
from bench.ranges import Finite, NotNegative

SAMPLES_PER_PIXEL = 64


class MotionBlur(Convolution):
    """Convolution with a line segment: uniform straight motion while the image is taken.

    Args:
        level: length of the motion, in pixels.
        image_size: pixels along each side, or (height, width); any is accepted.
        noise_variance: variance of the noise added after the blur; without noise, deblurring is
            only a division.
        angle: direction of the motion in degrees, counter-clockwise from the rows' direction.
    """

    name = "motion_blur"
    unit = "length of the motion in pixels"
    levels = (1.0, 256.0)
    presets = (5.0, 9.0, 15.0)

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        noise_variance: NotNegative = 1e-4,
        angle: Finite = 0.0,
    ):
        super().__init__(level, image_size, noise_variance)
        self.angle = angle

    def kernel(self) -> Float[Tensor, "k k"]:
        """Spread points along the segment over their four nearest pixels."""
        count = math.ceil(SAMPLES_PER_PIXEL * self.level)
        along = ((torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5) * self.level
        reach = math.ceil(self.level / 2) + 1
        row = reach - along * math.sin(math.radians(self.angle))
        column = reach + along * math.cos(math.radians(self.angle))
        kernel = torch.zeros(2 * reach + 1, 2 * reach + 1, dtype=torch.float64)
        for r in (row.floor(), row.floor() + 1):
            for c in (column.floor(), column.floor() + 1):
                weight = (1 - (row - r).abs()) * (1 - (column - c).abs())
                kernel.index_put_((r.long(), c.long()), weight, accumulate=True)
        return kernel / kernel.sum()
