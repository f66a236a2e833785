"""Image-to-image networks and the parts that they share."""

from abc import abstractmethod

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import pad

from bench.methods.base import Reconstructor
from bench.physics import Physics


class ImageNetwork(Reconstructor):
    """A network from image to image, applied to `A_dagger(y)`, for images of any size.

    Attributes:
        stride: the image is padded to a multiple of this and cropped back.
    """

    kind = "learned"
    stride: int = 1

    @abstractmethod
    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`; the result is float32."""

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; outside training the result is clipped to [0, 1], the images' range."""
        image = physics.A_dagger(y)
        height, width = image.shape[-2:]
        padding = (0, -width % self.stride, 0, -height % self.stride)
        x_hat = self.network(pad(image, padding, mode="replicate"))[..., :height, :width]
        return x_hat if self.training else x_hat.clamp(0, 1)


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Build a normalisation: "instance" (with affine weights), "batch" or "none"."""
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


class Head(nn.Conv2d):
    """The last 1x1 convolution, in float32 whatever the precision of the rest.

    In bf16 the result itself would carry a relative error of 2^-9, visible in the PSNR.
    """

    def __init__(self, channels: int):
        super().__init__(channels, 1, 1)

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Convolve in float32."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.float())
