"""Learned primal-dual: Adler and Oktem, IEEE TMI 37(6), 2018 (arXiv 1707.06474), algorithm 3.

Networks in the space of the measurement and in that of the image take turns, each with memory
h = (h_1, ..., h_5) and f = (f_1, ..., f_5); K = A / |A|:

    h <- h + Gamma(h, K f_2, y / |A|),    f <- f + Lambda(f, K^T h_1).
"""

from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn

from bench.methods.learned._unrolled import UnrolledNetwork, to_channels, to_complex, to_images
from bench.methods.learned.base import Width
from bench.physics import MRI, MRICartesian, Physics
from bench.physics.chain import Chain

Memory = Annotated[int, Field(ge=1, le=64)]


class LearnedPrimalDual(UnrolledNetwork):
    """Networks for measurement and image in turn; 253,220 parameters as published.

    k-space has two channels for each coil. Samples that are not on a grid are convolved along the
    trajectory. A sinogram is an image of detectors and views.

    Args:
        iterations: number of turns, each with weights of its own.
        primal: number of images in memory.
        dual: number of measurements in memory.
        width: channels of the two hidden layers of each network.
        from_zero: begin with images of 0, as published, instead of `A_dagger(y)`; with `start: tv`
            it begins with those of TV.
        physics: the task's physics, which says what a measurement is; default: a real image.
    """

    recipe: ClassVar[dict[str, Any]] = {"loss": "mse", "optimiser": "adam", "lr": 1e-3}

    def __init__(
        self,
        iterations: Annotated[int, Field(ge=1, le=64)] = 10,
        primal: Memory = 5,
        dual: Memory = 5,
        width: Width = 32,
        from_zero: bool = True,
        physics: Physics | None = None,
    ):
        super().__init__(physics)
        self.primal, self.dual, self.from_zero = primal, dual, from_zero
        last = physics.steps[-1] if isinstance(physics, Chain) else physics
        self.measured = 2 * last.coils if isinstance(last, MRI) else 1
        self.on_grid = isinstance(last, MRICartesian) or not isinstance(last, MRI)
        image, measurement, rows = self.channels, self.measured, 3 if self.on_grid else 1
        self.duals = nn.ModuleList(
            _block((dual + 2) * measurement, width, dual * measurement, rows)
            for _ in range(iterations)
        )
        self.primals = nn.ModuleList(
            _block((primal + 1) * image, width, primal * image) for _ in range(iterations)
        )
        if not from_zero:
            self.correct_nothing()

    @property
    def last_layers(self) -> list[nn.Module]:
        """The last layer of every network for images."""
        return [list(block.children())[-1] for block in self.primals]

    def start_from_tv(self) -> None:
        """Start from compressed sensing, as a network that does not correct it yet."""
        super().start_from_tv()
        self.from_zero = False

    def unroll(
        self, start: Shaped[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Take all turns."""
        norm = physics.norm_squared**0.5
        g = self._planes(y / norm)
        f = to_channels(start).repeat(1, self.primal, 1, 1)
        f = torch.zeros_like(f) if self.from_zero else f
        h = g.new_zeros(len(g), self.dual * self.measured, *g.shape[2:])
        second = min(1, self.primal - 1) * self.channels
        for dual, primal in zip(self.duals, self.primals, strict=True):
            image = to_images(f[:, second : second + self.channels])
            h = h + dual(torch.cat([h, self._planes(physics.A(image) / norm), g], dim=1)).float()
            back = physics.A_adjoint(self._measurement(h[:, : self.measured])) / norm
            f = f + primal(torch.cat([f, to_channels(back)], dim=1)).float()
        return to_images(f[:, : self.channels])

    def _planes(self, y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b m p q"]:
        """Turn a measurement into channels of planes; samples along a trajectory are one row."""
        return to_channels(y if self.on_grid else y.unsqueeze(-2))

    def _measurement(self, planes: Float[Tensor, "b m p q"]) -> Shaped[Tensor, "b ..."]:
        """Undo `_planes`."""
        if self.measured == 1:
            return planes
        y = to_complex(planes)
        return y if self.on_grid else y.squeeze(-2)


def _block(before: int, width: int, after: int, rows: int = 3) -> nn.Sequential:
    """Build three convolutions of 3x3, or 1x3, with PReLUs that begin as ReLUs."""
    sizes = [before, width, width, after]
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        convolution = nn.Conv2d(inside, outside, (rows, 3), padding=(rows // 2, 1))
        nn.init.xavier_uniform_(convolution.weight)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.PReLU(outside, init=0.0)]
    return nn.Sequential(*layers[:-1])
