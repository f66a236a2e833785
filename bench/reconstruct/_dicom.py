"""DICOM: a derived series with new UIDs, in the geometry and the study of its source.

PS3.3: C.7.6.1 (image type, derivation), C.11.1 (rescale), C.7.6.16 (functional groups).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from bench.data import files
from bench.data._dicom_frames import Frame
from bench.data._dicom_views import View, open_header, views_of
from bench.data.volume import Plane, Unusable, Volume
from bench.reconstruct.output import STEPS, About, Kind, Output, Stacks
from bench.reconstruct.scans import Scan

LONGEST = 64  # characters of a LO, such as the description of a series
LEVELS = 60_000  # steps of new rescale tags, within 16 bits
FURTHER = 1000  # added to the number of the source's series
# Attributes that describe the source's pixels, and are false of others.
STALE = (
    "SmallestImagePixelValue", "LargestImagePixelValue", "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries", "ModalityLUTSequence", "VOILUTSequence", "FloatPixelData",
    "DoubleFloatPixelData", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue",
    "PixelDataProviderURL", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
    "IconImageSequence", "PaletteColorLookupTableUID",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A reconstructed frame: where it comes from, and its values in the units of the source."""

    frame: Frame
    plane: Plane
    values: Float32[np.ndarray, "h w"]


def write(output: Output, scan: Scan, stacks: Stacks, kind: Kind, about: About, root: Path) -> None:
    """Write a series; each file becomes a file of the same name.

    Args:
        output: where.
        scan: a series, as `bench.data.dicom` reads it.
        stacks: one for each of its volumes.
        kind: what they are.
        about: what made them.
        root: folder below which the files are named.
    """
    from pydicom.uid import generate_uid

    series = generate_uid(prefix=None)
    by_file: dict[Path, list[tuple[Volume, Shown]]] = {}
    for volume, frames, stack in zip(scan.volumes, _frames(scan), stacks, strict=True):
        for frame, plane, values in zip(frames, volume.planes, stack, strict=True):
            by_file.setdefault(frame.file, []).append((volume, Shown(frame, plane, values)))
    for file, found in by_file.items():
        found.sort(key=lambda pair: pair[1].frame.number)
        made = derived(file, found[0][0], [shown for _, shown in found], kind, about, series)
        with output.writing(output.place(files.name_of(file, root), kind)) as target:
            _save(made, target)


