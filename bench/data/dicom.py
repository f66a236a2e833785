"""DICOM series: CT in Hounsfield units until a stated window, other modalities as magnitudes.

Nothing that identifies a patient leaves this file: subjects and ids are hashes.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from bench.data.base import Dataset
from bench.data.prepare import Fit, Normalisation, Preparation, Unusable
from bench.data.reading import Slice, assemble, cut, find, name_of, refuse_many, survey
from bench.errors import UserError

SUFFIXES = {".dcm", ".dicom", ".ima"}
LONG_ID = 5  # characters from which a PatientID is hidden inside words, too
MAGIC = (128, b"DICM")  # where a DICOM file says what it is
SOFT_TISSUE = (40.0, 400.0)  # HU; the window of the AAPM low-dose CT challenge


@dataclass(frozen=True)
class Header:
    """What is known of a file before its pixels are read."""

    file: Path
    patient: str
    series: str
    order: tuple[float, str]
    is_ct: bool


@dataclass(frozen=True)
class Series:
    """The files of one series in their order, with the hashes that name it."""

    headers: list[Header]
    subject: str
    name: str


def read(
    path: str | None,
    image_size: int,
    *,
    normalisation: Normalisation | Literal["auto"] = "auto",
    window: tuple[float, float] | Literal["file"] = SOFT_TISSUE,
    step: int = 1,
    percentile: float = 99.5,
    fit: Fit = "pad",
    min_foreground: float = 0.1,
) -> Dataset:
    """Read DICOM files, grouped by series; a subject is a PatientID, hashed with a salt.

    Stored values become HU (or whatever the file's units are) by rescale slope and intercept;
    MONOCHROME1 is inverted; padding becomes the lowest value. Localizers are left out.

    Args:
        path: a file, or a folder with files at any depth.
        image_size: side of the prepared images, in pixels.
        normalisation: what becomes 1, see `bench.data.prepare.Preparation`; `auto`: the window
            for CT, the maximum of the series for everything else.
        window: centre and width of what is shown of CT, in HU; `file`: the first one that each
            file states.
        step: every `step`-th slice of a series is taken.
        percentile: for normalisation `percentile`.
        fit: `pad` to a square or centre-`crop`.
        min_foreground: smaller fractions of foreground make a slice empty; it is dropped.

    Raises:
        UserError: pydicom is not installed, nothing to read, or too many files unusable.
    """
    _pydicom()
    prepare = Preparation(
        image_size, percentile=percentile, fit=fit, min_foreground=min_foreground, step=step
    )
    root, files = find(path, "dicom", SUFFIXES, recognises)
    headers, skipped, others = _survey(root, files)
    series = _series(headers)
    one = partial(_read_series, prepare=prepare, normalisation=normalisation, window=window)
    slices: list[Slice] = []
    for group, got in survey(series, one, "reading series"):
        if isinstance(got, str):
            skipped |= {name_of(header.file, root): got for header in group.headers}
            continue
        slices += got[0]
        skipped |= {name_of(file, root): reason for file, reason in got[1].items()}
    skipped = _unnamed(skipped, series)
    refuse_many(root, skipped, len(files))
    if not slices:
        raise UserError(f"{root}: holds no DICOM images, only localizers or reports")
    return assemble(slices, skipped, _notes(slices, series, normalisation, window, others))


def recognises(file: Path) -> bool:
    """Tell whether a file without a usual ending (`IM0001`, `1.2.840.113619`) is DICOM."""
    if file.suffix and not file.suffix[1:].isdigit():
        return False
    try:
        with file.open("rb") as opened:
            opened.seek(MAGIC[0])
            return opened.read(len(MAGIC[1])) == MAGIC[1]
    except OSError:
        return False


def _pydicom() -> Any:
    try:
        import pydicom
    except ImportError:
        raise UserError(
            "dataset.source: dicom needs pydicom; install it with: pip install -e '.[dicom]'"
        ) from None
    return pydicom


def _survey(root: Path, files: list[Path]) -> tuple[list[Header], dict[str, str], int]:
    """Read all headers; give them, why files were skipped, and how many are no slices."""
    headers: list[Header] = []
    skipped: dict[str, str] = {}
    for file, got in survey(files, _header, "reading headers"):
        if isinstance(got, str):
            skipped[name_of(file, root)] = got
        else:
            headers += got
    return headers, skipped, len(files) - len(headers) - len(skipped)


def _header(file: Path) -> list[Header]:
    """Read a file's header; empty for localizers and files without pixels."""
    head = _pydicom().dcmread(file, stop_before_pixels=True)
    if "Rows" not in head or "LOCALIZER" in head.get("ImageType", []):
        return []
    if head.get("SamplesPerPixel", 1) != 1:
        raise Unusable("is in colour: a screen capture, no scan")
    series = str(head.get("SeriesInstanceUID") or file.parent)
    order = (float(head.get("InstanceNumber") or 0), str(head.get("SOPInstanceUID", file.name)))
    patient = str(head.get("PatientID") or "").strip()
    return [Header(file, patient, series, order, head.get("Modality") == "CT")]


def _series(headers: Sequence[Header]) -> list[Series]:
    """Group headers by series.

    The salt of a patient's hash is the smallest series UID of his: no list of likely PatientIDs
    leads back from a published hash without the data, and other patients do not change it.
    Without PatientID each series is a subject.
    """
    by_series: dict[str, list[Header]] = defaultdict(list)
    salts: dict[str, str] = {}
    for header in headers:
        by_series[header.series].append(header)
        salts[header.patient] = min(salts.get(header.patient, header.series), header.series)
    made = []
    for series, group in by_series.items():
        patient = group[0].patient
        subject = _hash(patient, salts[patient]) if patient else _hash(series)
        name = f"{subject}/{_hash(series)[:8]}"
        made.append(Series(sorted(group, key=lambda header: header.order), subject, name))
    return sorted(made, key=lambda series: series.name)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:16]


