"""SRGAN with CBAM: a residual generator with attention, trained against a discriminator.

SRGAN: Ledig et al., CVPR 2017 (arXiv 1609.04802), fig. 4. CBAM: Woo, Park, Lee and Kweon, ECCV 2018
(arXiv 1807.06521). Trained by the squared error first, then with the perceptual and adversarial
losses added to it.
"""

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.methods.learned.base import Blocks, Head, ImageNetwork, Norm, Width, norm_layer
from bench.physics import Physics, SuperResolution


class SRGANCBAM(ImageNetwork):
    """SRGAN's generator with an attention module on each residual branch.

    Super-resolution starts from y itself and is enlarged at the end by sub-pixel convolutions.
    Called with other physics it starts from `A_dagger(y)` and enlarges nothing. With `start: tv`
    its input is y all the same, and its result is added to the TV reconstruction.

    Args:
        width: channels.
        blocks: number of residual blocks.
        norm: "batch", "instance" or "none".
        attention: whether the residual branches carry CBAM.
        reduction: of the channels inside CBAM.
        global_skip: predict the correction to `A_dagger(y)` instead of the image.
        physics: the task's physics, which determines the enlargement; default: four times.
    """

    supported_physics = SuperResolution
    recipe: ClassVar[dict[str, Any]] = {
        "loss": "mse + 0.006 perceptual + 0.001 adversarial",
        "optimiser": "adam",
        "pretrain": 0.5,
    }

    def __init__(
        self,
        width: Width = 64,
        blocks: Blocks = 16,
        norm: Norm = "batch",
        attention: bool = True,
        reduction: Width = 16,
        global_skip: bool = False,
        physics: Physics | None = None,
    ):
        super().__init__()
        self.global_skip = global_skip
        self.factor = 4 if physics is None else factor_of(physics)
        self.stem = nn.Sequential(nn.Conv2d(1, width, 9, padding=4), nn.PReLU())
        cbam = reduction if attention else None
        self.blocks = nn.Sequential(
            *[ResidualBlock(width, norm, cbam) for _ in range(blocks)],
            nn.Conv2d(width, width, 3, padding=1),
            norm_layer(norm, width),
        )
        self.up = nn.Sequential(
            *[layer for factor in prime_factors(self.factor) for layer in enlarge(width, factor)]
        )
        self.head = Head(width, kernel_size=9)

    def forward(
        self,
        y: Shaped[Tensor, "b ..."],
        physics: Physics,
        estimate: Float[Tensor, "b 1 h w"] | None = None,
    ) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; outside training the result is clipped to [0, 1], the images' range.

        Raises:
            ValueError: the physics reduces by another factor than the network enlarges by.
        """
        if factor_of(physics) != self.factor:
            raise ValueError(f"built to enlarge {self.factor} times, not {factor_of(physics)}")
        enlarged = self.input_image(y, physics, estimate)
        height, width = enlarged.shape[-2:]
        x_hat = self.network(y if self.factor > 1 else enlarged)[..., :height, :width]
        x_hat = self.until_trained(enlarged + x_hat if self.global_skip else x_hat, enlarged)
        return self.finish(x_hat, y, physics)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h2 w2"]:
        """Map an image of any size to one `factor` times as large."""
        shallow = self.stem(image)
        return self.head(self.up(shallow + self.blocks(shallow)))


def factor_of(physics: Physics) -> int:
    """Return the factor by which a physics reduces images."""
    return int(physics.level) if isinstance(physics, SuperResolution) else 1


def prime_factors(number: int) -> list[int]:
    """Divide a number into the factors by which it is enlarged: 4 into [2, 2]."""
    for factor in range(2, number + 1):
        if number % factor == 0:
            return [factor, *prime_factors(number // factor)]
    return []


def enlarge(channels: int, factor: int) -> list[nn.Module]:
    """Build a sub-pixel convolution (Shi et al., CVPR 2016)."""
    return [
        nn.Conv2d(channels, channels * factor**2, 3, padding=1),
        nn.PixelShuffle(factor),
        nn.PReLU(),
    ]


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions, attention, and the sum with their input."""

    def __init__(self, channels: int, norm: Norm, reduction: int | None):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            norm_layer(norm, channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            norm_layer(norm, channels),
            nn.Identity() if reduction is None else CBAM(channels, reduction),
        )

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Add the correction."""
        return features + self.body(features)


class CBAM(nn.Module):
    """Weigh channels (eq. 2), then pixels (eq. 3), by their means and maxima."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        inner = max(channels // reduction, 1)
        self.channel = nn.Sequential(
            nn.Conv2d(channels, inner, 1), nn.ReLU(inplace=True), nn.Conv2d(inner, channels, 1)
        )
        self.pixel = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Weigh."""
        mean, peak = features.mean((2, 3), keepdim=True), features.amax((2, 3), keepdim=True)
        features = features * torch.sigmoid(self.channel(mean) + self.channel(peak))
        seen = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        return features * torch.sigmoid(self.pixel(seen))
