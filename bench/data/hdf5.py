"""HDF5 files (.h5, .hdf5, .t5, MATLAB's .mat): images or k-space, the fastMRI layout above all."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from bench.data.arrays import Kind, Stack, choose, interpret
from bench.data.base import Dataset
from bench.data.kspace import provenance
from bench.data.prepare import Fit, Normalisation, Preparation, Unusable
from bench.data.reading import Slice, assemble, cut, find, read_files

SUFFIXES = {".h5", ".hdf5", ".t5", ".mat"}
RECON_SIZE = re.compile(rb"<reconSpace>.*?<x>(\d+)</x>\s*<y>(\d+)</y>", re.DOTALL)


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
    """Read HDF5 files; each is one volume, its subject the attribute `patient_id` or the file.

    Of the fastMRI layout, `reconstruction_rss` or `reconstruction_esc` is taken, else an image is
    made of `kspace` and cropped to the size its header states. MATLAB files of any version are
    read.

    Args:
        path: a file, or a folder with files at any depth.
        image_size: side of the prepared images, in pixels.
        key: the array to take; default: by a usual name, else the largest.
        kind: `image` or `kspace`; default: k-space if the key says so (`ksp`, `kspace`).
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
    root, files = find(path, "hdf5", SUFFIXES)
    one = partial(_read_one, key=key, kind=kind, axes=axes, prepare=prepare)
    slices, skipped = read_files(root, files, one)
    notes = [
        f"{len(slices)} slices of {len(files) - len(skipped)} HDF5 or MATLAB files and "
        f"{len({piece.subject for piece in slices})} subjects (attribute `patient_id`, else the "
        "file)."
    ]
    return assemble(slices, skipped, notes)


def _read_one(
    file: Path, name: str, key: str | None, kind: Kind, axes: str, prepare: Preparation
) -> list[Slice]:
    with opened(file) as (arrays, attributes):
        chosen = choose(arrays, key)
        array = values_of(arrays[chosen])
        # fastMRI's single-coil k-space has slices where other files have coils.
        if axes == "auto" and "acquisition" in attributes and array.ndim == 3:
            axes = "shw"
        stack = interpret(array, chosen, kind, axes)
        stack = _judged(stack, chosen, arrays)
        images = _cropped(stack.images, chosen, arrays)
    subject = str(attributes.get("patient_id") or name.rpartition(".")[0])
    return cut(images, name, subject, prepare, badge=stack.badge, reason=stack.reason)


@contextmanager
def opened(file: Path) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Open a file; give its arrays by name (`group/name`), and its attributes."""
    if file.suffix.lower() == ".mat" and not h5py.is_hdf5(file):
        found = scipy.io.loadmat(file)  # MATLAB's own format, before version 7.3
        yield {k: v for k, v in found.items() if isinstance(v, np.ndarray)}, {}
        return
    with h5py.File(file) as content:
        arrays: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("#"):
                arrays[name] = item

        content.visititems(note)
        yield arrays, dict(content.attrs)


def values_of(array: Any) -> np.ndarray:
    """Read an array; MATLAB's complex numbers and its order of axes are turned into NumPy's."""
    values = np.asarray(array[()])
    if values.dtype.names == ("real", "imag"):
        values = values["real"] + 1j * values["imag"]
    if "MATLAB_class" in getattr(array, "attrs", {}):
        values = values.T
    return values


def _judged(stack: Stack, chosen: str, arrays: Mapping[str, Any]) -> Stack:
    """Judge a reconstruction by the k-space beside it, one slice of it."""
    beside = arrays.get("kspace")
    if not chosen.startswith("reconstruction_") or beside is None or beside.ndim < 3:
        return stack
    middle = np.asarray(beside[len(beside) // 2])
    middle = middle[None] if beside.ndim == 3 else middle
    if middle.ndim != 3 or not np.iscomplexobj(middle):
        return stack
    try:
        badge, reason = provenance(middle[None].astype(np.complex64))
    except Unusable:
        return stack  # masked k-space says nothing about the reconstruction
    return Stack(stack.images, badge, reason)


def _cropped(images: np.ndarray, chosen: str, arrays: Mapping[str, Any]) -> np.ndarray:
    """Cut off the oversampled readout of fastMRI's k-space, as its header states."""
    header = arrays.get("ismrmrd_header")
    if chosen != "kspace" or header is None:
        return images
    text = header[()]
    size = RECON_SIZE.search(text.encode() if isinstance(text, str) else bytes(text))
    if size is None:
        return images
    # The header's x is the readout, the rows of these arrays.
    for axis, wanted in ((1, int(size[1])), (2, int(size[2]))):
        start = max(0, (images.shape[axis] - wanted) // 2)
        images = images.take(range(start, min(start + wanted, images.shape[axis])), axis)
    return images
