"""The mean training image, independent of y: a baseline for any method that uses y."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from bench.methods.base import Classical
from bench.physics import Physics


class Constant(Classical):
    """Return the pixelwise mean of the training images, the best estimate without y."""

    uses_training_images = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 1, 1, 1))

    def prepare(
        self, images: Float[Tensor, "n 1 h w"], physics: Physics, ids: Sequence[str]
    ) -> None:
        """Average the training images."""
        self.mean = images.mean(0, keepdim=True)

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take a mean of any size, since a new one does not know that of the images."""
        self.mean = torch.empty_like(state.get(f"{prefix}mean", self.mean))
        super()._load_from_state_dict(state, prefix, *args)

    def forward(self, y: Shaped[Tensor, "b ..."], physics: Physics) -> Float[Tensor, "b 1 h w"]:
        """Repeat the mean image."""
        return self.mean.to(y.device).repeat(len(y), 1, 1, 1)
