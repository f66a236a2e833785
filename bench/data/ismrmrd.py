"""Raw acquisitions in HDF5 (ISMRMRD, Inati et al. 2017), sorted into k-space and reconstructed.

Called by the reader of HDF5 files, which have the same ending. Fully sampled Cartesian acquisitions
in two or three dimensions are read; others are refused with a message that names their kind.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
from jaxtyping import Complex64

from bench.data import declared, kspace
from bench.data.arrays import Stack
from bench.data.contents import text_of
from bench.data.volume import Unusable, Volume

WHAT = "holds raw acquisitions (ISMRMRD)"
# Flag numbers, counted from 1: noise, parallel calibration, navigator, phase correction,
# feedback, dummy scans, surface coil correction and phase stabilisation.
NOT_IMAGING = (19, 20, 23, 24, 26, 27, 28, 29, 30, 31)
REVERSED = 22
FRAME_COUNTERS = ("contrast", "phase", "repetition", "set")
# Rows or columns by which the two sides of k-space may differ, as a share of all.
LOPSIDED = 0.03


@dataclass(frozen=True)
class Header:
    """The first encoding in the XML header.

    Attributes:
        trajectory: `cartesian`, or another word.
        encoded: samples along x (readout), y and z.
        recon: pixels along x, y and z; there may be more encoded samples than these.
        spacing: distance of rows (y) and columns (x) in mm; 1 where it is unknown.
        centres: index of the central line along y and z; None if it is not stated.
        subject: the patient's id; None if it is not stated.
    """

    trajectory: str
    encoded: tuple[int, int, int]
    recon: tuple[int, int, int]
    spacing: tuple[float, float]
    centres: tuple[int | None, int | None]
    subject: str | None


@dataclass(frozen=True)
class Raw:
    """Sorted k-space: whole, and cropped to the field of view of the reconstruction.

    Attributes:
        whole: as acquired, DC in the middle.
        kspace: without the oversampled part of the field of view.
        header: the file's header.
    """

    whole: Complex64[np.ndarray, "time slices coils h w"]
    kspace: Complex64[np.ndarray, "time slices coils rows columns"]
    header: Header


def check_dataset(item: h5py.Dataset) -> None:
    """Refuse an array that is in another file, or that is larger than its file can hold.

    Raises:
        Unusable: with the name of the array.
    """
    elsewhere = item.external or (
        item.is_virtual and any(part.file_name != "." for part in item.virtual_sources())
    )
    if elsewhere:
        raise Unusable(f"its array {item.name} is in another file, which is not opened")
    if not item.is_virtual:
        declared.check(item.shape or (), item.dtype.itemsize, item.id.get_storage_size())


def _own(group: h5py.Group, name: str) -> Any:
    """Return a member of a group; None if it is a link to somewhere else."""
    link = group.get(name, getlink=True)
    return group[name] if isinstance(link, h5py.HardLink) else None


def group_of(file: Path) -> str | None:
    """Find the group of an HDF5 file that holds acquisitions, if any."""
    if not h5py.is_hdf5(file):
        return None
    with h5py.File(file) as content:
        inside = [
            name for name in content if isinstance(content.get(name, getlink=True), h5py.HardLink)
        ]
        for name, group in [("/", content), *((name, content[name]) for name in inside)]:
            data = _own(group, "data") if isinstance(group, h5py.Group) else None
            fields = data.dtype.names if isinstance(data, h5py.Dataset) else None
            if fields and {"head", "data"} <= set(fields):
                return str(name)
    return None


def read(file: Path, name: str, group: str) -> list[Volume]:
    """Reconstruct the acquisitions of a file; several contrasts or repetitions are time frames.

    Raises:
        Unusable: not Cartesian, not fully sampled, or broken.
    """
    raw = load(file, group)
    badge, reason = kspace.provenance(raw.whole.reshape(-1, *raw.whole.shape[2:]))
    flat = raw.kspace.reshape(-1, *raw.kspace.shape[2:])
    images, convention = kspace.magnitude(flat)
    images = images.reshape(*raw.kspace.shape[:2], *images.shape[1:])
    stack = Stack(images, len(images) > 1, badge, reason, convention.remarks)
    return stack.volumes(name, raw.header.subject, raw.header.spacing)


def load(file: Path, group: str) -> Raw:
    """Sort the acquisitions of a file into k-space.

    Raises:
        Unusable: not Cartesian, not fully sampled, or broken.
    """
    try:
        with h5py.File(file) as content:
            found = content[group]
            for part in ("xml", "data"):
                if isinstance(found.get(part, getlink=True), h5py.ExternalLink):
                    raise Unusable(f"its {part} is in another file, which is not opened")
            check_dataset(found["data"])
            header = header_of(found["xml"][()] if "xml" in found else None)
            acquisitions = found["data"][()]
        if header.trajectory != "cartesian":
            raise Unusable(
                f"{WHAT} along a {header.trajectory} trajectory; only Cartesian ones are read: "
                "provide the reconstructed images"
            )
        whole = _sorted(acquisitions, header)
    except (KeyError, ValueError, IndexError, TypeError, OSError, ElementTree.ParseError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise Unusable(f"{WHAT} that cannot be read ({what})") from None
    return Raw(whole, _cut(whole, header), header)


def header_of(text: Any) -> Header:
    """Read the XML header.

    Raises:
        ValueError: no header, or one without the size of its encoding.
    """
    xml = text_of(text) if text is not None else None
    if xml is None:
        raise ValueError("there is no header")
    root = ElementTree.fromstring(xml)
    for element in root.iter():  # names without the namespace, which differs between versions
        element.tag = element.tag.rpartition("}")[2]
    encoding = root.find("encoding")
    if encoding is None:
        raise ValueError("the header describes no encoding")
    encoded, recon = (_size(encoding, f"{space}Space/matrixSize") for space in ("encoded", "recon"))
    field = _field_of_view(encoding)
    limits = [encoding.findtext(f"encodingLimits/kspace_encoding_step_{k}/center") for k in (1, 2)]
    return Header(
        (encoding.findtext("trajectory") or "cartesian").strip().lower(),
        encoded,
        recon,
        (field[1] / encoded[1], field[0] / encoded[0]) if field else (1.0, 1.0),
        (int(limits[0]) if limits[0] else None, int(limits[1]) if limits[1] else None),
        text_of(root.findtext("subjectInformation/patientID") or ""),
    )


def _size(encoding: ElementTree.Element, path: str) -> tuple[int, int, int]:
    found = [encoding.findtext(f"{path}/{axis}") for axis in "xyz"]
    if not found[0] or not found[1]:
        raise ValueError(f"the header has no {path}")
    return int(found[0]), int(found[1]), int(found[2] or 1)


def _field_of_view(encoding: ElementTree.Element) -> tuple[float, float] | None:
    found = [encoding.findtext(f"encodedSpace/fieldOfView_mm/{axis}") for axis in "xy"]
    sizes = [float(text) for text in found if text]
    return (sizes[0], sizes[1]) if len(sizes) == 2 and min(sizes) > 0 else None


def _sorted(acquisitions: np.ndarray, header: Header) -> Complex64[np.ndarray, "t s c h w"]:
    """Sort lines by their counters, average those acquired repeatedly, and transform along z."""
    lines: dict[tuple[int, ...], list[np.ndarray]] = defaultdict(list)
    for acquisition in acquisitions:
        head = acquisition["head"]
        flags = int(head["flags"])
        if any(flags >> (number - 1) & 1 for number in NOT_IMAGING):
            continue
        if int(head["encoding_space_ref"]) != 0:
            continue  # a second encoding is another measurement, such as a calibration
        if flags >> (REVERSED - 1) & 1:
            raise Unusable(
                f"{WHAT} read out in both directions, which need a phase correction; provide the "
                "reconstructed images"
            )
        lines[_index(head, header)].append(_samples(acquisition, header))
    if not lines:
        raise Unusable(f"{WHAT}, none of which belongs to an image")
    frames = sorted({index[:4] for index in lines})
    slices = sorted({index[4] for index in lines})
    coils = {len(samples[0]) for samples in lines.values()}
    if len(coils) > 1:
        raise Unusable(f"{WHAT} with {min(coils)} to {max(coils)} coils")
    width, height, depth = header.encoded
    shape = (len(frames), len(slices), depth, coils.pop(), height, width)
    whole = np.zeros(shape, np.complex64)
    for index, samples in lines.items():
        frame, number = frames.index(index[:4]), slices.index(index[4])
        whole[frame, number, index[6], :, index[5]] = np.mean(samples, axis=0)
    _check_full(whole)
    planes: np.ndarray = whole
    if depth > 1:
        planes = np.fft.ifft(np.fft.ifftshift(whole, 2), axis=2, norm="ortho")
        planes = np.fft.fftshift(planes, 2)
    start = max(0, (depth - header.recon[2]) // 2)
    planes = planes[:, :, start : start + min(depth, header.recon[2])]
    return planes.reshape(len(frames), -1, *shape[3:]).astype(np.complex64)


def _index(head: np.void, header: Header) -> tuple[int, ...]:
    """Return the indices of an acquisition: time frame, slice, and line along y and z."""
    counters = head["idx"]
    index = [int(counters[name]) for name in (*FRAME_COUNTERS, "slice")]
    for axis, (name, centre) in enumerate(
        zip(("kspace_encode_step_1", "kspace_encode_step_2"), header.centres, strict=True), 1
    ):
        size = header.encoded[axis]
        line = int(counters[name]) + (0 if centre is None else size // 2 - centre)
        if not 0 <= line < size:
            raise Unusable(f"{WHAT} with a line {line} outside the range of {size} lines")
        index.append(line)
    return tuple(index)


def _samples(acquisition: np.void, header: Header) -> Complex64[np.ndarray, "coils width"]:
    """Read the samples of a line, with their centre in the middle of the readout."""
    head, width = acquisition["head"], header.encoded[0]
    count, coils = int(head["number_of_samples"]), int(head["active_channels"])
    values = np.asarray(acquisition["data"], np.float32).view(np.complex64).reshape(coils, count)
    first, last = int(head["discard_pre"]), count - int(head["discard_post"])
    centre = int(head["center_sample"])
    # Positions in the readout; a header may leave the centre at 0.
    centre = centre if 0 < centre < count else count // 2
    start = width // 2 - centre
    result = np.zeros((coils, width), np.complex64)
    inside = [k for k in range(first, last) if 0 <= start + k < width]
    if len(inside) < last - first:
        raise Unusable(f"{WHAT} whose lines of {last - first} samples exceed the header's {width}")
    result[:, [start + k for k in inside]] = values[:, inside]
    return result


def _check_full(whole: Complex64[np.ndarray, "t s z c h w"]) -> None:
    """Refuse frames and slices with missing lines, and k-space sampled on one side only.

    Raises:
        Unusable: undersampled or partial.
    """
    taken = (whole != 0).any(axis=(3, 5))  # time, slice, z, y
    lines = taken.any(axis=(0, 1))
    if (taken.sum(axis=(2, 3)) < (1 - kspace.GAPS) * lines.sum()).any():
        raise Unusable(f"{WHAT} with missing lines in some images")
    readout = (whole != 0).any(axis=(0, 1, 2, 3, 4))
    for sampled in (lines.any(0), lines.any(1), readout):
        found = np.flatnonzero(sampled)
        before, after = int(found[0]), len(sampled) - 1 - int(found[-1])
        if np.count_nonzero(sampled) < (1 - kspace.GAPS) * (found[-1] + 1 - found[0]):
            raise Unusable(
                f"{WHAT} that are undersampled ({len(found)} of {found[-1] + 1 - found[0]} lines), "
                "which have no ground truth; provide fully sampled data"
            )
        if abs(before - after) > max(1, LOPSIDED * len(sampled)):
            raise Unusable(
                f"{WHAT} that cover only part of k-space (partial Fourier or partial echo), which "
                "have no ground truth; provide fully sampled data"
            )
    inner = lines[np.ix_(lines.any(1), lines.any(0))]
    if inner.mean() < 1 - kspace.GAPS:
        raise Unusable(f"{WHAT} that are undersampled, which have no ground truth")


def _cut(
    whole: Complex64[np.ndarray, "t s c h w"], header: Header
) -> Complex64[np.ndarray, "t s c rows columns"]:
    """Crop the oversampled readout and phase encoding to the field of view."""
    result = kspace.field_of_view(whole, -1, header.recon[0])
    return kspace.field_of_view(result, -2, header.recon[1])
