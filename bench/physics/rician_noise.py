"""Rician noise of magnitude images: y = |x + n_1 + i n_2|, n_1, n_2 ~ N(0, level).

The magnitude of a complex MR image with Gaussian noise in both channels: Gudbjartsson and Patz,
Magn. Reson. Med. 34, 1995. In the background its mean is sqrt(pi level / 2), not 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.physics._draws import Noise, standard_normal
from bench.physics.base import Denoising


class RicianNoise(Denoising):
    """Magnitude of an image with complex Gaussian noise.

    Args:
        level: noise variance of the real and of the imaginary part, for images in [0, 1].
        image_size: pixels along each side, or (height, width); any is accepted.
    """

    name = "rician_noise"
    unit = "noise variance of each complex channel (images in [0, 1])"
    levels = (1e-6, 10.0)
    presets = (0.001, 0.01, 0.1)

    def add_noise(self, y: Float[Tensor, "b 1 h w"], noise: Noise) -> Float[Tensor, "b 1 h w"]:
        """Add complex noise and take the magnitude."""
        real = y + self.level**0.5 * standard_normal(y, noise)
        imaginary = self.level**0.5 * standard_normal(y, noise)
        return torch.hypot(real, imaginary)
