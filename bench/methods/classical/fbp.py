"""Filtered back-projection with a tuned window: Kak and Slaney, 1988, chapter 3."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import ParallelBeam
from bench.physics._parallel_beam import Filter


class FBP(Classical):
    """The analytic inverse of the Radon transform.

    Args:
        window: damps the ramp filter's high frequencies.
        cutoff: frequency above which nothing passes, as a fraction of the highest.
    """

    supported_physics = ParallelBeam

    def __init__(self, window: Filter = "ramp", cutoff: Annotated[float, Field(gt=0, le=1)] = 1.0):
        super().__init__()
        self.window: Filter = window
        self.cutoff = cutoff

    def forward(
        self, y: Float[Tensor, "b 1 d v"], physics: ParallelBeam
    ) -> Float[Tensor, "b 1 h w"]:
        """Filter and back-project."""
        return physics.back_project(y, self.window, self.cutoff).clamp(0, 1)
