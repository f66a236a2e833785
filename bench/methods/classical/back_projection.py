"""Iterative back-projection: x <- x + A_dagger(y - A x). Irani and Peleg, CVGIP 53, 1991."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import SuperResolution


class BackProjection(Classical):
    """Enlarge until the downsampled result agrees with the measurement.

    Args:
        steps: number of corrections.
    """

    supported_physics = SuperResolution

    def __init__(self, steps: Annotated[int, Field(ge=0, le=100_000)] = 10):
        super().__init__()
        self.steps = steps

    def forward(
        self, y: Float[Tensor, "b 1 hs ws"], physics: SuperResolution
    ) -> Float[Tensor, "b 1 h w"]:
        """Interpolate, then correct by the interpolated error."""
        x = physics.A_dagger(y)
        for _ in range(self.steps):
            x = x + physics.A_dagger(y - physics.A(x))
        return x.clamp(0, 1)
