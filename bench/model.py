"""A reconstruction method that is ready for use: a network with its weights, or a tuned method."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import nn

from bench import training
from bench.data import ImageSet
from bench.physics import Physics


class Model:
    """Reconstructs images from measurements: call it with arrays.

    Attributes:
        reconstructor: the network or classical method, callable as `(y, physics) -> x_hat`.
        physics: the degradation that it was tuned or trained for.
        fit: how it was trained; None for a model that was read from a run folder.
    """

    def __init__(self, reconstructor: nn.Module, physics: Physics, fit: training.Fit | None = None):
        self.reconstructor, self.physics, self.fit = reconstructor, physics, fit

    def __call__(self, y: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n 1 h w"]:
        """Reconstruct images from measurements, a few at a time.

        Args:
            y: measurements by this model's physics, as `measure` returns them.

        Returns:
            float32 images; not every method keeps them in [0, 1].
        """
        device = next((w.device for w in self.reconstructor.parameters()), torch.device("cpu"))
        measurements = torch.as_tensor(y).to(device)
        return training.reconstruct(self.reconstructor, measurements, self.physics).cpu().numpy()

    def of(self, images: ImageSet) -> "Model":
        """Return this model for images whose dataset brings what was measured of them.

        It then measures and reconstructs exactly these images, in their order, each with its own
        coil sensitivities if it has any.
        """
        return Model(self.reconstructor, self.physics.of(images), self.fit)

    def measure(
        self, images: Float[np.ndarray, "n 1 h w"], ids: Sequence[str] | None = None
    ) -> Shaped[np.ndarray, "n ..."]:
        """Measure images by this model's physics.

        Args:
            images: magnitude in [0, 1].
            ids: names that seed the noise of each image; default: its number.
        """
        names = [str(number) for number in range(len(images))] if ids is None else list(ids)
        x = torch.as_tensor(np.asarray(images, dtype=np.float32))
        return self.physics.measure(x, names).cpu().numpy()

    def __repr__(self) -> str:
        best = "" if self.fit is None else f", {self.fit.psnr:.2f} dB on validation images"
        return f"Model({type(self.reconstructor).__name__}, {self.physics.name}{best})"
