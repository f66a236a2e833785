"""k-space as a scanner measured it, coil by coil, for operators that start from it."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Complex64

from bench.data import bart, hdf5, ismrmrd, npy
from bench.data.arrays import kspace_of, values_of
from bench.data.contents import Content, check_grid, choose
from bench.data.kspace import centred, magnitude, provenance
from bench.data.volume import NoImage, Unusable
from bench.errors import UserError


@dataclass(frozen=True)
class KspaceSlice:
    """The k-space of one slice.

    Attributes:
        kspace: DC and the object in the middle; the brightest pixel of its image is 1.
        badge: `raw`, `processed` or `magnitude-sim`, as for an image of a dataset.
        reason: why the badge is not `raw`.
        remarks: how the file was read.
    """

    kspace: Complex64[np.ndarray, "coils h w"]
    badge: str
    reason: str
    remarks: tuple[str, ...]


def load_kspace(
    path: Path, slice_number: int | None = None, key: str | None = None, axes: str = "auto"
) -> Complex64[np.ndarray, "coils h w"]:
    """Read the k-space of one slice; see `load_measured`."""
    return load_measured(path, slice_number, key, axes).kspace


def load_measured(
    path: Path, slice_number: int | None = None, key: str | None = None, axes: str = "auto"
) -> KspaceSlice:
    """Read the k-space of one slice, and how it was made.

    Undersampled k-space is read too; it counts as `processed`, because its origin is unknown.

    Args:
        path: a NumPy, HDF5, ISMRMRD or MATLAB file, or the .cfl file of BART's pair.
        slice_number: default: the middle one. Slices are numbered through all time frames.
        key: the array; default: by a usual name, else the largest.
        axes: a letter for each axis, t(ime), s(lice), c(oil), h(eight), w(idth).

    Raises:
        UserError: no such file, or a file without k-space.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    found = open_file(path, key, axes)
    volume = found.kspace
    number = len(volume) // 2 if slice_number is None else slice_number
    if not 0 <= number < len(volume):
        raise UserError(f"{path}: there is no slice {number}; it has {len(volume)}")
    if not np.isfinite(volume[number]).all() or not volume[number].any():
        raise UserError(f"{path}: slice {number} holds NaN, infinite values or only zeros")
    images, convention = magnitude(volume)
    coils = centred(volume[number : number + 1], convention)[0]
    try:
        badge, reason = provenance(volume[number : number + 1])
    except Unusable as why:
        badge, reason = "processed", str(why)
    return KspaceSlice(
        coils / images[number].max(), badge, reason, (*found.remarks, *convention.remarks)
    )


@dataclass(frozen=True)
class Acquired:
    """All k-space of a file.

    Attributes:
        kspace: slices of all time frames.
        remarks: how the file was read.
        subject: who was scanned, if the file states it.
        rows: of the field of view, if the readout was oversampled.
    """

    kspace: Complex64[np.ndarray, "slices coils h w"]
    remarks: tuple[str, ...] = ()
    subject: str | None = None
    rows: int | None = None


def open_file(path: Path, key: str | None = None, axes: str = "auto") -> Acquired:
    """Read all k-space of a file, in any of the formats.

    Raises:
        UserError: not a file with k-space.
    """
    try:
        return _open(path, key, axes)
    except Unusable as why:
        raise UserError(f"{path}: {why}") from None
    except NoImage as what:
        raise UserError(f"{path}: holds {what.kind} instead of k-space") from None
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError):
        raise UserError(
            f"{path}: not a NumPy, HDF5 or MATLAB file with k-space, nor BART's .cfl with its .hdr"
        ) from None


def _open(path: Path, key: str | None, axes: str) -> Acquired:
    if path.suffix.lower() in (".cfl", ".hdr"):
        _no_options("BART's pair", key, axes)
        frames, remarks = bart.load(path.with_suffix(".cfl"), along_z=True)
        return Acquired(frames.reshape(-1, *frames.shape[2:]), remarks)
    if path.suffix.lower() in npy.SUFFIXES:
        opened = npy.open_file(path)
        if isinstance(opened, Content):
            return _chosen(opened, key, axes)
        if key is not None:
            raise Unusable(f"is a single array without keys; leave out the key {key!r}")
        return _taken(opened, path.stem, axes, ())
    group = ismrmrd.group_of(path) if key is None else None
    if group is not None:
        _no_options("ISMRMRD", key, axes)
        raw = ismrmrd.load(path, group)
        frames = raw.kspace
        return Acquired(frames.reshape(-1, *frames.shape[2:]), (), raw.header.subject)
    with hdf5.opened(path) as content:
        found = _chosen(content, key, hdf5.axes_of(content, "kspace", axes))
        size = hdf5.size_of(content.arrays)
        return replace(found, rows=None if size is None else size[0])


def _no_options(what: str, key: str | None, axes: str) -> None:
    if key is not None or axes != "auto":
        raise Unusable(f"is {what}, which has no keys and states its axes; leave out key and axes")


def _chosen(content: Content, key: str | None, axes: str) -> Acquired:
    """Choose one of several arrays; k-space is preferred to images reconstructed from it."""
    arrays = content.arrays
    if key is None:
        arrays = {k: v for k, v in arrays.items() if not k.startswith("reconstruction_")}
    name, passed_over = choose(arrays, key)
    check_grid(content.arrays, name)
    taken = _taken(values_of(arrays[name]), name, axes, passed_over)
    return replace(taken, subject=content.subject)


def _taken(array: np.ndarray, name: str, axes: str, remarks: tuple[str, ...]) -> Acquired:
    frames, _, more = kspace_of(array, name, axes, gaps=True)
    return Acquired(frames.reshape(-1, *frames.shape[2:]), (*remarks, *more))
