"""One check of a contract, and what came of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Checks = Iterable[tuple[str, Callable[[], None]]]


class BrokenError(Exception):
    """A part does not keep its contract; says in which way."""


class CannotCheckError(Exception):
    """What a check needs is not here; says what."""


@dataclass(frozen=True)
class Outcome:
    """What came of one check of a part.

    Attributes:
        part: its name.
        check: what should hold.
        result: whether it does.
        reason: why it does not, or why that is not known.
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
    """Try the checks of a part in turn; where the first does not pass, the others have nothing."""
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
    """List attributes that are tensors but would stay where they are when the module is moved."""
    return [
        f"{type(inner).__name__}.{name}"
        for inner in module.modules()
        for name, value in vars(inner).items()
        if isinstance(value, Tensor)
    ]
