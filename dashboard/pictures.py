"""Reads the pictures that a run keeps of a few test images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Kept:
    """The kept pictures of one cell and one test image.

    Attributes:
        y: the measurement, of any shape.
        start: what it shows without a prior, an image of the truth's size.
        x_hat: the reconstruction.
        error: its absolute error.
    """

    y: np.ndarray
    start: np.ndarray | None
    x_hat: np.ndarray
    error: np.ndarray


def truth(folder: Path, task: str) -> dict[str, np.ndarray]:
    """Read a task's ground-truth images by id; empty where none are kept."""
    arrays = _arrays(folder, task, "truth.npz")
    if not {"x", "ids"} <= set(arrays):
        return {}
    return {str(name): x[0] for name, x in zip(arrays["ids"], arrays["x"], strict=True)}


def of_cell(folder: Path, cell: str, image: str) -> Kept | None:
    """Read a cell's pictures of one test image; None where it has none (yet)."""
    arrays = _arrays(folder, cell, "pictures.npz")
    ids = [str(name) for name in arrays.get("ids", ())]
    if image not in ids:
        return None
    place = ids.index(image)
    start = arrays["start"][place, 0] if "start" in arrays else None
    return Kept(arrays["y"][place], start, arrays["x_hat"][place, 0], arrays["error"][place, 0])


def as_image(y: np.ndarray, like: np.ndarray) -> np.ndarray | None:
    """Return the magnitude of a measurement that lies on the image's own grid, else None.

    k-space and sinograms are measurements too, but nothing to compare with an image.
    """
    plane = y[0] if y.ndim == 3 and len(y) == 1 else y
    if np.iscomplexobj(plane) or plane.ndim != 2:
        return None
    return plane if plane.shape == like.shape else None


def _arrays(folder: Path, owner: str, name: str) -> dict[str, np.ndarray]:
    images = folder / "images"
    path = images / owner / name
    # A cell's id comes from a file: it must not lead to another folder.
    if path.parent.resolve().parent != images.resolve() or not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path}: cannot be read ({error or type(error).__name__})") from None
