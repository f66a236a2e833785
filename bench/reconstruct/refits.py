"""The refits of a cell, rebuilt for images of any size, and applied to measurements."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from bench import scoring, training
from bench.data.measurement import Measured
from bench.errors import UserError
from bench.opened import Run
from bench.physics import (
    Convolution,
    Denoising,
    MRICartesian,
    ParallelBeam,
    Physics,
    SuperResolution,
)
from bench.physics.chain import Chain
from bench.reconstruct.tiles import tiled

Domain = Literal["image", "kspace", "other"]

MOST_PIXELS = 1 << 20  # of an image that is reconstructed in one piece, and of a batch
TILE = 512  # side of the tiles of a larger one
OVERLAP = 0.25  # of neighbouring tiles, as a share of their side


@dataclass(frozen=True)
class Result:
    """Reconstructions: their mean over the refits, and their spread.

    Attributes:
        x_hat: magnitudes, where 0 and 1 are as in training.
        spread: standard deviation over the refits; None if there is only one.
    """

    x_hat: Float32[np.ndarray, "n h w"]
    spread: Float32[np.ndarray, "n h w"] | None


class Refits:
    """All refits of a cell, whose reconstructions are averaged.

    Args:
        run: the run.
        cell: id of the cell.
        tile: side of the tiles in which images are reconstructed; None: as far as memory or the
            method demand.

    Attributes:
        cell: the id.
        recipe: of the first refit: method, configuration, degradation, level, image size.
        trained: the physics at the size of the training images.

    Raises:
        UserError: the cell has no refit, or a damaged one.
    """

    def __init__(self, run: Run, cell: str, tile: int | None = None):
        self.cell, self.tile = cell, tile
        self._refits = [run.refit(cell, seed) for seed in run.seeds(cell)]
        self.recipe = self._refits[0][0]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._key: tuple[Any, ...] = ()
        self._built: list[nn.Module] = []
        self.trained = self.physics(self.recipe["image_size"])

    def __len__(self) -> int:
        return len(self._refits)

    @property
    def domain(self) -> Domain:
        """Where its measurements live: images, Cartesian k-space, or something else."""
        if isinstance(self.trained, MRICartesian):
            return "kspace"
        last = self.trained.steps[-1] if isinstance(self.trained, Chain) else self.trained
        y = self.trained.A(torch.zeros(1, 1, *self.trained.shape))
        image = y.ndim == 4 and y.shape[1] == 1 and not y.is_complex()
        return "image" if image and not isinstance(last, ParallelBeam) else "other"

    @property
    def factor(self) -> int:
        """How many pixels along each side a pixel of the measurement becomes."""
        small = self.trained.A(torch.zeros(1, 1, *self.trained.shape)).shape[-1]
        return round(self.trained.shape[-1] / small)

    @property
    def local(self) -> bool:
        """Whether distant pixels do not matter, so that tiles can be reconstructed one by one."""
        steps = self.trained.steps if isinstance(self.trained, Chain) else [self.trained]
        return all(isinstance(step, Denoising | Convolution | SuperResolution) for step in steps)

    def physics(self, size: int | tuple[int, int]) -> Physics:
        """Build the degradation for images of a size."""
        return scoring.physics_from({**self.recipe, "image_size": size})

    def __call__(
        self,
        y: Shaped[Tensor, "n ..."],
        operator: Physics,
        report: Callable[[float], None] | None = None,
    ) -> Result:
        """Reconstruct measurements, a few at a time; in tiles if the images are large.

        Args:
            y: measurements.
            operator: the physics for their images.
            report: called with the share that is done.

        Raises:
            UserError: the method reconstructs images of the training's size alone, and measurements
                cannot be cut.
        """
        height, width = operator.shape
        tile = self.tile
        if tile is None and self.domain == "image" and self.local and height * width > MOST_PIXELS:
            tile = TILE // self.factor
        count = max(1, min(training.CHUNK, MOST_PIXELS // (height * width)))
        parts = []
        for k in range(0, len(y), count):
            some = slice(k, k + count)
            parts.append(self._part(y[some], operator.part(some), tile))
            if report is not None:
                report(min(1.0, (k + count) / len(y)))
        spreads = [part.spread for part in parts if part.spread is not None]
        return Result(
            np.concatenate([part.x_hat for part in parts]),
            np.concatenate(spreads) if spreads else None,
        )

    def _part(self, y: Shaped[Tensor, "n ..."], operator: Physics, tile: int | None) -> Result:
        """Reconstruct measurements at once by each refit."""
        y = y.to(self.device)
        found: list[Tensor] = []
        for number in range(len(self)):
            if tile is None:
                try:
                    x_hat = self._whole(number, y, operator)
                except (RuntimeError, ValueError, UserError) as error:
                    tile = self.tile = self._choose_tiles(operator, error)
            if tile is not None:
                x_hat = self._tiles(number, y, tile)
            found.append(x_hat.float().cpu())
        every = torch.stack(found)[:, :, 0]
        spread = every.std(0).numpy() if len(found) > 1 else None
        return Result(every.mean(0).numpy(), spread)

    def _whole(self, number: int, y: Tensor, operator: Physics) -> Float[Tensor, "n 1 h w"]:
        model = self._models(operator.shape, operator.measured)[number]
        x_hat = training.magnitude(training.reconstruct(model, y, operator))
        if tuple(x_hat.shape[-2:]) != tuple(operator.shape):
            raise ValueError(f"it returns images of {x_hat.shape[-2]}x{x_hat.shape[-1]} pixels")
        return x_hat

    def _choose_tiles(self, operator: Physics, error: Exception) -> int:
        """Choose tiles of the training's size, for a method that takes images of no other."""
        size: int = self.recipe["image_size"]
        height, width = operator.shape
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, torch.OutOfMemoryError):
            raise UserError(
                f"{self.recipe['method']}: {height}x{width} pixels need more memory than there is; "
                "reconstruct in smaller tiles, such as --tile 256"
            ) from None
        if operator.measured is not None and self.recipe.get("measured") != "kspace":
            raise UserError(
                f"{self.recipe['method']}: was trained on the real images of simulated k-space, "
                f"and cannot reconstruct complex ones ({reason})"
            ) from None
        if (size, size) == (height, width):
            raise error
        if not (self.domain == "image" and self.local):
            raise UserError(
                f"{self.recipe['method']}: reconstructs only images of {size}x{size} pixels, as in "
                f"training, not of {height}x{width} ({reason})"
            ) from None
        return size // self.factor

    def _tiles(self, number: int, y: Tensor, tile: int) -> Float[Tensor, "n 1 h w"]:
        side = self.factor * tile
        model, operator = self._models((side, side))[number], self.physics(side)

        def one(part: Tensor) -> Tensor:
            return training.magnitude(training.reconstruct(model, part, operator))

        return tiled(one, y, tile, int(OVERLAP * tile))

    def _models(self, size: tuple[int, int], measured: Measured | None = None) -> list[nn.Module]:
        """Rebuild all refits for images of a size, unless it is that of the last call."""
        brings: dict[str, Any] = {}
        if measured is not None and measured.kind == "kspace":
            brings = {"measured": "kspace", "coils": measured.values.shape[1]}
        key = (size, *brings.values())
        if key != self._key:
            self._built = [
                scoring.rebuild({**recipe, "image_size": size, **brings}, weights)[0]
                for recipe, weights in self._refits
            ]
            self._built = [model.to(self.device) for model in self._built]
            self._key = key
        return self._built
