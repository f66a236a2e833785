"""Normalised mean squared error: |x_hat - x|^2 / |x|^2."""

from jaxtyping import Float
from torch import Tensor

from bench.metrics.base import Metric, ratio


class Nmse(Metric):
    """NMSE; undefined for an image of zeros."""

    label, direction = "NMSE", "lower"

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image."""
        return ratio((x_hat - x).square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
