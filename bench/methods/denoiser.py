"""Networks from elsewhere that map an image and its noise level instead of (y, physics)."""

import inspect
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.methods.base import prepare
from bench.methods.learned.base import ImageNetwork
from bench.physics import Physics


class DenoiserNetwork(ImageNetwork):
    """Apply a denoiser of DeepInverse's kind, `model(x, sigma)`, to `A_dagger(y)`.

    Args:
        model: the denoiser, or a plain network of x alone.
    """

    stride = 16  # required by networks with four poolings

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.takes_sigma = len(_inputs(model)) > 1
        self.sigma = 0.0

    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Show the model its training images, if it has a `prepare` too."""
        super().prepare(images, physics, ids)
        prepare(self.model, images, physics, ids)

    def forward(
        self, y: Tensor, physics: Physics, estimate: Tensor | None = None
    ) -> Float[Tensor, "b 1 h w"]:
        """Reconstruct; the denoiser receives the standard deviation of the noise."""
        self.sigma = physics.noise_std
        return super().forward(y, physics, estimate)

    def network(self, image: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Map an image whose sides are multiples of `stride`."""
        result = self.model(image, self.sigma) if self.takes_sigma else self.model(image)
        with torch.autocast(image.device.type, enabled=False):
            return result.float()


def maps_images(model: nn.Module) -> bool:
    """Return whether a model is called with an image, and possibly its noise, instead of y."""
    names = _inputs(model)
    return len(names) == 1 or names[1:2] in (["sigma"], ["noise_level"])


def _inputs(model: nn.Module) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds]
