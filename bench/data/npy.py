"""NumPy arrays (.npy, .npz): images or k-space, one file a subject."""

from functools import partial
from pathlib import Path

import numpy as np

from bench.data.arrays import Kind, choose, interpret
from bench.data.base import Dataset
from bench.data.prepare import Fit, Normalisation, Preparation, Unusable
from bench.data.reading import Slice, assemble, cut, find, read_files

SUFFIXES = {".npy", ".npz"}


def read(
    path: str | None,
    image_size: int,
    *,
    key: str | None = None,
    kind: Kind = "auto",
    axes: str = "auto",
    step: int = 1,
    normalisation: Normalisation = "per_volume_max",
    window: tuple[float, float] | None = None,
    percentile: float = 99.5,
    fit: Fit = "pad",
    min_foreground: float = 0.1,
) -> Dataset:
    """Read NumPy files.

    Args:
        path: a file, or a folder with files at any depth; each file is one subject.
        image_size: side of the prepared images, in pixels.
        key: array of an .npz file; default: by a usual name, else the largest.
        kind: `image` or `kspace`; default: k-space if the name says so (`ksp`, `kspace`).
        axes: a letter for each axis, s(lice), c(oil), h(eight), w(idth); default: the shortest
            axis at either end counts coils or slices.
        step: every `step`-th slice is taken.
        normalisation: what becomes 1, see `bench.data.prepare.Preparation`.
        window: centre and width, for CT.
        percentile: for normalisation `percentile`.
        fit: `pad` to a square or centre-`crop`.
        min_foreground: smaller fractions of foreground make a slice empty; it is dropped.

    Raises:
        UserError: nothing to read at the path, or too many files unusable.
    """
    prepare = Preparation(image_size, normalisation, window, percentile, fit, min_foreground, step)
    root, files = find(path, "npy", SUFFIXES)
    one = partial(_read_one, key=key, kind=kind, axes=axes, prepare=prepare)
    slices, skipped = read_files(root, files, one)
    notes = [
        f"{len(slices)} slices of {len(files) - len(skipped)} NumPy files; each file counts as "
        "one subject."
    ]
    return assemble(slices, skipped, notes)


def _read_one(
    file: Path, name: str, key: str | None, kind: Kind, axes: str, prepare: Preparation
) -> list[Slice]:
    array, called = open_array(file, key)
    stack = interpret(array, called, kind, axes)
    subject = name.rpartition(".")[0]
    return cut(stack.images, name, subject, prepare, badge=stack.badge, reason=stack.reason)


def open_array(file: Path, key: str | None) -> tuple[np.ndarray, str]:
    """Load the array of a file, and the name that may tell what it is."""
    loaded = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        if key is not None:
            raise Unusable(f"is one array without keys; drop dataset.key: {key!r}")
        return loaded, file.stem
    with loaded:
        arrays = dict(loaded)
    chosen = choose(arrays, key)
    return arrays[chosen], chosen
