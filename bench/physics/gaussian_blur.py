"""Gaussian blur: y = g_sigma * x + n, with periodic boundary."""

import math
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.errors import UserError
from bench.physics._convolution import Convolution
from bench.physics.base import Size
from bench.ranges import NotNegative

REACH = 4.0  # the kernel is cut off at this many sigmas, where it has fallen to 0.0003


class GaussianBlur(Convolution):
    """Convolution with a Gaussian.

    Args:
        level: standard deviation of the Gaussian, in pixels.
        image_size: pixels along each side, or (height, width); any is accepted.
        noise_variance: variance of the noise added after the blur; without noise, deblurring is
            only a division.
        kernel_size: side of the square that the Gaussian is cut off to, an odd number of pixels;
            default: four sigmas to each side.
    """

    name = "gaussian_blur"
    unit = "standard deviation of the Gaussian in pixels"
    levels = (0.1, 64.0)
    presets = (1.0, 2.0, 4.0)

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        noise_variance: NotNegative = 1e-4,
        kernel_size: Annotated[int, Field(ge=1, le=1023)] | None = None,
    ):
        super().__init__(level, image_size, noise_variance)
        if kernel_size is not None and kernel_size % 2 == 0:
            raise UserError(f"{self.name}: kernel_size {kernel_size} is not odd")
        self.kernel_size = kernel_size

    def kernel(self) -> Float[Tensor, "k k"]:
        """Sample the Gaussian and make it sum to 1."""
        reach = math.ceil(REACH * self.level)
        if self.kernel_size is not None:
            reach = self.kernel_size // 2
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
        profile = torch.exp(-0.5 * (offsets / self.level) ** 2)
        return torch.outer(profile, profile) / profile.sum() ** 2
