"""Datasets of raw k-space: what each coil measured of each slice, and the coils' sensitivities.

The measurement stays as it was acquired: the readout's oversampling is removed by cropping the
field of view, a smaller image size is the centre of k-space (an acquisition of lower resolution),
and coils are combined into as many virtual ones as are wanted, which leaves white noise white.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Complex64, Float32
from pydantic import Field

from bench.data import files, kspace, reading, sources, subjects
from bench.data.assembly import assemble
from bench.data.base import Dataset
from bench.data.coils import (
    combined,
    compressed,
    misfit,
    noise_std,
    root_sum_of_squares,
    sensitivities,
)
from bench.data.ledger import Ledger
from bench.data.measurement import Measured
from bench.data.parts import part_called
from bench.data.pieces import Facts, Piece, pieces_of
from bench.data.prepare import BETWEEN, BLANK, EMPTY, MIN_FOREGROUND, Prepared, foreground
from bench.data.reading import Patterns
from bench.data.spool import Spool
from bench.data.survey import survey
from bench.data.volume import NoImage, Span, Unusable, Volume, planes_of
from bench.errors import UserError
from bench.places import cache_folder
from bench.ranges import Count, Share

Coils = Annotated[int, Field(ge=1, le=64)]
Side = Annotated[int, Field(ge=6, le=128)]
Reference = Literal["combined", "rss"]
Maps = Literal["full", "calibration"]
RULE = "0 to the maximum of the volume"
FULL_CALIBRATION = 24  # side of the centre from which the reference's maps are estimated
MISFIT = 0.05  # share of the energy that maps leave unexplained; at most 0.004 where they fit
UNEVEN = 0.01  # relative difference of rows and columns beyond which pixels are not square


@dataclass(frozen=True)
class Raw:
    """How k-space becomes images and measurements.

    Attributes:
        size: side of the images.
        coils: number of virtual coils; None: as many as there are.
        maps: from which part of k-space the operator's maps are estimated.
        calibration: side of the fully sampled centre from which maps are estimated.
        reference: how the coils' images are combined.
        min_foreground: slices with less foreground are dropped.
        step: every `step`-th slice is taken.
        key: see `bench.data.measured.open_file`.
        axes: see there.
    """

    size: int
    coils: int | None
    maps: Maps
    calibration: int
    reference: Reference
    min_foreground: float | None
    step: int
    key: str | None
    axes: str


@dataclass(frozen=True)
class Slices:
    """The slices of a file."""

    pieces: list[Piece]
    facts: Facts
    values: Complex64[np.ndarray, "n coils h w"]
    maps: Complex64[np.ndarray, "n coils h w"]
    noise: Float32[np.ndarray, " n"]
    misfits: list[float]
    remarks: Sequence[str]


def read(
    source: str,
    path: str | None,
    image_size: int,
    own: dict[str, Any],
    *,
    measured: Literal[True] = True,
    include: Patterns = (),
    exclude: Patterns = (),
    subject_regex: str | None = None,
    subject_csv: str | None = None,
    split_csv: str | None = None,
    coils: Coils | None = None,
    maps: Maps = "full",
    calibration: Side | None = None,
    reference: Reference = "combined",
    min_foreground: Share | None = None,
    step: Count = 1,
) -> Dataset:
    """Read the k-space of all files at a path.

    Args:
        source: the reader of such files.
        path: a file, or a folder with files at any depth.
        image_size: side of the images, and of the k-space that is kept.
        own: `key` and `axes`, for formats that do not say which array is the k-space.
        measured: true.
        include: see `bench.data.reading.read`, as for the four that follow.
        exclude: patterns of files to leave out.
        subject_regex: finds who was scanned.
        subject_csv: a table of subjects.
        split_csv: a table of parts.
        coils: number of virtual coils, the same for all slices; default: as many as the
            files have, which must agree.
        maps: `full`: the operator knows the maps by which the reference was combined, estimated
            from the centre of fully sampled k-space. `calibration`: it knows those of a smaller
            centre, which a scan with a mask measures too.
        calibration: side of that centre; default: 24, or 12 for `maps: calibration`.
        reference: `combined` by the maps, or the root of the sum of squares (`rss`).
        min_foreground: slices with less foreground are dropped; default: 0.1.
        step: every `step`-th slice is taken.

    Raises:
        UserError: nothing to read, too many files unusable, or files that differ.
    """
    how = Raw(
        image_size, coils, maps, calibration_side(maps, calibration), reference,
        min_foreground, step,
        own.get("key"), own.get("axes", "auto"),
    )  # fmt: skip
    reader = sources.find(source)
    root, found = files.look(path)
    ledger = Ledger(root)
    rule = subjects.rule_of(root, subject_regex, subject_csv)
    part_of = subjects.by_table(root, split_csv, "part") if split_csv else None
    candidates = found
    if found != [Path(path or "")]:
        candidates = reading.candidates_of(reader, source, found, ledger, include, exclude)
    if not candidates:
        ledger.refuse_none(Path(path or ""))
    folder = cache_folder()
    values, maps_spool = Spool(folder), Spool(folder)
    try:
        got = _read_all(candidates, ledger, how, values, maps_spool)
        ledger.refuse_many(len(candidates))
        if not got.pieces:
            ledger.refuse_none(Path(path or ""))
        parts = [part_called(part_of(piece.file)) for piece in got.pieces] if part_of else None
        noise = np.array(got.noise, np.float32)
        sentences = [*sorted(got.remarks), _described(values.shape[0], noise, how)]
        sentences += _warned([piece.name for piece in got.pieces], got.misfits)
        dataset = assemble(
            got.pieces, got.facts, ledger.counts(found), ledger.skipped(), sentences, rule, parts
        )
    except BaseException:
        values.discard()
        maps_spool.discard()
        raise
    dataset.audit.findings["maps_do_not_fit"] = sum(one > MISFIT for one in got.misfits)
    dataset.audit.findings["noise_std_median"] = float(f"{np.median(noise):.4g}")
    brought = Measured(
        "kspace", values.close(), noise, got.digests, np.arange(len(noise)), maps_spool.close()
    )
    return replace(dataset, measured=brought)


def calibration_side(maps: Maps, calibration: int | None) -> int:
    """Return the side of the centre from which the operator's maps are estimated."""
    return calibration or (FULL_CALIBRATION if maps == "full" else FULL_CALIBRATION // 2)


@dataclass
class _Result:
    """What was read of all files, beside the arrays."""

    pieces: list[Piece] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    misfits: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    remarks: set[str] = field(default_factory=set)


def _read_all(
    candidates: Sequence[Path], ledger: Ledger, how: Raw, values: Spool, maps: Spool
) -> _Result:
    """Read and prepare every file; record what became of it."""
    got = _Result()
    work = partial(_read_file, root=ledger.root, how=how)
    for file, result in survey(candidates, work, "reading k-space, estimating coil maps"):
        if isinstance(result, NoImage):
            ledger.leave_out([file], result)
        elif isinstance(result, str):
            ledger.unusable[file] = result
        else:
            _check_coils(values, result, files.name_of(file, ledger.root))
            values.add(result.values)
            maps.add(result.maps)
            got.pieces += result.pieces
            got.facts.append(result.facts)
            got.noise += result.noise.tolist()
            got.misfits += result.misfits
            got.digests += [hashlib.sha256(y.tobytes()).hexdigest()[:16] for y in result.values]
            got.remarks |= set(result.remarks)
    return got


def _check_coils(values: Spool, result: Slices, name: str) -> None:
    if values.count and values.shape[0] != result.values.shape[1]:
        raise UserError(
            f"{name}: has {result.values.shape[1]} coils, and files before it {values.shape[0]}; "
            "set dataset.coils to a number that all of them are combined into"
        )


def _warned(names: Sequence[str], misfits: Sequence[float]) -> list[str]:
    """Name slices that one set of maps does not explain."""
    worst = max(range(len(names)), key=lambda k: misfits[k])
    count = sum(one > MISFIT for one in misfits)
    if not count:
        return []
    return [
        f"{count} slices are not explained by one set of coil maps ({names[worst]}: "
        f"{misfits[worst]:.0%} of the energy is left), as where the object is larger than the "
        "field of view; methods that use the maps fail there."
    ]


def _described(count: int, noise: Float32[np.ndarray, " n"], how: Raw) -> str:
    """Describe the measurements for audit and report."""
    side = how.calibration
    by = "by the maps" if how.reference == "combined" else "by the root of the sum of squares"
    coils = (
        "one coil"
        if count == 1
        else f"{count} coils, with ESPIRiT maps from the {side}x{side} samples in the middle; the "
        f"images are magnitudes of the coils' images, combined {by}"
    )
    return (
        f"The dataset brings its own k-space: {coils}. Its noise has a standard "
        f"deviation of {np.median(noise):.3g} in the median "
        f"({noise.min():.3g} to {noise.max():.3g}), in the units of the images."
    )


def _read_file(file: Path, root: Path, how: Raw) -> Slices:
    """Prepare the slices of a file.

    Raises:
        Unusable: no k-space, or not fully sampled.
        NoImage: nothing but empty slices.
    """
    # Imported late: it imports readers, which take time and may need extras.
    from bench.data.measured import open_file

    name = files.name_of(file, root)
    try:
        acquired = open_file(file, how.key, how.axes)
    except UserError as error:
        raise Unusable(str(error).removeprefix(f"{file}: ")) from None
    whole = acquired.kspace
    badge, reason = kspace.provenance(whole)
    _, convention = kspace.magnitude(whole)
    whole = kspace.centred(whole, convention)
    if acquired.rows is not None:
        whole = kspace.field_of_view(whole, -2, acquired.rows)
    whole = compressed(whole, how.coils or whole.shape[1])
    kept = _fitted(whole, how.size)
    if min(whole.shape[2:]) < how.size:
        size, wanted = "x".join(map(str, whole.shape[2:])), f"{how.size}x{how.size}"
        badge, reason = (
            ("processed" if badge == "raw" else badge),
            (f"k-space is zero-padded from {size} to {wanted}"),
        )
    elif badge == "processed":  # the padding may have been cut off
        badge, reason = kspace.provenance(kept)
    remarks = [*acquired.remarks, *convention.remarks, *_shape_of_pixels(whole.shape)]
    made = list(_slices(whole, kept, how))
    top = max(float(image.max()) for image, *_ in made)
    if not top > 0:
        raise NoImage(BLANK)
    least = MIN_FOREGROUND if how.min_foreground is None else how.min_foreground
    images: dict[int, np.ndarray] = {}
    dropped: dict[int, str] = {}
    for number, (image, *_) in enumerate(made):
        scaled = image / np.float32(top)
        if number % how.step:
            dropped[number] = BETWEEN
        elif len(made) > 1 and foreground(scaled) < least:
            dropped[number] = EMPTY
        else:
            images[number] = scaled
    if not images:
        raise NoImage(EMPTY)
    volume = Volume(
        name, planes_of(np.stack([image for image, *_ in made])), name, acquired.subject,
        badge=badge, reason=reason,
    )  # fmt: skip
    prepared = Prepared(images, dropped, RULE, Span(0.0, top, 0.0, top, top))
    return Slices(
        pieces_of(volume, prepared),
        Facts.of(volume, prepared),
        np.stack([made[number][1] / np.float32(top) for number in images]),
        np.stack([made[number][2] for number in images]),
        np.array([made[number][3] / top for number in images], np.float32),
        [made[number][4] for number in images],
        remarks,
    )


def _slices(
    whole: Complex64[np.ndarray, "slices coils rows columns"],
    kept: Complex64[np.ndarray, "slices coils h w"],
    how: Raw,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, float, float]]:
    """Yield each slice: its image, k-space, maps, noise, and how badly these maps fit."""
    full = min(FULL_CALIBRATION, how.size) if how.maps == "calibration" else how.calibration
    for number, y in enumerate(kept):
        std = noise_std(whole[number]) if whole[number].any() else 0.0
        if number % how.step:
            yield np.zeros(y.shape[1:], np.float32), y, np.zeros_like(y), std, 0.0
            continue
        images = _images(y)
        maps = sensitivities(y, min(full, how.size))
        if how.reference == "rss":
            image = root_sum_of_squares(images)
        else:
            image = np.abs(combined(images, maps)).astype(np.float32)
        if how.maps == "calibration":
            maps = sensitivities(y, how.calibration)
        yield image, y, maps, std, misfit(images, maps, std)


