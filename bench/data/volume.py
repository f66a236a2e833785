"""What a reader returns: slices in the units of their file, and what the file says about them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32

from bench.ranges import Finite

Window = tuple[Finite, Finite]


class Unusable(Exception):
    """Why a file or an array cannot be used; the message follows the file's name.

    More than a few unusable files are an error of the whole dataset.
    """


class NoImage(Exception):
    """A file holds something other than images to reconstruct; it is left out, counted by kind.

    Attributes:
        kind: what it is, in the plural and a few words: "label maps", "phase images".
        reason: follows the file's name in the message if there is nothing else to read.
    """

    def __init__(self, kind: str, reason: str = ""):
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason or f"is left out: {kind}"

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class Plane:
    """One slice.

    Attributes:
        values: in the units of the file; NaN where the file has NaN.
        spacing: distance of rows and of columns, in any common unit; a number that is not
            positive means unknown, and pixels are assumed to be square.
        outside: pixels outside the picture, whatever their value (padding); they become black.
        window: centre and width that the file states for this slice.
        file: path below the dataset's folder, where it differs from the volume's.
    """

    values: Float32[np.ndarray, "h w"]
    spacing: tuple[float, float] = (1.0, 1.0)
    outside: Bool[np.ndarray, "h w"] | None = None
    window: Window | None = None
    file: str | None = None


@dataclass(frozen=True)
class Span:
    """The range of intensities in a volume, or in all that are scaled with it.

    Attributes:
        low: the minimum.
        high: the maximum.
        floor: a value below which 1 % of the nonzero pixels lie.
        bright: a value above which 0.1 % of the pixels lie.
        usual: a size, sign aside, above which 5 % of the pixels are.
        whole: whether all values are whole numbers.
    """

    low: float
    high: float
    floor: float
    bright: float
    usual: float
    whole: bool = False

    def __or__(self, other: "Span") -> "Span":
        """Describe both ranges in one."""
        return Span(
            min(self.low, other.low),
            max(self.high, other.high),
            min(self.floor, other.floor),
            max(self.bright, other.bright),
            max(self.usual, other.usual),
            self.whole and other.whole,
        )


@dataclass(frozen=True)
class Volume:
    """Slices that belong together and are scaled together.

    Attributes:
        name: unique in the dataset and stable across runs; the ids of its slices are
            `<name>/<label>-<number>`, or the name itself where the label is empty.
        planes: the slices in their order, at least one.
        file: path of its file below the dataset's folder, which determines its official part.
        subject: who was scanned, if the file itself states it.
        presumed: whether the subject is only presumed from other information in the file.
        label: name of its slices; empty for a single picture.
        units: `HU` if the file says that these are Hounsfield units, else empty.
        inverted: low values are bright (DICOM's MONOCHROME1).
        full_scale: the value that the file shows as white (255 in an 8-bit picture); None: what
            is white depends on the values.
        span: the range of all volumes that are scaled together with this one, if there are others.
        digest: hash that identifies copies of a file; None: hashes of the pixels.
        badge: `raw` if reconstructed here from k-space as acquired, `processed` if the magnitudes
            were made elsewhere, `magnitude-sim` if its k-space was computed from magnitudes.
        reason: why the badge is not better, where that is known.
        marks: short names of what was noticed, counted by image in the audit (`eight_bit`).
        remarks: sentences on how an ambiguous file was read, or on what in it was left out; each
            is shown once in the audit, with the number of files.
        orientation: orientation of the slices for the audit's table, such as `axial`.
        left_out: what else the file or series holds, by file: a kind, as in `NoImage`.
        unusable: files of this series that cannot be used, and why.
    """

    name: str
    planes: Sequence[Plane]
    file: str
    subject: str | None = None
    presumed: bool = False
    label: str = "slice"
    units: Literal["", "HU"] = ""
    inverted: bool = False
    full_scale: float | None = None
    span: Span | None = None
    digest: str | None = None
    badge: str = "processed"
    reason: str = ""
    marks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    orientation: str = ""
    left_out: Mapping[Path, str] = field(default_factory=dict)
    unusable: Mapping[Path, str] = field(default_factory=dict)

    def with_remarks(self, *remarks: str) -> "Volume":
        """Add remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))


def planes_of(
    slices: Float32[np.ndarray, "slices h w"], spacing: tuple[float, float] = (1.0, 1.0)
) -> list[Plane]:
    """Make planes of a stack of slices with a common spacing."""
    return [Plane(values, spacing) for values in slices]


def span_of(planes: Iterable[Plane], quick: bool = False) -> Span:
    """Measure the range of the pixels inside the picture.

    Args:
        planes: the slices.
        quick: only the least and the greatest value, if the others decide nothing.

    Raises:
        NoImage: nothing but padding.
        Unusable: a value is infinite or NaN.
    """
    parts = [
        plane.values.ravel() if plane.outside is None else plane.values[~plane.outside]
        for plane in planes
    ]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if values.size == 0:
        raise NoImage("blank images", "holds nothing but padding")
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise Unusable("holds NaN or infinite values")
    if quick:
        return Span(low, high, low, high, max(abs(low), abs(high)))
    whole = bool((values == np.rint(values)).all())
    return Span(
        low, high, floor=_quantile(values[values != 0], 0.01), bright=_quantile(values, 0.999),
        usual=_quantile(np.abs(values), 0.95), whole=whole,
    )  # fmt: skip


def _quantile(values: Float32[np.ndarray, " n"], share: float) -> float:
    """Find a value of the array below which this share of it lies; 0 for an empty one."""
    if values.size == 0:
        return 0.0
    rank = round(share * (values.size - 1))
    return float(np.partition(values, rank)[rank])


@runtime_checkable
class Item(Protocol):
    """What a reader gets instead of a file if several files make one volume."""

    @property
    def name(self) -> str:
        """Name its volumes begin with."""

    @property
    def files(self) -> Sequence[Path]:
        """Its files."""


@dataclass(frozen=True)
class Gathered:
    """What a reader found out about all of its files before it reads the first.

    Attributes:
        items: files or groups of files that are read one by one.
        left_out: files that hold no images: a kind, as in `NoImage`.
        unusable: files that cannot be used, and why.
        remarks: sentences for the audit.
        hidden: texts that are never written (a patient's id), and what is written instead.
    """

    items: Sequence[Item]
    left_out: Mapping[Path, str] = field(default_factory=dict)
    unusable: Mapping[Path, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    hidden: Mapping[str, str] = field(default_factory=dict)
