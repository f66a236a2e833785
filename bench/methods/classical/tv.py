"""Total-variation denoising: argmin_x 1/2 |x - y|^2 + weight |grad x|_{2,1}.

Rudin, Osher and Fatemi, Physica D 60, 1992; solved by scikit-image with the projection algorithm
of Chambolle, J. Math. Imaging Vis. 20, 2004.
"""

import numpy as np
from jaxtyping import Float
from skimage.restoration import denoise_tv_chambolle

from bench.methods.base import Denoiser

# Stopped earlier, strong weights are not converged and the baseline looks worse than it is.
TOLERANCE = 1e-6
ITERATIONS = 1000


class TV(Denoiser):
    """Isotropic total variation.

    Args:
        weight: weight of the total variation, in units of the noise's standard deviation.
    """

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = weight

    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise one image."""
        return denoise_tv_chambolle(
            image, weight=self.weight * noise_std, eps=TOLERANCE, max_num_iter=ITERATIONS
        )
