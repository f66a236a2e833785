"""From k-space to magnitude images, and the detection of processed or simulated k-space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Complex, Complex64, Float, Float32, Float64

from bench.data.phase import is_simulated
from bench.data.volume import Unusable

# Magnitude below which a sample is empty, relative to the largest, where there is a gap of this
# factor between the empty ones and the others.
EMPTY, GAP = 1e-7, 10
# Share of empty samples, inside the extent of the sampled ones, that is still called full.
GAPS = 0.05
# Share of empty rows and columns around the sampled ones that does not yet count as zero-padding.
PADDING = 0.02
# The quadrants of a picture are swapped if its corners are SWAPPED times as bright as its middle,
# and the middles of one pair of sides are darker than DARK_SIDE times the corners: true for none of
# 8,345 pictures of heads and chests, for 94 % of them after swapping, and for 0.5 % of their
# negatives. For a single axis, these sides must be ONE_AXIS times as bright as all the rest: true
# for none, and for 21 % after swapping.
SWAPPED, DARK_SIDE, ONE_AXIS = 3.0, 0.8, 4.0
# DC is in the corner of k-space if the energy there is so many times that in the middle.
CORNER = 2.0

# Share of the energy in the strongest hundredth of the samples: 0.75 to 0.97 in k-space, 0.06 to
# 0.38 in images. Of an array and its transform, the k-space has a share TELLING times as great.
STRONGEST, MOSTLY, TELLING = 0.01, 0.5, 3.0

IN_THE_CORNER = (
    "The centre of k-space is in the corner of the array, as numpy's fft2 leaves it, and was read "
    "there."
)
WERE_SWAPPED = (
    "The pictures of this k-space have their quadrants swapped (another fftshift convention), and "
    "were shifted by half the field of view."
)


@dataclass(frozen=True)
class Convention:
    """Where k-space and its pictures have their origins.

    Attributes:
        corner: by axis, whether DC is in the corner of the array instead of in its middle.
        swapped: by axis, whether the picture comes out shifted by half the field of view.
    """

    corner: tuple[bool, bool]
    swapped: tuple[bool, bool]

    @property
    def shifts(self) -> list[bool]:
        """By axis, whether the picture is the shifted transform of the array or the plain one."""
        return [
            corner == swapped for corner, swapped in zip(self.corner, self.swapped, strict=True)
        ]

    @property
    def remarks(self) -> tuple[str, ...]:
        """Sentences about the convention for the audit."""
        return (IN_THE_CORNER,) * any(self.corner) + (WERE_SWAPPED,) * any(self.swapped)


def magnitude(
    kspace: Complex64[np.ndarray, "slices coils h w"],
) -> tuple[Float32[np.ndarray, "slices h w"], Convention]:
    """Transform each coil and combine: x = sqrt(sum_c |F^-1 y_c|^2).

    The root of the sum of squares needs no coil sensitivities (Roemer et al., 1990). The position
    of DC and the shift of the picture are determined from the data.
    """
    corner = _corner(kspace)
    images = np.stack(
        [np.sqrt((np.abs(np.fft.ifft2(y, norm="ortho")) ** 2).sum(0)) for y in kspace]
    ).astype(np.float32)
    # The magnitude does not depend on the position of DC; the middle of the picture does.
    swapped = _origin(_shifted(images.mean(0), [not inside for inside in corner]))
    convention = Convention(corner, swapped)
    return _shifted(images, convention.shifts), convention


def centred(
    kspace: Complex64[np.ndarray, "slices coils h w"], convention: Convention
) -> Complex64[np.ndarray, "slices coils h w"]:
    """Bring DC to the middle of k-space, and the object to the middle of its picture."""
    if not any(convention.corner + convention.swapped):
        return kspace
    result = kspace
    for axis, corner, shift in zip((-2, -1), convention.corner, convention.shifts, strict=True):
        images = np.fft.ifft(result if corner else np.fft.ifftshift(result, axis), axis=axis)
        images = np.fft.fftshift(images, axis) if shift else images
        result = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(images, axis), axis=axis), axis)
    return result.astype(np.complex64)


def field_of_view(
    kspace: Complex64[np.ndarray, "*n h w"], axis: int, wanted: int
) -> Complex64[np.ndarray, "*n h2 w2"]:
    """Crop the middle of the field of view along an axis, as for an oversampled readout."""
    size = kspace.shape[axis]
    if wanted >= size:
        return kspace
    lines = np.fft.ifft(np.fft.ifftshift(kspace, axis), axis=axis, norm="ortho")
    start = size // 2 - wanted // 2
    kept = np.fft.fftshift(lines, axis).take(range(start, start + wanted), axis)
    result = np.fft.fft(np.fft.ifftshift(kept, axis), axis=axis, norm="ortho")
    return np.fft.fftshift(result, axis).astype(np.complex64)


def quadrants_swapped(images: Float[np.ndarray, "*n h w"]) -> Bool[np.ndarray, "*n"]:
    """Find magnitude images in which the middle of the object is in the corners."""
    return _swapped_axes(images)[True, True]


def _origin(image: Float[np.ndarray, "h w"]) -> tuple[bool, bool]:
    """Find the axes along which a picture is shifted by half: dark middle, bright ends."""
    return next((axes for axes, found in _swapped_axes(image).items() if found), (False, False))


def _swapped_axes(
    images: Float[np.ndarray, "*n h w"],
) -> dict[tuple[bool, bool], Bool[np.ndarray, "*n"]]:
    """Return, for each combination of axes, whether images are shifted by half along these alone.

    The means over a quarter of the width around the four possible positions of the middle are
    compared. An object larger than the field of view is bright at its sides but not in its corners.
    """
    if not np.isfinite(images.sum(dtype=np.float64)):
        images = np.nan_to_num(images, nan=0.0, posinf=0.0, neginf=0.0)
    bright = _around(images)
    middle, corners = bright[False, False], bright[True, True]
    sides = (bright[True, False], bright[False, True])
    swapped = (corners > SWAPPED * middle) & (np.minimum(*sides) < DARK_SIDE * corners)
    found = {(True, True): np.asarray(swapped)}
    for axes, side, other in (((True, False), *sides), ((False, True), *sides[::-1])):
        most = np.maximum(np.maximum(middle, corners), other)
        found[axes] = np.asarray(~swapped & (side > ONE_AXIS * most))
    return found


def _corner(kspace: Complex64[np.ndarray, "slices coils h w"]) -> tuple[bool, bool]:
    """Find the axes along which DC is at index 0."""
    energy = sum((np.abs(y) ** 2).sum(0, dtype=np.float64) for y in kspace)
    around = _around(energy)
    best = max(around, key=lambda axes: around[axes])
    return best if around[best] > CORNER * around[False, False] else (False, False)


def _around(
    values: Float[np.ndarray, "*n h w"],
) -> dict[tuple[bool, bool], Float64[np.ndarray, "*n"]]:
    """Average over a quarter of the width around the corner (true) or the middle, by axis."""
    height, width = values.shape[-2:]
    rows, columns = max(1, height // 8), max(1, width // 8)
    down, along = np.arange(-rows, rows), np.arange(-columns, columns)
    lines = {top: values[..., down + (0 if top else height // 2), :] for top in (False, True)}
    return {
        (top, left): np.asarray(
            lines[top][..., along + (0 if left else width // 2)].mean((-2, -1), dtype=np.float64)
        )
        for top in (False, True)
        for left in (False, True)
    }


def _shifted(
    images: Float32[np.ndarray, "*slices h w"], axes: Sequence[bool]
) -> Float32[np.ndarray, "*slices h w"]:
    return np.fft.fftshift(
        images, [axis for axis, wanted in zip((-2, -1), axes, strict=True) if wanted]
    )


def check_domain(values: Complex[np.ndarray, "*rest h w"], in_kspace: bool) -> None:
    """Refuse images that are declared as k-space, and k-space that is declared as an image.

    Raises:
        Unusable: wrong domain; the message names the right `dataset.kind`.
    """
    looks = looks_like(values)
    if in_kspace and looks == "image":
        raise Unusable("looks like complex images and not like k-space; set dataset.kind: image")
    if not in_kspace and looks == "kspace":
        raise Unusable("looks like k-space and not like an image; set dataset.kind: kspace")


def looks_like(values: Complex[np.ndarray, "*rest h w"]) -> Literal["kspace", "image", "unknown"]:
    """Decide whether values are k-space by the distribution of energy in the strongest slice."""
    flat = values.reshape(-1, *values.shape[-2:])
    energy = [float((np.abs(y) ** 2).sum(dtype=np.float64)) for y in flat]
    y = flat[int(np.argmax(energy))]
    here, there = _share(y), _share(np.fft.ifft2(y))
    if here > max(MOSTLY, TELLING * there):
        return "kspace"
    return "image" if there > max(MOSTLY, TELLING * here) else "unknown"


def _share(values: Complex[np.ndarray, "h w"]) -> float:
    """Measure the share of the energy in the strongest hundredth of the samples."""
    power = np.sort((np.abs(values) ** 2).ravel())[::-1]
    return float(power[: max(1, int(STRONGEST * power.size))].sum() / max(power.sum(), 1e-300))


def provenance(kspace: Complex64[np.ndarray, "slices coils h w"]) -> tuple[str, str]:
    """Classify k-space with regard to the "implicit data crimes" of Shimron et al. (PNAS 2022).

    Returns:
        the badge `raw`, `processed` (zero-padded) or `magnitude-sim` (the phase of the image is
        smooth where a measurement has noise: a magnitude image was transformed, with or without
        coil sensitivities), and the reason in words.

    Raises:
        Unusable: NaN, no signal, or undersampled, so that there is no ground truth.
    """
    middle = [axis for axis, corner in zip((2, 3), _corner(kspace), strict=True) if corner]
    if middle:
        kspace = np.fft.fftshift(kspace, middle)
    rows, columns = extent_of(kspace)
    inner = kspace[:, :, rows, columns]
    if is_simulated(inner):
        return (
            "magnitude-sim",
            "the phase of the image is smooth even where it is darkest and a measurement has "
            "noise: simulated from magnitudes",
        )
    if inner.size < (1 - PADDING) * kspace.size:
        sampled, padded = ("x".join(map(str, part.shape[2:])) for part in (inner, kspace))
        return "processed", f"k-space is zero-padded from {sampled} to {padded}"
    return "raw", ""


def extent_of(kspace: Complex64[np.ndarray, "slices coils h w"]) -> tuple[slice, slice]:
    """Find the rows and columns between which k-space is sampled.

    Raises:
        Unusable: NaN, no signal, or gaps between the samples.
    """
    sampled = sampled_in(kspace)
    rows, columns = _run(np.any(sampled, 1)), _run(np.any(sampled, 0))
    extent = sampled[rows, columns]
    if extent.mean() < 1 - GAPS:
        raise Unusable(
            f"is undersampled k-space ({extent.mean():.0%} of its extent is sampled), which has no "
            "ground truth; provide fully sampled data"
        )
    return rows, columns


def sampled_in(kspace: Complex64[np.ndarray, "slices coils h w"]) -> Bool[np.ndarray, "h w"]:
    """Mark the samples that were acquired, in any slice or coil.

    Raises:
        Unusable: NaN, or no signal.
    """
    largest = np.zeros(kspace.shape[2:], np.float32)
    for y in kspace:
        largest = np.maximum(largest, np.abs(y).max(0))
    if not np.isfinite(largest).all():
        raise Unusable("holds NaN or infinite values in k-space; repair or remove them")
    if not largest.any():
        raise Unusable("holds only zeros")
    small = largest < EMPTY * largest.max()
    if small.any() and not small.all():
        faint = np.quantile(largest[~small], 0.05)
        # Simulations without noise may fade out without a gap.
        if faint > GAP * largest[small].max():
            return ~small
    return largest > 0


def _run(sampled: Bool[np.ndarray, " n"]) -> slice:
    """Find the range from the first to the last sampled index."""
    found = np.flatnonzero(sampled)
    return slice(int(found[0]), int(found[-1]) + 1)
