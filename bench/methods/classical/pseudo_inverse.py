"""The estimate without a prior: zero-filled k-space, interpolation, back-projection."""

from jaxtyping import Float, Shaped
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import Physics


class PseudoInverse(Classical):
    """Return `A_dagger(y)`, clipped to [0, 1], the known range of the images."""

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Return `A_dagger(y)`, clipped."""
        return physics.A_dagger(y).clamp(0, 1)
