"""Plug-and-play: half-quadratic splitting with a denoiser instead of a prior.

    x <- argmin_x |A x - y|^2 / (2 sigma^2) + strength |x - z|^2 / (2 s_k^2),   z <- denoise(x, s_k)

with s_k falling from iteration to iteration. Venkatakrishnan et al., GlobalSIP 2013; Zhang et al.,
IEEE TPAMI 44, 2022 (arXiv 2008.13751).
"""

from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from pydantic import Field
from torch import Tensor

from bench.methods.base import Classical, Denoiser
from bench.methods.classical._admm import LEAST_NOISE, bounded
from bench.methods.classical.nlm import NLM
from bench.methods.classical.wavelet import Wavelet
from bench.physics import Physics
from bench.ranges import Iterations, Weight

FIRST = 0.2  # noise level of the first iteration, in grey levels


class PnP(Classical):
    """Reconstruct any physics with a denoiser as the prior.

    Args:
        denoiser: `nlm` or `wavelet`, with their own defaults.
        strength: weight of the denoiser relative to the measurement.
        last: noise level of the last iteration, in grey levels.
        steps: number of iterations.
    """

    needs_linear = True

    def __init__(
        self,
        denoiser: Literal["nlm", "wavelet"] = "nlm",
        strength: Weight = 0.3,
        last: Annotated[float, Field(gt=0, le=1)] = 0.02,
        steps: Iterations = 8,
    ):
        super().__init__()
        self.denoiser: Denoiser = NLM() if denoiser == "nlm" else Wavelet(shifts=1)
        self.strength, self.last, self.steps = strength, last, steps

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Alternate between measurement and denoiser."""
        noise = max(physics.noise_std, LEAST_NOISE)
        z = bounded(physics.A_adjoint(y))
        z = z if z.is_complex() else physics.A_dagger(y).clamp(0, 1)
        for level in np.geomspace(max(FIRST, self.last), self.last, self.steps):
            gamma = float(level) ** 2 / (self.strength * noise**2)
            x = bounded(physics.prox_l2(z, y, gamma))
            images = x[:, 0].abs().cpu().double().numpy()
            clean = np.stack([self.denoiser.denoise(image, float(level)) for image in images])
            size = torch.from_numpy(clean)[:, None].to(x.device, torch.float32).clamp(0, 1)
            z = size * torch.sgn(x) if x.is_complex() else size
        return z
