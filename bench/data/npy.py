"""NumPy arrays (.npy, .npz): images or k-space."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format

from bench.data import declared
from bench.data.arrays import Kind, interpret, read_content
from bench.data.contents import Content
from bench.data.volume import Unusable, Volume
from bench.parsing import one_at_a_time

SUFFIXES = {".npy", ".npz"}
# First bytes of an array, and of an archive of arrays.
MAGIC = (b"\x93NUMPY", b"PK\x03\x04", b"PK\x05\x06")
LONGEST_HEADER = 20_000
PICKLED = (
    "holds pickled Python objects, which are not opened because they could run any code; save "
    "plain arrays of numbers"
)


def read(
    file: Path, name: str, *, key: str | None = None, kind: Kind = "auto", axes: str = "auto"
) -> list[Volume]:
    """Read a NumPy file.

    Args:
        file: an .npy or .npz file.
        name: its path below the dataset's folder.
        key: array of an .npz file; default: by a usual name, else the largest.
        kind: `image` or `kspace`; default: k-space if the name says so (`ksp`, `k_space`).
        axes: a letter for each axis, t(ime), s(lice), c(oil), h(eight), w(idth); default: the
            shortest axis at either end counts slices, or coils of k-space if the data look so.

    Returns:
        one volume, or one for each time frame if `axes` has a t.

    Raises:
        NoImage: nothing but masks or label maps.
        Unusable: objects, text, or an ambiguous array.
        UserError: unknown kind.
    """
    opened = open_file(file)
    if isinstance(opened, np.ndarray):
        if key is not None:
            raise Unusable(f"is one array without keys; drop dataset.key: {key!r}")
        return interpret(opened, file.stem, kind, axes).volumes(name)
    stack, _ = read_content(opened, key, kind, axes)
    return stack.volumes(name, opened.subject)


def open_file(file: Path) -> np.ndarray | Content:
    """Load the array of a file, or all arrays of an archive.

    Raises:
        Unusable: not a NumPy file, or pickled objects.
    """
    with file.open("rb") as stream:
        start = stream.read(6)
    if not start:
        raise Unusable("cannot be read (it is empty)")
    if not start.startswith(MAGIC):
        raise Unusable("cannot be read (it does not begin as a NumPy file does)")
    with one_at_a_time:
        return _loaded(file, start)


def _loaded(file: Path, start: bytes) -> np.ndarray | Content:
    try:
        if start.startswith(MAGIC[0]):
            with file.open("rb") as stream:
                _check_header(stream, file.stat().st_size, packed=False)
        loaded = np.load(file, allow_pickle=False)
    except ValueError as error:
        raise Unusable(PICKLED) if "allow_pickle" in str(error) else error from None
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        arrays = {member: _member(loaded, member) for member in loaded.files}
    facts = {member: values for member, values in arrays.items() if values.size == 1}
    return Content(arrays, facts)


def _member(archive: Any, member: str) -> np.ndarray:
    """Load an array of an archive; pickled objects are not opened."""
    try:
        name = member if member in archive.zip.namelist() else f"{member}.npy"
        with archive.zip.open(name) as stream:
            _check_header(stream, archive.zip.getinfo(name).compress_size, packed=True)
        return np.asarray(archive[member])
    except ValueError as error:
        if "allow_pickle" in str(error):
            return np.empty(0, dtype=object)
        raise


def _check_header(stream: Any, held: int, packed: bool) -> None:
    """Compare the shape in an array's header with the bytes that are present."""
    if stream.read(len(MAGIC[0])) != MAGIC[0]:
        return  # another file in the archive, which NumPy returns as bytes
    stream = io.BytesIO(MAGIC[0] + stream.read(LONGEST_HEADER))
    version = format.read_magic(stream)
    read_header = (
        format.read_array_header_1_0 if version == (1, 0) else format.read_array_header_2_0
    )
    shape, _, kind = read_header(stream)
    declared.check(shape, kind.itemsize, held, packed)
