"""Training losses: weighted sums such as `0.84 ms_ssim + 0.16 l1` of losses, one file each.

Such a file defines a function of (x_hat, x) with the file's name, or a subclass of
`torch.nn.Module` that is called like such a function. The constructor of a class may have
parameters named `perceptual` and `discriminator_width`, which are fields of a training recipe. If
the class has an attribute `discriminator`, that network is trained along with the reconstructor.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from bench.errors import UserError
from bench.methods.losses.perceptual import verify
from bench.registry import Registry

__all__ = ["LOSSES", "Criterion", "built", "chosen", "parse", "verify"]


def _is_loss(thing: Any) -> bool:
    return issubclass(thing, nn.Module) if inspect.isclass(thing) else callable(thing)


LOSSES: Registry[Callable[..., Any]] = Registry(
    "loss",
    ("bench.methods.losses",),
    nn.Module,
    "a function of (x_hat, x), or a class that extends torch.nn.Module",
    accepts=_is_loss,
)
TERM = re.compile(
    r"(?:(?P<weight>\d*\.?\d+(?:e[+-]?\d+)?)\s*\*?\s*)?"
    r"(?P<name>[^\W\d]\w*(?:(?:\.[^\W\d]\w*)*:[^\W\d]\w*)?)"
)


def parse(text: str) -> dict[str, float]:
    """Parse a weighted sum of losses.

    Args:
        text: names or dotted paths with optional weights, as in "mse", "0.84 ms_ssim + 0.16 l1"
            or "mse + 0.1 my_pkg.losses:mine".

    Returns:
        the weight of each loss.

    Raises:
        UserError: an unknown loss, a duplicate one, or a text that is not such a sum.
    """
    weights: dict[str, float] = {}
    for term in re.split(r"(?<!\de)\+", text):  # but not in an exponent
        match = TERM.fullmatch(term.strip())
        if match is None:
            raise UserError(f"loss: {text!r} is not a sum such as '0.84 ms_ssim + 0.16 l1'")
        name = match["name"]
        LOSSES.find(name)
        if name in weights:
            raise UserError(f"loss: {name!r} appears twice in {text!r}")
        weights[name] = float(match["weight"] or 1)
        if not 0 < weights[name] < math.inf:
            raise UserError(f"loss: {match['weight']} {name}: a weight is above 0 and finite")
    return weights


def chosen(text: str, perceptual: str) -> dict[str, float]:
    """Parse a weighted sum of losses, without the perceptual loss if that is switched off.

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
        raise UserError(f"loss: without the perceptual loss nothing is left of {text!r}")
    return weights


class Criterion(nn.Module):
    """A weighted sum of losses, computed in float32.

    Args:
        text: see `parse`.
        perceptual: the network whose features the perceptual loss compares, see `Perceptual`;
            "none" leaves that loss out.
        discriminator_width: channels of the first level of the adversarial loss's discriminator.

    Attributes:
        weights: weight of each loss, by name.
        losses: the losses, by name.

    Raises:
        UserError: see `parse` and `Perceptual`.
    """

    def __init__(self, text: str, perceptual: str = "vgg19", discriminator_width: int = 64):
        super().__init__()
        self.weights = chosen(text, perceptual)
        options = {"perceptual": perceptual, "discriminator_width": discriminator_width}
        self.losses = {name: built(name, options) for name in self.weights}
        # Not by name: PyTorch takes no dots in the names of modules.
        self.with_state = nn.ModuleList(
            loss for loss in self.losses.values() if isinstance(loss, nn.Module)
        )

    @property
    def discriminator(self) -> nn.Module | None:
        """The network to be trained along with the reconstructor, if a loss has one."""
        found = (getattr(loss, "discriminator", None) for loss in self.losses.values())
        return next((one for one in found if one is not None), None)

    def forward(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, ""]:
        """Compute the loss of the network."""
        x_hat = x_hat.float()
        total = x.new_zeros(())
        for name, weight in self.weights.items():
            total = total + weight * self.losses[name](x_hat, x)
        return total


def built(given: Any, options: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """Return a loss ready to be called.

    Args:
        given: its name or dotted path, or the loss itself.
        options: a class receives those that its constructor names.

    Raises:
        UserError: there is no such loss, or a requirement is missing.
    """
    loss = LOSSES.find(given)
    if not inspect.isclass(loss):
        return loss
    known = LOSSES.options(given)
    taken = {key: value for key, value in (options or {}).items() if key in known}
    made: Callable[..., Any] = LOSSES.build(given, **taken)
    return made
