"""Mean squared error, averaged over batch and pixels."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss


def mse(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Average the squared difference; the PSNR is -10 log10 of it."""
    return mse_loss(x_hat, x)
