"""Restormer: Zamir et al., CVPR 2022 (arXiv 2111.09881).

A U-Net of transformer blocks whose attention runs between channels instead of pixels, so that its
cost grows with the number of pixels and not with its square.
"""

from typing import Annotated

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from bench.methods.learned.base import (
    Blocks,
    ChannelNorm,
    Head,
    ImageNetwork,
    Levels,
    Width,
    counts,
)


class Restormer(ImageNetwork):
    """Restormer; 26.1 M parameters as published.

    Args:
        width: channels of the first level; they double at each level below.
        blocks: at each level, top first, as "4-6-6-8"; their attention has one head in the first,
            and twice as many in each level below.
        refinement: blocks before the last convolution.
        expansion: of the channels in the feed-forward layers.
    """

    global_skip = True

    def __init__(
        self,
        width: Annotated[Width, Field(multiple_of=2)] = 48,
        blocks: Annotated[Levels, Field(min_length=3)] = "4-6-6-8",
        refinement: Blocks = 4,
        expansion: Annotated[float, Field(ge=1, le=16)] = 2.66,
    ):
        super().__init__()
        depths = counts(blocks)
        levels = len(depths)
        self.stride = 2 ** (levels - 1)
        channels = [width * 2**level for level in range(levels)]

        def stack(level: int, count: int, wide: int) -> nn.Sequential:
            return nn.Sequential(*[Block(wide, 2**level, expansion) for _ in range(count)])

        self.embed = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(map(stack, range(levels), depths, channels))
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, c // 2, 3, padding=1, bias=False), nn.PixelUnshuffle(2))
            for c in channels[:-1]
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, 2 * c, 3, padding=1, bias=False), nn.PixelShuffle(2))
            for c in channels[:0:-1]
        )
        # The top level keeps the channels of its skip and of what comes from below side by side.
        self.reduce = nn.ModuleList(
            nn.Conv2d(2 * c, c, 1, bias=False) if level else nn.Identity()
            for level, c in reversed(list(enumerate(channels[:-1])))
        )
        self.decoder = nn.ModuleList(
            stack(level, depths[level], channels[level] * (1 if level else 2))
            for level in reversed(range(levels - 1))
        )
        self.refine = stack(0, refinement, 2 * width)
        self.head = Head(2 * width, kernel_size=3)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`."""
        features = self.encoder[0](self.embed(image))
        skips = []
        for down, blocks in zip(self.down, self.encoder[1:], strict=True):
            skips.append(features)
            features = blocks(down(features))
        for up, reduce, blocks in zip(self.up, self.reduce, self.decoder, strict=True):
            features = blocks(reduce(torch.cat([up(features), skips.pop()], dim=1)))
        return image + self.head(self.refine(features))


class Block(nn.Module):
    """Attention between channels and a gated feed-forward layer, each added to its input."""

    def __init__(self, channels: int, heads: int, expansion: float):
        super().__init__()
        self.attend = nn.Sequential(ChannelNorm(channels), ChannelSelfAttention(channels, heads))
        self.feed = nn.Sequential(
            ChannelNorm(channels), GatedFeedForward(channels, int(channels * expansion))
        )

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Add both."""
        features = features + self.attend(features)
        return features + self.feed(features)


class ChannelSelfAttention(nn.Module):
    """Multi-head attention between channels, eq. 1: V softmax(K Q / alpha), K and Q normalised."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.project = nn.Sequential(
            nn.Conv2d(channels, 3 * channels, 1, bias=False),
            nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=False),
        )
        self.out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Mix channels."""
        batch, channels, height, width = features.shape
        parts = self.project(features).view(batch, 3, self.heads, -1, height * width)
        query, key, value = parts.unbind(1)
        query, key = normalize(query, dim=-1), normalize(key, dim=-1)
        attention = torch.softmax(query @ key.transpose(-2, -1) * self.temperature, dim=-1)
        mixed = (attention.to(value.dtype) @ value).reshape(batch, channels, height, width)
        return self.out(mixed)


class GatedFeedForward(nn.Module):
    """Eq. 2: one half of the channels, through a GELU, gates the other."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.expand = nn.Sequential(
            nn.Conv2d(channels, 2 * hidden, 1, bias=False),
            nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False),
        )
        self.out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, features: Shaped[Tensor, "b c h w"]) -> Shaped[Tensor, "b c h w"]:
        """Gate."""
        gate, passed = self.expand(features).chunk(2, dim=1)
        return self.out(gelu(gate) * passed)
