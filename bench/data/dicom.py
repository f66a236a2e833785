"""DICOM: single and multi-frame objects, grouped by patient and series.

pydicom reads headers and pixels. Our own code decides which frames are images (`_dicom_kinds`),
which belong together (here), and in which order pixels are processed (`_dicom_pixels`). Nothing
that identifies a patient leaves this file: subjects and ids are hashes.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from bench.data import _dicom_kinds as kinds
from bench.data._dicom_frames import Frame, frames_of, pixel_digest
from bench.data._dicom_pixels import TransformedFrame, read_frames
from bench.data._dicom_views import looks_like_dicom, pydicom_module
from bench.data.files import name_of
from bench.data.survey import survey
from bench.data.volume import Gathered, NoImage, Plane, Unusable, Volume
from bench.errors import UserError

SUFFIXES = {".dcm", ".dicom", ".ima"}
LONG_ID = 5  # ids and names of at least so many characters are also hidden inside words
ODD, BESIDE = 3, 5  # up to 3 images, among 5 times as many others, are unlike the rest
NO_PATIENT = (
    "DICOM files without PatientID: each study (or series, where no study is stated) counts as "
    "one subject, unless folders name the patients."
)
ONLY_SCREENS = (
    "All DICOM images are grey secondary captures (made by a workstation, or from a screen or a "
    "film); they are read because there is nothing else."
)
NO_UNITS = "CT without RescaleIntercept is not read as Hounsfield units; set dataset.window for it."
PLANES = ("sagittal", "coronal", "axial")  # by the patient axis along which slices are stacked


@dataclass(frozen=True)
class Series:
    """The frames of one patient in one series.

    Attributes:
        name: name of its volumes: hashes of patient and series.
        subject: hash of the patient.
        presumed: whether `subject` is the hash of a study, because there is no PatientID.
        stacks: frames that make one volume each, in their order.
        root: folder below which files are named.
        remarks: sentences on frames that are left out of files that are read.
    """

    name: str
    subject: str
    stacks: Sequence[Sequence[Frame]]
    root: Path
    presumed: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The files of all stacks, each once."""
        return list(dict.fromkeys(frame.file for stack in self.stacks for frame in stack))


def recognises(file: Path) -> bool:
    """Return whether a file begins as DICOM does, with or without a preamble, whatever its name."""
    return looks_like_dicom(file)


def gather(files: list[Path], root: Path) -> Gathered:
    """Read all headers; leave out what is not an image, and group the rest by patient and series.

    Raises:
        UserError: pydicom is not installed.
    """
    pydicom_module()
    frames: list[Frame] = []
    unusable: dict[Path, str] = {}
    for file, got in survey(files, partial(frames_of, root=root), "reading headers"):
        if isinstance(got, list):
            frames += got
        else:
            unusable[file] = str(got)
    frames, remarks = _with_screens(frames)
    images = [frame for frame in frames if frame.kind is None]
    copies = _copies(images)
    images = [frame for frame in images if frame.file not in copies]
    series = _series(images, root)
    unlike = {frame for one in series for stack in _odd(one.stacks) for frame in stack}
    frames = [replace(f, kind=kinds.UNLIKE) if f in unlike else f for f in frames]
    series = [_without(one, unlike, frames) for one in series]
    read_from = {file for one in series for file in one.files}
    left_out = {f.file: f.kind for f in reversed(frames) if f.kind and f.file not in read_from}
    if any(not frame.patient for frame in images):
        remarks.append(NO_PATIENT)
    hidden = _hidden(frames, series)
    return Gathered(series, {**left_out, **copies}, unusable, remarks, hidden)


def _with_screens(frames: list[Frame]) -> tuple[list[Frame], list[str]]:
    """Accept secondary captures as images where there is nothing else."""
    found = {frame.kind for frame in frames}
    if None in found or kinds.SCREENS not in found:
        return frames, []
    return [replace(f, kind=None) if f.kind == kinds.SCREENS else f for f in frames], [ONLY_SCREENS]


