"""A smooth absolute error: Charbonnier et al., ICIP 1994."""

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 1e-3


def charbonnier(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Average sqrt(d^2 + eps^2) with eps = 1e-3."""
    return torch.sqrt((x_hat - x).square() + EPSILON**2).mean()
