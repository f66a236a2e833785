"""Sparse-view CT: y = R x + n, the Radon transform R in few directions."""

import math

from bench.physics._parallel_beam import Filter, ParallelBeam
from bench.physics.base import Size
from bench.ranges import NotNegative


class CTSparseView(ParallelBeam):
    """Parallel-beam CT from few views.

    Args:
        level: number of views, spread evenly over half a turn.
        image_size: pixels along each side, or (height, width).
        noise_variance: of the noise added to the line integrals, which are in units of the
            image's side: a white image has line integrals of 1.
        filter: window of the ramp filter of `A_dagger`.
    """

    name = "ct_sparse_view"
    unit = "number of views"
    levels = (1, 2048)
    presets = (90, 45, 20)
    whole = True

    def __init__(
        self,
        level: float,
        image_size: Size,
        *,
        noise_variance: NotNegative = 1e-5,
        filter: Filter = "ramp",
    ):
        views = int(level) if math.isfinite(level) else 0  # which is refused
        super().__init__(level, image_size, views, noise_variance, filter)
