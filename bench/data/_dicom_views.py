"""Headers of DICOM files: whether a file is one, and what its header says of each frame."""

import logging
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.volume import Unusable, Window
from bench.errors import UserError

MAGIC = (128, b"DICM")  # position and bytes that mark a DICOM file
PEEK = 1024  # bytes
FIRST_GROUPS = (0x0002, 0x0008)
# Explicit value representations; those that write their length in four bytes come second.
SHORT_VR = frozenset(
    b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split(),
)
LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
# Classes of objects, for files that leave out their modality.
CLASSES = {
    f"1.2.840.10008.5.1.4.1.1.{end}": modality
    for modality, ends in {"CT": ("2", "2.1"), "MR": ("4", "4.1"), "PT": ("128", "130")}.items()
    for end in ends
}
PARTLY_READ = 3  # consecutive elements that identify a DICOM file without a preamble
LONGEST = 1 << 12  # bytes of one of these first elements


def pydicom_module() -> Any:
    """Import pydicom, which is optional, and quieten it.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise UserError(
            "dataset.source: dicom needs pydicom; install it with: pip install -e '.[dicom]'"
        ) from None
    # Odd headers are common, and pydicom warns about each; those that matter are handled here.
    if pydicom.config.logger.level != logging.CRITICAL:
        pydicom.config.logger.setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module="pydicom")
        pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    return pydicom


def looks_like_dicom(file: Path) -> bool:
    """Return whether the first bytes are those of a DICOM file, with or without its preamble."""
    try:
        with file.open("rb") as opened:
            start = opened.read(PEEK)
    except OSError:
        return False
    offset, magic = MAGIC
    return start[offset : offset + len(magic)] == magic or any(
        _elements(start, order) for order in ("little", "big")
    )


def _elements(start: bytes, order: Any) -> bool:
    """Return whether data elements in ascending order fill the start of a file."""
    at, last, group = 0, -1, int.from_bytes(start[:2], order)
    if group not in FIRST_GROUPS:
        return False
    for _ in range(PARTLY_READ):
        if len(start) < at + 8:
            return at > 0
        group, element = (int.from_bytes(start[at + k : at + k + 2], order) for k in (0, 2))
        code = start[at + 4 : at + 6]
        if code in SHORT_VR:
            head, length = 8, int.from_bytes(start[at + 6 : at + 8], order)
        elif code in LONG_VR:
            head, length = 12, int.from_bytes(start[at + 8 : at + 12], order)
        else:
            head, length = 8, int.from_bytes(start[at + 4 : at + 8], order)
        tag = group << 16 | element
        if not last < tag or tag >> 16 > 0x0008 or length > LONGEST or length % 2:
            # A long or nested element may stand third, never first.
            return at > 0 and last < tag and tag >> 16 <= 0x0010
        last, at = tag, at + head + length
    return True


def open_header(file: Path, pixels: bool = False) -> Any:
    """Read a file, without its pixels unless they are wanted.

    Raises:
        Unusable: it is not a DICOM file.
        UserError: pydicom is not installed.
    """
    pydicom = pydicom_module()
    if file.stat().st_size == 0:
        raise Unusable("cannot be read: it is empty")
    if not looks_like_dicom(file):
        raise Unusable("cannot be read: it is not a DICOM file")
    data = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
    if not ("SOPClassUID" in data or "Rows" in data or "DirectoryRecordSequence" in data):
        raise Unusable("cannot be read: it is not a DICOM file, or its header is truncated")
    if not getattr(data, "file_meta", None) or not data.file_meta.get("TransferSyntaxUID"):
        data.file_meta = getattr(data, "file_meta", None) or pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = _written_in(data, pydicom.uid)
    return data


def _written_in(data: Any, uid: Any) -> Any:
    """Find the uncompressed transfer syntax in which a file without one is written."""
    implicit, little = data.original_encoding
    if implicit:
        return uid.ImplicitVRLittleEndian
    return uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian


class View:
    """The attributes that apply to one frame.

    An attribute of the frame's own functional groups takes precedence over one of the shared
    groups, and that over one of the object (PS3.3 C.7.6.16).
    """

    def __init__(self, data: Any, *groups: dict[str, Any]):
        self.data, self.groups = data, groups

    def __contains__(self, name: str) -> bool:
        return any(name in group for group in self.groups) or name in self.data

    def get(self, name: str) -> Any:
        """Look up an attribute by its keyword; None where it is absent or empty."""
        for group in self.groups:
            if name in group:
                return _filled(group[name])
        return _filled(self.data.get(name))

    @property
    def modality(self) -> str:
        """The kind of scanner; empty if neither the modality nor the class states it."""
        return self.text("Modality").upper() or CLASSES.get(self.text("SOPClassUID"), "")

    def text(self, name: str) -> str:
        """Look up a text; empty where there is none."""
        return str(self.get(name) or "").strip(" \0")

    def words(self, name: str) -> list[str]:
        """Look up a text of several values, in capitals."""
        value = self.get(name) or ()
        return [
            str(word).strip().upper() for word in ([value] if isinstance(value, str) else value)
        ]

    def numbers(self, name: str, count: int = 1) -> tuple[float, ...] | None:
        """Look up finite numbers; None where there are fewer than `count`, or other values."""
        try:
            value = self.get(name)
            found = np.atleast_1d(np.asarray(value, dtype=float)) if value is not None else ()
        except (TypeError, ValueError):
            return None
        if len(found) < count or not np.isfinite(found).all():
            return None
        return tuple(float(number) for number in found[:count])

    def number(self, name: str, default: float) -> float:
        """Look up a number that pixels depend on.

        Raises:
            Unusable: the value is not a number.
        """
        found = self.numbers(name)
        if found is None and self.get(name) is not None:
            raise Unusable(f"its {name} is not a number")
        return default if found is None else found[0]


def _filled(value: Any) -> Any:
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        return None
    return None if isinstance(value, str) and not value.strip(" \0") else value


def views_of(data: Any) -> list[View]:
    """List the frames of an object, each as the attributes that apply to it."""
    own = [_flat(group) for group in data.get("PerFrameFunctionalGroupsSequence") or ()]
    shared = [_flat(group) for group in (data.get("SharedFunctionalGroupsSequence") or ())[:1]]
    count = View(data).numbers("NumberOfFrames")
    frames = int(count[0]) if count and count[0] >= 1 else max(1, len(own))
    return [View(data, *own[k : k + 1], *shared) for k in range(frames)]


def _flat(group: Any) -> dict[str, Any]:
    """Collect the attributes in the functional groups of one frame."""
    items = [element.value[0] for element in group if element.VR == "SQ" and element.value]
    return {element.keyword: element.value for item in items for element in item}


def spacing_of(view: View) -> tuple[float, float]:
    """Look up the distances of rows and columns; zeros where unknown."""
    for name in (
        "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio",
    ):  # fmt: skip
        found = view.numbers(name, 2)
        if found and min(found) > 0:
            return found[0], found[1]
    return 0.0, 0.0


def window_of(view: View) -> Window | None:
    """Look up the first window that a frame states."""
    centre, width = view.numbers("WindowCenter"), view.numbers("WindowWidth")
    return (centre[0], width[0]) if centre and width and width[0] > 0 else None


def orientation_of(view: View) -> tuple[float, ...] | None:
    """Look up the directions of rows and columns in the patient: six numbers."""
    found = view.numbers("ImageOrientationPatient", 6)
    return found if found and np.linalg.norm(np.cross(found[:3], found[3:])) > 0.5 else None


def height_of(view: View, directions: Sequence[float] | None) -> float:
    """Compute the position of a slice along its normal, in mm; 0 where unknown."""
    position = view.numbers("ImagePositionPatient", 3)
    if position and directions:
        return float(np.dot(np.cross(directions[:3], directions[3:]), position))
    return position[2] if position else (view.numbers("SliceLocation") or (0.0,))[0]


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """Make a sort key in which 2.9 comes before 2.10."""
    return tuple((int(part or 0), other) for other, part in re.findall(r"(\D*)(\d*)", text))
