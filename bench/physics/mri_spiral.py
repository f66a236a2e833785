"""Spiral MRI: interleaved spirals from the middle of k-space outwards."""

from typing import Annotated

import numpy as np
from jaxtyping import Float64
from pydantic import Field
from scipy.integrate import cumulative_trapezoid

from bench.physics._mri import Coils
from bench.physics._nufft import READOUT_OVERSAMPLING, NonCartesian
from bench.physics.base import Size
from bench.ranges import NotNegative

RESOLUTION = 20_001  # points at which a spiral's length is tabulated


class MRISpiral(NonCartesian):
    """Spirals whose radius grows with a power of their angle, transformed by NUFFT.

    Variable density: Tsai and Nishimura, MRM 43, 2000; power 1 is Archimedes' spiral (Meyer et al.,
    MRM 28, 1992).

    Args:
        level: acceleration: the total length of spirals that sample a disc of k-space fully, with
            turns one Nyquist interval apart, divided by the total length of these.
        image_size: pixels along each side, or (height, width).
        interleaves: number of spirals, turned evenly against each other.
        density_power: power of the angle; greater powers sample the middle of k-space more
            densely, where most of an image's energy is, which causes less aliasing.
        coils: number of simulated coils.
        noise_variance: of the real and of the imaginary part of each sample.
        complex: whether images get a smooth random phase; default: no.
    """

    name = "mri_spiral"
    unit = "acceleration (length of fully sampling spirals / length of these)"
    levels = (1.0, 64.0)
    presets = (2.0, 4.0, 8.0)

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        interleaves: Annotated[int, Field(ge=1, le=4096)] = 8,
        density_power: Annotated[float, Field(ge=0.5, le=4)] = 2.0,
        coils: Coils = 1,
        noise_variance: NotNegative = 1e-4,
        complex: bool | None = None,
    ):
        super().__init__(level, image_size, coils, noise_variance, complex)
        self.interleaves, self.density_power = interleaves, density_power

    @property
    def fraction(self) -> float:
        """The inverse of the acceleration."""
        return 1 / self.level

    def trajectory(
        self,
    ) -> tuple[Float64[np.ndarray, "samples 2"], Float64[np.ndarray, " samples"]]:
        """Return samples half a cell apart.

        Samples of equal radius on all spirals share a ring.
        """
        size = np.array(self.shape, dtype=np.float64)
        power = self.density_power
        # A spiral of n turns and power p is 2 pi n (side / 2) / (1 + p) long.
        turns = size.max() / (2 * self.level * self.interleaves) * (1 + power) / 2

        def angle(radius: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
            return 2 * np.pi * turns * (2 * radius) ** (1 / power)

        # Radii are fractions of the grid's side; along a spiral, ds^2 = dr^2 + (r dangle)^2.
        fine = np.linspace(0, 0.5, RESOLUTION)
        speed = np.hypot(1, angle(fine) / power)
        length = cumulative_trapezoid(speed, fine, initial=0)
        count = max(2, round(READOUT_OVERSAMPLING * length[-1] * size.max()))
        radius = np.interp(np.arange(count) * length[-1] / count, length, fine)
        borders = np.concatenate([[0], (radius[1:] + radius[:-1]) / 2, [0.5]])
        rings = np.pi * np.diff(borders**2) * size.prod() / self.interleaves

        starts = 2 * np.pi * np.arange(self.interleaves) / self.interleaves
        angles = (starts[:, None] + angle(radius)).ravel()
        directions = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        positions = directions * np.tile(radius, self.interleaves)[:, None] * size
        return positions, np.tile(rings, self.interleaves)
