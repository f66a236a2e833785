"""BM3D: Dabov et al., IEEE TIP 16, 2007; by its authors' package (non-commercial licence)."""

from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field

from bench.methods.base import Denoiser


class BM3D(Denoiser):
    """Collaborative filtering of groups of similar patches.

    Args:
        strength: assumed noise, in units of the true standard deviation.
    """

    requires = ("bm3d", "bm3d")

    def __init__(self, strength: Annotated[float, Field(gt=0, le=100)] = 1.0):
        super().__init__()
        self.strength = strength

    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise one image."""
        from bm3d import bm3d

        return bm3d(image, self.strength * noise_std)