def _read_series(
    series: Series,
    prepare: Preparation,
    normalisation: Normalisation | Literal["auto"],
    window: tuple[float, float] | Literal["file"],
) -> tuple[list[Slice], dict[Path, str]]:
    """Read and prepare a series; give its slices, and why files of it were skipped."""
    windowed = normalisation == "window" or (normalisation == "auto" and series.headers[0].is_ct)
    frames, bad = [], {}
    for header in series.headers[:: prepare.step]:
        try:
            frames += _frames(header.file, by_file=windowed and window == "file")
        except Unusable as reason:
            bad[header.file] = str(reason)
        except Exception as error:  # pydicom's decoders raise whatever a broken file provokes
            bad[header.file] = f"cannot be read ({' '.join(str(error).split())})"
    if not frames:
        return [], bad
    shapes = {frame.values.shape for frame in frames}
    if len(shapes) > 1:
        raise Unusable(f"belongs to a series whose slices differ in shape: {sorted(shapes)}")
    if windowed:
        chosen = frames[0].window if window == "file" else window
        prepare = replace(prepare, normalisation="window", window=chosen)
    elif normalisation != "auto":
        prepare = replace(prepare, normalisation=normalisation)
    volume = np.stack([frame.values for frame in frames])
    prepare = replace(prepare, step=1)  # files were left out before they were read
    return cut(volume, series.name, series.subject, prepare, spacing=frames[0].spacing), bad


@dataclass(frozen=True)
class Frame:
    """One slice in the units of its file (HU for CT), its pixel spacing in mm, its window."""

    values: Float32[np.ndarray, "h w"]
    spacing: tuple[float, float]
    window: tuple[float, float] | None


def _frames(file: Path, by_file: bool) -> list[Frame]:
    data = _pydicom().dcmread(file)
    stored = np.asarray(data.pixel_array)
    if stored.ndim not in (2, 3):
        raise Unusable(f"has rank {stored.ndim}, not 2 or 3")
    values = stored.astype(np.float32)
    padding = data.get("PixelPaddingValue")
    if padding is not None and (stored != padding).any():
        values[stored == padding] = values[stored != padding].min()
    if data.get("PhotometricInterpretation") == "MONOCHROME1":
        values = (2.0 ** float(data.BitsStored) - 1 - values).astype(np.float32)
    values = values * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    window = _window(data)
    if by_file and window is None:
        raise Unusable("states no window; give dataset.window: [centre, width]")
    rows, columns = (float(step) for step in data.get("PixelSpacing") or (1, 1))
    return [
        Frame(frame.astype(np.float32), (rows, columns), window)
        for frame in values.reshape(-1, *values.shape[-2:])
    ]


def _window(data: Any) -> tuple[float, float] | None:
    """Give the first window that a file states."""
    found = [data.get("WindowCenter"), data.get("WindowWidth")]
    if None in found or "" in found:
        return None
    centre, width = (np.atleast_1d(np.asarray(value, dtype=float))[0] for value in found)
    return float(centre), float(width)


def _unnamed(skipped: dict[str, str], series: Sequence[Series]) -> dict[str, str]:
    """Put a subject's hash where a path or a reason holds a PatientID."""
    patients = {group.headers[0].patient: group.subject for group in series}

    def hide(text: str) -> str:
        for patient, subject in patients.items():
            # A short one is a word of its own, or every digit would be replaced.
            edge = "" if len(patient) >= LONG_ID else r"(?<![A-Za-z0-9])"
            end = "" if len(patient) >= LONG_ID else r"(?![A-Za-z0-9])"
            text = re.sub(edge + re.escape(patient) + end, subject, text) if patient else text
        return text

    return {hide(file): hide(reason) for file, reason in skipped.items()}


def _notes(
    slices: list[Slice],
    series: list[Series],
    normalisation: str,
    window: tuple[float, float] | Literal["file"],
    others: int,
) -> list[str]:
    subjects = {group.subject for group in series}
    notes = [f"{len(slices)} slices of {len(series)} DICOM series and {len(subjects)} subjects."]
    if normalisation == "window" or (
        normalisation == "auto" and any(group.headers[0].is_ct for group in series)
    ):
        shown = (
            "each series' own window"
            if window == "file"
            else f"{window[0] - window[1] / 2:g} to {window[0] + window[1] / 2:g} HU"
        )
        notes.append(f"Intensities 0 to 1 show {shown} of CT; what lies outside is clipped.")
    if any(not group.headers[0].patient for group in series):
        notes.append("Files without PatientID: each series of theirs counts as one subject.")
    if others:
        notes.append(f"{others} DICOM files are localizers or hold no image; they are left out.")
    return notes
