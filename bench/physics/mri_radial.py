"""Radial MRI: spokes through the middle of k-space, each turned by the golden angle."""

import numpy as np
from jaxtyping import Float64

from bench.physics._mri import Coils
from bench.physics._nufft import READOUT_OVERSAMPLING, NonCartesian
from bench.physics.base import Size
from bench.ranges import NotNegative

GOLDEN_ANGLE = np.pi * (np.sqrt(5) - 1) / 2  # 111.25 degrees: Winkelmann et al., IEEE TMI 26, 2007


class MRIRadial(NonCartesian):
    """Golden-angle radial sampling, transformed by NUFFT.

    A disc of n pixels across is fully sampled by pi n / 2 spokes: 201 of them at n = 128.

    Args:
        level: number of spokes.
        image_size: pixels along each side, or (height, width).
        coils: number of simulated coils.
        noise_variance: of the real and of the imaginary part of each sample.
        complex: whether images get a smooth random phase; default: no.
    """

    name = "mri_radial"
    unit = "number of spokes"
    levels = (1, 4096)
    presets = (64, 32, 16)
    whole = True

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        coils: Coils = 1,
        noise_variance: NotNegative = 1e-4,
        complex: bool | None = None,
    ):
        super().__init__(level, image_size, coils, noise_variance, complex)

    @property
    def fraction(self) -> float:
        """Spokes, divided by the pi n / 2 that sample a disc fully."""
        return min(1.0, self.level / (np.pi / 2 * max(self.shape)))

    def trajectory(
        self,
    ) -> tuple[Float64[np.ndarray, "samples 2"], Float64[np.ndarray, " samples"]]:
        """Return samples half a cell apart; each covers its part of a ring, spokes sharing it."""
        spokes, size = int(self.level), np.array(self.shape, dtype=np.float64)
        count = READOUT_OVERSAMPLING * int(size.max())
        along = (np.arange(count) - count // 2) / count  # -1/2 to 1/2 of the grid's side
        angles = GOLDEN_ANGLE * np.arange(spokes)
        directions = np.stack([np.sin(angles), np.cos(angles)], axis=-1)
        positions = (directions[:, None] * along[:, None] * size).reshape(-1, 2)
        # Both ends of all spokes share a ring 1 / count wide; in the middle it is a disc.
        ring = np.pi * np.abs(along) / (count * spokes)
        middle = np.pi / 4 / count**2 / spokes
        areas = np.where(along == 0, middle, ring) * size.prod()
        return positions, np.tile(areas, spokes)
