"""Gradient magnitude similarity deviation: Xue et al., IEEE TIP 23(2), 2014.

At half the resolution, gradients are compared by Prewitt's operator; the standard deviation of
their similarity over the image is 0 for equal images, and large where some parts are spoilt.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from bench.metrics.base import Metric

STABILITY = 170 / 255**2  # the paper's constant, for images in [0, 1]


class Gmsd(Metric):
    """GMSD, of images in [0, 1]."""

    label, direction, decimals = "GMSD", "lower", 4

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image."""
        a, b = (_gradient(avg_pool2d(one, 2)) for one in (x_hat, x))
        similarity = (2 * a * b + STABILITY) / (a.square() + b.square() + STABILITY)
        return similarity.flatten(1).std(dim=1)


def _gradient(images: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Return the magnitude of the gradient, the image being 0 outside."""
    slope = torch.tensor([1.0, 0.0, -1.0]).to(images).expand(3, 3) / 3
    both = torch.stack([slope, slope.T])[:, None]
    return conv2d(images, both, padding=1).square().sum(dim=1, keepdim=True).sqrt()
