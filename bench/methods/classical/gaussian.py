"""Gaussian smoothing, the simplest denoiser; by SciPy."""

from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.ndimage import gaussian_filter

from bench.methods.base import Denoiser


class Gaussian(Denoiser):
    """Average with Gaussian weights.

    Args:
        sigma: their standard deviation, in pixels.
    """

    def __init__(self, sigma: Annotated[float, Field(gt=0, le=100)] = 1.0):
        super().__init__()
        self.sigma = sigma

    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise one image."""
        return gaussian_filter(image, self.sigma)
