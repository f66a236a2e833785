"""Mean absolute error: the average of |x_hat - x| over the pixels."""

from jaxtyping import Float
from torch import Tensor

from bench.metrics.base import Metric


class Mae(Metric):
    """MAE, of images in [0, 1]."""

    label, direction, decimals = "MAE", "lower", 4

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Average over each image."""
        return (x_hat - x).abs().mean((1, 2, 3))
