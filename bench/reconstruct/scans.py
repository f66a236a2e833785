"""Files to reconstruct: their slices at full size, and how these become what a method expects."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float32

from bench.data import files, reading, sources
from bench.data.ledger import Ledger
from bench.data.pairs import noise_of
from bench.data.prepare import Preparation, Scale
from bench.data.volume import Gathered, Item, NoImage, Plane, Unusable, Volume, span_of
from bench.errors import UserError, printable
from bench.options import check_options

# Keys of `dataset:` that say how values are scaled; those of the run hold for the input too.
SCALING = ("normalisation", "window", "scale", "percentile", "nan")
PATTERNS = ("include", "exclude")
REACH = 6.0  # standard deviations below 0 that noise may reach
NOISY = 0.02  # noise, relative to the brightest pixel, that makes the maximum unreliable
# The percentile that is taken in its place, and what noise of standard deviation 1 reaches there.
BRIGHT, TAIL = 99.9, 3.09
NOISY_RULE = "0 to the 99.9th percentile of the volume, less its noise"


@dataclass(frozen=True)
class Scaled:
    """The slices of a volume as a method expects them.

    Attributes:
        volume: the volume, in the units of its file.
        planes: its slices, NaN replaced.
        images: scaled, not clipped: noise may exceed [0, 1].
        ends: the values of each slice that became 0 and 1.
        rule: what became 0 and 1, in words.
    """

    volume: Volume
    planes: Sequence[Plane]
    images: Float32[np.ndarray, "n h w"]
    ends: Sequence[tuple[float, float]]
    rule: str

    @property
    def ids(self) -> list[str]:
        """One for each slice, as a dataset names them."""
        name, label = self.volume.name, self.volume.label
        return [f"{name}/{label}-{k:03d}" if label else name for k in range(len(self.images))]

    def restored(self, images: Float32[np.ndarray, "n h2 w2"]) -> Float32[np.ndarray, "n h2 w2"]:
        """Scale reconstructions back to the units of the file; padding stays as it was."""
        values = np.empty_like(images)
        for k, (image, (low, high)) in enumerate(zip(images, self.ends, strict=True)):
            values[k] = (1 - image if self.volume.inverted else image) * (high - low) + low
            outside, before = self.planes[k].outside, self.volume.planes[k].values
            if outside is not None and outside.shape == image.shape:
                values[k][outside] = before[outside]
        return values

    def spread(self, deviations: Float32[np.ndarray, "n h2 w2"]) -> Float32[np.ndarray, "n h2 w2"]:
        """Scale standard deviations to the units of the file."""
        widths = np.array([high - low for low, high in self.ends], np.float32)
        return deviations * widths[:, None, None]


@dataclass(frozen=True)
class Scan:
    """A file, or a DICOM series.

    Attributes:
        source: the reader.
        item: what the reader was given.
        volumes: in the order of the reader.
        name: for messages, without what identifies a patient.
        axes: of an array, as the user named them; else `auto`.
    """

    source: str
    item: Item
    volumes: Sequence[Volume]
    name: str
    axes: str = "auto"


class Scans:
    """The files at a path that hold images.

    Args:
        path: a file, or a folder with files at any depth.
        given: keys of `dataset:` of a benchmark file.
        kept: further ones, of the run; those that its reader does not have do not matter.

    Attributes:
        root: the folder below which files are named.
        skipped: file -> why it could not be reconstructed, once the scans were iterated.

    Raises:
        UserError: nothing there that can be read.
    """

    def __init__(self, path: Path, given: Mapping[str, Any], kept: Mapping[str, Any]):
        patterns = {key: given[key] for key in PATTERNS if key in given}
        self.source = str(given.get("source") or sources.guess(path, **patterns))
        self.reader: ModuleType = sources.find(self.source)
        known = sources.READERS.options(self.source)
        check_options("dataset", given, {*known, *SCALING, *PATTERNS, "source"})
        options = {**kept, **given}
        own = {key: options[key] for key in known if key in options}
        self.own = sources.READERS.checked(self.source, own, "dataset")
        self.root, found = files.look(path)
        self.ledger = Ledger(self.root)
        chosen = found
        if found != [path]:
            include, exclude = (patterns.get(key, ()) for key in ("include", "exclude"))
            chosen = reading.candidates_of(
                self.reader, self.source, found, self.ledger, include, exclude
            )
        if not chosen:
            self.ledger.refuse_none(path)
        self.path = path
        self.gathered: Gathered = reading.gathered_of(self.reader, chosen, self.ledger)
        if not self.gathered.items:
            self.ledger.refuse_none(path)

    def __len__(self) -> int:
        return len(self.gathered.items)

    def __iter__(self) -> Iterator[Scan]:
        """Read one scan after the other; what cannot be read is recorded in `skipped`."""
        for item in self.gathered.items:
            try:
                volumes = reading.volumes_of(self.reader, item, self.own)
            except NoImage as why:
                self.ledger.leave_out(item.files, why)
            except Unusable as why:
                self.fail(item, str(why))
            except UserError:
                raise
            except Exception as error:  # decoders raise any exception on a broken file
                self.fail(item, f"cannot be read ({' '.join(str(error).split())})")
            else:
                name = self.ledger.spell(printable(item.name))
                axes = str(self.own.get("axes", "auto"))
                yield Scan(self.source, item, volumes, name, axes)

    def fail(self, item: Item, reason: str) -> None:
        """Record why an item cannot be reconstructed."""
        self.ledger.unusable |= dict.fromkeys(item.files, reason)

    def refuse_none(self) -> None:
        """Raise the error that states why nothing was reconstructed.

        Raises:
            UserError: always.
        """
        self.ledger.refuse_none(self.path)

    @property
    def skipped(self) -> dict[str, str]:
        """The files that were left out, and why."""
        return self.ledger.skipped()


def scaled(volume: Volume, prepare: Preparation, clean: bool) -> Scaled:
    """Scale a volume as training images were.

    Args:
        volume: in the units of its file.
        prepare: how the images of the run were prepared.
        clean: whether its values are those of images. In measurements, noise hides the maximum.

    Raises:
        NoImage: all values are the same.
        Unusable: values that cannot be scaled without an option; the reason names it.
    """
    given = volume
    if not clean:
        volume = _despite_noise(volume)
    planes, ends, scale = prepare.unclipped(volume)
    if not clean and scale.rule.endswith("maximum of the volume"):
        scale = _without_noise(planes, scale)
        ends = [(scale.low, scale.high)] * len(planes)
    images = np.stack([plane.values for plane in planes])
    for image, plane, (low, high) in zip(images, planes, ends, strict=True):
        image -= np.float32(low)
        image /= np.float32(high - low)
        if volume.inverted:
            np.subtract(1, image, out=image)
        if plane.outside is not None:
            image[plane.outside] = 0
    return Scaled(given, planes, images, ends, scale.rule)


def _despite_noise(volume: Volume) -> Volume:
    """Ignore negative values that noise explains, when it is decided what becomes 0 and 1.

    Others are refused, as in a dataset: they may be Hounsfield units.
    """
    if volume.span is not None or volume.units or not all(map(_is_finite, volume.planes)):
        return volume
    lowest = min(float(plane.values.min()) for plane in volume.planes)
    if not -REACH * _noise(volume.planes) <= lowest < 0:
        return volume
    planes = [replace(plane, values=plane.values.clip(0)) for plane in volume.planes]
    return replace(volume, span=span_of(planes))


def _is_finite(plane: Plane) -> bool:
    return bool(np.isfinite(plane.values).all())


def _noise(planes: Sequence[Plane]) -> float:
    """Estimate the noise of a volume from a few of its slices."""
    some = planes[:: max(1, len(planes) // 8)]
    return float(np.median([noise_of(plane.values) for plane in some]))


def _without_noise(planes: Sequence[Plane], scale: Scale) -> Scale:
    """Choose what becomes 1 where noise makes the maximum of a volume too bright."""
    noise = _noise(planes)
    if noise < NOISY * scale.high:
        return scale
    values = np.concatenate([plane.values.ravel() for plane in planes])
    bright = float(np.percentile(values, BRIGHT))
    # Signal and noise add up as powers do; at least a tenth is left.
    power = max(bright**2 - (TAIL * noise) ** 2, (bright / 10) ** 2)
    return replace(scale, high=power**0.5, rule=NOISY_RULE)
