"""Non-local means: Buades, Coll and Morel, CVPR 2005; by scikit-image's fast algorithm."""

from typing import Annotated

import numpy as np
from jaxtyping import Float
from pydantic import Field
from skimage.restoration import denoise_nl_means

from bench.methods.base import Denoiser


class NLM(Denoiser):
    """Average pixels whose surroundings look alike.

    Args:
        h: filter strength, in units of the noise's standard deviation.
        patch_size: side of the compared patches, in pixels.
        patch_distance: greatest distance of the patches, in pixels.
    """

    def __init__(
        self,
        h: Annotated[float, Field(gt=0, le=100)] = 0.8,
        patch_size: Annotated[int, Field(ge=1, le=31)] = 5,
        patch_distance: Annotated[int, Field(ge=1, le=31)] = 6,
    ):
        super().__init__()
        self.h, self.patch_size, self.patch_distance = h, patch_size, patch_distance

    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise one image."""
        return denoise_nl_means(
            image,
            patch_size=self.patch_size,
            patch_distance=self.patch_distance,
            h=self.h * noise_std,
            sigma=noise_std,
            fast_mode=True,
        )
