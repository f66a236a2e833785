"""What is known about each frame of a DICOM file before its pixels are read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.data._dicom_kinds import kind_of
from bench.data._dicom_pixels import is_hounsfield, is_inverse, read_frames
from bench.data._dicom_views import View, height_of, natural, open_header, orientation_of, views_of
from bench.data.files import name_of

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Frame:
    """A frame of a file.

    Attributes:
        file: the file.
        number: of the frame in its file, from 0.
        kind: what it is, if it is not an image.
        patient: PatientID; empty if unknown.
        person: PatientName.
        study: StudyInstanceUID; empty if unknown.
        series: SeriesInstanceUID, or a substitute where that is missing.
        uid: SOPInstanceUID; empty if unknown.
        order: sorts the frames of a series.
        shape: rows and columns.
        directions: directions of rows and columns in the patient, six numbers; None if unknown.
        inverse: low values are bright.
        units: `HU`, or empty.
        modality: modality of the object.
    """

    file: Path
    number: int
    kind: str | None
    patient: str
    person: str
    study: str
    series: str
    uid: str
    order: Key
    shape: tuple[int, int]
    directions: tuple[float, ...] | None
    inverse: bool
    units: Literal["", "HU"]
    modality: str

    def is_like(self, other: "Frame") -> bool:
        """Return whether two frames can be in one stack; an unknown direction matches any other."""
        same = (self.shape, self.inverse, self.units) == (other.shape, other.inverse, other.units)
        if not same or self.directions is None or other.directions is None:
            return same
        turns = np.reshape(self.directions, (2, 3)) * np.reshape(other.directions, (2, 3))
        return bool((turns.sum(axis=1) >= ALIKE).all())


ALIKE = 0.985  # cosine of 10 degrees: slices whose directions differ less are parallel


def frames_of(file: Path, root: Path) -> list[Frame]:
    """Read the header of a file; returns at least one frame, which may not be an image.

    Raises:
        Unusable: it is not a DICOM file.
    """
    views = views_of(open_header(file))
    kinds = [kind_of(view) for view in views]
    directions = [orientation_of(view) for view in views]
    heights = [height_of(*pair) for pair in zip(views, directions, strict=True)]
    first = views[0]
    uid = first.text("SOPInstanceUID")
    instance = (first.numbers("InstanceNumber") or (0.0,))[0]
    position = (instance, heights[0], natural(uid or file.name))
    # The folder replaces a missing series UID; its path must not depend on the machine.
    folder = name_of(file.parent, root)
    shape = tuple(int((first.numbers(name) or (0.0,))[0]) for name in ("Rows", "Columns"))
    return [
        Frame(
            file=file,
            number=number,
            kind=kind,
            patient=first.text("PatientID"),
            person=first.text("PatientName"),
            study=first.text("StudyInstanceUID"),
            series=first.text("SeriesInstanceUID") or folder,
            uid=uid,
            order=(*position, rank, number),
            shape=(shape[0], shape[1]),
            directions=direction,
            inverse=is_inverse(view),
            units="HU" if kind is None and is_hounsfield(view) else "",
            modality=view.modality,
        )
        for number, (view, kind, direction, rank) in enumerate(
            zip(views, kinds, directions, _ranks(views, heights), strict=True)
        )
    ]


def _ranks(views: Sequence[View], heights: Sequence[float]) -> list[Key]:
    """Rank the frames of an object by number in a stack, else by position if the file is unsorted.

    Frames whose positions rise or fall steadily keep the order of the file.
    """
    numbers = [view.numbers("InStackPositionNumber") for view in views]
    if all(numbers):
        times = [view.numbers("TemporalPositionIndex") or (0.0,) for view in views]
        stacks = [natural(view.text("StackID")) for view in views]
        return list(zip(stacks, times, numbers, strict=True))
    steps = np.diff(heights)
    if len(set(heights)) == len(heights) and not ((steps > 0).all() or (steps < 0).all()):
        return [(height,) for height in heights]
    return [()] * len(views)


def pixel_digest(file: Path, frames: Sequence[Frame]) -> str:
    """Hash the decoded pixels, whatever the compression; for a broken file, hash its bytes."""
    try:
        shown = read_frames(file, [frame.number for frame in frames])
    except Exception:  # the fault is reported when the file is read
        return hashlib.sha256(file.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for number in sorted(shown):
        digest.update(shown[number].values.tobytes())
    return digest.hexdigest()
