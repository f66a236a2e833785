"""Files that declare more than they hold, or that point to others, are refused before all else."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
import tifffile

from bench.data import _dicom_pixels, declared, hdf5, images, ismrmrd, itk, nifti, npy
from bench.data.volume import Unusable

SIDE = 1_000_000
HUGE = (SIDE, SIDE)


def npy_header() -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": HUGE}
    )
    return stream.getvalue()


def numpy_array(file: Path) -> None:
    file.write_bytes(npy_header() + b"0" * 64)


def numpy_archive(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", npy_header() + b"0" * 64)


def nifti_header() -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header["dim"] = [3, 30_000, 30_000, 30_000, 1, 1, 1, 1]
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return header.binaryblock + b"\0" * 200


def nifti_file(file: Path) -> None:
    file.write_bytes(nifti_header())


def nifti_packed(file: Path) -> None:
    file.write_bytes(gzip.compress(nifti_header()))


def hdf5_file(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content.create_dataset("image", HUGE, "f4", chunks=(1000, 1000))  # none is written


def matlab(file: Path) -> None:
    scipy.io.savemat(file, {"image": np.zeros((2, 3), np.float32)})
    content = bytearray(file.read_bytes())
    place = content.index(struct.pack("<ii", 2, 3))
    content[place : place + 8] = struct.pack("<ii", SIDE, SIDE)
    file.write_bytes(content)


def png(bits: int, colour: int) -> Callable[[Path], None]:
    def make(file: Path) -> None:
        header = struct.pack(">IIBBBBB", 12_000, 12_000, bits, colour, 0, 0, 0)
        parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
        chunks = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        ]
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))

    return make


def tiff(file: Path) -> None:
    tifffile.imwrite(file, np.zeros((16, 17), np.uint8))
    content = bytearray(file.read_bytes())
    for old in (16, 17):  # the tags of width and height, as long numbers
        tag = struct.pack("<HI", 4, 1) + struct.pack("<I", old)
        short = struct.pack("<HI", 3, 1) + struct.pack("<I", old)
        for pattern in (tag, short):
            place = content.find(pattern)
            if place >= 0:
                content[place : place + 10] = struct.pack("<HII", 4, 1, SIDE)
                break
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "make", "read", "says"),
    [
        ("a.npy", numpy_array, npy.read, "declares 4,000,000,000,000 bytes"),
        ("a.npz", numpy_archive, npy.read, "declares 4,000,000,000,000 bytes"),
        ("a.nii", nifti_file, nifti.read, "declares 108,000,000,000,000 bytes"),
        ("a.nii.gz", nifti_packed, nifti.read, "declares 108,000,000,000,000 bytes"),
        ("a.h5", hdf5_file, hdf5.read, "declares 4,000,000,000,000 bytes"),
        ("a.mat", matlab, hdf5.read, "declares 1,000,000,000,000 bytes"),
    ],
)
def test_more_than_the_file_holds_is_refused_unread(
    tmp_path: Path, name: str, make: Callable, read: Callable, says: str
) -> None:
    file = tmp_path / name
    make(file)
    with pytest.raises(Unusable, match=says):
        read(file, name)


@pytest.mark.parametrize(
    ("name", "make"), [("a.png", png(8, 0)), ("b.png", png(16, 2)), ("a.tif", tiff)]
)
def test_pictures_that_no_slice_has_are_refused_unread(
    tmp_path: Path, name: str, make: Callable
) -> None:
    file = tmp_path / name
    make(file)
    with pytest.raises(Unusable, match="has more than 100,000,000 pixels"):
        images._decode(file.read_bytes(), file.suffix)


def test_what_is_small_or_packed_well_is_no_lie() -> None:
    declared.check((1000, 1000), 4, 100)
    declared.check((1 << 20, 1 << 10), 1, (1 << 20))
    with pytest.raises(Unusable, match="cannot hold"):
        declared.check((1 << 20, 1 << 10), 1, (1 << 19))
    with pytest.raises(Unusable, match="more than this machine's memory"):
        declared.check((declared.MEMORY, 2), 1, None)


def secret(folder: Path) -> Path:
    file = folder / "secret.h5"
    with h5py.File(file, "w") as content:
        content["image"] = np.ones((4, 40, 40), np.float32)
        fields = np.dtype([("head", "u4"), ("data", "u4")])
        content["data"] = np.zeros(3, fields)
        content["xml"] = b"<a/>"
    (folder / "secret.raw").write_bytes(b"\1" * 6400)
    return file


def test_values_in_other_files_are_not_read(tmp_path: Path) -> None:
    other = secret(tmp_path)
    stored, virtual, linked = (tmp_path / f"{name}.h5" for name in ("stored", "virtual", "linked"))
    with h5py.File(stored, "w") as content:
        raw = [(str(tmp_path / "secret.raw"), 0, 6400)]
        content.create_dataset("image", (40, 40), "f4", external=raw)
    with h5py.File(virtual, "w") as content:
        layout = h5py.VirtualLayout((4, 40, 40), "f4")
        layout[:] = h5py.VirtualSource(str(other), "image", (4, 40, 40))
        content.create_virtual_dataset("image", layout)
    with h5py.File(linked, "w") as content:
        content["image"] = h5py.ExternalLink(str(other), "image")
        content["data"] = h5py.ExternalLink(str(other), "data")
        content["group"] = h5py.ExternalLink(str(other), "/")
    for file in (stored, virtual):
        with pytest.raises(Unusable, match="is in another file, which is not opened"):
            hdf5.read(file, file.name)
    assert ismrmrd.group_of(other) == "/"
    assert ismrmrd.group_of(linked) is None
    with hdf5.opened(linked) as content:
        assert not content.arrays
    with pytest.raises(Unusable, match="is in another file"):
        ismrmrd.load(linked, "/")


def test_a_nrrd_file_that_declares_more(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    header = "NRRD0004\ntype: float\ndimension: 3\nsizes: 5000 5000 5000\nencoding: raw\n"
    (tmp_path / "a.nrrd").write_bytes(f"{header}endian: little\n\n".encode() + b"0" * 64)
    with pytest.raises(Unusable, match="declares 125,000,000,000 bytes"):
        itk.read(tmp_path / "a.nrrd", "a.nrrd")


def test_a_dicom_object_that_declares_more() -> None:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    data.Rows, data.Columns, data.NumberOfFrames = 60_000, 60_000, "50"
    data.SamplesPerPixel, data.BitsAllocated = 1, 16
    data.add_new("PixelData", "OW", b"0" * 64)
    with pytest.raises(Unusable, match="declares 360,000,000,000 bytes of values, which its 64"):
        _dicom_pixels._check_size(data, packed=False)
