"""End-to-end variational network: Sriram et al., MICCAI 2020 (arXiv 2004.06688).

Full k-space k of all coils is refined by cascades,

    k <- k - eta M (k - y) - F S U(S^H F^-1 k),

with a U-Net U on the combined image and a learned eta in each of them, M the mask, F the Fourier
transform, and S the coils' sensitivities, which another U-Net estimates from the centre of k-space.
"""

from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Complex64, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from bench.methods.base import Reconstructor
from bench.methods.learned.base import Depth, Head, InstanceNorm, Width, padding_to
from bench.physics import MRICartesian
from bench.physics._constants import on_device
from bench.physics.mri_cartesian import fourier, inverse_fourier

LEAST_SCALE = 1e-3  # by which a part is divided, relative to the other part's standard deviation
Sensitivities = Literal["estimated", "known"]


class E2EVarNet(Reconstructor):
    """Unrolled reconstruction of Cartesian k-space; 29.94 M parameters as published.

    Its result is the root of the sum of squares of the coils' images.

    Args:
        cascades: number of U-Nets, each with its own weights; 12 as published.
        width: channels of the first level of each U-Net; 18 as published.
        depth: number of poolings; 4 as published.
        map_width: channels of the U-Net that estimates the sensitivities; 8 as published.
        map_depth: its number of poolings; 4 as published.
        sensitivities: "estimated" as published, or "known": those of the physics. A single coil
            has none to estimate.
        physics: the task's physics, which states the number of coils; default: several.
    """

    kind = "learned"
    needs_linear = True
    supported_physics = MRICartesian
    recipe: ClassVar[dict[str, Any]] = {"loss": "ssim", "optimiser": "adam", "weight_decay": 0.0}

    def __init__(
        self,
        cascades: Annotated[int, Field(ge=1, le=32)] = 12,
        width: Width = 18,
        depth: Depth = 4,
        map_width: Width = 8,
        map_depth: Depth = 4,
        sensitivities: Sensitivities = "estimated",
        physics: MRICartesian | None = None,
    ):
        super().__init__()
        self.refinements = nn.ModuleList(NormUNet(width, depth) for _ in range(cascades))
        self.etas = nn.Parameter(torch.ones(cascades))
        estimated = sensitivities == "estimated" and (physics is None or physics.coils > 1)
        self.maps = NormUNet(map_width, map_depth) if estimated else None

    def forward(
        self, y: Complex64[Tensor, "b coils h w"], physics: MRICartesian
    ) -> Float[Tensor, "b 1 h w"]:
        """Complete k-space and transform it; outside training the result lies in [0, 1]."""
        mask = on_device(physics.sampled((y.shape[-2], y.shape[-1])), y.device)
        maps = self.sensitivities(y, physics)
        k = y
        for eta, refine in zip(self.etas, self.refinements, strict=True):
            image = (maps.conj() * inverse_fourier(k)).sum(1, keepdim=True)
            k = k - eta * torch.where(mask, k - y, 0) - fourier(maps * refine(image))
        x_hat = root_sum_of_squares(inverse_fourier(k))
        return x_hat if self.training else x_hat.clamp(0, 1)

    def sensitivities(
        self, y: Complex64[Tensor, "b coils h w"], physics: MRICartesian
    ) -> Complex64[Tensor, "#b coils h w"]:
        """Estimate the coils' sensitivities, or take those of the physics."""
        if self.maps is None:
            return physics.sensitivities(y)[None]
        centre = on_device(calibration(physics.sampled((y.shape[-2], y.shape[-1]))), y.device)
        images = inverse_fourier(torch.where(centre, y, 0))
        maps = self.maps(images.flatten(0, 1)[:, None]).view_as(images)
        return maps / root_sum_of_squares(maps)


class NormUNet(nn.Module):
    """A U-Net between complex images, real and imaginary part normalised and restored.

    Args:
        width: channels of the first level; they double at each level below.
        depth: number of poolings.
    """

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.stride = 2**depth
        channels = [width * 2**level for level in range(depth + 1)]
        self.encoder = nn.ModuleList(
            block(above, here) for above, here in zip([2, *channels], channels, strict=False)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(2 * here, here, 2, stride=2, bias=False), *activated(here)
            )
            for here in channels[:-1]
        )
        self.decoder = nn.ModuleList(block(2 * here, here) for here in channels[:-1])
        self.head = Head(width, 2)

    def forward(self, image: Complex64[Tensor, "b 1 h w"]) -> Complex64[Tensor, "b 1 h w"]:
        """Map images of any size."""
        parts = torch.cat([image.real, image.imag], dim=1)
        mean = parts.mean((2, 3), keepdim=True)
        scale = parts.std((2, 3), keepdim=True)
        # An image without phase has round-off as its imaginary part, which must not become noise.
        scale = torch.maximum(scale, LEAST_SCALE * scale.amax(1, keepdim=True)).clamp(min=1e-6)
        height, width = parts.shape[-2:]
        padded = pad((parts - mean) / scale, padding_to(self.stride, parts))
        result = self.body(padded)[..., :height, :width] * scale + mean
        return torch.complex(result[:, :1], result[:, 1:])

    def body(self, parts: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Map images whose sides are multiples of `stride`."""
        features = self.encoder[0](parts)
        skips = []
        for down in self.encoder[1:]:
            skips.append(features)
            features = down(avg_pool2d(features, 2))
        for up, convolutions in zip(reversed(self.up), reversed(self.decoder), strict=True):
            features = convolutions(torch.cat([up(features), skips.pop()], dim=1))
        result: Tensor = self.head(features)
        return result


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Build two 3x3 convolutions, each normalised and rectified."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        *activated(channels_out),
        nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
        *activated(channels_out),
    )


def activated(channels: int) -> tuple[nn.Module, nn.Module]:
    """Build what follows each convolution."""
    return InstanceNorm(channels), nn.LeakyReLU(0.2, inplace=True)


def root_sum_of_squares(images: Complex64[Tensor, "b coils h w"]) -> Float[Tensor, "b 1 h w"]:
    """Combine the coils' images; at least 1e-6, since 0 has no derivative."""
    power = images.real.square() + images.imag.square()
    return power.sum(1, keepdim=True).clamp(min=1e-12).sqrt()


@lru_cache(maxsize=16)
def calibration(mask: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Return the part of a mask from which sensitivities are estimated.

    The whole lines around DC without a gap, as published; for a mask of points, the largest
    square; the whole mask if not even DC's neighbours are measured.
    """
    lines = _around_the_middle(mask.all(0))
    if lines.any():
        return mask & lines
    rows, columns = (torch.arange(n) - n // 2 for n in mask.shape)
    ring = torch.maximum(rows.abs()[:, None], columns.abs())
    missing = ring[~mask.cpu()]
    side = int(missing.min()) if missing.numel() else max(mask.shape)
    return (ring < side).to(mask.device) if side > 1 else mask


def _around_the_middle(present: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Keep the run of True that contains the middle."""
    middle = len(present) // 2
    right = present[middle:].long().cumprod(0)
    left = present[: middle + 1].flip(0).long().cumprod(0).flip(0)
    return torch.cat([left[:-1], right]).bool()
