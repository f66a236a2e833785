"""HDF5 files (.h5, .hdf5, .t5, MATLAB's .mat): images or k-space, the fastMRI layout above all."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from bench.data import declared, ismrmrd
from bench.data.arrays import Kind, Stack, kspace_of, read_content
from bench.data.contents import Content
from bench.data.ismrmrd import check_dataset
from bench.data.kspace import provenance
from bench.data.volume import Unusable, Volume

SUFFIXES = {".h5", ".hdf5", ".t5", ".mat"}
RECON_SIZE = re.compile(rb"<reconSpace>.*?<x>(\d+)</x>\s*<y>(\d+)</y>", re.DOTALL)
MANY = 64  # elements of a MATLAB cell or struct array that are looked into


def read(
    file: Path, name: str, *, key: str | None = None, kind: Kind = "auto", axes: str = "auto"
) -> list[Volume]:
    """Read an HDF5 or MATLAB file of any version.

    In the fastMRI layout, `reconstruction_rss` or `reconstruction_esc` is read; without them, an
    image is reconstructed from `kspace` and cropped to the size that its header states. Raw
    acquisitions (ISMRMRD) are sorted into k-space.

    Args:
        file: the file.
        name: its path below the dataset's folder.
        key: the array to take, `group/name` or `struct.field`; default: by a usual name, else the
            largest.
        kind: `image` or `kspace`; default: k-space if the key says so (`ksp`, `kspace`).
        axes: a letter for each axis, t(ime), s(lice), c(oil), h(eight), w(idth); default: the
            shortest axis at either end counts slices, or coils of k-space if the data look so.

    Returns:
        one volume, or one for each time frame if `axes` has a t.

    Raises:
        NoImage: nothing but masks or label maps.
        Unusable: no image, or an ambiguous array.
        UserError: unknown kind.
    """
    group = ismrmrd.group_of(file) if key is None else None
    if group is not None:
        return ismrmrd.read(file, name, group)
    with opened(file) as content:
        stack, chosen = read_content(content, key, kind, axes_of(content, key, axes))
        stack = _judged(stack, chosen, content.arrays)
        stack = replace(stack, images=_cropped(stack.images, chosen, content.arrays))
        return stack.volumes(name, content.subject)


def axes_of(content: Content, key: str | None, axes: str) -> str:
    """Name the axes of fastMRI's single-coil k-space: slices where other files have coils."""
    kspace = content.arrays.get("kspace")
    if axes != "auto" or kspace is None or key not in (None, "kspace"):
        return axes
    taken = not any(name.startswith("reconstruction_") for name in content.arrays) or key
    return "shw" if taken and "acquisition" in content.facts and len(kspace.shape) == 3 else axes


@contextmanager
def opened(file: Path) -> Iterator[Content]:
    """Open a file; its arrays are read when they are used."""
    if file.suffix.lower() == ".mat" and not h5py.is_hdf5(file):
        for _, shape, _ in scipy.io.whosmat(file):
            declared.check(tuple(map(int, shape)), 1, file.stat().st_size)
        found = scipy.io.loadmat(file)  # MATLAB's own format, before version 7.3
        yield _content_of({name: v for name, v in found.items() if not name.startswith("__")})
        return
    with h5py.File(file) as content:
        arrays: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if (
                isinstance(item, h5py.Dataset)
                and not name.startswith("#")
                and item.shape is not None
            ):
                check_dataset(item)
                arrays[name] = item

        content.visititems(note)
        facts = dict(content.attrs)
        for name, item in arrays.items():
            if item.size == 1 or item.attrs.get("MATLAB_class") == b"char":
                facts.setdefault(name, _text(item))
        yield Content(arrays, facts)


def _text(item: Any) -> Any:
    """Read a text or a number; MATLAB 7.3 stores text as the numbers of its letters."""
    value = item[()]
    if item.attrs.get("MATLAB_class") == b"char" and np.asarray(value).dtype.kind == "u":
        return "".join(map(chr, np.asarray(value).ravel()))
    return value


def _content_of(found: Mapping[str, Any]) -> Content:
    """List the arrays in MATLAB's structs and cells as `struct/field` and `cell/0`."""
    arrays: dict[str, Any] = {}

    def note(name: str, value: Any) -> None:
        if not isinstance(value, np.ndarray):
            return
        if value.dtype.names or value.dtype.kind == "O":
            elements = value.ravel()
            for number, element in enumerate(elements[:MANY]):
                path = name if len(elements) == 1 else f"{name}/{number}"
                if value.dtype.names:
                    for part in value.dtype.names:
                        note(f"{path}/{part}", element[part])
                else:
                    note(path, element)
        else:
            arrays[name] = value

    for name, value in found.items():
        note(name, value)
    return Content(arrays, {name: value for name, value in arrays.items() if value.size == 1})


def _judged(stack: Stack, chosen: str, arrays: Mapping[str, Any]) -> Stack:
    """Set the badge of a reconstruction by one slice of the k-space in the same file."""
    beside = arrays.get("kspace")
    if not chosen.startswith("reconstruction_") or beside is None or len(beside.shape) < 3:
        return stack
    middle = np.asarray(beside[len(beside) // 2])
    letters = "chw"[-middle.ndim :]
    try:
        coils, _, _ = kspace_of(middle, "kspace", letters)
        badge, reason = provenance(coils[0])
    except Unusable:
        return stack  # masked k-space says nothing about the reconstruction
    return replace(stack, badge=badge, reason=reason)


def size_of(arrays: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the rows and columns of the field of view, as the header of fastMRI's files states."""
    header = arrays.get("ismrmrd_header")
    if header is None:
        return None
    text = header[()]
    size = RECON_SIZE.search(text.encode() if isinstance(text, str) else bytes(text))
    # The header's x is the readout, the rows of these arrays.
    return None if size is None else (int(size[1]), int(size[2]))


def _cropped(images: np.ndarray, chosen: str, arrays: Mapping[str, Any]) -> np.ndarray:
    """Crop the oversampled readout of fastMRI's k-space, as its header states."""
    size = size_of(arrays) if chosen == "kspace" else None
    if size is None:
        return images
    for axis, wanted in zip((-2, -1), size, strict=True):
        start = max(0, (images.shape[axis] - wanted) // 2)
        images = images.take(range(start, min(start + wanted, images.shape[axis])), axis)
    return images
