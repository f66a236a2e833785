"""SIRT: x <- max(0, x + C A^T R (y - A x)), R and C the inverse row and column sums of A.

Gilbert, J. Theor. Biol. 36, 1972; Gregor and Benson, IEEE TMI 27, 2008. Stopping early regularises.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import ParallelBeam
from bench.ranges import Iterations


class SIRT(Classical):
    """Simultaneous iterative reconstruction.

    Args:
        steps: number of iterations.
    """

    supported_physics = ParallelBeam
    needs_linear = True

    def __init__(self, steps: Iterations = 50):
        super().__init__()
        self.steps = steps

    def forward(
        self, y: Float[Tensor, "b 1 d v"], physics: ParallelBeam
    ) -> Float[Tensor, "b 1 h w"]:
        """Iterate from black."""
        x = torch.zeros(len(y), 1, *physics.shape, device=y.device)
        rows = _inverse(physics.A(torch.ones_like(x[:1])))
        columns = _inverse(physics.A_adjoint(torch.ones_like(y[:1])))
        for _ in range(self.steps):
            x = (x + columns * physics.A_adjoint(rows * (y - physics.A(x)))).clamp(0, 1)
        return x


def _inverse(sums: Tensor) -> Tensor:
    """Invert, leaving 0 where rays miss the image."""
    return torch.where(sums > 1e-6, 1 / sums.clamp(min=1e-6), 0)
