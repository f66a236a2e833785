"""SSIM as most papers report it: Wang et al., IEEE TIP 13(4), 2004.

With a Gaussian window of 11x11 pixels and standard deviation 1.5, and the population covariance,
averaged over the positions where the window lies inside the image. `ssim` has a uniform window.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from bench.metrics.base import Metric, gaussian

WINDOW, SIGMA = 11, 1.5


class SsimWang2004(Metric):
    """SSIM with a Gaussian window, data range 1."""

    label, direction = "SSIM (Wang 2004)", "higher"

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image.

        Raises:
            ValueError: images smaller than the window.
        """
        if min(x.shape[-2:]) < WINDOW:
            raise ValueError(f"ssim_wang2004 needs images of at least {WINDOW}x{WINDOW} pixels")
        mean_a, mean_b, square_a, square_b, product = (
            _blurred(image) for image in (x_hat, x, x_hat.square(), x.square(), x_hat * x)
        )
        c1, c2 = 0.01**2, 0.03**2
        variances = square_a - mean_a.square() + square_b - mean_b.square()
        values = (2 * mean_a * mean_b + c1) * (2 * (product - mean_a * mean_b) + c2)
        values = values / ((mean_a.square() + mean_b.square() + c1) * (variances + c2))
        return values.mean((1, 2, 3))


def _blurred(images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 hi wi"]:
    """Average under the window, where it lies inside the image."""
    weights = gaussian(WINDOW, SIGMA).to(images)
    return conv2d(conv2d(images, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
