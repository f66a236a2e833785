"""Wavelet thresholding with cycle spinning.

Thresholds: Donoho and Johnstone, Biometrika 81, 1994 (VisuShrink); Chang, Yu and Vetterli, IEEE
TIP 9, 2000 (BayesShrink). Cycle spinning: Coifman and Donoho, 1995. By scikit-image.
"""

from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from pywt import dwtn_max_level
from skimage.restoration import cycle_spin, denoise_wavelet

from bench.methods.base import Denoiser
from bench.methods.classical import _transforms


class Wavelet(Denoiser):
    """Shrink wavelet coefficients, averaged over shifts of the image.

    Args:
        wavelet: name known to PyWavelets.
        levels: depth of the decomposition, limited by the size of the image. Strong noise reaches
            into coarse scales, which a shallow decomposition leaves untouched.
        rule: "BayesShrink" (a threshold per subband) or "VisuShrink" (universal).
        mode: "soft" or "hard" thresholding.
        scale: multiplies the noise's standard deviation in the rule.
        shifts: largest cyclic shift along each axis; 0 is the plain transform.
    """

    def __init__(
        self,
        wavelet: _transforms.Discrete = "haar",
        levels: _transforms.Levels = 3,
        rule: Literal["BayesShrink", "VisuShrink"] = "BayesShrink",
        mode: Literal["soft", "hard"] = "soft",
        scale: Annotated[float, Field(gt=0, le=100)] = 1.0,
        shifts: Annotated[int, Field(ge=0, le=16)] = 3,
    ):
        super().__init__()
        self.wavelet, self.levels, self.rule, self.mode = wavelet, levels, rule, mode
        self.scale, self.shifts = scale, shifts

    def denoise(
        self, image: Float[np.ndarray, "h w"], noise_std: float
    ) -> Float[np.ndarray, "h w"]:
        """Denoise one image."""
        options = {
            "sigma": self.scale * noise_std,
            "wavelet": self.wavelet,
            "wavelet_levels": min(self.levels, dwtn_max_level(image.shape, self.wavelet)),
            "method": self.rule,
            "mode": self.mode,
            # sigma is known on the image's own scale, and noisy images leave [0, 1]
            "rescale_sigma": False,
        }
        return cycle_spin(image, denoise_wavelet, self.shifts, workers=1, func_kw=options)
