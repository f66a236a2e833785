"""Square images of one size from images of any size: padded or cropped, resized, not distorted."""

from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image
from scipy.sparse import csr_array

Fit = Literal["pad", "crop"]

SQUARE_PIXELS = 0.01  # relative difference of the two spacings below which pixels are square


def to_square(
    image: Float32[np.ndarray, "h w"],
    size: int,
    spacing: tuple[float, float] = (1.0, 1.0),
    fit: Fit = "pad",
) -> Float32[np.ndarray, "size size"]:
    """Pad to a square with zeros, or crop to one, centred, and resize without aliasing.

    Bicubic kernels overshoot at edges, so the result is clipped to the range of the image. Pixels
    that are not square are first resampled to squares.
    """
    shape = square_shape(image.shape, spacing)
    if shape != image.shape:
        image = _resize(image, shape)
    height, width = image.shape
    if height == width:
        square = image
    elif fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = image[top : top + side, left : left + side]
    else:
        side = max(height, width)
        square = np.zeros((side, side), dtype=np.float32)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
    return square if square.shape == (size, size) else _resize(square, (size, size))


def square_shape(shape: tuple[int, ...], spacing: tuple[float, float]) -> tuple[int, int]:
    """Compute the shape of an image with square pixels; unknown spacing counts as square."""
    height, width = shape
    known = all(np.isfinite(step) and step > 0 for step in spacing)
    if not known or max(spacing) <= (1 + SQUARE_PIXELS) * min(spacing):
        return height, width
    finest = min(spacing)
    rows, columns = (round(n * step / finest) for n, step in zip(shape, spacing, strict=True))
    return rows, columns


def _resize(
    image: Float32[np.ndarray, "h w"], shape: tuple[int, int]
) -> Float32[np.ndarray, "rows columns"]:
    down, along = (_weights(*sides) for sides in zip(image.shape, shape, strict=True))
    resized = (along @ (down @ image).T).T
    return np.clip(resized, min(0.0, float(image.min())), float(image.max()))


@lru_cache(64)
def _weights(side: int, wanted: int) -> csr_array:
    """Write Pillow's antialiased bicubic resizing of a line, which is linear, as a matrix.

    The sparse matrix takes a quarter of the time of Pillow, which copies images back and forth.
    """
    lines = Image.fromarray(np.eye(side, dtype=np.float32))
    return csr_array(np.asarray(lines.resize((side, wanted), Image.Resampling.BICUBIC)))
