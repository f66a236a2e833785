"""Bicubic interpolation: Keys, IEEE TASSP 29, 1981."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from bench.methods.base import Classical
from bench.physics import SuperResolution


class Bicubic(Classical):
    """Enlarge by bicubic interpolation, whatever the downsampler."""

    supported_physics = SuperResolution

    def forward(
        self, y: Float[Tensor, "b 1 hs ws"], physics: SuperResolution
    ) -> Float[Tensor, "b 1 h w"]:
        """Enlarge."""
        return interpolate(y, physics.full_size(y), mode="bicubic").clamp(0, 1)
