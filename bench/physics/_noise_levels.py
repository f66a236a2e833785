"""White noise of many levels, by which denoisers are trained that serve as priors."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bench.physics._draws import BatchNoise, Noise, standard_normal, uniform
from bench.physics.base import Denoising, Size
from bench.seeds import derive_seed

# Standard deviations, for images in [0, 1]; the variances 0.01, 0.1 and 0.5 are within.
LEAST, GREATEST = 0.01, 0.75


class NoiseLevels(Denoising):
    """Gaussian noise whose standard deviation is drawn for each image, and told.

    A measurement has two channels: the noisy image, and the standard deviation of its noise at
    every pixel. The logarithm of the latter is uniform.

    Args:
        image_size: pixels along each side, or (height, width); any is accepted.
        least: standard deviation.
        greatest: standard deviation.
    """

    name = "noise_levels"
    unit = "greatest standard deviation of the noise (images in [0, 1])"
    levels = (1e-6, 10.0)
    presets = (0.1, 0.3, GREATEST)

    def __init__(self, image_size: Size, least: float = LEAST, greatest: float = GREATEST):
        super().__init__(greatest, image_size)
        self.least, self.greatest = least, greatest

    def measure(self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]) -> Float[Tensor, "b 2 h w"]:
        """Add noise, drawn with a seed made of the image's id."""
        noise = [torch.Generator().manual_seed(derive_seed("noise", self.name, id_)) for id_ in ids]
        return self._noisy(x, noise)

    def _measure_batch(
        self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str], noise: BatchNoise
    ) -> Float[Tensor, "b 2 h w"]:
        """Add noise, drawn on the device of the images."""
        return self._noisy(x, noise)

    def _noisy(self, x: Float[Tensor, "b 1 h w"], noise: Noise) -> Float[Tensor, "b 2 h w"]:
        share = uniform(x[:, :, :1, :1], noise)
        level = self.least * (self.greatest / self.least) ** share
        return torch.cat([x + level * standard_normal(x, noise), level.expand_as(x)], dim=1)

    def A_dagger(self, y: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return the noisy image."""
        return y[:, :1]
