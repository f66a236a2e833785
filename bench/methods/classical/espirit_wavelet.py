"""Orthogonal-sparse reconstruction with sensitivities estimated from the measurement itself.

ESPIRiT: Uecker et al., MRM 71, 2014, by SigPy. All it knows about the coils comes from the fully
sampled centre of k-space.
"""

import copy

import torch
from jaxtyping import Complex64, Shaped
from torch import Tensor

from bench.data.coils import sensitivities
from bench.methods.base import Classical
from bench.methods.classical._transforms import Levels, Orthogonal
from bench.methods.classical.wavelet_cs import WaveletCS
from bench.physics import MRICartesian
from bench.ranges import Weight

LEAST_CENTRE = 6


class EspiritWavelet(Classical):
    """`wavelet_cs` on complex images, with maps from the fully sampled centre of y.

    Args:
        weight: see `WaveletCS`.
        wavelet: see `WaveletCS`.
        levels: see `WaveletCS`.
    """

    supported_physics = MRICartesian
    needs_linear = True
    requires = ("sigpy", "mri")

    def __init__(self, weight: Weight = 1.0, wavelet: Orthogonal = "haar", levels: Levels = 3):
        super().__init__()
        self.solver = WaveletCS(weight, wavelet, levels)

    def forward(
        self, y: Complex64[Tensor, "b coils h w"], physics: MRICartesian
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct image by image, each with its own maps."""
        own = copy.copy(physics)
        own.complex_image, own.measured = True, None
        side = max(LEAST_CENTRE, own.centre_side())
        images = []
        for one in y:
            if len(one) > 1:
                own.set_maps(torch.from_numpy(sensitivities(one.cpu().numpy(), side)))
            images.append(self.solver(one[None], own))
        x = torch.cat(images)
        return x if physics.complex_image else x.abs().clamp(0, 1)
