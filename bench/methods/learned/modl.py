"""MoDL: Aggarwal, Mani and Jacob, IEEE TMI 38(2), 2019 (arXiv 1712.02862).

One network D = 1 + N, used again in every iteration, alternates with the solution of the
quadratic problem that the measurement sets (equations 6 and 10):

    x <- argmin |A x - y|^2 + lambda |x - D(x)|^2 = (A^H A + lambda)^-1 (A^H y + lambda D(x)).
"""

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn

from bench.methods.classical._admm import LEAST_NOISE
from bench.methods.learned._unrolled import UnrolledNetwork, data_step, to_channels, to_images
from bench.methods.learned.base import Norm, Width, norm_layer, set_to_zero
from bench.physics import Physics

ERROR = 0.05  # root mean square of an image's error, expected where none was measured


class MoDL(UnrolledNetwork):
    """A small network and conjugate gradients in turn; 113,413 parameters as published.

    D begins as the identity: after a normalisation, N would be as large as the image. lambda begins
    as the weight that would be right if D(x) had a white error of root mean square e: s^2 / e^2, s
    the noise in y, e that of TV if it starts from it, else 0.05. With the default noise of our MRI
    this is 0.04; 0.05 as published. A learned factor multiplies it.

    Args:
        width: channels of the network's layers.
        depth: number of its convolutions.
        iterations: how often network and measurement take turns.
        solver_steps: most steps of conjugate gradients for a turn; none where the Fourier
            transform solves the problem.
        norm: "batch", "instance" or "none".
        physics: the task's physics; for complex images the network has two channels, as published.
    """

    recipe: ClassVar[dict[str, Any]] = {"loss": "mse", "optimiser": "adam", "lr": 1e-3}
    learning_rates: ClassVar[dict[str, float]] = {"log_factor": 5.0}

    def __init__(
        self,
        width: Width = 64,
        depth: Annotated[int, Field(ge=2, le=64)] = 5,
        iterations: Annotated[int, Field(ge=1, le=64)] = 10,
        solver_steps: Annotated[int, Field(ge=1, le=100)] = 10,
        norm: Norm = "batch",
        physics: Physics | None = None,
    ):
        super().__init__(physics)
        self.iterations, self.solver_steps = iterations, solver_steps
        sizes = [self.channels, *[width] * (depth - 1), self.channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=norm == "none")
            layers += [convolution, norm_layer(norm, after), nn.ReLU(inplace=True)]
        # Without the last ReLU, which would cut off the negative part of the correction.
        self.network = nn.Sequential(*layers[:-1])
        self.log_factor = nn.Parameter(torch.zeros(()))
        set_to_zero(self._last_layer)

    @property
    def _last_layer(self) -> nn.Module:
        """The last convolution if nothing normalises it, else the normalisation."""
        convolution, norm = list(self.network)[-2:]
        return convolution if isinstance(norm, nn.Identity) else norm

    @property
    def last_layers(self) -> list[nn.Module]:
        """The last one of the network."""
        return [self._last_layer]

    def weight(self, physics: Physics) -> Tensor:
        """Return lambda."""
        noise = max(physics.noise_std, LEAST_NOISE)
        error = ERROR if self.tv is None else self.tv.error
        return (noise / error) ** 2 * self.log_factor.exp()

    def correction(self, channels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply N."""
        return self.network(channels)

    def unroll(
        self, start: Shaped[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Take all turns."""
        b, x, weight = physics.A_adjoint(y), start, self.weight(physics)
        for _ in range(self.iterations):
            z = x + to_images(self.correction(to_channels(x)))
            x = data_step(z, b, weight, physics, self.solver_steps)
        return x
