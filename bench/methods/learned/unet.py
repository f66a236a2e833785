"""U-Net: Ronneberger, Fischer and Brox, MICCAI 2015 (arXiv 1505.04597).

Two 3x3 convolutions a level, max pooling down, transposed convolutions up, skips concatenated.
Convolutions are padded, so that image and result have one size, and normalised, as is usual
today.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from bench.methods.learned.base import (
    Depth,
    Head,
    ImageNetwork,
    Norm,
    Width,
    norm_layer,
    scaling_with,
)


class UNet(ImageNetwork):
    """U-Net from image to image, trained by Adam on the mean squared error.

    Args:
        width: channels of the first level; they double at each level below. 64 as published.
        depth: number of poolings; 4 as published.
        norm: "instance", "batch" or "none".
        residual: predict the correction to the input instead of the image.
    """

    recipe: ClassVar[dict[str, Any]] = {"loss": "mse", "optimiser": "adam"}

    def __init__(
        self, width: Width = 16, depth: Depth = 3, norm: Norm = "batch", residual: bool = False
    ):
        super().__init__()
        self.stride = 2**depth
        self.scaling = scaling_with(norm)
        self.global_skip = residual
        self.body = UNetBody(1, 1, width, depth, norm)

    @property
    def last_layer(self) -> nn.Module:
        """The last convolution of its body."""
        return self.body.head

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`."""
        result = self.body(image)
        return image + result if self.global_skip else result


class UNetBody(nn.Module):
    """A U-Net between any numbers of channels.

    Args:
        channels_in: of the input.
        channels_out: of the result, which is float32.
        width: see `UNet`, as the rest.
    """

    def __init__(self, channels_in: int, channels_out: int, width: int, depth: int, norm: Norm):
        super().__init__()
        channels = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            conv_block(above, here, norm)
            for above, here in zip([channels_in, *channels], channels, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * here, here, 2, stride=2) for here in channels[:-1]
        )
        self.decoder = nn.ModuleList(conv_block(2 * here, here, norm) for here in channels[:-1])
        self.head = Head(width, channels_out)

    def forward(self, image: Shaped[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        """Map an image whose sides are multiples of 2^depth."""
        features = self.encoder[0](image)
        skips = []
        for block in self.encoder[1:]:
            skips.append(features)
            features = block(max_pool2d(features, 2))
        for up, block in zip(reversed(self.up), reversed(self.decoder), strict=True):
            features = block(torch.cat([skips.pop(), up(features)], dim=1))
        return self.head(features)


def conv_block(channels_in: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """Build two 3x3 convolutions, each normalised and rectified."""
    layers: list[nn.Module] = []
    for channels in (channels_in, channels_out):
        layers += [
            nn.Conv2d(channels, channels_out, 3, padding=1),
            norm_layer(norm, channels_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
