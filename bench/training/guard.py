"""Finds a loss that is no longer finite, without waiting for a GPU at every step."""

import torch
from jaxtyping import Float
from torch import Tensor

from bench.errors import DivergedError

EVERY = 16  # steps, on a GPU, between two looks at its numbers


class Guard:
    """Remembers the first step whose loss or gradient was not finite.

    The device itself remembers it. The CPU looks at each step if it computes the numbers anyway,
    and otherwise at some, since it would have to wait.

    Args:
        what: is guarded, for messages.
        device: of the losses.
    """

    def __init__(self, what: str, device: torch.device):
        self.what = what
        self.every = 1 if device.type == "cpu" else EVERY
        self.first = torch.zeros(3, dtype=torch.float64, device=device)  # step, loss, gradient

    def note(
        self, step: int, loss: Float[Tensor, ""], gradient: Float[Tensor, ""]
    ) -> Float[Tensor, ""] | None:
        """Note a step; return 1 if it must not be taken, else 0, both on the device.

        None: the numbers were looked at, and it may be taken.

        Raises:
            DivergedError: a step was not finite, this one or, on a GPU, one of the last.
        """
        numbers = torch.stack([loss.double(), gradient.double()])
        broken = ~numbers.isfinite().all()
        new = torch.cat([torch.full_like(numbers[:1], step), numbers])
        self.first = torch.where(broken & (self.first[0] == 0), new, self.first)
        if step % self.every == 0:
            self.check()
            return None
        return broken.float()

    def check(self) -> None:
        """Look whether a step was not finite.

        Raises:
            DivergedError: with its number.
        """
        step, loss, gradient = self.first.tolist()
        if step:
            raise DivergedError(
                f"the {self.what} was {loss} at step {step:g}, its gradient {gradient}"
            )
