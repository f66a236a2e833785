"""Multi-scale SSIM as a loss, with the window and constants of `bench.metrics`."""

from jaxtyping import Float
from torch import Tensor

from bench.metrics.ms_ssim import SCALES, multi_scale_ssim

__all__ = ["SCALES", "ms_ssim"]


def ms_ssim(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Return 1 - MS-SSIM; see `bench.metrics.ms_ssim`."""
    return 1 - multi_scale_ssim(x_hat, x).mean()
