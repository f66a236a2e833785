"""Studies that went through other people's tools: dcmtk, GDCM, dcm2niix, ITK.

Each route starts at a file of a scanner and ends in one that our readers must show as SimpleITK
shows the original. Debian: dcmtk, libgdcm-tools, dcm2niix.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_files import load
from pydicom.data import get_testdata_file

from bench import data
from bench.spec import DatasetSpec

sitk = pytest.importorskip("SimpleITK")
sitk.ProcessObject.SetGlobalWarningDisplay(False)

SHARED = Path(os.environ.get("RECONBENCH_SHARED_DATA", "/nowhere"))
GE_HEAD = SHARED / "ct-dicom" / "ge-head"
ORIGINALS = {
    "ct": Path(str(get_testdata_file("CT_small.dcm"))),
    "mr": Path(str(get_testdata_file("MR_small.dcm"))),
    "head": GE_HEAD / "13.dcm",
}
TOLERANCE = 1e-3
ENHANCED = {"ct": "1.2.840.10008.5.1.4.1.1.2.1", "mr": "1.2.840.10008.5.1.4.1.1.4.1"}

# {0} is what the step before has written, {1} what this one writes.
ROUTES = {
    "gdcm raw": ["gdcmconv --raw {0} {1}"],
    "gdcm implicit": ["gdcmconv --raw --implicit {0} {1}"],
    "gdcm JPEG lossless": ["gdcmconv --jpeg {0} {1}"],
    "gdcm JPEG-LS": ["gdcmconv --jpegls {0} {1}"],
    "gdcm JPEG 2000": ["gdcmconv --j2k {0} {1}"],
    "gdcm RLE": ["gdcmconv --rle {0} {1}"],
    "dcmtk JPEG lossless": ["dcmcjpeg +e1 {0} {1}"],
    "dcmtk JPEG lossless 14": ["dcmcjpeg +el {0} {1}"],
    "dcmtk JPEG-LS": ["dcmcjpls +el {0} {1}"],
    "dcmtk RLE": ["dcmcrle {0} {1}"],
    "dcmtk deflated": ["dcmconv +td {0} {1}"],
    "dcmtk big endian": ["dcmconv +tb {0} {1}"],
    "dcmtk implicit": ["dcmconv +ti {0} {1}"],
    "dcmtk without preamble": ["dcmconv -F +ti {0} {1}"],
    "dcmtk explicit without preamble": ["dcmconv -F +te {0} {1}"],
    "JPEG and back": ["dcmcjpeg +e1 {0} {1}", "dcmdjpeg {0} {1}"],
    "JPEG-LS and back": ["dcmcjpls +el {0} {1}", "dcmdjpls {0} {1}"],
    "RLE and back": ["dcmcrle {0} {1}", "dcmdrle {0} {1}"],
    "JPEG 2000 to JPEG-LS": ["gdcmconv --j2k {0} {1}", "gdcmconv --jpegls {0} {1}"],
    "big endian to JPEG 2000": ["dcmconv +tb {0} {1}", "gdcmconv --j2k {0} {1}"],
}
LOSSY = {
    "dcmtk JPEG 12 bits": ["dcmcjpeg +ee {0} {1}"],
    "gdcm JPEG-LS near": ["gdcmconv --jpegls --lossy -e 3 {0} {1}"],
    "gdcm JPEG 2000 lossy": ["gdcmconv --j2k --lossy -q 20 {0} {1}"],
}


def travel(route: Sequence[str], start: Path, folder: Path) -> Path:
    """Run the commands of a route; a file that ends the route."""
    at = start
    for number, step in enumerate(route):
        to = folder / f"step{number}" / "out.dcm"
        to.parent.mkdir()
        run([word.format(at, to) for word in step.split()])
        at = to
    return at


def run(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def original(name: str) -> Path:
    if not ORIGINALS[name].is_file():
        pytest.skip("RECONBENCH_SHARED_DATA names no folder with CT of a head")
    return ORIGINALS[name]


def by_itk(*files: Path) -> np.ndarray:
    """Read slices with SimpleITK: (slices, rows, columns), in the units of the files."""
    return np.concatenate(
        [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files]
    ).astype(float)


def shown(values: np.ndarray, name: str, top: float) -> np.ndarray:
    """Scale as the benchmark does: CT by the soft-tissue window, MR by what is asked for."""
    return ((values + 160) / 400 if name != "mr" else values / top).clip(0, 1)


def options(name: str, top: float) -> dict[str, object]:
    return {"min_foreground": 0.0} | ({"scale": [0, top]} if name == "mr" else {})


def check(
    file: Path, expected: np.ndarray, name: str, source: str = "dicom", **more: object
) -> None:
    """Compare what we read with slices in the units of the scanner."""
    top = float(expected.max())
    spec = DatasetSpec(
        source=source, path=str(file), image_size=expected.shape[-1], **options(name, top), **more
    )
    found = data.load(spec).images[:, 0]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, shown(expected, name, top), atol=TOLERANCE)


@pytest.mark.parametrize("name", ORIGINALS)
@pytest.mark.parametrize("route", ROUTES)
def test_a_slice_by_every_route(tmp_path: Path, route: str, name: str) -> None:
    start = original(name)
    check(travel(ROUTES[route], start, tmp_path), by_itk(start), name)


@pytest.mark.parametrize("name", ["ct", "mr"])
@pytest.mark.parametrize("route", LOSSY)
def test_lossy_routes_give_what_itk_sees(tmp_path: Path, route: str, name: str) -> None:
    """12 bits of JPEG and lossy codecs change pixels; we read what the file then holds."""
    file = travel(LOSSY[route], original(name), tmp_path)
    check(file, by_itk(file), name)


def make_enhanced(file: Path, name: str, slices: np.ndarray, intercept: float) -> None:
    """Let ITK write a multi-frame object with functional groups."""
    image = sitk.GetImageFromArray(slices.astype(np.int16))
    image.SetSpacing((0.5, 0.5, 5.0))
    for tag, value in {
        "0008|0016": ENHANCED[name], "0008|0060": name.upper(), "0010|0020": "somebody",
        "0028|1052": str(intercept), "0028|1053": "1",
    }.items():  # fmt: skip
        image.SetMetaData(tag, value)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(file))
    writer.Execute(image)


@pytest.mark.parametrize("name", ["ct", "mr"])
@pytest.mark.parametrize(
    "route", [None, "gdcm JPEG-LS", "gdcm JPEG 2000", "gdcm RLE", "dcmtk deflated", "dcmtk RLE"]
)
def test_enhanced_multi_frame_objects(tmp_path: Path, route: str | None, name: str) -> None:
    (one,) = by_itk(original(name))
    slices = np.stack([one, np.flipud(one), one // 2])
    make_enhanced(tmp_path / "enhanced.dcm", name, slices, -1024 if name == "ct" else 0)
    steps = ROUTES[route] if route else []
    check(travel(steps, tmp_path / "enhanced.dcm", tmp_path), slices, name)


def test_a_whole_series_by_every_tool(tmp_path: Path) -> None:
    if not GE_HEAD.is_dir():
        pytest.skip("RECONBENCH_SHARED_DATA names no folder with CT of a head")
    files = sorted(GE_HEAD.glob("*.dcm"))[:6]
    (tmp_path / "mixed").mkdir()
    routes = ["gdcm JPEG-LS", "dcmtk RLE", "gdcm JPEG 2000", "dcmtk big endian", "dcmtk deflated"]
    for number, file in enumerate(files):
        (tmp_path / str(number)).mkdir()
        end = travel(ROUTES[routes[number % len(routes)]], file, tmp_path / str(number))
        shutil.copy(end, tmp_path / "mixed" / f"IM{99 - number}")
    (tmp_path / "whole").mkdir()
    for file in files:
        shutil.copy(file, tmp_path / "whole")
    mixed, whole = (load(tmp_path / name, 512) for name in ("mixed", "whole"))
    assert mixed.ids == whole.ids
    np.testing.assert_allclose(mixed.images, whole.images, atol=TOLERANCE)
    heights = [sitk.ReadImage(str(file)).GetOrigin()[2] for file in files]
    assert (np.diff(heights) > 0).all() or (np.diff(heights) < 0).all()
    np.testing.assert_allclose(
        whole.images[:, 0], shown(by_itk(*files), "head", 1.0), atol=TOLERANCE
    )


@pytest.mark.parametrize("name", ["ct", "mr"])
def test_dcm2niix_gives_the_same_slices(tmp_path: Path, name: str) -> None:
    start = original(name)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    shutil.copy(start, tmp_path / "in")
    run(["dcm2niix", "-z", "n", "-f", "scan", "-o", str(tmp_path / "out"), str(tmp_path / "in")])
    (file,) = (tmp_path / "out").glob("*.nii")
    expected = by_itk(start)
    # NIfTI does not say that CT is CT.
    scale = {"window": [40, 400]} if name == "ct" else {}
    check(file, expected, name, source="nifti", **scale)
