"""Richardson-Lucy deconvolution: x <- x A^T(y / A x), for kernels that sum to 1.

Richardson, JOSA 62, 1972; Lucy, Astron. J. 79, 1974. Each step increases the
Poisson likelihood; stopping early is the regularisation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import Convolution
from bench.ranges import Iterations

LEAST = 1e-6


class RichardsonLucy(Classical):
    """Multiplicative deconvolution of non-negative images.

    Args:
        steps: number of iterations.
    """

    supported_physics = Convolution
    needs_linear = True

    def __init__(self, steps: Iterations = 15):
        super().__init__()
        self.steps = steps

    def forward(
        self, y: Float[Tensor, "b 1 h w"], physics: Convolution
    ) -> Float[Tensor, "b 1 h w"]:
        """Iterate from a flat image."""
        y = y.clamp(min=0)
        x = torch.full_like(y, 0.5)
        for _ in range(self.steps):
            x = x * physics.A_adjoint(y / physics.A(x).clamp(min=LEAST)).clamp(min=0)
        return x.clamp(0, 1)