def _copies(frames: Sequence[Frame]) -> dict[Path, str]:
    """Find files that hold an object a second time.

    Some programs assign one SOPInstanceUID to all slices, so the pixels must be the same too.
    """
    by_object: dict[str, dict[Path, list[Frame]]] = defaultdict(lambda: defaultdict(list))
    for frame in frames:
        by_object[frame.uid][frame.file].append(frame)
    copies: dict[Path, str] = {}
    for uid, files in by_object.items():
        seen: set[str] = set()
        for file, group in files.items() if uid and len(files) > 1 else ():
            digest = pixel_digest(file, group)
            if digest in seen:
                copies[file] = kinds.COPIES
            seen.add(digest)
    return copies


def _series(frames: Sequence[Frame], root: Path) -> list[Series]:
    """Group frames by patient and series.

    The salt of a patient's hash is the patient's smallest series UID: without the data, no list of
    likely PatientIDs leads back from a published hash, and other patients do not change the hash.
    Without PatientID each study is a subject, unless another file of the series has a PatientID.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    salts: dict[str, str] = {}
    for frame in frames:
        owners[frame.series] |= {frame.patient} - {""}
        salts[frame.patient] = min(salts.get(frame.patient, frame.series), frame.series)
    groups: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    for frame in frames:
        patient = frame.patient
        if not patient and len(owners[frame.series]) == 1:
            (patient,) = owners[frame.series]
        groups[patient, frame.series].append(frame)
    made = []
    for (patient, series), group in groups.items():
        study = min(frame.study for frame in group) or series
        subject = _hash(patient, salts[patient]) if patient else _hash(study)
        name = f"{subject}/{_hash(series)[:8]}"
        made.append(Series(name, subject, _stacks(group), root, presumed=not patient))
    return sorted(made, key=lambda one: one.name)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:16]


def _stacks(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Group frames of one size and direction into stacks, each in its order."""
    stacks: list[list[Frame]] = []
    for frame in sorted(frames, key=lambda frame: (frame.directions is None, frame.order)):
        stack = next((stack for stack in stacks if stack[0].is_like(frame)), None)
        if stack is None:
            stacks.append([frame])
        else:
            stack.append(frame)
    ordered = [sorted(stack, key=lambda frame: frame.order) for stack in stacks]
    return sorted(ordered, key=lambda stack: stack[0].order)


def _odd(stacks: Sequence[Sequence[Frame]]) -> list[Sequence[Frame]]:
    """Find small stacks among many images of another size or direction: scouts, previews."""
    most = max(len(stack) for stack in stacks)
    return [stack for stack in stacks if len(stack) <= ODD and BESIDE * len(stack) <= most]


def _without(series: Series, unlike: set[Frame], frames: Sequence[Frame]) -> Series:
    """Drop odd stacks, and note which frames are left out of files that are read."""
    stacks = [stack for stack in series.stacks if stack[0] not in unlike]
    kept = {frame for stack in stacks for frame in stack}
    files = {frame.file for frame in kept}
    dropped = {frame.kind for frame in frames if frame.kind and frame.file in files}
    remarks = tuple(f"Frames that are {kind} are left out." for kind in sorted(dropped))
    return replace(series, stacks=stacks, remarks=remarks)


