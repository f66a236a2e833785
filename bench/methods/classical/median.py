"""Median filter: Tukey, Exploratory Data Analysis, 1977; by SciPy."""

from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from scipy.ndimage import median_filter

from bench.methods.base import Denoiser


class Median(Denoiser):
    """Replace each pixel by the median of its surroundings.

    Args:
        size: side of the window, in pixels.
    """

    def __init__(self, size: Annotated[int, Field(ge=1, le=101)] = 3):
        super().__init__()
        self.size = size

    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise one image."""
        return median_filter(image, self.size)
