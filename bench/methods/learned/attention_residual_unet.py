"""Attention residual U-Net: residual units, and attention gates on the skips.

Residual units: Zhang, Liu and Wang, IEEE GRSL 15, 2018 (arXiv 1711.10684). Additive attention
gates: Oktay et al., MIDL 2018 (arXiv 1804.03999), eq. 1-2. The preset `medrecon` is the network of
MedRecon-ARU (github.com/KMsojib), with its loss.
"""

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from bench.methods.learned.base import (
    Depth,
    Head,
    ImageNetwork,
    Norm,
    Width,
    norm_layer,
    scaling_with,
)


class AttentionResidualUNet(ImageNetwork):
    """U-Net of residual units whose skips pass attention gates.

    Args:
        width: channels of the first level; they double at each level below.
        depth: number of poolings.
        norm: "instance", "batch" or "none".
        global_skip: predict the correction to the input instead of the image.
        stems: convolutions before each residual unit, which then keeps its number of channels:
            this many in the encoder, one in the middle and in the decoder. With 0, the unit itself
            changes the number of channels.
        sigmoid: apply a sigmoid to the result, unless it is a correction; the input is then not
            scaled, because the scaling of the result could not be undone.
    """

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "medrecon": {
            "width": 64,
            "depth": 4,
            "norm": "none",
            "global_skip": False,
            "stems": 2,
            "sigmoid": True,
            "optimiser": "adam",
            "loss": "0.4 l1 + 0.25 perceptual + 0.2 edge + 0.15 ssim",
            "perceptual": "vgg16",
        }
    }

    def __init__(
        self,
        width: Width = 12,
        depth: Depth = 3,
        norm: Norm = "instance",
        global_skip: bool = True,
        stems: Annotated[int, Field(ge=0, le=16)] = 0,
        sigmoid: bool = False,
    ):
        super().__init__()
        self.stride = 2**depth
        if global_skip or not sigmoid:
            self.scaling = scaling_with(norm)
        self.global_skip = global_skip
        self.sigmoid = sigmoid
        channels = [width * 2**level for level in range(depth + 1)]
        plain = [stems] * depth + [min(stems, 1)]
        self.encoder = nn.ModuleList(
            level_unit(above, here, norm, count)
            for above, here, count in zip([1, *channels], channels, plain, strict=False)
        )
        self.gates = nn.ModuleList(AttentionGate(here, 2 * here, norm) for here in channels[:-1])
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * here, here, 2, stride=2) for here in channels[:-1]
        )
        self.decoder = nn.ModuleList(
            level_unit(2 * here, here, norm, min(stems, 1)) for here in channels[:-1]
        )
        self.head = Head(width)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`."""
        features = self.encoder[0](image)
        skips = []
        for unit in self.encoder[1:]:
            skips.append(features)
            features = unit(max_pool2d(features, 2))
        levels = zip(reversed(self.gates), reversed(self.up), reversed(self.decoder), strict=True)
        for gate, up, unit in levels:
            skip = gate(skips.pop(), features)
            features = unit(torch.cat([skip, up(features)], dim=1))
        result = self.head(features)
        if self.global_skip:
            return image + result
        return torch.sigmoid(result) if self.sigmoid else result


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, normalised, added to their input or a 1x1 projection of it."""

    def __init__(self, channels_in: int, channels_out: int, norm: Norm):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            norm_layer(norm, channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
            norm_layer(norm, channels_out),
        )
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, features: Shaped[Tensor, "b i h w"]) -> Shaped[Tensor, "b o h w"]:
        """Return relu(body + shortcut)."""
        return torch.relu(self.body(features) + self.shortcut(features))


def level_unit(channels_in: int, channels_out: int, norm: Norm, stems: int) -> nn.Sequential:
    """Build a level: plain convolutions that change the channels, if any, and a residual unit."""
    layers: list[nn.Module] = []
    channels = channels_in
    for _ in range(stems):
        layers += [
            nn.Conv2d(channels, channels_out, 3, padding=1),
            norm_layer(norm, channels_out),
            nn.ReLU(inplace=True),
        ]
        channels = channels_out
    return nn.Sequential(*layers, ResidualUnit(channels, channels_out, norm))


class AttentionGate(nn.Module):
    """Weight the pixels of a skip connection by a gate from the coarser level.

    alpha = sigmoid(psi(relu(W_x x + W_g g))), and the skip x becomes alpha x; g has half its
    resolution.
    """

    def __init__(self, skip_channels: int, gate_channels: int, norm: Norm):
        super().__init__()
        inner = max(skip_channels // 2, 1)
        self.project_skip = nn.Conv2d(skip_channels, inner, 1, bias=False)
        self.project_gate = nn.Conv2d(gate_channels, inner, 1)
        self.norm = norm_layer(norm, inner)
        self.psi = nn.Conv2d(inner, 1, 1)

    def forward(
        self, skip: Shaped[Tensor, "b s h w"], gate: Shaped[Tensor, "b g h2 w2"]
    ) -> Shaped[Tensor, "b s h w"]:
        """Weight the skip."""
        gating = interpolate(self.project_gate(gate), scale_factor=2, mode="bilinear")
        alpha = self.psi(torch.relu(self.norm(self.project_skip(skip) + gating))).sigmoid()
        return alpha * skip
