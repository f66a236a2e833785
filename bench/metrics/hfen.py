"""High-frequency error norm: Ravishankar and Bresler, IEEE TMI 30(5), 2011.

|LoG x_hat - LoG x| / |LoG x|, where LoG is a Laplacian of Gaussian of 15x15 pixels and standard
deviation 1.5: how well edges and fine structure are reconstructed.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

from bench.metrics.base import Metric, gaussian, ratio

SIZE, SIGMA = 15, 1.5


class Hfen(Metric):
    """HFEN; undefined for an image without structure."""

    label, direction = "HFEN", "lower"

    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image."""
        kernel = _kernel().to(x)
        error, whole = (
            conv2d(one, kernel, padding=SIZE // 2).flatten(1).norm(dim=1) for one in (x_hat - x, x)
        )
        return ratio(error, whole)


def _kernel() -> Float[Tensor, "1 1 k k"]:
    """Sample the Laplacian of a Gaussian; its sum is 0."""
    offset = torch.arange(SIZE, dtype=torch.float64) - SIZE // 2
    radius = offset[:, None].square() + offset.square()
    weights = gaussian(SIZE, SIGMA)
    kernel = (radius - 2 * SIGMA**2) / SIGMA**4 * torch.outer(weights, weights)
    return (kernel - kernel.mean())[None, None]
