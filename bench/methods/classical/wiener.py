"""Regularised Wiener deconvolution: argmin_x |k * x - y|^2 + lambda |laplace x|^2.

Hunt, IEEE Trans. Computers 22, 1973; one division in the Fourier domain.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.methods.base import Classical
from bench.methods.classical._transforms import Gradient
from bench.physics import Convolution
from bench.ranges import Weight


class Wiener(Classical):
    """Deconvolution that favours smooth images.

    Args:
        weight: lambda, in units of the noise variance.
    """

    supported_physics = Convolution
    needs_linear = True

    def __init__(self, weight: Weight = 10.0):
        super().__init__()
        self.weight = weight

    def forward(
        self, y: Float[Tensor, "b 1 h w"], physics: Convolution
    ) -> Float[Tensor, "b 1 h w"]:
        """Divide in the Fourier domain."""
        shape = (y.shape[-2], y.shape[-1])
        half = shape[1] // 2 + 1
        laplacian = Gradient().gram(shape)[:, :half].to(y.device)
        spectrum = physics.spectrum(shape).to(y.device)
        strength = self.weight * max(physics.noise_std**2, 1e-8)
        numerator = torch.fft.rfft2(physics.A_adjoint(y))
        x = torch.fft.irfft2(numerator / (spectrum + strength * laplacian**2), s=shape)
        return x.clamp(0, 1)
