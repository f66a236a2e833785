"""From an image of any size to a square one: padded, never distorted, resized without aliasing."""

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn.functional import interpolate


def to_square(image: Float32[np.ndarray, "h w"], size: int) -> Float32[np.ndarray, "size size"]:
    """Pad to a square with zeros, centred, and resize with an antialiased bicubic kernel.

    Bicubic kernels overshoot at edges; the result is clipped to the range of the image.
    """
    height, width = image.shape
    side = max(height, width)
    square = np.zeros((side, side), dtype=np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = image
    if side == size:
        return square
    resized = interpolate(
        torch.from_numpy(square)[None, None], (size, size), mode="bicubic", antialias=True
    )[0, 0].numpy()
    return resized.clip(min(0.0, float(image.min())), float(image.max()))
