"""Orthogonal-sparse reconstruction: argmin_{0 <= x <= 1} 1/2 |A x - y|^2 + lambda |W x|_1.

Compressed sensing as in Lustig, Donoho and Pauly, MRM 58, 2007, with W shift-invariant; ADMM.
"""

from jaxtyping import Shaped
from torch import Tensor

from bench.methods.base import Classical
from bench.methods.classical._admm import solve
from bench.methods.classical._transforms import Levels, Orthogonal, Wavelets
from bench.physics import Physics
from bench.ranges import Weight


class WaveletCS(Classical):
    """l1-norm of undecimated wavelet coefficients, for any physics.

    Args:
        weight: lambda, in units of the standard deviation that A^T n has at a pixel.
        wavelet: an orthogonal wavelet that PyWavelets knows.
        levels: depth of the transform.
    """

    needs_linear = True

    def __init__(self, weight: Weight = 1.0, wavelet: Orthogonal = "haar", levels: Levels = 3):
        super().__init__()
        self.weight, self.wavelet, self.levels = weight, wavelet, levels

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images of few wavelet coefficients."""
        return solve(y, physics, Wavelets(self.wavelet, self.levels), self.weight)
