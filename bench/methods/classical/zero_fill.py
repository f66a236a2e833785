"""Zero-filling of k-space, which is sinc interpolation, whatever the downsampler."""

from jaxtyping import Float
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import SuperResolution


class ZeroFill(Classical):
    """Enlarge by padding the Fourier transform with zeros."""

    supported_physics = SuperResolution

    def forward(
        self, y: Float[Tensor, "b 1 hs ws"], physics: SuperResolution
    ) -> Float[Tensor, "b 1 h w"]:
        """Enlarge."""
        return physics.zero_fill(y).clamp(0, 1)
