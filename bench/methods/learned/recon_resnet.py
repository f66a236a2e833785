"""ReconResNet: Chatterjee et al., Comput. Biol. Med. 143, 2022 (arXiv 2103.09203).

A residual network between two strided convolutions and two transposed ones, trained with SSIM; the
measured k-space samples then replace those of the network's result.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.methods.learned.base import Blocks, Dropout, Head, ImageNetwork, Norm, Width, norm_layer
from bench.physics import MRI, Physics


class ReconResNet(ImageNetwork):
    """ReconResNet, 17.27 M parameters as published.

    Args:
        width: channels of the first level; they double at each of the two below.
        blocks: number of residual blocks.
        norm: "instance", "batch" or "none"; without affine weights.
        dropout: fraction of the channels set to 0 in the middle of each residual block.
        global_skip: predict the correction to the input instead of a sigmoid of the image.
        data_consistency: replace measured k-space, see `bench.physics.MRI.consistent`; with other
            measurements the network's result is not changed.
    """

    recipe: ClassVar[dict[str, Any]] = {"loss": "ssim", "optimiser": "adam"}
    stride = 4

    def __init__(
        self,
        width: Width = 64,
        blocks: Blocks = 14,
        norm: Norm = "instance",
        dropout: Dropout = 0.2,
        global_skip: bool = False,
        data_consistency: bool = True,
    ):
        super().__init__()
        self.global_skip = global_skip
        self.data_consistency = data_consistency
        stem = nn.Conv2d(1, width, 7, padding=3, padding_mode="reflect")
        down = [nn.Conv2d(c, 2 * c, 3, stride=2, padding=1) for c in (width, 2 * width)]
        up = [
            nn.ConvTranspose2d(2 * c, c, 3, stride=2, padding=1, output_padding=1)
            for c in (2 * width, width)
        ]
        layers: list[nn.Module] = []
        for convolution in (stem, *down):
            layers += [convolution, norm_layer(norm, convolution.out_channels, False), nn.PReLU()]
        layers += [ResidualBlock(4 * width, norm, dropout) for _ in range(blocks)]
        for transposed in up:
            layers += [transposed, norm_layer(norm, transposed.out_channels, False), nn.PReLU()]
        self.body = nn.Sequential(*layers)
        self.head = Head(width, kernel_size=7, padding_mode="reflect")

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of 4."""
        result = self.head(self.body(image))
        return image + result if self.global_skip else torch.sigmoid(result)

    def finish(
        self, x_hat: Float[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Float[Tensor, "b 1 h w"]:
        """Replace the network's values at the measured k-space samples."""
        if self.data_consistency and isinstance(physics, MRI):
            x_hat = physics.consistent(x_hat, y)
        return super().finish(x_hat.abs() if x_hat.is_complex() else x_hat, y, physics)


class ResidualBlock(nn.Sequential):
    """Two 3x3 convolutions with a PReLU and dropout between them, added to their input."""

    def __init__(self, channels: int, norm: Norm, dropout: float):
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            norm_layer(norm, channels, False),
            nn.PReLU(),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            norm_layer(norm, channels, False),
        )

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Add the correction."""
        return features + super().forward(features)
