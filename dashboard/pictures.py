"""Read the pictures that a run stores of a few test images; see `reconstructor` for the others."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.parsing import one_at_a_time


@dataclass(frozen=True)
class CellPictures:
    """The pictures of one cell and one test image.

    Attributes:
        y: the measurement, of any shape.
        start: `A_dagger(y)`, an image of the truth's size.
        x_hat: the reconstruction.
        x: the truth.
    """

    y: np.ndarray
    start: np.ndarray | None
    x_hat: np.ndarray
    x: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """What the reconstruction is above the truth."""
        return self.x_hat - self.x


def truth(folder: Path, task: str) -> dict[str, np.ndarray]:
    """Read a task's ground-truth images by id; empty if none are stored."""
    arrays = _arrays(folder, task, "truth.npz")
    if not {"x", "ids"} <= set(arrays):
        return {}
    return {str(name): x[0] for name, x in zip(arrays["ids"], arrays["x"], strict=True)}


def of_cell(folder: Path, cell: str, image: str, x: np.ndarray) -> CellPictures | None:
    """Read a cell's stored pictures of one test image; None if there are none (yet).

    Args:
        folder: the run folder.
        cell: the id of the cell.
        image: the id of the image.
        x: its truth.
    """
    arrays = _arrays(folder, cell, "pictures.npz")
    ids = [str(name) for name in arrays.get("ids", ())]
    if image not in ids:
        return None
    index = ids.index(image)
    start = arrays["start"][index, 0] if "start" in arrays else None
    return CellPictures(arrays["y"][index], start, arrays["x_hat"][index, 0], x)


def as_image(y: np.ndarray, like: np.ndarray) -> np.ndarray | None:
    """Return a measurement that is an image on the grid of the truth; None for any other.

    k-space and sinograms cannot be compared with an image pixel by pixel.
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
        with one_at_a_time, np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged archive fails in many ways
        raise ValueError(f"{path}: cannot be read ({error or type(error).__name__})") from None
