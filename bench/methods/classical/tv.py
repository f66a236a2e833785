"""Total variation: argmin_{0 <= x <= 1} 1/2 |A x - y|^2 + lambda |grad x|_{2,1}.

Rudin, Osher and Fatemi, Physica D 60, 1992, for denoising; Lustig, Donoho and Pauly, MRM 58, 2007,
for compressed sensing. Isotropic, solved by ADMM.
"""

from jaxtyping import Shaped
from torch import Tensor

from bench.methods.base import Classical
from bench.methods.classical._admm import solve
from bench.methods.classical._transforms import Gradient
from bench.physics import Physics
from bench.ranges import Weight


class TV(Classical):
    """Isotropic total variation, for any physics.

    Args:
        weight: lambda, in units of the standard deviation that A^T n has at a pixel.
    """

    needs_linear = True

    def __init__(self, weight: Weight = 0.7):
        super().__init__()
        self.weight = weight

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images of few edges."""
        return solve(y, physics, Gradient(), self.weight)
