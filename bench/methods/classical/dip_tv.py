"""Deep image prior with TV: argmin_theta 1/2 |A G_theta(z) - y|^2 + lambda TV(G_theta(z)).

Ulyanov, Vedaldi and Lempitsky, CVPR 2018 (arXiv 1711.10925); with TV: Liu et al., ICASSP 2019
(arXiv 1810.12864). The untrained network is a deep decoder (Heckel and Hand, ICLR 2019,
arXiv 1810.03982): 1x1 convolutions, upsampling and channel normalisation only, so that every image
of a batch can have weights of its own in one batched product.
"""

from typing import Annotated, NamedTuple

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor
from torch.nn.functional import interpolate

from bench.methods.base import Classical
from bench.methods.classical._admm import natural_weight
from bench.methods.classical._transforms import Gradient
from bench.physics import Physics
from bench.ranges import Iterations, Weight
from bench.seeds import derive_seed

COARSEST = 8  # side of the random input, in pixels
FLAT = 1e-3  # grey levels; gradients below this are smoothed to 0 in the TV norm


class Layer(NamedTuple):
    """Weights of one layer, for each image of a batch."""

    mixing: Tensor
    gain: Tensor
    offset: Tensor


class DIPTV(Classical):
    """Fit an untrained network to each measurement.

    Args:
        weight: lambda, in units of the standard deviation that A^T n has at a pixel.
        width: channels of the network.
        steps: optimiser steps (Adam).
        lr: learning rate.
    """

    needs_linear = True
    real_images_only = True

    def __init__(
        self,
        weight: Weight = 0.3,
        width: Annotated[int, Field(ge=1, le=1024)] = 32,
        steps: Iterations = 500,
        lr: Annotated[float, Field(gt=0, le=1)] = 0.03,
    ):
        super().__init__()
        self.weight, self.width, self.steps, self.lr = weight, width, steps, lr

    @torch.enable_grad()
    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Optimise the network's weights, from the same random ones for each image."""
        y = y.detach()
        seed, layers = self._start(physics.shape, len(y), y.device)
        strength = self.weight * natural_weight(physics, torch.zeros(1, 1, *physics.shape))
        optimiser = torch.optim.Adam([part for layer in layers for part in layer], lr=self.lr)
        # The scale of y depends on the physics; the learning rate should not depend on it.
        scale = 1 / physics.norm_squared
        for _ in range(self.steps):
            x = _decode(seed, layers, physics.shape)
            misfit = (physics.A(x) - y).abs().square().sum() / 2
            value = scale * (misfit + strength * _smoothed_tv(x))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        return _decode(seed, layers, physics.shape).detach()

    def _start(
        self, shape: tuple[int, int], count: int, device: torch.device
    ) -> tuple[Tensor, list[Layer]]:
        """Draw the network's input, and weights that all images start from."""
        generator = torch.Generator().manual_seed(derive_seed("deep decoder", self.width))
        doublings = 0
        while COARSEST * 2**doublings < max(shape):
            doublings += 1
        seed = torch.rand(1, self.width, COARSEST, COARSEST, generator=generator)
        layers = []
        for channels in [self.width] * (doublings + 1) + [1]:
            mixing = torch.randn(1, channels, self.width, generator=generator) / self.width**0.5
            gain, offset = torch.ones(1, channels, 1, 1), torch.zeros(1, channels, 1, 1)
            layer = [part.repeat(count, *[1] * (part.ndim - 1)) for part in (mixing, gain, offset)]
            layers.append(Layer(*(part.to(device).requires_grad_() for part in layer)))
        return seed.to(device), layers


def _smoothed_tv(x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Sum the lengths of the gradients, differentiable where they vanish."""
    return (Gradient().analyse(x).square().sum(1) + FLAT**2).sqrt().sum()


def _decode(
    seed: Float[Tensor, "1 c k k"], layers: list[Layer], shape: tuple[int, int]
) -> Float[Tensor, "b 1 h w"]:
    """Mix channels, double the size, rectify and normalise, until the image is reached."""
    features = seed.expand(len(layers[0].mixing), -1, -1, -1)
    last = len(layers) - 2
    for number, layer in enumerate(layers[:-1]):
        features = torch.einsum("bij,bjhw->bihw", layer.mixing, features)
        if number < last:
            features = interpolate(features, scale_factor=2, mode="bilinear")
        features = torch.relu(features)
        variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True)
        features = layer.gain * (features - mean) * (variance + 1e-5).rsqrt() + layer.offset
    image = torch.einsum("bij,bjhw->bihw", layers[-1].mixing, features) + layers[-1].offset
    return torch.sigmoid(image)[..., : shape[0], : shape[1]]
