"""A reconstruction method that is ready for use: a network with its weights, or a tuned method."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bench import scoring, training
from bench.data import ImageSet
from bench.errors import UserError, unknown
from bench.physics import Physics

CONFIG = "config.json"


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


def load_model(folder: str | Path, seed: int | None = None) -> Model:
    """Load a method that `reconbench export` has written.

    The weights are read from safetensors, never unpickled. The package of a user's method is
    imported.

    Args:
        folder: what was exported.
        seed: of the refit; default: the best on validation images.

    Raises:
        UserError: not such a folder, no such refit, or a damaged file.

    >>> load_model("results/nowhere")
    Traceback (most recent call last):
    bench.errors.UserError: results/nowhere: holds no exported method (no config.json)
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / CONFIG).read_text())
        refits, best, stored = config["refits"], config["seed"], config["weights"]
    except FileNotFoundError:
        raise UserError(f"{folder}: holds no exported method (no {CONFIG})") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / CONFIG}: is damaged, or not of an exported method") from None
    chosen = str(best if seed is None else seed)
    if chosen not in refits:
        raise unknown("seed", chosen, refits)
    file = folder / f"seed_{chosen}.safetensors"
    try:
        weights = load_file(file) if chosen in stored else {}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: is damaged ({error})") from None
    reconstructor, physics, _ = scoring.rebuild(refits[chosen], weights)
    return Model(reconstructor, physics)
