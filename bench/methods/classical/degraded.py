"""The measurement itself: what every method has to improve on."""

from jaxtyping import Float, Shaped
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import Physics


class Degraded(Classical):
    """Return `A_dagger(y)`, unclipped: for a denoising task the noisy image."""

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Return `A_dagger(y)`."""
        return physics.A_dagger(y)
