"""Structural similarity: Wang et al., IEEE TIP 13(4), 2004.

With a 7x7 uniform window, K1 = 0.01, K2 = 0.03 and the sample covariance, averaged over the
positions where the window lies inside the image: scikit-image's definition.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bench.metrics.base import Metric, is_plain, masked_mean, plain

WINDOW = 7


class Ssim(Metric):
    """SSIM."""

    label, direction = "SSIM", "higher"
    takes_float32 = True

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score with data range 1."""
        return _mean_ssim(x_hat, x, torch.ones(len(x)))

    def volume(
        self,
        x_hat: Float[Tensor, "b 1 h w"],
        x: Float[Tensor, "b 1 h w"],
        group: Int[Tensor, " b"],
        peak: Float[Tensor, " b"],
    ) -> Float[Tensor, " b"]:
        """Score each slice, with the maximum of its volume as data range."""
        return _mean_ssim(x_hat, x, peak)

    def roi(
        self,
        x_hat: Float[Tensor, "b 1 h w"],
        x: Float[Tensor, "b 1 h w"],
        inside: Bool[Tensor, "b 1 h w"],
    ) -> Float[Tensor, " b"]:
        """Average over the windows whose centre is in the foreground, with data range 1."""
        border = WINDOW // 2
        centres = inside[..., border:-border, border:-border]
        return _mean_ssim(x_hat, x, torch.ones(len(x)), centres)


def _mean_ssim(
    x_hat: Float[Tensor, "b 1 h w"],
    x: Float[Tensor, "b 1 h w"],
    data_range: Float[Tensor, " b"],
    centres: Bool[Tensor, "b 1 hi wi"] | None = None,
) -> Float[Tensor, " b"]:
    """Average `ssim_map` over all positions, or over some; on a CPU in one compiled pass."""
    if not is_plain(x_hat, x) or min(x.shape[-2:]) < WINDOW:
        values = ssim_map(x_hat.double(), x.double(), data_range)
        return values.mean((1, 2, 3)) if centres is None else masked_mean(values, centres)
    from bench.metrics import _compiled  # late, since Numba is slow to import

    peak = data_range.double().numpy()
    constants = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    return torch.from_numpy(_compiled.mean_ssim(plain(x_hat), plain(x), *constants, plain(centres)))


def ssim_map(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"], data_range: Float[Tensor, " b"]
) -> Float[Tensor, "b 1 hi wi"]:
    """Compute SSIM at every position of the window that lies inside the image.

    Raises:
        ValueError: images smaller than the window.
    """
    luminance, contrast = ssim_terms(x_hat, x, data_range)
    return luminance * contrast


def ssim_terms(
    x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"], data_range: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b 1 hi wi"], Float[Tensor, "b 1 hi wi"]]:
    """Compute the two factors of SSIM: luminance, and contrast with structure.

    Raises:
        ValueError: images smaller than the window.
    """
    if min(x.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels")
    peak = data_range.to(x).view(-1, 1, 1, 1)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_a, mean_b, square_a, square_b, product = (
        avg_pool2d(image, WINDOW, stride=1)
        for image in (x_hat, x, x_hat.square(), x.square(), x_hat * x)
    )
    variance_a = sample * (square_a - mean_a.square())
    variance_b = sample * (square_b - mean_b.square())
    covariance = sample * (product - mean_a * mean_b)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    return luminance, (2 * covariance + c2) / (variance_a + variance_b + c2)
