"""Total variation with a weight at every pixel, which a U-Net chooses.

Kofler, Altekrueger, Ba, Kolbitsch, Papoutsellis, Schote, Sirotenko, Zimmermann and Papafitsoros,
SIAM J. Imaging Sci. 16, 2023 (arXiv 2301.05888): the network maps a first reconstruction to the
map Lambda in

    argmin_{0 <= x <= 1} 1/2 |A x - y|^2 + |Lambda grad x|_{2,1},

and is trained through a fixed number of iterations of the solver. Here that is ADMM (see `tv`)
instead of the primal-dual method, which has the same limit, and it begins with the variables to
which it has converged for the one weight that is best on the training images. So it takes few
iterations, and before training it is TV.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from bench.methods.base import Reconstructor
from bench.methods.classical._admm import (
    State,
    Update,
    advance,
    bounded,
    iterate,
    natural_weight,
    penalty,
)
from bench.methods.classical._transforms import Gradient
from bench.methods.compressed_sensing import CompressedSensing
from bench.methods.learned.base import Depth, Norm, Width, moments, padding_to
from bench.methods.learned.unet import UNetBody
from bench.physics import Physics
from bench.ranges import Iterations

SOFTPLUS_OF_0 = math.log(2)
TOLERANCE, MOST_STEPS = 1e-3, 200  # of the start


class TVMaps(Reconstructor):
    """A U-Net that maps the TV reconstruction to TV's weights, and unrolled ADMM.

    Args:
        width: channels of the first level; they double at each level below. 16 as published.
        depth: number of poolings; 2 as published.
        norm: "instance", "batch" or "none"; none as published.
        iterations: of the solver; 128 as published.
    """

    kind = "learned"
    needs_linear = True
    usable_untrained = True
    recipe: ClassVar[dict[str, Any]] = {"loss": "mse", "optimiser": "adam", "draws": 8}

    def __init__(
        self,
        width: Width = 16,
        depth: Depth = 2,
        norm: Norm = "none",
        iterations: Iterations = 128,
    ):
        super().__init__()
        self.stride, self.iterations = 2**depth, iterations
        self.tv = CompressedSensing()
        self.body = UNetBody(1, 1, width, depth, norm)
        for weight in self.body.head.parameters():
            nn.init.zeros_(weight)

    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Choose the weight of the TV that it starts from."""
        self.tv.prepare(images, physics, ids)

    @torch.no_grad()
    def estimate(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Shaped[Tensor, "b 5 h w"]:
        """Return A^T y, the TV solution, and the multipliers of its gradient and its bounds."""
        b = physics.A_adjoint(y)
        weight, update = self._solver(b, physics)
        state = iterate(b, update, Gradient(), weight, TOLERANCE, MOST_STEPS)
        return torch.cat([b, state.x, state.u, state.v], dim=1)

    def forward(
        self,
        y: Shaped[Tensor, "b ..."],
        physics: Physics,
        estimate: Shaped[Tensor, "b 5 h w"] | None = None,
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Reconstruct images in [0, 1], or complex ones."""
        estimate = self.estimate(y, physics) if estimate is None else estimate
        b, x, u, v = estimate.split((1, 1, 2, 1), dim=1)
        strength, update = self._solver(b, physics)
        weights = strength * self.relative_map(bounded(x).abs())
        gradient = Gradient()
        with torch.autocast(x.device.type, enabled=False):
            image = gradient.analyse(x)
            state = State(x, image, image, u, bounded(x), v)
            for _ in range(self.iterations):
                state = advance(state, b, update, gradient, weights)
        return bounded(state.x)

    def relative_map(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return the weight of every pixel, relative to that of the TV that it starts from."""
        height, width = image.shape[-2:]
        _, scale = moments(image, "rms")
        padded = pad(image / scale, padding_to(self.stride, image), mode="replicate")
        return softplus(self.body(padded)[..., :height, :width]) / SOFTPLUS_OF_0

    def _solver(self, b: Tensor, physics: Physics) -> tuple[float, Update]:
        """Return the uniform weight, and the solver's linear step."""
        strength = float(self.tv.weight) * natural_weight(physics, b)
        return strength, Update(physics, Gradient(), penalty(strength, physics, b), b)
