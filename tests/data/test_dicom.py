import json
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from bench import data
from bench.errors import UserError
from bench.spec import DatasetSpec

PATIENT = "MUSTERMANN-0815"


def load(path: Path, size: int = 32, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(source="dicom", path=str(path), image_size=size, **options))


def write(path: Path, stored: np.ndarray, **tags: object) -> None:
    """Write a slice with pydicom; `tags` replace or add elements."""
    scan = Dataset()
    scan.file_meta = FileMetaDataset()
    scan.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    scan.file_meta.MediaStorageSOPClassUID = CTImageStorage
    scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    scan.SOPClassUID = CTImageStorage
    scan.Modality, scan.PatientID, scan.PatientName = "CT", PATIENT, "Muster^Mann"
    scan.SeriesInstanceUID = "1.2.3"
    scan.Rows, scan.Columns = stored.shape
    scan.SamplesPerPixel, scan.PhotometricInterpretation = 1, "MONOCHROME2"
    scan.BitsAllocated = scan.BitsStored = 16
    scan.HighBit, scan.PixelRepresentation = 15, int(stored.dtype.kind == "i")
    scan.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(scan, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    scan.save_as(path, enforce_file_format=True)


def ramp(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 20, (32, 32))
    return (np.linspace(0, 2000, 32)[None] + noise).astype(np.uint16)


def test_ct_is_hounsfield_units_in_the_stated_window(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(), RescaleSlope=2, RescaleIntercept=-1024)
    found = load(tmp_path, window=[0, 1000])
    expected = ((ramp() * 2.0 - 1024 + 500) / 1000).clip(0, 1)
    np.testing.assert_allclose(found.images[0, 0], expected, atol=1e-5)
    assert any("-500 to 500 HU" in note for note in found.audit.notes)


def test_the_window_of_the_file(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000}
    write(tmp_path / "a.dcm", ramp(), WindowCenter=[50, 0], WindowWidth=[500, 9], **tags)
    expected = ((ramp() - 1000.0 + 200) / 500).clip(0, 1)
    np.testing.assert_allclose(load(tmp_path, window="file").images[0, 0], expected, atol=1e-5)
    write(tmp_path / "a.dcm", ramp(), **tags)
    with pytest.raises(UserError, match=r"a\.dcm: states no window"):
        load(tmp_path, window="file")


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(), Modality="MR")
    write(
        tmp_path / "b.dcm", (65535 - ramp()).astype(np.uint16), Modality="MR",
        SeriesInstanceUID="1.2.4", PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    found = load(tmp_path)
    np.testing.assert_allclose(found.images[0], found.images[1], atol=1e-5)


def test_slices_are_grouped_by_series_and_ordered(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        write(
            tmp_path / f"{9 - number}.dcm", ramp(number) * np.uint16(number), Modality="MR",
            InstanceNumber=number, SeriesInstanceUID="1.2.5",
        )  # fmt: skip
    write(tmp_path / "other.dcm", ramp(7), Modality="MR", SeriesInstanceUID="1.2.6")
    write(tmp_path / "scout.dcm", ramp(8), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = load(tmp_path)
    tops = sorted(float(image.max()) for image in found.images)
    assert tops == pytest.approx([1 / 3, 2 / 3, 1, 1], abs=0.01)  # one maximum for a series
    assert len(set(found.subjects)) == 1
    assert len({name.split("/")[1] for name in found.ids}) == 2
    assert any("1 DICOM files are localizers" in note for note in found.audit.notes)


def test_no_trace_of_the_patient_is_written(tmp_path: Path) -> None:
    folder = tmp_path / f"archive/{PATIENT}"
    for number in range(30):
        write(folder / f"{PATIENT}_{number}.dcm", ramp(number), InstanceNumber=number)
    (folder / f"{PATIENT}_broken.dcm").write_bytes(b"nothing")
    write(tmp_path / "7" / "b.dcm", ramp(31), PatientID="7", SeriesInstanceUID="1.7")
    found = load(tmp_path)
    assert next(iter(found.audit.skipped)).endswith("_broken.dcm")
    assert len(found.audit.skipped) == 1
    written = json.dumps([found.ids, found.subjects, vars(found.audit)])
    assert PATIENT not in written
    assert "Muster" not in written


def test_subjects_do_not_change_when_others_come(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(0))
    before = load(tmp_path)
    write(tmp_path / "b.dcm", ramp(1), PatientID="other", SeriesInstanceUID="1.1")
    after = load(tmp_path)
    assert set(before.subjects) < set(after.subjects)
    assert set(before.ids) < set(after.ids)


def test_series_without_patient_are_subjects(tmp_path: Path) -> None:
    for number in range(3):
        write(
            tmp_path / f"{number}.dcm", ramp(number), PatientID="", SeriesInstanceUID=f"1.{number}"
        )
    found = load(tmp_path)
    assert len(set(found.subjects)) == 3
    assert any("without PatientID" in note for note in found.audit.notes)


def test_files_without_ending_are_known_by_their_content(tmp_path: Path) -> None:
    for number, name in enumerate(["IM0001", "1.2.840.17", "c.dcm"]):
        write(tmp_path / name, ramp(number), InstanceNumber=number)
    (tmp_path / "README").write_text("x" * 200)
    assert data.resolve(DatasetSpec(path=str(tmp_path))).source == "dicom"
    assert len(load(tmp_path)) == 3


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_packaged_files(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    found = load(path, 64)
    assert found.images.shape == (1, 1, 64, 64)
    assert found.images.min() >= 0
    assert found.images.max() > 0.8
    assert str(pydicom.dcmread(path).PatientID) not in json.dumps([found.ids, found.subjects])


def test_bad_files_end_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "good.dcm", ramp())
    whole = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "truncated.dcm").write_bytes(whole[:-500])
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "text.dcm").write_text("no scan")
    write(tmp_path / "constant.dcm", np.full((32, 32), 7, np.uint16))
    for name, says in {
        "truncated": "cannot be read",
        "empty": "cannot be read",
        "text": "cannot be read",
        "constant": "is constant",
    }.items():
        with pytest.raises(UserError, match=says) as caught:
            load(tmp_path / f"{name}.dcm")
        assert f"{name}.dcm" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch) -> None:
    write(tmp_path / "a.dcm", ramp())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[dicom\]'"):
        load(tmp_path)
