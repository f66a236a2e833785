"""CG-SENSE: argmin_x |A x - y|^2 + lambda |x|^2 by conjugate gradients.

Pruessmann et al., MRM 46, 2001. Few steps regularise too.
"""

from typing import Annotated

from jaxtyping import Complex64, Shaped
from pydantic import Field
from torch import Tensor

from bench.methods.base import Classical
from bench.methods.classical._admm import bounded
from bench.physics import MRI
from bench.physics._solvers import conjugate_gradients
from bench.ranges import Iterations

TOLERANCE = 1e-5


class CGSense(Classical):
    """Least squares with coil sensitivities, Cartesian or not.

    Args:
        weight: lambda, relative to the greatest eigenvalue of A^T A.
        steps: most iterations.
    """

    supported_physics = MRI
    needs_linear = True

    def __init__(
        self, weight: Annotated[float, Field(ge=0, le=1e3)] = 1e-3, steps: Iterations = 20
    ):
        super().__init__()
        self.weight, self.steps = weight, steps

    def forward(
        self, y: Complex64[Tensor, "b coils ..."], physics: MRI
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Solve the normal equations."""
        strength = self.weight * physics.norm_squared

        def normal(x: Tensor) -> Tensor:
            return physics.A_normal(x) + strength * x

        right = physics.A_adjoint(y)
        return bounded(conjugate_gradients(normal, right, steps=self.steps, tolerance=TOLERANCE))
