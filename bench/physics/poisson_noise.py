"""Photon noise: y = k / level with k ~ Poisson(level x), where level photons make white."""

from jaxtyping import Float
from torch import Tensor

from bench.physics._draws import Noise, poisson
from bench.physics.base import Denoising


class PoissonNoise(Denoising):
    """Counting noise: its variance grows with the signal, x / level.

    Args:
        level: expected photons at a pixel of value 1; fewer are harder.
        image_size: pixels along each side, or (height, width); any is accepted.
    """

    name = "poisson_noise"
    unit = "number of photons at a pixel of value 1"
    levels = (0.1, 1e7)
    presets = (1000.0, 100.0, 10.0)

    def add_noise(self, y: Float[Tensor, "b 1 h w"], noise: Noise) -> Float[Tensor, "b 1 h w"]:
        """Count photons, and divide by the expectation of white."""
        return poisson(self.level * y.clamp(min=0), noise).to(y) / self.level
