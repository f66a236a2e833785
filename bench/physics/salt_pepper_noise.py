"""Salt and pepper: a fraction of the pixels, chosen at random, becomes white or black."""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.physics._draws import Noise, uniform
from bench.physics.base import Denoising


class SaltPepperNoise(Denoising):
    """Replace pixels by 1 (salt) or 0 (pepper), each half of the level.

    Args:
        level: fraction of replaced pixels.
        image_size: pixels along each side, or (height, width); any is accepted.
    """

    name = "salt_pepper_noise"
    unit = "fraction of replaced pixels"
    levels = (1e-4, 0.95)
    presets = (0.02, 0.05, 0.2)

    def add_noise(self, y: Float[Tensor, "b 1 h w"], noise: Noise) -> Float[Tensor, "b 1 h w"]:
        """Replace pixels."""
        chance = uniform(y, noise)
        salted = torch.where(chance < self.level / 2, torch.ones_like(y), y)
        return torch.where(chance > 1 - self.level / 2, torch.zeros_like(y), salted)
