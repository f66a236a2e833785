"""ISTA-Net+: Zhang and Ghanem, CVPR 2018 (arXiv 1706.07929).

Phases of ISTA, each with a learned transform F = H D whose coefficients are shrunk, and a learned
H~ in place of its inverse (section 3.4):

    r = x - rho A^T (A x - y),    x <- r + G H~ soft(H D r, theta).

H~ H should be the identity: 0.01 times the mean square of H~ H D r - D r in each phase is added to
the training loss (equation 13).
"""

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor, nn

from bench.methods.learned._unrolled import UnrolledNetwork, to_channels, to_images
from bench.methods.learned.base import Width
from bench.physics import Physics


class ISTANet(UnrolledNetwork):
    """Gradient steps and learned shrinkage in turn; 9 phases of 37,442 parameters as published.

    rho is relative to 1 / |A^T A|, with which ISTA converges, so that it means the same for every
    physics; as published it begins at 0.5, of operators whose norm is about 1.

    Args:
        phases: number of iterations, each with weights of its own.
        width: coefficients of the transform at each pixel.
        symmetry: weight of the penalty.
        physics: the task's physics, which says whether images are complex.
    """

    recipe: ClassVar[dict[str, Any]] = {"loss": "mse", "optimiser": "adam", "lr": 1e-4}
    learning_rates: ClassVar[dict[str, float]] = {"steps": 5.0}

    def __init__(
        self,
        phases: Annotated[int, Field(ge=1, le=64)] = 9,
        width: Width = 32,
        symmetry: Annotated[float, Field(ge=0, le=100)] = 0.01,
        physics: Physics | None = None,
    ):
        super().__init__(physics)
        self.symmetry = symmetry
        self.shrinkages = nn.ModuleList(Shrinkage(self.channels, width) for _ in range(phases))
        self.steps = nn.Parameter(torch.full((phases,), 0.5))

    @property
    def last_layers(self) -> list[nn.Module]:
        """G of every phase."""
        return [shrinkage.get_submodule("output") for shrinkage in self.shrinkages]

    def unroll(
        self, start: Shaped[Tensor, "b 1 h w"], y: Shaped[Tensor, "b ..."], physics: Physics
    ) -> Shaped[Tensor, "b 1 h w"]:
        """Go through all phases, and note the penalty."""
        b, x = physics.A_adjoint(y), start
        penalty = torch.zeros((), device=b.device)
        for step, shrinkage in zip(self.steps, self.shrinkages, strict=True):
            x = x + step / physics.norm_squared * (b - physics.A_normal(x))
            correction, asymmetry = shrinkage(to_channels(x))
            x, penalty = x + to_images(correction), penalty + asymmetry
        self.penalty = self.symmetry * penalty if self.training else None
        return x


class Shrinkage(nn.Module):
    """One phase's correction G H~ soft(H D r, theta), by convolutions of 3x3 without biases."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.input = _convolution(channels, width)
        self.transform = _pair(width)
        self.inverse = _pair(width)
        self.output = _convolution(width, channels)
        self.threshold = nn.Parameter(torch.tensor(0.01))

    def forward(
        self, image: Float[Tensor, "b c h w"]
    ) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, ""]]:
        """Return the correction, and the mean square by which H~ H is not the identity."""
        features = self.input(image)
        coefficients = self.transform(features)
        correction = self.output(self.inverse(soft(coefficients, self.threshold)))
        if not self.training:
            return correction, torch.zeros((), device=image.device)
        difference = self.inverse(coefficients).float() - features.float()
        return correction, difference.square().mean()


def soft(values: Shaped[Tensor, "*n"], threshold: Tensor) -> Shaped[Tensor, "*n"]:
    """Move values towards 0 by a threshold, those below it to 0."""
    return torch.relu(values - threshold) - torch.relu(-values - threshold)


def _convolution(before: int, after: int) -> nn.Conv2d:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    nn.init.xavier_normal_(convolution.weight)
    return convolution


def _pair(width: int) -> nn.Sequential:
    return nn.Sequential(_convolution(width, width), nn.ReLU(), _convolution(width, width))