def read(series: Series, name: str, /) -> list[Volume]:
    """Read a series: CT in Hounsfield units, everything else in the units of its files.

    Padding is outside the picture. MONOCHROME1 is reflected about the range that its bits allow
    after the modality transform; CT in Hounsfield units is not, and is marked as inverted.

    Args:
        series: as `gather` made it.
        name: name of its volumes.

    Raises:
        NoImage: the files are videos.
        Unusable: none of its files can be read.
    """
    shown: dict[tuple[Path, int], TransformedFrame] = {}
    unusable: dict[Path, str] = {}
    left_out: dict[Path, str] = {}
    wanted: dict[Path, list[int]] = defaultdict(list)
    for frame in (frame for stack in series.stacks for frame in stack):
        wanted[frame.file].append(frame.number)
    for file, numbers in wanted.items():
        try:
            shown |= {(file, k): frame for k, frame in read_frames(file, numbers).items()}
        except NoImage as other:
            left_out[file] = other.kind
        except Unusable as reason:
            unusable[file] = str(reason)
        except UserError:
            raise
        except Exception as error:  # decoders raise any exception on a broken file
            unusable[file] = f"cannot be read ({' '.join(str(error).split())})"
    volumes: list[Volume] = []
    for stack in series.stacks:
        pairs = [(f, shown[f.file, f.number]) for f in stack if (f.file, f.number) in shown]
        if pairs:
            called = f"{name}-{len(volumes) + 1}" if volumes else name
            volumes.append(_volume(series, called, pairs))
    if not volumes and unusable:
        raise Unusable(next(iter(unusable.values())))
    if not volumes:
        raise NoImage(next(iter(left_out.values())))
    volumes[0] = replace(volumes[0], left_out=left_out, unusable=unusable)
    return volumes


def _volume(series: Series, name: str, pairs: Sequence[tuple[Frame, TransformedFrame]]) -> Volume:
    first = pairs[0][0]
    inverted = first.inverse and first.units == "HU"
    mirror = max(shown.mirror for _, shown in pairs) if first.inverse and not inverted else None
    remarks = dict.fromkeys(remark for _, shown in pairs for remark in shown.remarks)
    if first.modality == "CT" and first.units != "HU":
        remarks[NO_UNITS] = None
    return Volume(
        name,
        [_plane(shown, name_of(frame.file, series.root), mirror) for frame, shown in pairs],
        name_of(first.file, series.root),
        series.subject,
        series.presumed,
        units=first.units,
        inverted=inverted,
        marks=("lossy_compression",) if any(shown.lossy for _, shown in pairs) else (),
        remarks=(*series.remarks, *remarks),
        orientation=_orientation(first),
    )


def _plane(shown: TransformedFrame, file: str, mirror: float | None) -> Plane:
    values, window = shown.values, shown.window
    if mirror is not None:
        values = np.float32(mirror) - values
        window = window and (mirror - window[0], window[1])
    return Plane(values, shown.spacing, shown.outside, window, file)


def _orientation(frame: Frame) -> str:
    if frame.directions is None:
        return ""
    normal = np.cross(frame.directions[:3], frame.directions[3:])
    return PLANES[int(np.abs(normal).argmax())]


def _hidden(frames: Sequence[Frame], series: Sequence[Series]) -> dict[str, str]:
    """Map the ids of patients, and the words of their names, to the hash of the subject."""
    subjects = {f.patient: one.subject for one in series for stack in one.stacks for f in stack}
    hidden: dict[str, str] = {}
    for frame in frames:
        instead = subjects.get(frame.patient) or _hash(frame.patient, frame.series)
        parts = re.split(r"[\^=]", frame.person)
        for text in (frame.patient, *(part.strip() for part in parts)):
            if len(text) > 1 or text == frame.patient:
                hidden.setdefault(text, instead)
    return {text: instead for text, instead in hidden.items() if text}


def anonymous(text: str, hidden: Mapping[str, str]) -> str:
    """Replace a patient's id or name in a path or a reason by the subject's hash.

    Args:
        text: text that will be written to a file or the screen.
        hidden: as `gather` lists it.
    """
    for secret in sorted((key for key in hidden if key in text), key=len, reverse=True):
        # A short id is replaced as a whole word only, or every digit would be replaced.
        edge, end = (
            ("", "") if len(secret) >= LONG_ID else (r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])")
        )
        text = re.sub(edge + re.escape(secret) + end, hidden[secret], text)
    return text
