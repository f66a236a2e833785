"""Plug-and-play reconstruction with a DnCNN, trained on the training images for any noise level.

Half-quadratic splitting with a denoiser that is told the level, after DPIR: Zhang, Li, Zuo, Zhang,
Van Gool and Timofte, IEEE TPAMI 44, 2022 (arXiv 2008.13751), algorithm 1,

    x <- argmin_x |A x - y|^2 / (2 s^2) + strength |x - z|^2 / (2 s_k^2),   z <- denoise(x, s_k)

with s the noise in y, and s_k falling from iteration to iteration.
"""

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor

from bench.methods.classical._admm import LEAST_NOISE, bounded
from bench.methods.learned._prior import Prior
from bench.methods.learned.base import Head, Norm, Width
from bench.methods.learned.dncnn import Convolutions, convolutions
from bench.physics import Physics
from bench.physics._solvers import regularised_inverse
from bench.ranges import Iterations, Weight

FIRST = 49 / 255  # noise level of the first iteration, in grey levels, as published
SOLVER_STEPS, SOLVER_TOLERANCE = 10, 1e-3


class PnPDnCNN(Prior):
    """Reconstruct any linear physics with a DnCNN as the prior.

    The network is DnCNN's (see `dncnn`), which receives the noise level as a second channel, as
    DPIR's does. A complex image keeps its phase; its magnitude is denoised.

    Args:
        width: channels.
        depth: number of convolutions.
        norm: "batch", "instance" or "none".
        strength: weight of the denoiser relative to the measurement; 0.23 as published.
        last: noise level of the last iteration, relative to that of `A_dagger(y)`.
        steps: number of iterations; 8 as published.
    """

    def __init__(
        self,
        width: Width = 64,
        depth: Convolutions = 17,
        norm: Norm = "batch",
        strength: Weight = 0.23,
        last: Annotated[float, Field(gt=0, le=10)] = 1.0,
        steps: Iterations = 8,
    ):
        super().__init__()
        self.body = convolutions(2, width, depth - 1, norm)
        self.head = Head(width, kernel_size=3)
        self.strength, self.last, self.steps = strength, last, steps

    def denoise(
        self, image: Float[Tensor, "b 1 h w"], level: Float[Tensor, "b 1 1 1"]
    ) -> Float[Tensor, "b 1 h w"]:
        """Subtract the noise that the network predicts, in units of its standard deviation."""
        given = torch.cat([image, level.expand_as(image)], dim=1)
        return image - level * self.head(self.body(given))

    def reconstruct(
        self, y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Alternate between measurement and denoiser."""
        noise = max(physics.noise_std, LEAST_NOISE)
        b = physics.A_adjoint(y)
        z = b if b.is_complex() else physics.A_dagger(y).clamp(0, 1)
        last = self.level(self.last)
        for level in np.geomspace(max(FIRST, last), last, self.steps):
            mu = self.strength * noise**2 / float(level) ** 2
            x = bounded(z + self._inverse(b - physics.A_normal(z), mu, physics))
            image = x.abs()
            clean = self.denoise(image, torch.full_like(image[:, :, :1, :1], float(level)))
            z = clean.clamp(0, 1) * torch.sgn(x) if x.is_complex() else clean.clamp(0, 1)
        return z

    def _inverse(self, right: Tensor, mu: float, physics: Physics) -> Tensor:
        return regularised_inverse(physics, right, mu, SOLVER_STEPS, SOLVER_TOLERANCE)
