"""An unrolled network for few training images: it starts as tuned compressed sensing.

From the TV reconstruction, each stage adds to the image a correction by a small U-Net that sees
the image, the Bayesian update of it by the measurement, and `A_dagger(y)`. Every correction starts
at 0, so that an untrained network is compressed sensing itself, and what is returned is never
worse than that on validation images. Unrolling: Aggarwal, Mani and Jacob, IEEE TMI 38, 2019
(MoDL); Hammernik et al., MRM 79, 2018.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from bench.methods.base import Reconstructor
from bench.methods.compressed_sensing import CompressedSensing
from bench.methods.learned.base import Depth, Norm, Width, moments, padding_to
from bench.methods.learned.unet import UNetBody
from bench.physics import Physics
from bench.physics._solvers import regularised_inverse

Unrolling = Literal["step", "exact"]
SOLVER_STEPS, SOLVER_TOLERANCE = 4, 1e-3


class CSUNet(Reconstructor):
    """U-Nets that correct compressed sensing, with the measurement between them.

    Args:
        width: channels of the first level of each U-Net; they double at each level below.
        depth: number of poolings.
        norm: "instance", "batch" or "none".
        stages: number of U-Nets, each with its own weights.
        unrolling: what follows a correction m of x. "step": x + (A^T A + mu)^-1 (a A^T (y - A x)
            + mu m), with an amount a that is learned and starts at 0. "exact": the minimiser of
            |A z - y|^2 + mu |z - x - m|^2, a MoDL step.
        free_last: leave the measurement out of the last stage, which then adds its correction
            alone. It would bring its noise along.
    """

    kind = "learned"
    needs_linear = True
    real_images_only = True
    usable_untrained = True
    learning_rates: ClassVar[dict[str, float]] = {"amounts": 2.0, "log_factors": 2.0}
    recipe: ClassVar[dict[str, Any]] = {"optimiser": "adamw", "lr": 8e-3, "draws": 8}

    def __init__(
        self,
        width: Width = 16,
        depth: Depth = 3,
        norm: Norm = "batch",
        stages: Annotated[int, Field(ge=1, le=16)] = 2,
        unrolling: Unrolling = "step",
        free_last: bool = True,
    ):
        super().__init__()
        self.unrolling, self.free_last = unrolling, free_last
        self.stride = 2**depth
        self.tv = CompressedSensing()
        bodies = [UNetBody(3, 1, width, depth, norm) for _ in range(stages)]
        for body in bodies:
            for weight in body.head.parameters():
                nn.init.zeros_(weight)
        self.bodies = nn.ModuleList(bodies)
        steps = stages - 1 if free_last else stages
        self.log_factors = nn.Parameter(torch.zeros(steps)) if steps else None
        learned = steps and unrolling == "step"
        self.amounts = nn.Parameter(torch.zeros(steps)) if learned else None

    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Tune the compressed sensing that it starts from."""
        self.tv.prepare(images, physics, ids)

    def estimate(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 4 h w"]:
        """Return x_tv, its update by the measurement, A_dagger(y) and A^T y."""
        x, b = self.tv(y, physics), physics.A_adjoint(y)
        return torch.cat([x, self._update(x, b, physics), physics.A_dagger(y), b], dim=1)

    def forward(
        self,
        y: Shaped[Tensor, "b ..."],
        physics: Physics,
        estimate: Float[Tensor, "b 4 h w"] | None = None,
    ) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; outside training the result is clipped to [0, 1], the images' range."""
        estimate = self.estimate(y, physics) if estimate is None else estimate
        start, update, inverted, b = estimate.split(1, dim=1)
        _, scale = moments(start, "rms")
        mu = self.tv.data_weight(physics)
        x = start
        for number, body in enumerate(self.bodies):
            update = self._update(x, b, physics) if number else update
            channels = torch.cat([x, update, inverted], dim=1) / scale
            height, width = x.shape[-2:]
            padded = pad(channels, padding_to(self.stride, channels), mode="replicate")
            move = scale * body(padded)[..., :height, :width]
            if self.free_last and number == len(self.bodies) - 1:
                x = x + move
            else:
                x = self._step(number, x, move, b, mu, physics)
        x = self.tv.until_trained(x, start, self.training)
        return x if self.training else x.clamp(0, 1)

    def _update(self, x: Tensor, b: Tensor, physics: Physics) -> Tensor:
        """Return (A^T A + mu)^-1 A^T (y - A x)."""
        return self._inverse(b - physics.A_normal(x), self.tv.data_weight(physics), physics)

    def _step(
        self, number: int, x: Tensor, move: Tensor, b: Tensor, mu: float, physics: Physics
    ) -> Tensor:
        """Add a correction, and let the measurement have its say; see `unrolling`."""
        assert self.log_factors is not None
        weight = mu * self.log_factors[number].exp()
        if self.amounts is None:
            z = x + move
            return z + self._inverse(b - physics.A_normal(z), weight, physics)
        right = self.amounts[number] * (b - physics.A_normal(x)) + weight * move
        return x + self._inverse(right, weight, physics)

    def _inverse(self, right: Tensor, mu: float | Tensor, physics: Physics) -> Tensor:
        return regularised_inverse(physics, right, mu, SOLVER_STEPS, SOLVER_TOLERANCE)
