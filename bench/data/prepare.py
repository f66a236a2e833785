"""From a volume in scanner units to square images in [0, 1]: normalised, never distorted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn.functional import interpolate

from bench.errors import UserError

Normalisation = Literal["per_volume_max", "per_image_max", "percentile", "window"]
Fit = Literal["pad", "crop"]

FOREGROUND = 0.05  # a pixel brighter than this is foreground, for images in [0, 1]
# Interpolation undershoots a little below 0; what lies deeper is no magnitude.
UNDERSHOOT = 0.1
SQUARE_PIXELS = 0.01  # relative difference of the two spacings below which pixels are square


class Unusable(Exception):
    """Why a file or an array cannot be used; the message follows the file's name."""


@dataclass(frozen=True)
class Preparation:
    """How slices become images.

    Attributes:
        size: side of the images, in pixels.
        normalisation: what becomes 1: the maximum of the volume, the maximum of each image, a
            percentile of the volume, or the upper end of a window.
        window: centre and width of the window, in the units of the data (HU for CT).
        percentile: the percentile that becomes 1; brighter values are clipped.
        fit: pad the shorter side with zeros, or crop the longer one, both centred.
        min_foreground: slices with a smaller fraction of foreground (pixels above 0.05 after
            normalisation) count as empty and are dropped.
        step: every `step`-th slice is taken.
    """

    size: int
    normalisation: Normalisation = "per_volume_max"
    window: tuple[float, float] | None = None
    percentile: float = 99.5
    fit: Fit = "pad"
    min_foreground: float = 0.0
    step: int = 1

    def __post_init__(self) -> None:
        if self.step < 1:
            raise UserError(f"dataset.step: {self.step} is below 1")
        if (self.normalisation == "window") != (self.window is not None):
            raise UserError(
                "dataset.window and dataset.normalisation: window go together; give both or "
                "neither, e.g. window: [40, 400]"
            )
        if self.window and self.window[1] <= 0:
            raise UserError(f"dataset.window: the width {self.window[1]:g} is not positive")
        if not 0 < self.percentile <= 100:
            raise UserError(f"dataset.percentile: {self.percentile:g} is not in (0, 100]")

    def __call__(
        self, volume: Float32[np.ndarray, "slices h w"], spacing: tuple[float, float] = (1.0, 1.0)
    ) -> Iterator[tuple[int, Float32[np.ndarray, "size size"]]]:
        """Yield the number and the image of each slice that is not empty.

        Args:
            volume: slices in scanner units.
            spacing: distance of rows and of columns, in any common unit.

        Raises:
            Unusable: NaN, constant, negative without a window, or nothing but empty slices.
        """
        check(volume)
        scaled = self.normalise(volume)
        kept = [
            k
            for k in range(0, len(scaled), self.step)
            if foreground(scaled[k]) >= self.min_foreground and np.ptp(scaled[k]) > 0
        ]
        if not kept:
            raise Unusable(
                f"holds only empty slices (less than {self.min_foreground:.0%} foreground each); "
                "lower dataset.min_foreground, or choose another normalisation"
            )
        for number in kept:
            yield number, to_square(scaled[number], self.size, spacing, self.fit)

    def normalise(
        self, volume: Float32[np.ndarray, "slices h w"]
    ) -> Float32[np.ndarray, "slices h w"]:
        """Map scanner units to [0, 1].

        Raises:
            Unusable: values clearly below 0, or none above it, and no window.
        """
        if self.window is not None:
            centre, width = self.window
            return ((volume - (centre - width / 2)) / width).clip(0, 1).astype(np.float32)
        low, high = float(volume.min()), float(volume.max())
        if high <= 0 or low < -UNDERSHOOT * high:
            raise Unusable(
                f"reaches from {low:g} to {high:g}, which is no magnitude; Hounsfield units need "
                "dataset.normalisation: window and dataset.window: [centre, width]"
            )
        if self.normalisation == "per_image_max":
            tops = volume.max(axis=(1, 2), keepdims=True)
        elif self.normalisation == "percentile":
            tops = np.array(np.percentile(volume, self.percentile))
            tops = tops if tops > 0 else np.array(high)
        else:
            tops = np.array(high)
        return (volume / np.where(tops > 0, tops, 1)).clip(0, 1).astype(np.float32)


def check(values: Float32[np.ndarray, "..."]) -> None:
    """Refuse an empty array, NaN or infinite values, and a constant.

    Raises:
        Unusable: with the reason.
    """
    if values.size == 0:
        raise Unusable("is empty")
    if not np.isfinite(values).all():
        raise Unusable("holds NaN or infinite values")
    if values.min() == values.max():
        raise Unusable("is constant")


def foreground(image: Float32[np.ndarray, "..."]) -> float:
    """Give the fraction of pixels that show something, for values in [0, 1]."""
    return float((image > FOREGROUND).mean())


def to_square(
    image: Float32[np.ndarray, "h w"],
    size: int,
    spacing: tuple[float, float] = (1.0, 1.0),
    fit: Fit = "pad",
) -> Float32[np.ndarray, "size size"]:
    """Pad to a square with zeros, or crop to one, centred, and resize without aliasing.

    Bicubic kernels overshoot at edges; the result is clipped to the range of the image. Pixels
    that are not square are made so first.
    """
    image = _isotropic(image, spacing)
    height, width = image.shape
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = np.ascontiguousarray(image[top : top + side, left : left + side])
    else:
        side = max(height, width)
        square = np.zeros((side, side), dtype=np.float32)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
    return square if side == size else _resize(square, (size, size))


def _isotropic(
    image: Float32[np.ndarray, "h w"], spacing: tuple[float, float]
) -> Float32[np.ndarray, "rows columns"]:
    finest = min(spacing)
    if max(spacing) <= (1 + SQUARE_PIXELS) * finest:
        return image
    height, width = (round(n * step / finest) for n, step in zip(image.shape, spacing, strict=True))
    return _resize(np.ascontiguousarray(image), (height, width))


def _resize(
    image: Float32[np.ndarray, "h w"], shape: tuple[int, int]
) -> Float32[np.ndarray, "rows columns"]:
    resized = interpolate(
        torch.from_numpy(image)[None, None], shape, mode="bicubic", antialias=True
    )[0, 0].numpy()
    return resized.clip(min(0.0, float(image.min())), float(image.max()))
