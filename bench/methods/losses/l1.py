"""Mean absolute error, averaged over batch and pixels."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss


def l1(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Average the absolute difference."""
    return l1_loss(x_hat, x)
