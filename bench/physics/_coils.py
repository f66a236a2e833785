"""Receive coils: smooth simulated sensitivities."""

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Complex64
from torch import Tensor

DISTANCE = 2.0  # of the coils from the centre, in units of half the image's side


@lru_cache(maxsize=16)
def birdcage(coils: int, shape: tuple[int, int]) -> Complex64[Tensor, "coils h w"]:
    """Simulate the sensitivities of coils on a circle around the image.

    Coil c at r_c receives exp(i phi) / |r - r_c| from r, phi the direction of r - r_c, turned so
    that neighbours differ by their angle on the circle; the squares of all coils sum to 1
    everywhere. The birdcage model, Roemer et al., MRM 16, 1990.
    """
    if coils == 1:
        return torch.ones(1, *shape, dtype=torch.complex64)
    rows, columns = ((np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape)
    turn = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    across = columns - DISTANCE * np.cos(turn)
    down = rows[:, None] - DISTANCE * np.sin(turn)
    maps = np.exp(1j * (np.arctan2(across, -down) - turn)) / np.hypot(across, down)
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    return torch.from_numpy(maps.astype(np.complex64))
