"""Meaning of the bare arrays in .npy, .h5 and .mat files: which one, which axes, which space."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Complex64, Float32

from bench.data import kspace
from bench.data.prepare import Unusable, check

Kind = Literal["auto", "image", "kspace"]

# What is taken where a file holds several arrays and no key is given, best first.
PREFERRED = ("reconstruction_rss", "reconstruction_esc", "kspace", "ksp", "image", "vol", "data")
KSPACE_NAME = re.compile(r"k.?sp|kdata|k.?data", re.IGNORECASE)
MIN_SIDE = 16  # pixels; smaller arrays are no images
COLOURS = (3, 4)  # length of an axis of red, green, blue and perhaps transparency
FEW = 2  # an axis this many times shorter than the others counts coils or slices


@dataclass(frozen=True)
class Stack:
    """Magnitude images of one array, and what it tells about its making.

    Attributes:
        images: in the units of the array.
        badge: `raw`, `processed` or `magnitude-sim`.
        reason: why the badge is not `raw`, where that is known.
    """

    images: Float32[np.ndarray, "slices h w"]
    badge: str
    reason: str = ""


def choose(arrays: Mapping[str, Any], key: str | None) -> str:
    """Choose the array of a file: by key, by a usual name, or the largest that may be images.

    Args:
        arrays: name -> array, or anything else with `shape` and `dtype`.
        key: the name to take, or None.

    Raises:
        Unusable: no such key, no array of images, or several of equal right.
    """
    listed = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items()) or "none"
    if key is not None:
        if key not in arrays:
            raise Unusable(f"has no array {key!r}; it has: {listed} (dataset.key)")
        return key
    found = [name for name, array in arrays.items() if _may_be_images(array)]
    for preferred in PREFERRED:
        for name in found:
            if name.rpartition("/")[2].lower() == preferred:
                return name
    if not found:
        raise Unusable(
            f"holds no array of images: rank 2 to 5, {MIN_SIDE} pixels a side (it has: {listed})"
        )
    sizes = sorted(((int(np.prod(arrays[name].shape)), name) for name in found), reverse=True)
    if len(sizes) > 1 and sizes[0][0] == sizes[1][0]:
        raise Unusable(f"holds several arrays; choose one with dataset.key (it has: {listed})")
    return sizes[0][1]


def interpret(array: np.ndarray, name: str, kind: Kind = "auto", axes: str = "auto") -> Stack:
    """Turn an array into magnitude images.

    Args:
        array: real or complex; k-space may have its real and imaginary parts on a last axis of 2.
        name: its key or file, which may say that it is k-space.
        kind: whether it holds images or k-space; a complex array whose name does not tell is
            refused.
        axes: one letter for each axis: s(lice), c(oil), h(eight), w(idth), such as "schw".

    Raises:
        Unusable: a wrong rank or kind, NaN, or undersampled k-space.
    """
    if array.dtype.kind not in "uifc":
        raise Unusable(f"holds {array.dtype} in {name!r}: no images")
    in_kspace = kind == "kspace" or (kind == "auto" and bool(KSPACE_NAME.search(name)))
    if np.iscomplexobj(array) and not in_kspace and kind == "auto":
        raise Unusable(
            f"is complex in {name!r}: say with dataset.kind whether it is `kspace`, or an `image` "
            "whose magnitude is wanted"
        )
    if in_kspace:
        coils = kspace_of(array, name, axes)
        badge, reason = kspace.provenance(coils)
        return Stack(kspace.magnitude(coils), badge, reason)
    images = _ordered(np.abs(array) if np.iscomplexobj(array) else array, axes, False)
    if images.shape[1] > 1:
        raise Unusable("has several coils; k-space needs dataset.kind: kspace")
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is refused
        values = np.ascontiguousarray(images[:, 0], dtype=np.float32)
    check(values)
    return Stack(values, "processed")


def kspace_of(
    array: np.ndarray, name: str, axes: str = "auto"
) -> Complex64[np.ndarray, "slices coils h w"]:
    """Turn an array into k-space of slices and coils; see `interpret`.

    Raises:
        Unusable: a real array, or a wrong rank.
    """
    if not np.iscomplexobj(array) and array.ndim > 2 and array.shape[-1] == 2:
        array = array[..., 0] + 1j * array[..., 1]
    if not np.iscomplexobj(array):
        raise Unusable(f"is real in {name!r}, and k-space is complex; see dataset.kind")
    return _ordered(array, axes, True).astype(np.complex64)


def _ordered(array: np.ndarray, axes: str, in_kspace: bool) -> np.ndarray:
    """Bring the axes into the order slices, coils, height, width."""
    letters = _guess(array.shape, in_kspace) if axes == "auto" else axes
    if len(letters) != array.ndim or len(set(letters)) < len(letters) or set(letters) - set("schw"):
        raise Unusable(
            f"has shape {array.shape}, which dataset.axes: {letters!r} does not describe; write "
            "one letter for each axis: s(lice), c(oil), h(eight), w(idth)"
        )
    if not set("hw") <= set(letters):
        raise Unusable(f"needs an h and a w in dataset.axes: {letters!r}")
    for missing in set("sc") - set(letters):
        array, letters = array[None], missing + letters
    ordered = array.transpose([letters.index(letter) for letter in "schw"])
    if min(ordered.shape[2:]) < MIN_SIDE:
        raise Unusable(
            f"has shape {array.shape}: images of {ordered.shape[2]}x{ordered.shape[3]} pixels, "
            f"smaller than {MIN_SIDE}; see dataset.axes"
        )
    return ordered


def _guess(shape: tuple[int, ...], in_kspace: bool) -> str:
    """Name the axes of an array; the shortest counts coils or slices."""
    if len(shape) > 2 and shape[-1] in COLOURS and not in_kspace:
        raise Unusable(
            f"has shape {shape}, as colour pictures do; store grey images, or name the axes with "
            "dataset.axes"
        )
    last_is_short = FEW * shape[-1] < min(shape[-3:-1], default=0)
    if len(shape) == 2:
        return "hw"
    if len(shape) == 3:
        counts = "c" if in_kspace else "s"
        return f"hw{counts}" if last_is_short else f"{counts}hw"
    if len(shape) == 4 and (in_kspace or 1 in shape):
        return "shwc" if last_is_short else "schw"
    raise Unusable(
        f"has rank {len(shape)} (shape {shape}); name its axes with dataset.axes, such as schw"
    )


def _may_be_images(array: Any) -> bool:
    if not 2 <= len(array.shape) <= 5 or array.dtype.kind not in "uifcV":
        return False
    return sum(side >= MIN_SIDE for side in array.shape) >= 2
