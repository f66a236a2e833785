"""Training losses: parts, and mixes of them such as `0.84 ms_ssim + 0.16 l1`.

A part is a file here. Most are functions of (x_hat, x); `perceptual` needs a trained network and
`adversarial` a discriminator, which a `Criterion` keeps.
"""

import math
import re

from jaxtyping import Float
from torch import Tensor, nn

from bench.errors import UserError, unknown
from bench.methods.losses.adversarial import Discriminator, generator_loss
from bench.methods.losses.perceptual import Perceptual, verify
from bench.methods.losses.pixel import charbonnier, edge, l1, mse
from bench.methods.losses.structure import ms_ssim, ssim

__all__ = ["NAMES", "Criterion", "chosen", "parse", "verify"]

FUNCTIONS = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "edge": edge,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
}
NAMES = (*FUNCTIONS, "perceptual", "adversarial")
TERM = re.compile(r"(?:(?P<weight>\d*\.?\d+(?:e[+-]?\d+)?)\s*\*?\s*)?(?P<name>[a-z]\w*)")


def parse(text: str) -> dict[str, float]:
    """Read a mix of losses.

    Args:
        text: names with optional weights, as in "mse" or "0.84 ms_ssim + 0.16 l1".

    Returns:
        the weight of each part.

    Raises:
        UserError: an unknown part, one that stands twice, or a text that is no such sum.
    """
    weights: dict[str, float] = {}
    for term in re.split(r"(?<!\de)\+", text):  # but not in an exponent
        match = TERM.fullmatch(term.strip())
        if match is None:
            raise UserError(f"loss: {text!r} is no sum such as '0.84 ms_ssim + 0.16 l1'")
        name = match["name"]
        if name not in NAMES:
            raise unknown("loss", name, NAMES)
        if name in weights:
            raise UserError(f"loss: {name!r} stands twice in {text!r}")
        weights[name] = float(match["weight"] or 1)
        if not 0 < weights[name] < math.inf:
            raise UserError(f"loss: {match['weight']} {name}: a weight is above 0 and finite")
    return weights


def chosen(text: str, perceptual: str) -> dict[str, float]:
    """Read a mix of losses, without its perceptual part where that is left out.

    Args:
        text: see `parse`.
        perceptual: see `Criterion`.

    Raises:
        UserError: see `parse`, or nothing is left.
    """
    weights = parse(text)
    if perceptual == "none":
        weights.pop("perceptual", None)
    if not weights:
        raise UserError(f"loss: without its perceptual part nothing is left of {text!r}")
    return weights


class Criterion(nn.Module):
    """A mix of losses, computed in float32, with what its parts need.

    Args:
        text: see `parse`.
        perceptual: whose features the perceptual part compares, see `Perceptual`; "none" leaves
            that part out.
        discriminator_width: channels of the first level of the adversarial part's discriminator.

    Attributes:
        weights: of each part.
        discriminator: of the adversarial part, to be trained beside the network; else None.

    Raises:
        UserError: see `parse` and `Perceptual`.
    """

    def __init__(self, text: str, perceptual: str = "vgg19", discriminator_width: int = 64):
        super().__init__()
        self.weights = chosen(text, perceptual)
        self.features = Perceptual(perceptual) if "perceptual" in self.weights else None
        self.discriminator = (
            Discriminator(discriminator_width) if "adversarial" in self.weights else None
        )

    def forward(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Compute the loss of the network."""
        x_hat = x_hat.float()
        total = x.new_zeros(())
        for name, weight in self.weights.items():
            if self.features is not None and name == "perceptual":
                part = self.features(x_hat, x)
            elif self.discriminator is not None and name == "adversarial":
                part = generator_loss(self.discriminator, x_hat)
            else:
                part = FUNCTIONS[name](x_hat, x)
            total = total + weight * part
        return total
