"""Absolute error of the edges, averaged over batch and pixels."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad


def edge(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Average the absolute difference of the Laplacians.

    Its kernel is -8 in the middle and 1 around it, divided by 16, as in Kornia.
    """
    kernel = x.new_ones(1, 1, 3, 3)
    kernel[..., 1, 1] = -8
    return conv2d(pad(x_hat - x, (1, 1, 1, 1), mode="reflect"), kernel / 16).abs().mean()
