"""DICOM comes back as a derived series, which other programs place where the source is."""

import shutil
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from applying import folder_of, phantom
from dicom_files import enhanced, write

from bench.opened import Run
from bench.reconstruct import reconstruct

NOISE = {"degradation": "gaussian_noise"}
TURNED = [0.96, 0.28, 0, 0, 0, -1]
GEOMETRY = {
    "PixelSpacing": [0.8, 0.9], "ImageOrientationPatient": TURNED, "SliceThickness": 3,
    "FrameOfReferenceUID": "1.2.7", "StudyInstanceUID": "1.2.8", "SeriesNumber": 4,
    "PatientPosition": "HFS",
}  # fmt: skip

KEPT = (
    "ImagePositionPatient", "PatientID", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue",
    "Modality",
)  # fmt: skip


def series(folder: Path, **tags: object) -> Path:
    for number in range(3):
        values = np.rint(400 * phantom(40, 36) - 160 + 10 * number)
        stored = (values + 1024).astype(np.int16)
        stored[:, :3] = -2000  # outside the scanner's field of view
        where = np.array([5, 6, 7]) + 3.0 * number * np.cross(TURNED[:3], TURNED[3:])
        write(
            folder / f"{number}.dcm", stored, ImagePositionPatient=[f"{one:.6f}" for one in where],
            InstanceNumber=number + 1, RescaleIntercept=-1024, RescaleSlope=1,
            PixelPaddingValue=-2000, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
            SeriesDescription="Head 3 mm", **{**GEOMETRY, **tags},
        )  # fmt: skip
    return folder


def test_a_series_keeps_its_geometry_and_gets_names_of_its_own(
    made_run: Run, tmp_path: Path
) -> None:
    got = reconstruct(made_run, series(tmp_path / "ct"), tmp_path / "out", "degraded", which=NOISE)
    assert folder_of(tmp_path / "out") == ["0.dcm", "1.dcm", "2.dcm"]
    assert "CT images (MR)" in got.warning and "\n" not in got.warning
    made = [pydicom.dcmread(tmp_path / "out" / f"{k}.dcm") for k in range(3)]
    source = [pydicom.dcmread(tmp_path / "ct" / f"{k}.dcm") for k in range(3)]
    for new, old in zip(made, source, strict=True):
        np.testing.assert_array_equal(new.pixel_array, old.pixel_array)
        for name in (*GEOMETRY.keys() - {"SeriesNumber"}, *KEPT):
            assert new[name].value == old[name].value, name
        assert list(new.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        assert new.SeriesDescription == "Head 3 mm degraded"
        assert new.SOPInstanceUID == new.file_meta.MediaStorageSOPInstanceUID != old.SOPInstanceUID
        assert new.SourceImageSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        assert "not for diagnosis" in new.DerivationDescription
    assert len({one.SeriesInstanceUID for one in made}) == 1
    assert len({one.SOPInstanceUID for one in made}) == 3


@pytest.mark.parametrize("given", [-2000, 63536])
def test_padding_values_of_either_sign_are_written(
    made_run: Run, tmp_path: Path, given: int
) -> None:
    """63536 is how some scanners write -2000."""
    source = pydicom.dcmread(series(tmp_path / "ct") / "0.dcm")
    source.add_new("PixelPaddingValue", "US" if given > 0 else "SS", given)
    source.save_as(tmp_path / "one.dcm")
    reconstruct(made_run, tmp_path / "one.dcm", tmp_path / "new.dcm", "degraded", which=NOISE)
    made = pydicom.dcmread(tmp_path / "new.dcm")
    assert made.PixelPaddingValue == -2000
    np.testing.assert_array_equal(made.pixel_array, source.pixel_array)


def test_gdcm_and_dcm2niix_place_it_where_the_source_is(made_run: Run, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")  # reads DICOM by GDCM
    reconstruct(made_run, series(tmp_path / "ct"), tmp_path / "out", "degraded", which=NOISE)
    volumes = []
    for folder in (tmp_path / "ct", tmp_path / "out"):
        reader = sitk.ImageSeriesReader()
        (uid,) = reader.GetGDCMSeriesIDs(str(folder))
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), uid))
        volumes.append(reader.Execute())
    for what in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert getattr(volumes[0], what)() == getattr(volumes[1], what)()
    np.testing.assert_array_equal(*map(sitk.GetArrayFromImage, volumes))
    if shutil.which("dcm2niix") is None:
        pytest.skip("dcm2niix is not installed")
    for folder in ("ct", "out"):
        (tmp_path / "nii" / folder).mkdir(parents=True)
        command = [
            "dcm2niix",
            "-f",
            "v",
            "-o",
            str(tmp_path / "nii" / folder),
            str(tmp_path / folder),
        ]
        subprocess.run(command, check=True, capture_output=True)
    before, after = (nib.load(tmp_path / "nii" / folder / "v.nii") for folder in ("ct", "out"))
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.get_fdata(), before.get_fdata())


