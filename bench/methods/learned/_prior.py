"""Networks that are trained as denoisers, and then take a prior's place in a reconstruction.

One training serves every degradation and level, since it sees neither: Venkatakrishnan, Bouman
and Wohlberg, GlobalSIP 2013.
"""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench.methods.base import Reconstructor
from bench.physics import NoiseLevels, Physics
from bench.physics._noise_levels import GREATEST, LEAST

OBSERVED = 16  # training images at most


class Prior(Reconstructor):
    """A denoiser for noise of any level, with which measurements are reconstructed.

    Attributes:
        error: root mean square of `A_dagger(y) - x` on training images, the noise level that
            levels of a prior are relative to: the noise itself if the task is denoising.
    """

    kind = "learned"
    needs_linear = True
    error: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("error", torch.tensor(0.1))

    @abstractmethod
    def denoise(
        self, image: Float[Tensor, "b 1 h w"], level: Float[Tensor, "b 1 1 1"]
    ) -> Float[Tensor, "b 1 h w"]:
        """Denoise images whose noise has these standard deviations; differentiable."""

    @abstractmethod
    def reconstruct(
        self, y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images in [0, 1], or complex ones."""

    @torch.no_grad()
    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Measure the error of `A_dagger`."""
        x = images[:OBSERVED].to(self.error.device)
        physics = physics.part(slice(len(x)))
        start = physics.A_dagger(physics.measure(x, ids[: len(x)])).clamp(0, 1)
        self.error.copy_((start - x).square().mean().sqrt())

    def training_physics(self, physics: Physics) -> NoiseLevels:
        """Return noise of many levels."""
        return NoiseLevels(physics.shape)

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 1 h w"]:
        """Denoise what `NoiseLevels` measured, and reconstruct from anything else."""
        if isinstance(physics, NoiseLevels):
            x_hat = self.denoise(y[:, :1], y[:, 1:, :1, :1])
            return x_hat if self.training else x_hat.clamp(0, 1)
        return self.reconstruct(y, physics)

    def level(self, relative: float) -> float:
        """Return a noise level that is a multiple of `error`, within those of the training."""
        return min(max(relative * float(self.error), LEAST), GREATEST)
