"""What every degradation is: a forward operator, its adjoint, a pseudo-inverse, and noise."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from bench.errors import UserError
from bench.seeds import derive_seed


class Physics(nn.Module, ABC):
    """Forward operator with noise at one level.

    A newcomer's degradation is one file in this folder with one subclass: its constructor takes
    `level`, `image_size` and keyword options; it supplies `A`, `A_adjoint` and, where the
    adjoint is no usable starting point, `A_dagger`; and `add_noise`. The three names and the
    batch-first layout are DeepInverse's, so that its models run here as `model(y, physics)`.

    Class attributes:
        unit: what `level` counts.
        levels: the least and greatest level accepted.
        presets: three typical levels, easy to hard.

    Raises:
        UserError: the level lies outside `levels`.
    """

    unit: str
    levels: tuple[float, float]
    presets: tuple[float, float, float]

    def __init__(self, level: float, image_size: int):
        super().__init__()
        low, high = self.levels
        if not low <= level <= high:
            raise UserError(
                f"{self.name}: level {level:g} is out of range; "
                f"it is the {self.unit}, from {low:g} to {high:g}"
            )
        self.level = float(level)
        self.image_size = image_size

    @property
    def name(self) -> str:
        """The name by which `create` finds this degradation: its file's."""
        return type(self).__module__.rpartition(".")[2]

    @property
    @abstractmethod
    def noise_std(self) -> float:
        """Standard deviation of the noise in the measurement; 0 where there is none."""

    @abstractmethod
    def A(self, x: Float[Tensor, "b 1 h w"]) -> Shaped[Tensor, "b ..."]:
        """Apply the forward operator, without noise."""

    @abstractmethod
    def A_adjoint(self, y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b 1 h w"]:
        """Apply the adjoint: <A x, y> = <x, A_adjoint y>."""

    def A_dagger(self, y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b 1 h w"]:
        """Estimate the image as the field would without a prior; the adjoint unless overridden."""
        return self.A_adjoint(y)

    @abstractmethod
    def add_noise(
        self, y: Shaped[Tensor, "b ..."], noise: Sequence[torch.Generator]
    ) -> Shaped[Tensor, "b ..."]:
        """Add noise to noiseless measurements, image i drawn from `noise[i]` on the CPU."""

    def measure(self, x: Float[Tensor, "b 1 h w"], ids: Sequence[str]) -> Shaped[Tensor, "b ..."]:
        """Measure images: `A(x)` plus noise.

        The noise of an image is drawn on the CPU from the degradation, its level and the image's
        id alone: any order, batch size, worker or device measures it identically.

        Args:
            x: images, float32, magnitude in [0, 1].
            ids: one per image.
        """
        if len(ids) != len(x):
            raise ValueError(f"{len(x)} images but {len(ids)} ids")
        generators = [
            torch.Generator().manual_seed(derive_seed("noise", self.name, f"{self.level:g}", id_))
            for id_ in ids
        ]
        return self.add_noise(self.A(x), generators)


class Denoising(Physics):
    """Degradation by noise alone: the forward operator is the identity."""

    def A(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return x."""
        return x

    def A_adjoint(self, y: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return y."""
        return y


def standard_normal(
    like: Float[Tensor, "b ..."], noise: Sequence[torch.Generator]
) -> Float[Tensor, "b ..."]:
    """Draw N(0, 1) for each image from its own generator, on the CPU, and move it to `like`."""
    draws = [torch.randn(like.shape[1:], generator=generator) for generator in noise]
    return torch.stack(draws).to(like)
