"""Additive white Gaussian noise: y = x + n, n ~ N(0, level), optionally clipped to [0, 1]."""

from jaxtyping import Float
from torch import Tensor

from bench.physics._draws import Noise, standard_normal
from bench.physics.base import Denoising, Size


class GaussianNoise(Denoising):
    """White Gaussian noise.

    Args:
        level: noise variance, for images in [0, 1].
        image_size: pixels along each side, or (height, width); any is accepted.
        clip: clip the noisy image to [0, 1], as 8-bit image files do. Clipping makes the noise
            neither Gaussian nor zero-mean, and its power depends on the image.
    """

    name = "gaussian_noise"
    unit = "noise variance (images in [0, 1])"
    levels = (1e-6, 10.0)
    presets = (0.01, 0.1, 0.5)

    def __init__(self, level: float, image_size: Size, *, clip: bool = False):
        super().__init__(level, image_size)
        self.noise_variance = self.total_noise_variance = self.level
        self.clip = clip

    @property
    def white(self) -> bool:
        """Whether nothing is clipped."""
        return not self.clip

    def add_noise(self, y: Float[Tensor, "b 1 h w"], noise: Noise) -> Float[Tensor, "b 1 h w"]:
        """Add N(0, level) to each pixel."""
        noisy = y + self.level**0.5 * standard_normal(y, noise)
        return noisy.clamp(0, 1) if self.clip else noisy
