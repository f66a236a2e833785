"""NIfTI volumes (.nii, .nii.gz), 3-D or 4-D, cut into slices that stand the right way up."""

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from jaxtyping import Float32

from bench.data.base import Dataset
from bench.data.prepare import Fit, Normalisation, Preparation, Unusable
from bench.data.reading import Slice, assemble, cut, find, read_files

SUFFIXES = {".nii", ".nii.gz"}
BIDS_SUBJECT = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)")

Plane = Literal["axial", "coronal", "sagittal"]


def read(
    path: str | None,
    image_size: int,
    *,
    plane: Plane = "axial",
    step: int = 1,
    normalisation: Normalisation = "per_volume_max",
    window: tuple[float, float] | None = None,
    percentile: float = 99.5,
    fit: Fit = "pad",
    min_foreground: float = 0.1,
) -> Dataset:
    """Read NIfTI volumes and cut them into slices.

    Volumes are brought to RAS axes; slices are shown as radiologists have them: front or head
    up, the patient's right side on the left, sagittal slices facing left. Voxels that are not
    square in the plane are resampled. The volumes of a 4-D file are normalised one by one. A
    subject is what BIDS calls one (`sub-01` in the path), else a file.

    Args:
        path: a file, or a folder with files at any depth.
        image_size: side of the prepared images, in pixels.
        plane: which slices.
        step: every `step`-th slice is taken.
        normalisation: what becomes 1, see `bench.data.prepare.Preparation`.
        window: centre and width, for CT.
        percentile: for normalisation `percentile`.
        fit: `pad` to a square or centre-`crop`.
        min_foreground: a slice is empty, and dropped, if a smaller fraction of its pixels is
            brighter than 0.05 after normalisation.

    Raises:
        UserError: nothing to read at the path, or too many files unusable.
    """
    prepare = Preparation(image_size, normalisation, window, percentile, fit, min_foreground, step)
    root, files = find(path, "nifti", SUFFIXES)
    slices, skipped = read_files(root, files, partial(_read_one, prepare=prepare, plane=plane))
    subjects = {piece.subject for piece in slices}
    notes = [
        f"{len(slices)} {plane} slices of {len(files) - len(skipped)} NIfTI files and "
        f"{len(subjects)} subjects ({_meaning(subjects)})."
    ]
    return assemble(slices, skipped, notes)


def _read_one(file: Path, name: str, prepare: Preparation, plane: Plane) -> list[Slice]:
    image: Any = nib.as_closest_canonical(nib.load(file))
    if len(image.shape) not in (3, 4):
        raise Unusable(f"has rank {len(image.shape)}, not 3 or 4")
    if image.get_data_dtype().fields or image.get_data_dtype().kind == "c":
        raise Unusable("holds colours or complex numbers, not magnitudes")
    subject = _subject(name)
    values = image.get_fdata(dtype=np.float32)
    # A 4-D file may end in axes of length 1.
    volumes = values.reshape(*values.shape[:3], -1)
    zooms = [float(zoom) for zoom in image.header.get_zooms()[:3]]
    slices: list[Slice] = []
    for number in range(volumes.shape[3]):
        stem = f"{name}/{number:03d}" if volumes.shape[3] > 1 else name
        stack = upright(volumes[..., number], plane)
        slices += cut(stack, stem, subject, prepare, label=plane, spacing=spacing(zooms, plane))
    return slices


def upright(
    volume: Float32[np.ndarray, "x y z"], plane: Plane
) -> Float32[np.ndarray, "slices rows columns"]:
    """Turn a RAS volume into slices in their anatomical order, as radiologists look at them."""
    # Rows run downwards (from front to back, or from head to foot), columns from the patient's
    # right to the left, or from front to back.
    order = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}[plane]
    stack = volume.transpose(order)[:, ::-1]
    return np.ascontiguousarray(stack[:, :, ::-1])


def spacing(zooms: list[float], plane: Plane) -> tuple[float, float]:
    """Give the distance of rows and of columns, in mm."""
    x, y, z = zooms
    return {"axial": (y, x), "coronal": (z, x), "sagittal": (z, y)}[plane]


def _subject(name: str) -> str:
    found = BIDS_SUBJECT.search(name)
    return found[1] if found else re.sub(r"\.nii(\.gz)?$", "", name, flags=re.IGNORECASE)


def _meaning(subjects: set[str | None]) -> str:
    if all(subject and subject.startswith("sub-") for subject in subjects):
        return "as BIDS names them"
    return "each file counts as one: give files of one person a common `sub-` folder"
