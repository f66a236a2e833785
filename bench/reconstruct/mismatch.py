"""Where images to reconstruct differ visibly from those that the method was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from bench.data.pairs import noise_of

SOME = 8  # slices that are looked at
NOISE_RATIO, NOISE_LEAST = 1.7, 0.02
BRIGHT_RATIO = 1.6
SIZE_RATIO = 1.5
BRIGHT = 95.0  # percentile of an image without its noise
SMOOTHING = 2.0  # pixels


@dataclass(frozen=True)
class Look:
    """How images look.

    Attributes:
        noise: standard deviation, for images in [0, 1].
        brightness: of the brighter tissue.
        size: pixels along the longer side.
        modality: `CT`, `MR` or another of DICOM's; empty if unknown.
    """

    noise: float
    brightness: float
    size: int
    modality: str


def look_at(images: Float32[np.ndarray, "n h w"], size: int, modality: str) -> Look:
    """Look at first estimates `A_dagger(y)`.

    Args:
        images: where 0 and 1 are as in training.
        size: of the reconstructions, in pixels along the longer side.
        modality: see `Look`.
    """
    shown = [image for image in images if np.ptp(image) > 0] or list(images)
    some = shown[:: max(1, len(shown) // SOME)]
    noise = float(np.median([noise_of(image) for image in some]))
    smooth = [np.percentile(gaussian_filter(image, SMOOTHING), BRIGHT) for image in some]
    return Look(noise, float(np.median(smooth)), size, modality)


def modality_of_run(audit: Any, source: str) -> str:
    """Tell what kind of scanner made the images of a run, if its audit shows it."""
    rules = [str(line.get("scale", "")) for line in (audit or {}).get("volumes") or []]
    if any(rule.endswith("HU") for rule in rules):
        return "CT"
    return "MR" if source == "template" else ""


def differences(here: Look, trained: Look) -> list[str]:
    """Name what differs, each with the value in training."""
    found = []
    noise = sorted([here.noise, trained.noise])
    if noise[1] > NOISE_LEAST and noise[1] > NOISE_RATIO * noise[0]:
        found.append(f"noise of about {here.noise:.2g} ({trained.noise:.2g})")
    bright = sorted([here.brightness, trained.brightness])
    if bright[1] > BRIGHT_RATIO * max(bright[0], 1e-6):
        found.append(f"a brightness of {here.brightness:.2g} ({trained.brightness:.2g})")
    sizes = sorted([here.size, trained.size])
    if sizes[1] > SIZE_RATIO * sizes[0]:
        found.append(f"{here.size} pixels along the longer side ({trained.size})")
    if here.modality and trained.modality and here.modality != trained.modality:
        found.append(f"{here.modality} images ({trained.modality})")
    return found


def sentence(method: str, name: str, found: Sequence[str]) -> str:
    """Write the warning, in one line."""
    return (
        f"warning: {name} differs from what {method} was trained on (in brackets): "
        f"{', '.join(found)}; do not expect the scores of the leaderboard"
    )
