"""Augmentation of training images, before they are degraded.

An augmented image is another image that might have been scanned; it is degraded afterwards, so
noise and artefacts are never rotated or scaled with it. What a scanner measured is only mirrored.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


@dataclass(frozen=True)
class Augmentation:
    """How much images are changed at random.

    Attributes:
        flips: mirror left-right with probability 1/2.
        rotation: greatest angle either way, in degrees.
        scaling: greatest relative change of size.
        intensity: greatest relative change of brightness; the result is clipped to [0, 1].
    """

    flips: bool = False
    rotation: float = 0.0
    scaling: float = 0.0
    intensity: float = 0.0


Preset = Literal["none", "flips", "strong"]
PRESETS: dict[Preset, Augmentation] = {
    "none": Augmentation(),
    "flips": Augmentation(flips=True),
    "strong": Augmentation(flips=True, rotation=12.0, scaling=0.1, intensity=0.1),
}


def augment(x: Float[Tensor, "b 1 h w"], preset: Preset, seed: int) -> Float[Tensor, "b 1 h w"]:
    """Change each image at random.

    Args:
        x: images, magnitude in [0, 1].
        preset: one of `PRESETS`.
        seed: seed of the random draws, which are made for the whole batch on the CPU.
    """
    chosen = PRESETS[preset]
    if chosen == Augmentation():
        return x
    draws = _draws(len(x), seed).to(x)
    if chosen.flips:
        x = mirror(x, draws[0] < 0.5)
    angle, growth, brightness = 2 * draws[1:] - 1
    if chosen.rotation or chosen.scaling:
        x = _turn(x, chosen.rotation * math.pi / 180 * angle, 1 + chosen.scaling * growth)
    if chosen.intensity:
        x = (x * (1 + chosen.intensity * brightness).view(-1, 1, 1, 1)).clamp(0, 1)
    return x


def mirror(x: Float[Tensor, "b 1 h w"], which: Bool[Tensor, " b"]) -> Float[Tensor, "b 1 h w"]:
    """Mirror some of the images left-right."""
    return torch.where(which.to(x.device).view(-1, 1, 1, 1), x.flip(-1), x)


def mirrored(count: int, preset: Preset, seed: int) -> Bool[Tensor, " b"]:
    """Draw which images of a batch `augment` mirrors."""
    return (_draws(count, seed)[0] < 0.5) & PRESETS[preset].flips


def _draws(count: int, seed: int) -> Float[Tensor, "4 b"]:
    return torch.rand(4, count, generator=torch.Generator().manual_seed(seed))


def _turn(
    x: Float[Tensor, "b 1 h w"], angle: Float[Tensor, " b"], size: Float[Tensor, " b"]
) -> Float[Tensor, "b 1 h w"]:
    """Rotate and scale about the centre, bilinearly, with black beyond the image."""
    cosine, sine, none = angle.cos() / size, angle.sin() / size, torch.zeros_like(angle)
    height, width = x.shape[-2:]
    # affine_grid measures each axis in half its own length
    rows = [cosine, -sine * height / width, none, sine * width / height, cosine, none]
    matrix = torch.stack(rows, dim=1).view(-1, 2, 3)
    grid = affine_grid(matrix, list(x.shape), align_corners=False)
    return grid_sample(x, grid, align_corners=False, padding_mode="zeros")