def _save(made: Any, target: Path) -> None:
    """Write a file.

    Raises:
        Unusable: the source's header holds values that DICOM does not allow.
    """
    try:
        made.save_as(target, enforce_file_format=True)
    except (AttributeError, OSError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # such as a full disk
            raise
        reason = str(error).strip().splitlines()[0]
        raise Unusable(f"its header cannot be written again ({reason})") from None


def _frames(scan: Scan) -> Iterator[list[Frame]]:
    """Yield the frames of each volume: those of a stack whose files could be read."""
    first: Volume = scan.volumes[0]
    failed = {*first.left_out, *first.unusable}
    for stack in scan.item.stacks:  # type: ignore[attr-defined]
        frames = [frame for frame in stack if frame.file not in failed]
        if frames:
            yield frames


def derived(
    file: Path, volume: Volume, shown: Sequence[Shown], kind: Kind, about: About, series: str
) -> Any:
    """Make the object that holds the reconstructions of a file's frames."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    source = open_header(file)
    data = copy.deepcopy(source)
    views = views_of(source)
    frames = [one.frame.number for one in shown]
    if len(frames) < len(views):
        _keep(data, frames)
    for name in STALE:
        if name in data:
            delattr(data, name)
    _set_pixels(data, [views[k] for k in frames], volume, shown, kind)
    _resize(data, views[0], shown[0])
    _describe(data, source, frames, kind, about)
    data.SOPInstanceUID, data.SeriesInstanceUID = generate_uid(prefix=None), series
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = data.SOPClassUID
    meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta = meta
    return data


def _keep(data: Any, frames: Sequence[int]) -> None:
    """Drop the frames of a multi-frame object that are no images."""
    if "PerFrameFunctionalGroupsSequence" in data:
        every = data.PerFrameFunctionalGroupsSequence
        data.PerFrameFunctionalGroupsSequence = [every[k] for k in frames]


def _set_pixels(
    data: Any, views: Sequence[View], volume: Volume, shown: Sequence[Shown], kind: Kind
) -> None:
    """Store the values as 16-bit numbers, by the rescale tags of the source where they suffice."""
    values = np.stack([one.values for one in shown])
    slopes = [view.number("RescaleSlope", 1.0) or 1.0 for view in views]
    offsets = [view.number("RescaleIntercept", 0.0) for view in views]
    signed = views[0].numbers("PixelRepresentation") == (1.0,)
    ends = (-(2**15), 2**15 - 1) if signed else (0, 2**16 - 1)
    mirrored = _is_mirrored(views[0], volume)
    fine = STEPS * max(map(abs, slopes)) <= float(np.ptp(values))
    usable = kind.measured and fine and not mirrored and not views[0].get("ModalityLUTSequence")
    stored = [
        np.rint((image.astype(np.float64) - offset) / slope)
        for image, slope, offset in zip(values, slopes, offsets, strict=True)
    ]
    low, high = min(one.min() for one in stored), max(one.max() for one in stored)
    if not (usable and ends[0] <= low and high <= ends[1]):
        bottom, top = float(values.min()), float(values.max())
        slope = float(f"{(top - bottom) / LEVELS or 1.0:.8g}")
        bottom = float(f"{bottom:.8g}")
        stored = [np.rint((image.astype(np.float64) - bottom) / slope) for image in values]
        signed, ends = False, (0, 2**16 - 1)
        units = volume.units if kind.measured else ""
        _set_rescale(data, slope, bottom, units or "US")
        for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
            if name in data:
                delattr(data, name)
    pixels = np.clip(np.stack(stored), *ends).astype("<i2" if signed else "<u2")
    if len(views) > 1 or "NumberOfFrames" in data:
        data.NumberOfFrames = len(views)
    data.Rows, data.Columns = pixels.shape[1:]
    data.SamplesPerPixel, data.PixelRepresentation = 1, int(signed)
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    if mirrored:
        data.PresentationLUTShape = "IDENTITY"
        _set_windows(data, shown)
    inverse = views[0].text("PhotometricInterpretation").upper() == "MONOCHROME1" and not mirrored
    data.PhotometricInterpretation = "MONOCHROME1" if inverse else "MONOCHROME2"
    if not kind.measured:
        _drop(data, "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation")
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if name in data:  # often written with the wrong sign: 63536 in signed pixels is -2000
            found = int(data[name].value) & 0xFFFF
            data[name].VR = "SS" if signed else "US"
            data[name].value = found - (1 << 16) if signed and found >= 1 << 15 else found
    _store(data, pixels)


def _store(data: Any, pixels: Shaped[np.ndarray, "n h w"]) -> None:
    content = pixels.tobytes()
    data.PixelData = content
    data["PixelData"].VR = "OW"
    data["PixelData"].is_undefined_length = False


def _is_mirrored(view: View, volume: Volume) -> bool:
    """Return whether the reader has reflected the values, so that high ones are bright."""
    inverse = view.text("PhotometricInterpretation").upper() == "MONOCHROME1"
    return inverse and not volume.inverted


def _set_windows(data: Any, shown: Sequence[Shown]) -> None:
    window = shown[0].plane.window
    if window is not None and len(shown) == 1:
        data.WindowCenter, data.WindowWidth = window
    else:
        _drop(data, "WindowCenter", "WindowWidth")


def _groups(data: Any) -> list[Any]:
    """List the functional groups of a multi-frame object."""
    return [
        *(data.get("SharedFunctionalGroupsSequence") or ()),
        *(data.get("PerFrameFunctionalGroupsSequence") or ()),
    ]


def _drop(data: Any, *names: str) -> None:
    """Remove attributes, also from the functional groups."""
    for name in names:
        if name in data:
            delattr(data, name)
    for group in _groups(data):
        for element in group:
            if element.VR == "SQ" and element.value and names[0] in element.value[0]:
                delattr(group, element.keyword)
                break


def _set_rescale(data: Any, slope: float, intercept: float, units: str) -> None:
    """Set new rescale tags, in the shared functional group of a multi-frame object."""
    from pydicom.dataset import Dataset

    groups = _groups(data)
    holder = data
    if groups and "SharedFunctionalGroupsSequence" in data:
        for group in groups:
            if "PixelValueTransformationSequence" in group:
                del group.PixelValueTransformationSequence
        holder = Dataset()
        data.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [holder]
    holder.RescaleSlope, holder.RescaleIntercept = f"{slope:.8g}", f"{intercept:.8g}"
    holder.RescaleType = units


def _resize(data: Any, view: View, shown: Shown) -> None:
    """Adapt the spacing, and the position of the first pixel, to another number of pixels."""
    rows, columns = view.numbers("Rows"), view.numbers("Columns")
    height, width = shown.values.shape
    if not rows or not columns or (height, width) == (rows[0], columns[0]):
        return
    factors = height / rows[0], width / columns[0]
    for holder in (
        data,
        *(i.value[0] for g in _groups(data) for i in g if i.VR == "SQ" and i.value),
    ):
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            if name in holder:
                before = holder.get(name)
                after = [float(b) / f for b, f in zip(before, factors, strict=True)]
                setattr(holder, name, [f"{one:.10g}" for one in after])
        if "ImagePositionPatient" in holder:
            _shift(holder, view, factors)


def _shift(holder: Any, view: View, factors: tuple[float, float]) -> None:
    """Move the position from the middle of the source's first pixel to that of the new one's."""
    directions, spacing = (
        view.numbers("ImageOrientationPatient", 6),
        view.numbers("PixelSpacing", 2),
    )
    if directions is None or spacing is None:
        return
    down, across = ((1 / f - 1) / 2 * step for f, step in zip(factors, spacing, strict=True))
    move = across * np.array(directions[:3]) + down * np.array(directions[3:])
    position = np.array(holder.ImagePositionPatient, dtype=float) + move
    holder.ImagePositionPatient = [f"{one:.10g}" for one in position]


def _describe(data: Any, source: Any, frames: Sequence[int], kind: Kind, about: About) -> None:
    """State what the object is and what it was derived from."""
    from pydicom.dataset import Dataset

    rest = [str(one) for one in (source.get("ImageType") or ())][2:]
    data.ImageType = ["DERIVED", "SECONDARY", *rest]
    for group in _groups(data):
        for element in group:
            if element.VR == "SQ" and element.value and "FrameType" in element.value[0]:
                old = [str(one) for one in element.value[0].FrameType]
                element.value[0].FrameType = ["DERIVED", "SECONDARY", *old[2:]]
    made = " ".join(filter(None, (about.method, kind.words)))
    before = str(source.get("SeriesDescription") or "").strip()
    data.SeriesDescription = f"{before[: max(0, LONGEST - 1 - len(made))]} {made}".strip()[:LONGEST]
    number = View(source).numbers("SeriesNumber")
    data.SeriesNumber = FURTHER + int(number[0]) if number else FURTHER
    data.DerivationDescription = (
        f"ReconBench: {about.words}{f', {kind.words}' if kind.words else ''}; not for diagnosis"
    )[:1024]
    now = datetime.now()
    data.InstanceCreationDate, data.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    if "SOPInstanceUID" in source and "SOPClassUID" in source:
        origin = Dataset()
        origin.ReferencedSOPClassUID = source.SOPClassUID
        origin.ReferencedSOPInstanceUID = source.SOPInstanceUID
        if "NumberOfFrames" in source:
            origin.ReferencedFrameNumber = [number + 1 for number in frames]
        data.SourceImageSequence = [origin]
