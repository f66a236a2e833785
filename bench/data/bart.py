"""Pairs of .cfl and .hdr files, as BART writes them (Uecker et al.): k-space or images."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Complex64

from bench.data import kspace
from bench.data.arrays import Kind, Stack, in_kspace
from bench.data.volume import Unusable, Volume

# A .cfl file counts only with its header, which `recognises` checks.
SUFFIXES: set[str] = set()
COMPANIONS = {".cfl": (".hdr",)}
COIL, SLICE = 3, 13  # indices among BART's dimensions; 0 to 2 are x, y and z
LARGEST_HEADER = 1 << 20
THREE = (
    "k-space in three dimensions was transformed along the third one (z), whose positions are the "
    "slices."
)


def recognises(file: Path) -> bool:
    """Return whether a file is the data of a pair: a .cfl whose .hdr states dimensions."""
    return file.suffix.lower() == ".cfl" and dimensions_of(file) is not None


def read(file: Path, name: str, *, kind: Kind = "auto") -> list[Volume]:
    """Read a pair.

    Args:
        file: the .cfl file.
        name: its path below the dataset's folder.
        kind: `image` or `kspace`; default: k-space if the name says so (`ksp`, `kspace`).

    Returns:
        one volume, or one for each further image (echo, time, average).

    Raises:
        Unusable: neither `kind` nor the name says what it is, or the header does not match it.
        UserError: unknown kind.
    """
    wanted = in_kspace(file.stem, kind)
    if not wanted and kind == "auto":
        raise Unusable(
            f"is complex in {file.stem!r}: set dataset.kind to `kspace`, or to `image` to use its "
            "magnitude"
        )
    values, remarks = load(file, along_z=wanted)
    kspace.check_domain(values, wanted)
    timed = len(values) > 1
    if not wanted:
        if values.shape[2] > 1:
            raise Unusable("has several coils; k-space needs dataset.kind: kspace")
        images = np.abs(values[:, :, 0]).astype(np.float32)
        return Stack(images, timed).volumes(name)
    flat = values.reshape(-1, *values.shape[2:])
    badge, reason = kspace.provenance(flat)
    images, convention = kspace.magnitude(flat)
    images = images.reshape(*values.shape[:2], *images.shape[1:])
    return Stack(images, timed, badge, reason, (*remarks, *convention.remarks)).volumes(name)


def dimensions_of(file: Path) -> tuple[int, ...] | None:
    """Read the dimensions in the .hdr beside a .cfl file; None if that is not a BART header."""
    headers = [file.with_suffix(end) for end in (".hdr", ".HDR")]
    header = next((path for path in headers if path.is_file()), None)
    if header is None or header.stat().st_size > LARGEST_HEADER:
        return None
    lines = header.read_text("utf-8", "replace").splitlines()
    for title, numbers in pairwise(lines):
        if title.strip() == "# Dimensions":
            found = numbers.split()
            if found and all(number.isdigit() and int(number) > 0 for number in found):
                return tuple(map(int, found))
    return None


def load(
    file: Path, along_z: bool
) -> tuple[Complex64[np.ndarray, "time slices coils h w"], tuple[str, ...]]:
    """Read a pair into time frames, slices, coils, rows and columns.

    Rows and columns of the picture are the first two of the dimensions x, y and z that are longer
    than 1; the third, or else the dimension of slices, counts slices.

    Args:
        file: the .cfl file.
        along_z: whether a third dimension is k-space too, and is transformed.

    Raises:
        Unusable: no header, or a header that does not match the file.
    """
    stated = dimensions_of(file)
    if stated is None:
        raise Unusable("has no BART header (a .hdr file of the same name with # Dimensions)")
    count = int(np.prod([float(number) for number in stated]))
    if file.stat().st_size != 8 * count:
        raise Unusable(
            f"has {file.stat().st_size} bytes where its header ({'x'.join(map(str, stated))}) "
            f"states {8 * count}; it may be truncated"
        )
    shape = (*stated, *(1,) * max(0, SLICE + 1 - len(stated)))
    array = np.fromfile(file, "<c8").reshape(shape, order="F")
    space = [axis for axis in range(3) if shape[axis] > 1]
    if len(space) < 2:
        raise Unusable(f"has dimensions {stated}: no rows and columns")
    rows, columns = space[:2]
    (depth,) = set(range(3)) - {rows, columns}
    remarks: tuple[str, ...] = ()
    if shape[depth] > 1 and along_z:
        shifted = np.fft.ifft(np.fft.ifftshift(array, depth), axis=depth, norm="ortho")
        array, remarks = np.fft.fftshift(shifted, depth).astype(np.complex64), (THREE,)
    others = [axis for axis in range(len(shape)) if axis not in (rows, columns, depth, COIL, SLICE)]
    ordered = array.transpose(*others, SLICE, depth, COIL, rows, columns)
    frames = int(np.prod([shape[axis] for axis in others]))
    slices = shape[SLICE] * shape[depth]
    return ordered.reshape(frames, slices, shape[COIL], shape[rows], shape[columns]), remarks