def test_frames_that_are_images_become_a_multi_frame_object(made_run: Run, tmp_path: Path) -> None:
    """Two frames with rescale tags of their own, and a phase image between them."""
    stored = np.stack([(1000 * phantom(40, 36)).astype(np.uint16)] * 3)
    frames = [
        {
            "PixelValueTransformationSequence": {"RescaleSlope": 1 + number, "RescaleIntercept": 0,
                                                 "RescaleType": "US"},
            "PlanePositionSequence": {"ImagePositionPatient": [0, 0, 2 * number]},
            "MRImageFrameTypeSequence": {
                "FrameType": ["ORIGINAL", "PRIMARY", "P" if number == 1 else "M", "NONE"],
                "ComplexImageComponent": "PHASE" if number == 1 else "MAGNITUDE",
            },
        }
        for number in range(3)
    ]  # fmt: skip
    shared = {
        "PixelMeasuresSequence": {"PixelSpacing": [1.5, 1.25], "SliceThickness": 2},
        "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    }
    enhanced(tmp_path / "mf.dcm", stored, shared, frames, Modality="MR")
    reconstruct(made_run, tmp_path / "mf.dcm", tmp_path / "new.dcm", "degraded", which=NOISE)
    made = pydicom.dcmread(tmp_path / "new.dcm")
    assert made.NumberOfFrames == 2 == len(made.PerFrameFunctionalGroupsSequence)
    np.testing.assert_array_equal(made.pixel_array, stored[[0, 2]])
    heights, slopes = [], []
    for group in made.PerFrameFunctionalGroupsSequence:
        heights.append(group.PlanePositionSequence[0].ImagePositionPatient[2])
        slopes.append(group.PixelValueTransformationSequence[0].RescaleSlope)
        kind = group.MRImageFrameTypeSequence[0].FrameType
        assert list(kind) == ["DERIVED", "SECONDARY", "M", "NONE"]
    assert heights == [0, 4]
    assert slopes == [1, 3]
    assert list(made.SourceImageSequence[0].ReferencedFrameNumber) == [1, 3]
    gdcm = shutil.which("gdcmdump")
    if gdcm is not None:
        done = subprocess.run([gdcm, str(tmp_path / "new.dcm")], capture_output=True, text=True)
        assert done.returncode == 0 and "DERIVED\\SECONDARY" in done.stdout


def test_values_too_fine_for_the_rescale_tags_get_new_ones(made_run: Run, tmp_path: Path) -> None:
    """A signal of up to 20: whole numbers would be too coarse; and MONOCHROME1 is reflected."""
    stored = np.rint(20 * phantom(40, 36)).astype(np.uint8)
    write(
        tmp_path / "mr.dcm", stored, Modality="MR", PhotometricInterpretation="MONOCHROME1",
        WindowCenter=10, WindowWidth=20,
    )  # fmt: skip
    reconstruct(made_run, tmp_path / "mr.dcm", tmp_path / "out", "degraded", which=NOISE)
    made = pydicom.dcmread(tmp_path / "out" / "mr.dcm")
    values = made.pixel_array * float(made.RescaleSlope) + float(made.RescaleIntercept)
    assert made.PhotometricInterpretation == "MONOCHROME2"
    np.testing.assert_allclose(values, 255.0 - stored, atol=0.01)
    assert (made.WindowCenter, made.WindowWidth) == (245, 20)
    assert made.BitsAllocated == 16
