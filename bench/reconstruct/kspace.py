"""k-space to reconstruct: what was acquired of each slice, and the operator that belongs to it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32
from torch import Tensor

from bench.data import kspace
from bench.data.coils import compressed
from bench.data.measured import open_file
from bench.errors import UserError
from bench.physics import MRICartesian
from bench.physics.mri_cartesian import measured

SOURCES = ("hdf5", "npy", "bart")  # the readers of files with k-space
LEAST_CENTRE = 6  # side of a fully sampled centre that determines coil sensitivities
CALIBRATION = 24


@dataclass(frozen=True)
class KspaceSlice:
    """One slice.

    Attributes:
        operator: bound to its k-space, with its mask and its coils.
        y: its k-space, zeros where it was not measured.
        x: the image of all k-space that was acquired, if it was undersampled here.
    """

    operator: MRICartesian
    y: Complex64[Tensor, "1 coils h w"]
    x: Float32[np.ndarray, "h w"] | None

    def scaled(self, top: float) -> "KspaceSlice":
        """Divide by the value that becomes 1."""
        own = self.operator.measured
        assert own is not None
        bound = self.operator.bind(
            replace(own, values=own.values / np.float32(top), noise=own.noise / np.float32(top))
        )
        assert isinstance(bound, MRICartesian)
        return KspaceSlice(bound, self.y / top, None if self.x is None else self.x / top)


def slices_of(
    file: Path, recipe: Mapping[str, Any], undersample: bool, key: str | None, axes: str
) -> tuple[list[KspaceSlice], float]:
    """Read the slices of a file; 1 is the brightest pixel of the first estimates.

    Args:
        file: in any of the formats of k-space.
        recipe: of the refit: its degradation, and the number of coils that it was trained with.
        undersample: whether to undersample what was acquired, as in training.
        key: see `bench.data.measured.open_file`, as `axes`.
        axes: a letter for each axis.

    Returns:
        the slices, and the value that became 1.

    Raises:
        UserError: not a file with k-space, or without a fully sampled centre for its coils.
    """
    options = recipe["degradation"]
    chosen = {k: options[k] for k in ("mask", "centre_fraction") if options.get(k) is not None}
    coils = recipe.get("coils") if recipe.get("measured") == "kspace" else None
    found = []
    for whole, acquired in _acquired(file, key, axes, coils):
        side = _centre(acquired)
        if len(whole) > 1 and side < LEAST_CENTRE:
            raise UserError(
                f"{file}: the centre of k-space is not fully sampled ({side}x{side} samples), and "
                f"coil sensitivities need {LEAST_CENTRE}x{LEAST_CENTRE} or more"
            )
        values, calibration = torch.from_numpy(whole), min(CALIBRATION, side)
        full, y = measured(values, 1.0, calibration=calibration)
        x = None
        if undersample:
            x = full.A_dagger(y)[0, 0].numpy()
            full, y = measured(values, recipe["level"], calibration=calibration, **chosen)
        found.append(KspaceSlice(full, y, x))
    # Of all that is known: the full image, or the first estimate of an undersampled one.
    images = [
        one.operator.A_dagger(one.y)[0, 0].numpy() if one.x is None else one.x for one in found
    ]
    top = max(float(image.max()) for image in images)
    if not top > 0:
        raise UserError(f"{file}: holds only zeros")
    return [one.scaled(top) for one in found], top


def _acquired(
    file: Path, key: str | None, axes: str, coils: int | None
) -> Iterator[tuple[Complex64[np.ndarray, "coils h w"], Bool[np.ndarray, "h w"]]]:
    """Yield the k-space of each slice, DC in the middle, and where it was acquired."""
    got = open_file(file, key, axes)
    whole = got.kspace
    mask = (whole != 0).any(1)
    _, convention = kspace.magnitude(whole)
    whole = kspace.centred(whole, convention)
    corners = tuple(
        axis for axis, corner in zip((-2, -1), convention.corner, strict=True) if corner
    )
    mask = np.fft.fftshift(mask, corners)
    if got.rows is not None:
        whole = kspace.field_of_view(whole, -2, got.rows)
        mask = np.broadcast_to(mask.any(-2, keepdims=True), (len(mask), *whole.shape[-2:]))
    whole = compressed(whole, coils or whole.shape[1])
    for values, where in zip(whole, mask, strict=True):
        # What was shifted in the image is no longer exactly 0 where nothing was measured.
        yield np.where(where, values, 0).astype(np.complex64), where


def _centre(mask: Bool[np.ndarray, "h w"]) -> int:
    """Return the side of the largest square around DC that is fully sampled."""
    rows, columns = (side // 2 for side in mask.shape)
    for half in range(1, min(rows, columns) + 1):
        if not mask[rows - half : rows + half, columns - half : columns + half].all():
            return 2 * (half - 1)
    return 2 * min(rows, columns)
