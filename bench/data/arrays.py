"""Meaning of bare arrays in .npy, .h5, .mat and .cfl files: which array, and which space."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Complex64, Float32, Shaped

from bench.data import kspace
from bench.data.axes import FEW, Unclear, example, of_images, of_kspace, ordered, squeezed
from bench.data.contents import Content, check_grid, choose, is_kspace_name
from bench.data.volume import NoImage, Plane, Unusable, Volume, planes_of, span_of
from bench.errors import unknown

Kind = Literal["auto", "image", "kspace"]

INTERLEAVED = (
    "Real and imaginary parts alternate on the last axis of the k-space, which was read as half "
    "as many coils."
)
LEADING = "Real and imaginary parts are on the axis before rows and columns of the k-space."


@dataclass(frozen=True)
class Stack:
    """Magnitude images of one array, and what the array reveals about how it was made.

    Attributes:
        images: in the units of the array.
        timed: whether the first axis was named as time; its frames then become named volumes.
        badge: `raw`, `processed` or `magnitude-sim`.
        reason: why the badge is not `raw`, where that is known.
        remarks: how the array was read.
    """

    images: Float32[np.ndarray, "time slices h w"]
    timed: bool = False
    badge: str = "processed"
    reason: str = ""
    remarks: tuple[str, ...] = ()

    def volumes(
        self, name: str, subject: str | None = None, spacing: tuple[float, float] = (1.0, 1.0)
    ) -> list[Volume]:
        """Make a volume of each time frame, all scaled alike; without time, one volume of all."""
        common = Volume(
            name,
            planes_of(self.images[0], spacing),
            name,
            subject,
            badge=self.badge,
            reason=self.reason,
            remarks=self.remarks,
        )
        if not self.timed:
            return [common]
        flat = self.images.reshape(-1, *self.images.shape[2:])
        finite = np.isfinite(flat)
        span = span_of(
            Plane(values, outside=None if known.all() else ~known)
            for values, known in zip(flat, finite, strict=True)
        )
        return [
            replace(common, name=f"{name}/t-{k:03d}", planes=planes_of(frame, spacing), span=span)
            for k, frame in enumerate(self.images)
        ]


def read_content(content: Content, key: str | None, kind: Kind, axes: str) -> tuple[Stack, str]:
    """Choose an array and turn it into images; see `choose` and `interpret`.

    Returns:
        the images, and the name of their array.
    """
    chosen, passed_over = choose(content.arrays, key)
    if in_kspace(chosen, kind):
        check_grid(content.arrays, chosen)
    stack = interpret(values_of(content.arrays[chosen]), chosen, kind, axes)
    return replace(stack, remarks=(*passed_over, *stack.remarks)), chosen


def in_kspace(name: str, kind: Kind) -> bool:
    """Return whether an array is k-space: by the option, else by its name.

    Raises:
        UserError: unknown kind.
    """
    if kind not in ("auto", "image", "kspace"):
        raise unknown("dataset.kind", kind, ["auto", "image", "kspace"])
    return kind == "kspace" or (kind == "auto" and is_kspace_name(name))


def values_of(array: Any) -> np.ndarray:
    """Read an array from any container, with its axes in the order in which it was saved.

    MATLAB 7.3 stores arrays in HDF5 with their axes reversed; they are reversed again.
    """
    values = np.asarray(array[()])
    return values.T if "MATLAB_class" in getattr(array, "attrs", {}) else values


def interpret(
    array: Shaped[np.ndarray, "..."], name: str, kind: Kind = "auto", axes: str = "auto"
) -> Stack:
    """Turn an array into magnitude images.

    Args:
        array: real or complex; k-space may have its real and imaginary parts on an axis.
        name: its key or file, which may say that it is k-space.
        kind: whether it holds images or k-space; a complex array is refused if neither this nor
            its name says which.
        axes: one letter for each axis, t(ime), s(lice), c(oil), h(eight), w(idth), such as "schw".

    Raises:
        NoImage: a mask.
        Unusable: a wrong rank or kind, or undersampled k-space.
        UserError: unknown kind.
    """
    array = _numbers(array, name)
    if in_kspace(name, kind):
        return _from_kspace(array, name, axes)
    if np.iscomplexobj(array) and kind == "auto":
        raise Unusable(
            f"is complex in {name!r}: set dataset.kind to `kspace`, or to `image` to use its "
            "magnitude"
        )
    if axes == kind == "auto" and _may_be_two_reals(array):
        raise Unusable(
            f"has shape {array.shape}, two numbers per pixel: if these are the real and imaginary "
            "parts of k-space, set dataset.kind: kspace; if they are two images, dataset.axes: "
            f"{example(array.shape, 'ts')}"
        )
    array = squeezed(array) if axes == "auto" else array
    letters, remarks = of_images(array.shape) if axes == "auto" else (axes, ())
    if np.iscomplexobj(array):
        kspace.check_domain(ordered(array, letters), False)
    images = ordered(np.abs(array) if np.iscomplexobj(array) else array, letters)
    if images.shape[2] > 1:
        raise Unusable("has several coils; k-space needs dataset.kind: kspace")
    with np.errstate(over="ignore"):  # overflow becomes infinite, which is refused later
        values = np.ascontiguousarray(images[:, :, 0], dtype=np.float32)
    return Stack(values, _timed(letters, values), remarks=remarks)


def _may_be_two_reals(array: Shaped[np.ndarray, "..."]) -> bool:
    """Return whether the last axis of a real array may hold real and imaginary parts."""
    if array.ndim < 3 or array.shape[-1] != 2 or min(array.shape[-3:-1]) < FEW:
        return False
    joined = array[..., 0] + 1j * array[..., 1]
    return array.ndim > 3 or kspace.looks_like(joined) == "kspace"


def _timed(letters: str, images: np.ndarray) -> bool:
    return "t" in letters and (len(images) > 1 or letters.index("t") == 0)


def _numbers(array: Shaped[np.ndarray, "..."], name: str) -> Shaped[np.ndarray, "..."]:
    """Check that an array holds numbers; make complex numbers of real and imaginary fields.

    Raises:
        NoImage: a mask.
        Unusable: text, objects, other records.
    """
    fields = array.dtype.names
    if fields and len(fields) == 2 and "".join(fields).lower() in ("realimag", "reim", "ri"):
        array = array[fields[0]] + 1j * array[fields[1]]
    if array.dtype.kind == "b":
        raise NoImage("masks (bool)")
    if array.dtype.kind not in "uifc":
        what = {"O": "Python objects or a MATLAB cell array", "U": "text", "S": "text"}.get(
            array.dtype.kind, str(array.dtype)
        )
        raise Unusable(f"holds {what} in {name!r}: no images")
    return array


def _from_kspace(array: Shaped[np.ndarray, "..."], name: str, axes: str) -> Stack:
    coils, timed, remarks = kspace_of(array, name, axes)
    flat = coils.reshape(-1, *coils.shape[2:])
    badge, reason = kspace.provenance(flat)
    images, convention = kspace.magnitude(flat)
    shape = (*coils.shape[:2], *images.shape[1:])
    return Stack(images.reshape(shape), timed, badge, reason, (*remarks, *convention.remarks))


def kspace_of(
    array: Shaped[np.ndarray, "..."], name: str, axes: str = "auto", *, gaps: bool = False
) -> tuple[Complex64[np.ndarray, "time slices coils h w"], bool, tuple[str, ...]]:
    """Turn an array into k-space of slices and coils; see `interpret`.

    Args:
        array: complex, or with real and imaginary parts on an axis.
        name: for errors.
        axes: a letter for each axis.
        gaps: whether undersampled k-space is accepted; otherwise it is refused before its axes
            are identified.

    Returns:
        k-space, whether one of its axes is time, and remarks.

    Raises:
        Unusable: a real array, a wrong rank, or ambiguous axes.
    """
    array, remarks = _joined(_numbers(array, name), name, axes)
    if not np.isfinite(array).all():
        raise Unusable("holds NaN or infinite values in k-space; repair or remove them")
    if axes == "auto":
        array = squeezed(array)
        try:
            axes, more = of_kspace(array)
        except Unclear as question:
            if not gaps:
                kspace.extent_of(question.channels.astype(np.complex64))
            raise
        remarks += more
    result = ordered(array, axes).astype(np.complex64, copy=False)
    kspace.check_domain(result, True)
    return result, _timed(axes, result), remarks


def _joined(
    array: Shaped[np.ndarray, "..."], name: str, axes: str
) -> tuple[Shaped[np.ndarray, "..."], tuple[str, ...]]:
    """Join real and imaginary parts that are on an axis of a real array."""
    if np.iscomplexobj(array):
        return array, ()
    shape, rank = array.shape, array.ndim
    fits = axes == "auto" or len(axes) == rank - 1
    if rank > 2 and shape[-1] == 2 and fits:
        return array[..., 0] + 1j * array[..., 1], ()
    if rank > 2 and shape[-3] == 2 and fits:
        return array.take(0, -3) + 1j * array.take(1, -3), (LEADING,)
    short = rank > 2 and shape[-1] % 2 == 0 and FEW * shape[-1] < min(shape[-3:-1])
    if short if axes == "auto" else shape[-1] % 2 == 0 and len(axes) == rank and axes[-1] == "c":
        return array[..., ::2] + 1j * array[..., 1::2], (INTERLEAVED,)
    raise Unusable(
        f"is real in {name!r}, and k-space is complex; if these are images, set dataset.kind: image"
    )
