"""The interface of a metric, and functions that several of ours share."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bench.score_columns import ScoreColumn

CONVENTIONS = ("image", "volume", "roi")


class Metric(ABC):
    """A number per image that measures the quality of a reconstruction.

    `image` scores under the convention of that name. A metric that has the methods `volume` or
    `roi` is scored under these conventions too:

        def volume(self, x_hat, x, group, peak):
            # group: (b,), which volume each image belongs to; peak: (b,), that volume's maximum
        def roi(self, x_hat, x, inside):
            # inside: (b, 1, h, w), the foreground

    All take float64 tensors (b, 1, h, w) and return (b,), NaN where the score is undefined.

    Attributes:
        label: heading of its columns.
        unit: unit of its values.
        direction: which values are better, "higher" or "lower".
        decimals: number of decimals shown.
    """

    label: ClassVar[str]
    unit: ClassVar[str] = ""
    direction: ClassVar[Literal["higher", "lower"]]
    decimals: ClassVar[int] = 3

    def __init_subclass__(cls, **keywords: Any):
        super().__init_subclass__(**keywords)
        if not isinstance(getattr(cls, "label", None), str):
            raise TypeError(f"{cls.__name__}.label: a text that heads its columns")
        if getattr(cls, "direction", None) not in ("higher", "lower"):
            raise TypeError(f'{cls.__name__}.direction: "higher" or "lower", whichever is better')
        if not (isinstance(cls.unit, str) and isinstance(cls.decimals, int)):
            raise TypeError(f"{cls.__name__}: unit is a text and decimals a whole number")

    @abstractmethod
    def image(
        self, x_hat: Float[Tensor, "b 1 h w"], x: Float[Tensor, "b 1 h w"]
    ) -> Float[Tensor, " b"]:
        """Score each image of magnitude in [0, 1]."""

    @classmethod
    def column(cls, name: str) -> ScoreColumn:
        """Describe the metric's columns in the rows of a run."""
        conventions = tuple(one for one in CONVENTIONS if hasattr(cls, one))
        return ScoreColumn(name, cls.label, cls.unit, cls.direction, cls.decimals, conventions)


def ratio(values: Float[Tensor, " b"], to: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Divide; NaN where the divisor is zero."""
    return (values / to).where(to > 0, torch.nan)


def masked_mean(
    values: Float[Tensor, "b 1 h w"], mask: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Average over the pixels of a mask; NaN where it has none."""
    return (values * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def volume_means(values: Float[Tensor, "b 1 h w"], group: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Average over the volume that each image belongs to."""
    return torch.stack([values[group == one].mean() for one in group])
