"""Training losses, by name; each maps (x_hat, x) to a scalar in float32."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from bench.errors import unknown

CHARBONNIER_EPSILON = 1e-3


def charbonnier(x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Average sqrt(d^2 + eps^2) with eps = 1e-3 (Charbonnier et al., ICIP 1994)."""
    return torch.sqrt((x_hat - x).square() + CHARBONNIER_EPSILON**2).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse_loss,
    "l1": l1_loss,
    "charbonnier": charbonnier,
}


def loss(
    name: str, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
) -> Float[Tensor, ""]:
    """Compute a loss by name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in LOSSES:
        raise unknown("loss", name, LOSSES)
    return LOSSES[name](x_hat.float(), x)
