"""SSIM as a loss, with the window and constants of `bench.metrics`."""

from jaxtyping import Float
from torch import Tensor

from bench.metrics import ssim_map


def ssim(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Return 1 - SSIM, the metric under the convention `image`."""
    return 1 - ssim_map(x_hat, x, x.new_ones(len(x))).mean()
