"""An unrolled network for few training images: it starts as tuned compressed sensing.

A small network and the measurement take turns to correct the TV reconstruction, as in MoDL
(Aggarwal, Mani and Jacob, IEEE TMI 38, 2019). Then a U-Net corrects the result once, without the
measurement, which would bring its noise along. All corrections start at 0, so that an untrained
network is compressed sensing itself, and what is returned is never worse than that on validation
images. Once trained, both networks see the image turned and mirrored in all eight ways, and their
mean is taken, for eight times the networks' computation in a reconstruction and none in training.
It helps most where images are fewest (docs/networks.md).
"""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from bench.methods.learned._dihedral import dihedral_mean
from bench.methods.learned._unrolled import data_step, to_channels, to_images
from bench.methods.learned.base import Depth, Norm, Start, Width, padding_to, set_to_zero
from bench.methods.learned.modl import MoDL
from bench.methods.learned.unet import UNetBody
from bench.physics import Physics


class CSUNet(MoDL):
    """MoDL from compressed sensing, with a U-Net after it.

    Args:
        width: channels of the first level of the U-Net; they double at each level below.
        depth: number of its poolings.
        norm: "batch", "instance" or "none".
        iterations: how often the small network and the measurement take turns; with 0 there is
            nothing but a U-Net that corrects TV.
        inner_width: channels of the small network's layers.
        solver_steps: see `MoDL`.
        data_last: take account of the measurement once more after the U-Net.
        averaged: whether a reconstruction takes the mean over turned and mirrored copies.
        physics: see `MoDL`.
    """

    default_start: ClassVar[Start] = "tv"
    recipe: ClassVar[dict[str, Any]] = {
        "loss": "mse", "optimiser": "adamw", "lr": 4e-3, "draws": 8,
    }  # fmt: skip

    def __init__(
        self,
        width: Width = 16,
        depth: Depth = 3,
        norm: Norm = "batch",
        iterations: Annotated[int, Field(ge=0, le=64)] = 3,
        inner_width: Width = 16,
        solver_steps: Annotated[int, Field(ge=1, le=100)] = 6,
        data_last: bool = False,
        averaged: bool = True,
        physics: Physics | None = None,
    ):
        super().__init__(inner_width, 5, iterations, solver_steps, norm, physics)
        self.data_last, self.averaged = data_last, averaged
        self.stride = 2**depth
        self.unet = UNetBody(2 * self.channels, self.channels, width, depth, norm)
        set_to_zero(self.unet.head)

    @property
    def last_layers(self) -> list[nn.Module]:
        """Those of both networks."""
        return [*super().last_layers, self.unet.head]

    def mean(
        self, network: Callable[[Tensor], Tensor], channels: Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b k h w"]:
        """Apply a network; outside training, to all copies of the image if it is `averaged`."""
        alone = self.training or not self.averaged
        return network(channels) if alone else dihedral_mean(network, channels)

    def correction(self, channels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Apply the small network."""
        return self.mean(self.network, channels)

    def last_correction(self, channels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k h w"]:
        """Apply the U-Net."""
        height, width = channels.shape[-2:]
        padded = pad(channels, padding_to(self.stride, channels), mode="replicate")
        return self.unet(padded)[..., :height, :width]

    def unroll(
        self, start: Shaped[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Take all turns, and correct the result."""
        x = super().unroll(start, y, physics)
        channels = to_channels(torch.cat([x, start], dim=1))
        z = x + to_images(self.mean(self.last_correction, channels))
        if not self.data_last:
            return z
        return data_step(z, physics.A_adjoint(y), self.weight(physics), physics, self.solver_steps)
