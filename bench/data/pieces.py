"""What is kept of a volume after its preparation: its images, and a line of facts."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from bench.data.pairs import Pair
from bench.data.prepare import Prepared
from bench.data.volume import Volume


@dataclass(frozen=True)
class Piece:
    """A prepared image.

    Attributes:
        name: its id, unique in the dataset and stable across runs.
        image: magnitude in [0, 1].
        file: path of its file below the dataset's folder.
        volume: the volume that it is a slice of.
        subject: who was scanned, as the file states; None if it does not.
        presumed: see `bench.data.volume.Volume`.
        digest: hash that identifies exact copies: of the file, or of the pixels.
        badge: see `bench.data.volume.Volume`, as `reason`.
        reason: why the badge is not better.
        marks: names of what was noticed, counted in the audit.
        pair: what was measured of it, if the dataset brings it.
    """

    name: str
    image: Float32[np.ndarray, "size size"]
    file: str
    volume: str
    subject: str | None
    presumed: bool
    digest: str
    badge: str
    reason: str
    marks: tuple[str, ...]
    pair: Pair | None = None


@dataclass(frozen=True)
class Facts:
    """A volume's line in the audit's table.

    Attributes:
        volume: its name.
        group: the volume, or the folder of a single picture.
        images: number of its images.
        dropped: kind -> number of its slices that did not become images.
        size: shape of its slices.
        spacing: of their pixels.
        orientation: orientation of the slices.
        low: the least value.
        high: the greatest value.
        rule: what became 0 and 1, or why the volume failed.
    """

    volume: str
    group: str
    images: int
    dropped: Counter[str]
    size: str
    spacing: str
    orientation: str
    low: float
    high: float
    rule: str

    @classmethod
    def of(cls, volume: Volume, made: Prepared | None, failed: str = "") -> "Facts":
        """Describe a volume, or one that failed."""
        plane = volume.planes[0]
        rows, columns = plane.spacing
        return cls(
            volume=volume.name,
            group=volume.name if volume.label else volume.file.rpartition("/")[0] or ".",
            images=len(made.images) if made else 0,
            dropped=Counter(made.dropped.values()) if made else Counter(),
            size="x".join(map(str, plane.values.shape)),
            spacing=f"{rows:.3g} x {columns:.3g}" if min(rows, columns) > 0 else "",
            orientation=volume.orientation,
            low=made.span.low if made else float("nan"),
            high=made.span.high if made else float("nan"),
            rule=made.rule if made else failed,
        )


def pieces_of(volume: Volume, made: Prepared) -> list[Piece]:
    """Make the pieces of a volume; their ids are `<name>/<label>-<number>`."""
    return [
        Piece(
            f"{volume.name}/{volume.label}-{number:03d}" if volume.label else volume.name,
            image,
            volume.planes[number].file or volume.file,
            volume.name,
            volume.subject,
            volume.presumed,
            volume.digest or hashlib.sha256(image.tobytes()).hexdigest(),
            volume.badge,
            volume.reason,
            (*volume.marks, *made.marks),
            made.pairs.get(number),
        )
        for number, image in made.images.items()
    ]
