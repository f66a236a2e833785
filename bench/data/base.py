"""Images with their ids and subjects, and what was noticed while reading them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from bench.data.measurement import Measured
from bench.errors import UserError

# Badges: reconstructed here from acquired k-space; processed elsewhere; simulated from magnitudes.
ORIGINS = ("raw", "processed", "magnitude-sim")
SUBJECTS_UNKNOWN = "subjects unknown"  # the badge of data whose subjects are only guessed


@dataclass(frozen=True)
class ImageSet:
    """Ground-truth images; the i-th id and subject belong to the i-th image.

    Attributes:
        images: float32, shape (n, 1, H, W), magnitude in [0, 1]. Contiguous in C order, as they
            come from the cache: in another order, sums are rounded differently.
        ids: one per image, unique and stable across runs (for example a path below the folder).
        subjects: one per image; images of one subject are never in two splits.
        measured: what was measured of each image, if the dataset brings it.
    """

    images: Float32[np.ndarray, "n 1 h w"]
    ids: list[str]
    subjects: list[str]
    measured: Measured | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        shape = np.shape(self.images)
        if len(shape) != 4 or shape[1] != 1:
            raise UserError(f"images: of shape {shape}, not (number, 1, height, width)")
        if self.images.dtype != np.float32:
            raise UserError(f"images: {self.images.dtype} values, not float32 in [0, 1]")
        for what, names in (("ids", self.ids), ("subjects", self.subjects)):
            if len(names) != shape[0]:
                raise UserError(f"images: {shape[0]} of them, but {len(names)} {what}")
        if self.measured is not None and len(self.measured) != shape[0]:
            raise UserError(f"images: {shape[0]} of them, but {len(self.measured)} measurements")
        object.__setattr__(self, "images", np.ascontiguousarray(self.images))

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Sequence[int]) -> "ImageSet":
        """Select images by position."""
        chosen = list(index)
        return ImageSet(
            self.images[chosen], [self.ids[i] for i in chosen], [self.subjects[i] for i in chosen],
            measured=None if self.measured is None else self.measured.take(chosen),
        )  # fmt: skip

    def first(self, count: int) -> "ImageSet":
        """Select the first images without copying them."""
        measured = None if self.measured is None else self.measured.take(slice(count))
        return ImageSet(
            self.images[:count], self.ids[:count], self.subjects[:count], measured=measured
        )

    def pixel_digests(self) -> list[str]:
        """Hash the pixels of each image; identical images have the same hash."""
        return [hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest() for x in self.images]

    def digest(self) -> str:
        """Hash images, ids and subjects, to check whether two runs used the same data."""
        state = hashlib.sha256(np.ascontiguousarray(self.images).tobytes())
        state.update(repr((self.images.shape, self.ids, self.subjects)).encode())
        if self.measured is not None:
            state.update(self.measured.digest().encode())
        return state.hexdigest()[:16]


@dataclass
class Audit:
    """What a reader of the report should know about the data.

    Attributes:
        notes: sentences about the data.
        skipped: file -> why it was left out, for the files that were opened.
        badges: short marks on every leaderboard line.
        findings: counts and measurements by name, the most important first.
        files: what became of the files below the path -> their number; the sum is all of them.
        volumes: a line of the audit's table for each volume, or folder of pictures.
        crossing: groups of copies that are in more than one official part, by image id.
        pairs: a line for each pair of image and measurement, the worst registered first.
    """

    notes: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    badges: list[str] = field(default_factory=list)
    findings: dict[str, int | float] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    volumes: list[dict[str, str | int | float]] = field(default_factory=list)
    crossing: list[list[str]] = field(default_factory=list)
    pairs: list[dict[str, str | int | float]] = field(default_factory=list)


@dataclass(frozen=True)
class Dataset(ImageSet):
    """An ImageSet with the audit of its reading.

    Attributes:
        audit: what was noticed.
        parts: the official part of each image, "train", "val" or "test"; empty if the data has
            none.
    """

    audit: Audit = field(default_factory=Audit)
    parts: list[str] = field(default_factory=list)
