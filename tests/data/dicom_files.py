"""DICOM files that the tests write with pydicom, and what is read of them."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)  # fmt: skip

from bench import data
from bench.data import dicom
from bench.data.volume import Gathered, Volume
from bench.spec import DatasetSpec

PATIENT = "MUSTERMANN-0815"
NATIVE = [
    ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]  # fmt: skip


def load(path: Path, size: int = 32, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(source="dicom", path=str(path), image_size=size, **options))


def look(path: Path) -> tuple[Gathered, list[Volume]]:
    """Read a file or folder with the reader alone: values in the units of the files."""
    root = path if path.is_dir() else path.parent
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    gathered = dicom.gather(files, root)
    return gathered, [
        volume for series in gathered.items for volume in dicom.read(series, series.name)
    ]


def item(**tags: object) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def scan(stored: np.ndarray, **tags: object) -> Dataset:
    """Make an object; `tags` replace or add elements, None leaves one out."""
    made = item(
        SOPClassUID=CTImageStorage, SOPInstanceUID=generate_uid(), SeriesInstanceUID="1.2.3",
        Modality="CT", PatientID=PATIENT, PatientName="Muster^Mann",
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=8 * stored.itemsize, PixelRepresentation=int(stored.dtype.kind == "i"),
    )  # fmt: skip
    made.BitsStored = made.BitsAllocated
    made.Rows, made.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        made.NumberOfFrames = len(stored)
    for name, value in tags.items():
        if value is None and name in made:
            delattr(made, name)
        elif value is not None:
            setattr(made, name, value)
    if stored.dtype.kind != "f":
        made.HighBit = tags.get("HighBit", made.BitsStored - 1)
    return made


def write(
    path: Path, stored: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: object
) -> Path:
    """Write a slice, or frames, uncompressed."""
    made = scan(stored, **tags)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    raw = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    kinds = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}
    setattr(made, kinds.get(stored.dtype.str[1:], "PixelData"), raw + b"\0" * (len(raw) % 2))
    return save(path, made, syntax)


def write_compressed(
    path: Path, stored: np.ndarray, syntax: str, frames: list[bytes], **tags: object
) -> Path:
    """Write frames that are compressed already."""
    made = scan(stored, **tags)
    made.PixelData = encapsulate(frames)
    made["PixelData"].VR = "OB"
    return save(path, made, syntax)


def save(path: Path, made: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.get("SOPClassUID", CTImageStorage)
    made.file_meta.MediaStorageSOPInstanceUID = made.get("SOPInstanceUID") or generate_uid()
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def ramp(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 20, (32, 32))
    return (np.linspace(0, 2000, 32)[None] + noise).astype(np.uint16)


def enhanced(
    path: Path, stored: np.ndarray, shared: dict, frames: list[dict], **tags: object
) -> Path:
    """Write a multi-frame object whose attributes stand in functional groups.

    `shared` and each of `frames` map the keyword of a functional group to its attributes.
    """

    def groups(wanted: dict) -> Dataset:
        return item(**{name: [item(**inner)] for name, inner in wanted.items()})

    return write(
        path, stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1",
        SharedFunctionalGroupsSequence=[groups(shared)],
        PerFrameFunctionalGroupsSequence=[groups(frame) for frame in frames], **tags,
    )  # fmt: skip
