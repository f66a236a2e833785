"""Normalised mean squared error: |x_hat - x|^2 / |x|^2."""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.metrics.base import Metric, mean_square, ratio


class Nmse(Metric):
    """NMSE; undefined for an image of zeros."""

    label, direction = "NMSE", "lower"
    takes_float32 = True

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image."""
        return ratio(mean_square(x_hat, x), mean_square(torch.zeros_like(x), x))
