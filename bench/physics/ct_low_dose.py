"""Low-dose CT: k ~ Poisson(level exp(-opacity R x)), y = -log(k / level) / opacity."""

from collections.abc import Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.physics._draws import BatchNoise, Noise, poisson
from bench.physics._parallel_beam import Filter, ParallelBeam, Views
from bench.physics.base import Size

FEWEST = 0.5  # replaces a count of 0, whose logarithm is undefined


class CTLowDose(ParallelBeam):
    """Parallel-beam CT with few photons; y estimates the line integrals R x.

    Args:
        level: photons per ray before the patient; fewer are harder.
        image_size: pixels along each side, or (height, width).
        views: number of views, spread evenly over half a turn.
        opacity: attenuation along a whole side of white: exp(-4) of the photons pass it.
        filter: window of the ramp filter of `A_dagger`.
    """

    name = "ct_low_dose"
    unit = "number of photons per ray"
    levels = (10.0, 1e9)
    presets = (1e5, 1e4, 1e3)

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        views: Views = 180,
        opacity: Annotated[float, Field(gt=0, le=100)] = 4.0,
        filter: Filter = "ramp",
    ):
        super().__init__(level, image_size, views, 0.0, filter)
        self.opacity = opacity

    def measure(self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]) -> Float[Tensor, "b 1 d v"]:
        """Measure images on the CPU.

        Photon counts are drawn one after the other; if an expectation differed in the last bit, as
        it does between devices, all later counts would change.
        """
        return super().measure(x.cpu(), ids).to(x.device)

    def _measure_batch(
        self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str], noise: BatchNoise
    ) -> Float[Tensor, "b 1 d v"]:
        """Measure a training batch on its device."""
        return self.add_noise(self.A(x), noise)

    def add_noise(self, y: Float[Tensor, "b 1 d v"], noise: Noise) -> Float[Tensor, "b 1 d v"]:
        """Count photons and take the logarithm."""
        expected = self.level * torch.exp(-self.opacity * y)
        counts = poisson(expected, noise)
        return -torch.log(counts.clamp(min=FEWEST) / self.level) / self.opacity
