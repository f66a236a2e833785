"""NAFNet: Chen, Chu, Zhang and Sun, ECCV 2022 (arXiv 2204.04676).

A U-Net without nonlinear activations: where others rectify, half of the channels multiply the other
half (SimpleGate), and channel attention is a product too.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.methods.learned.base import (
    Blocks,
    ChannelNorm,
    Dropout,
    Head,
    ImageNetwork,
    Levels,
    Width,
    counts,
)


class NAFNet(ImageNetwork):
    """NAFNet; 17.11 M parameters as published for GoPro at width 32, colour included.

    Args:
        width: channels of the first level; they double at each level below.
        encoder: blocks at each level down, as "1-1-1-28".
        middle: blocks below them.
        decoder: blocks at each level up.
        dropout: fraction of the channels set to 0 before each addition.
    """

    global_skip = True

    def __init__(
        self,
        width: Width = 32,
        encoder: Levels = "1-1-1-28",
        middle: Blocks = 1,
        decoder: Blocks = 1,
        dropout: Dropout = 0.0,
    ):
        super().__init__()
        levels = len(counts(encoder))
        self.stride = 2**levels
        self.intro = nn.Conv2d(1, width, 3, padding=1)
        channels = [width * 2**level for level in range(levels + 1)]

        def stack(count: int, wide: int) -> nn.Sequential:
            return nn.Sequential(*[NAFBlock(wide, dropout) for _ in range(count)])

        self.encoder = nn.ModuleList(map(stack, counts(encoder), channels))
        self.down = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in channels[:-1])
        self.middle = stack(middle, channels[-1])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2))
            for c in reversed(channels[:-1])
        )
        self.decoder = nn.ModuleList(stack(decoder, c) for c in reversed(channels[:-1]))
        self.head = Head(width, kernel_size=3)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`."""
        features = self.intro(image)
        skips = []
        for blocks, down in zip(self.encoder, self.down, strict=True):
            features = blocks(features)
            skips.append(features)
            features = down(features)
        features = self.middle(features)
        for up, blocks in zip(self.up, self.decoder, strict=True):
            features = blocks(up(features) + skips.pop())
        return image + self.head(features)


class NAFBlock(nn.Module):
    """Fig. 3c: a gated depthwise convolution with channel attention, then a gated layer.

    Both are added to their input with weights that start at 0.
    """

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.mix = nn.Sequential(
            ChannelNorm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels),
            SimpleGate(),
            ChannelAttention(channels),
            nn.Conv2d(channels, channels, 1),
            nn.Dropout2d(dropout),
        )
        self.feed = nn.Sequential(
            ChannelNorm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            SimpleGate(),
            nn.Conv2d(channels, channels, 1),
            nn.Dropout2d(dropout),
        )
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Add both corrections."""
        features = features + self.beta * self.mix(features)
        return features + self.gamma * self.feed(features)


class SimpleGate(nn.Module):
    """Multiply one half of the channels by the other."""

    def forward(self, features: Shaped[Tensor, "b c2 h w"]) -> Shaped[Tensor, "b c h w"]:
        """Halve the channels."""
        first, second = features.chunk(2, dim=1)
        return first * second


class ChannelAttention(nn.Module):
    """Weigh channels by a linear map of their means."""

    def __init__(self, channels: int):
        super().__init__()
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Weigh."""
        return features * self.project(features.mean((2, 3), keepdim=True))
