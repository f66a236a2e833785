"""One check of a contract, and its outcome."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Checks = Iterable[tuple[str, Callable[[], None]]]


class BrokenError(Exception):
    """A part does not fulfil its contract; the message says why."""


class CannotCheckError(Exception):
    """A check cannot be made; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check of a part.

    Attributes:
        part: its kind and its name.
        check: the property that is checked.
        result: whether the part has it.
        reason: why it does not, or why it was not checked.
    """

    part: str
    check: str
    result: Literal["passed", "failed", "not checked"]
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.result}  {self.part}: {self.check}" + (
            f" ({self.reason})" if self.reason else ""
        )


def outcomes(part: str, checks: Checks) -> Iterator[Outcome]:
    """Run the checks of a part in turn; if the first does not pass, the others are not run."""
    for number, (name, check) in enumerate(checks):
        try:
            check()
        except CannotCheckError as error:
            yield Outcome(part, name, "not checked", str(error))
            if not number:
                return
        except (Exception, SystemExit) as error:  # a user's part may raise anything
            said = " ".join(str(error).split())
            reason = said if isinstance(error, BrokenError) else f"{type(error).__name__}: {said}"
            yield Outcome(part, name, "failed", reason[:300])
            if not number:
                return
        else:
            yield Outcome(part, name, "passed")


def demand(holds: Any, reason: str) -> None:
    """Raise `BrokenError` unless something holds."""
    if not holds:
        raise BrokenError(reason)


def smooth_images(count: int, shape: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw smooth random images in [0, 1], (count, 1, height, width)."""
    height, width = shape
    noise = torch.rand(
        count, 1, height + 4, width + 4, generator=torch.Generator().manual_seed(seed)
    )
    return nn.functional.avg_pool2d(noise, 5, stride=1)


def loose_tensors(module: nn.Module) -> list[str]:
    """List tensor attributes that do not move with the module to another device."""
    return [
        f"{type(inner).__name__}.{name}"
        for inner in module.modules()
        for name, value in vars(inner).items()
        if isinstance(value, Tensor)
    ]
