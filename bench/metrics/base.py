"""The interface of a metric, and functions that several of ours share."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
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
        takes_float32: whether float32 tensors need no conversion, since the metric computes in
            double precision itself.
        label: heading of its columns.
        unit: unit of its values.
        direction: which values are better, "higher" or "lower".
        decimals: number of decimals shown.
    """

    label: ClassVar[str]
    unit: ClassVar[str] = ""
    direction: ClassVar[Literal["higher", "lower"]]
    decimals: ClassVar[int] = 3
    takes_float32: ClassVar[bool] = False

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


def mean_square(
    x_hat: Float[Tensor, "b 1 h w"],
    x: Float[Tensor, "b 1 h w"],
    inside: Bool[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, " b"]:
    """Average the squared error over each image, or over the pixels of a mask."""
    if not is_plain(x_hat, x):
        values = (x_hat.double() - x.double()).square()
        return values.mean((1, 2, 3)) if inside is None else masked_mean(values, inside)
    from bench.metrics import _compiled  # late, since Numba is slow to import

    return torch.from_numpy(_compiled.mean_square(plain(x_hat), plain(x), plain(inside)))


def gaussian(size: int, sigma: float) -> Float[Tensor, " size"]:
    """Sample a Gaussian at an odd number of pixels around its middle; the sum is 1."""
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    weights = torch.exp(-offset.square() / (2 * sigma**2))
    return weights / weights.sum()


def is_plain(*images: Tensor) -> bool:
    """Return whether images lie in the memory of the CPU, with no gradient to be computed."""
    return all(image.device.type == "cpu" and not image.requires_grad for image in images)


def plain(images: Shaped[Tensor, "b 1 h w"] | None) -> Shaped[np.ndarray, "b h w"]:
    """Convert images, or a mask, for compiled code; a missing mask has no image."""
    if images is None:
        return np.empty((0, 0, 0), bool)
    return np.ascontiguousarray(images[:, 0].numpy())


def volume_means(values: Float[Tensor, " b"], group: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Average over the images of the volume that each belongs to."""
    return torch.stack([values[group == one].mean() for one in group])