def _images(y: Complex64[np.ndarray, "coils h w"]) -> Complex64[np.ndarray, "coils h w"]:
    images = np.fft.ifft2(np.fft.ifftshift(y, (-2, -1)), norm="ortho")
    return np.fft.fftshift(images, (-2, -1)).astype(np.complex64)


def _fitted(
    whole: Complex64[np.ndarray, "slices coils rows columns"], size: int
) -> Complex64[np.ndarray, "slices coils h w"]:
    """Cut out the middle of k-space, or fill in zeros around it; DC stays in the middle."""
    kept = np.zeros((*whole.shape[:2], size, size), np.complex64)
    there, here = [], []
    for side in whole.shape[2:]:
        start = size // 2 - side // 2
        there.append(slice(max(start, 0), max(start, 0) + min(side, size)))
        here.append(slice(max(-start, 0), max(-start, 0) + min(side, size)))
    kept[:, :, there[0], there[1]] = whole[:, :, here[0], here[1]]
    return kept


def _shape_of_pixels(shape: tuple[int, ...]) -> list[str]:
    """Write a remark if the square images show fields of view that are not square."""
    rows, columns = shape[2:]
    if abs(rows - columns) <= UNEVEN * max(rows, columns):
        return []
    return [
        f"k-space of {rows}x{columns} samples is cut to a square: if its field of view was sampled "
        f"in square pixels, these are now {rows / columns:.2f} times as high as wide."
    ]
