"""Files come back in their own format: `degraded` returns what it is given, wherever it lies."""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import tifffile
from applying import by_hand, folder_of, phantom
from PIL import Image

from bench import external
from bench.data.prepare import Preparation
from bench.errors import UserError
from bench.opened import Run
from bench.reconstruct import reconstruct
from bench.reconstruct.scans import Scans, scaled
from bench.store import Store

NOISE = {"degradation": "gaussian_noise"}
SMALL = {"degradation": "super_resolution"}
KSPACE = {"degradation": "mri_cartesian"}


def noisy(height: int, width: int, seed: int = 0, std: float = 0.1) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, std, (height, width))
    return (phantom(height, width) + noise).astype(np.float32)


@pytest.mark.parametrize("method", ["tv", "unet"])
def test_pictures_of_odd_sizes_are_reconstructed_at_their_size(
    made_run: Run, tmp_path: Path, method: str
) -> None:
    for name, shape in {"a/one.png": (45, 51), "two.png": (33, 70)}.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        grey = (255 * noisy(*shape).clip(0, 1)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "in" / name, dpi=(72, 72))
    more = method == "unet"
    got = reconstruct(
        made_run, tmp_path / "in", tmp_path / "out", method, which=NOISE, uncertainty=more
    )
    ends = [".png", "_uncertainty.tif"] if more else [".png"]
    assert folder_of(tmp_path / "out") == [f"{k}{end}" for k in ("a/one", "two") for end in ends]
    assert got.slices == 2
    cell = made_run.cell(method, **NOISE)
    for name in ("a/one.png", "two.png"):
        y = np.asarray(Image.open(tmp_path / "in" / name)).astype(np.float32) / 255
        x_hat = by_hand(made_run, cell, y[None], y.shape)[0]
        found = np.asarray(Image.open(tmp_path / "out" / name))
        assert found.dtype == np.uint8
        assert np.abs(found - 255 * x_hat.clip(0, 1)).max() <= 0.51
        assert Image.open(tmp_path / "out" / name).info["dpi"] == pytest.approx((72, 72), abs=0.1)
    if more:
        spread = tifffile.imread(tmp_path / "out" / "two_uncertainty.tif")
        assert spread.shape == (33, 70)
        assert 0 < spread.mean() < 255


def test_pictures_of_one_name_do_not_replace_each_other(made_run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("scan.png", "scan.jpg"):
        Image.fromarray((200 * phantom(32, 32)).astype(np.uint8)).save(tmp_path / "in" / name)
    reconstruct(made_run, tmp_path / "in", tmp_path / "out", "degraded", which=NOISE)
    assert folder_of(tmp_path / "out") == ["scan.png", "scan.png.png"]


def test_a_tiff_stack_keeps_type_and_resolution(made_run: Run, tmp_path: Path) -> None:
    stack = (4000 * np.stack([phantom(40, 36), phantom(40, 36)[::-1]])).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "s.tif", stack, imagej=True, resolution=(2.5, 2.5),
        metadata={"spacing": 3.0, "unit": "um", "axes": "ZYX"},
    )  # fmt: skip
    reconstruct(made_run, tmp_path / "s.tif", tmp_path / "new.tif", "degraded", which=NOISE)
    with tifffile.TiffFile(tmp_path / "new.tif") as tiff:
        np.testing.assert_allclose(tiff.asarray(), stack, atol=1)
        assert tiff.asarray().dtype == np.uint16
        assert tiff.imagej_metadata["spacing"] == 3.0
        assert tiff.pages[0].resolution == (2.5, 2.5)


def oblique() -> np.ndarray:
    """Return the affine of voxels of 1.2 x 2 x 1 mm, axes permuted, flipped and turned."""
    turn = np.array([[0.0, -1, 0], [0.98, 0, 0.2], [-0.2, 0, 0.98]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [1.2, 2.0, 1.0], [10, -20, 30]
    return affine


def volume(*shape: int) -> np.ndarray:
    slices = [phantom(*shape[:2]) * (0.6 + 0.4 * k / shape[2]) for k in range(shape[2])]
    return np.stack(slices, -1)


def test_a_4d_nifti_keeps_affine_axes_type_and_scale_factors(made_run: Run, tmp_path: Path) -> None:
    values = np.stack([volume(40, 36, 20), volume(40, 36, 20)[::-1]], -1)
    stored = np.rint(1500 * values).astype(np.int16)
    image = nib.Nifti1Image(stored, oblique())
    image.header.set_slope_inter(0.5, 10)
    image.header.set_zooms((*image.header.get_zooms()[:3], 2.5))
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"before"
    nib.save(image, tmp_path / "v.nii.gz")
    before = nib.load(tmp_path / "v.nii.gz")
    scale = {"scale": [0, 760]}
    reconstruct(
        made_run, tmp_path / "v.nii.gz", tmp_path / "out", "degraded", which=NOISE, reading=scale
    )
    after = nib.load(tmp_path / "out" / "v.nii.gz")
    assert after.shape == (40, 36, 20, 2)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.get_data_dtype() == np.int16
    assert (after.dataobj.slope, after.dataobj.inter) == (0.5, 10)
    for key in ("qform_code", "sform_code", "xyzt_units", "quatern_b", "pixdim"):
        np.testing.assert_array_equal(after.header[key], before.header[key])
    np.testing.assert_allclose(after.get_fdata(), before.get_fdata(), atol=0.51)
    assert bytes(after.header["descrip"]).startswith(b"ReconBench: degraded")


def test_more_voxels_fill_the_same_field_of_view(made_run: Run, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(volume(20, 24, 18), oblique()), tmp_path / "v.nii")
    reconstruct(made_run, tmp_path / "v.nii", tmp_path / "out", "degraded", which=SMALL)
    before, after = nib.load(tmp_path / "v.nii"), nib.load(tmp_path / "out" / "v.nii")
    # Slices are sagittal, as the thickest voxels show: across the second axis, right to left.
    assert after.shape == (40, 24, 36)
    for image_corner in (np.zeros(3), np.ones(3)):
        corners = [
            nib.affines.apply_affine(image.affine, image_corner * image.shape - 0.5)
            for image in (before, after)
        ]
        np.testing.assert_allclose(*corners, atol=1e-4)


def test_what_noise_does_to_a_volume_hardly_changes_its_scale(
    made_run: Run, tmp_path: Path
) -> None:
    clean = np.moveaxis(volume(64, 60, 12), -1, 0)
    noise = np.random.default_rng(0).normal(0, 0.2, clean.shape)
    np.save(tmp_path / "scan.npy", (900 * (clean + noise)).astype(np.float32))
    (scan,) = Scans(tmp_path / "scan.npy", {}, {})
    given = scaled(scan.volumes[0], Preparation(64), clean=False)
    assert given.images.min() < -0.5  # negative values are the noise's
    assert np.polyfit(clean.ravel(), given.images.ravel(), 1)[0] == pytest.approx(1, abs=0.2)
    before = np.load(tmp_path / "scan.npy")
    np.testing.assert_allclose(given.restored(given.images), before, atol=1e-2)
    np.save(tmp_path / "ct.npy", (2000 * clean - 1000).astype(np.float32))
    with pytest.raises(UserError, match="if they are Hounsfield units"):
        reconstruct(made_run, tmp_path / "ct.npy", tmp_path / "out", "tv", which=NOISE)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_arrays_keep_the_order_of_their_axes(
    made_run: Run, tmp_path: Path, order: tuple[int, ...]
) -> None:
    array = np.ascontiguousarray(np.moveaxis(volume(40, 48, 5), -1, 0).transpose(order))
    np.save(tmp_path / "scan.npy", array)
    reading = {"scale": [0, 1]}
    for out in ("out", "new.npy"):
        reconstruct(
            made_run, tmp_path / "scan.npy", tmp_path / out, "degraded", which=NOISE,
            reading=reading,
        )  # fmt: skip
    np.testing.assert_allclose(np.load(tmp_path / "out" / "scan.npy"), array, atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "new.npy"), array, atol=1e-5)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["reconstruction_rss"] = np.moveaxis(volume(40, 48, 5), -1, 0)
    reconstruct(
        made_run, tmp_path / "scan.h5", tmp_path / "h5", "degraded", which=NOISE, reading=reading
    )
    with h5py.File(tmp_path / "h5" / "scan.h5") as file:
        expected = np.moveaxis(volume(40, 48, 5), -1, 0)
        np.testing.assert_allclose(file["reconstruction"][:], expected, atol=1e-5)


def test_undersampled_kspace_of_an_odd_size(made_run: Run, tmp_path: Path) -> None:
    x = phantom(45, 54) * np.exp(0.5j)
    full = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(x), norm="ortho"))
    full = full + np.random.default_rng(0).normal(0, 1e-3, full.shape)
    mask = np.zeros(54, bool)
    mask[::2] = mask[22:32] = True
    np.save(tmp_path / "kspace.npy", (full * mask).astype(np.complex64)[None])
    reconstruct(
        made_run, tmp_path / "kspace.npy", tmp_path / "out", "degraded", which=KSPACE,
        reading={"axes": "chw"},
    )  # fmt: skip
    found = np.load(tmp_path / "out" / "kspace.npy")
    zeros = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(full * mask), norm="ortho"))
    np.testing.assert_allclose(found, np.abs(zeros), atol=1e-5)
    reconstruct(
        made_run, tmp_path / "kspace.npy", tmp_path / "tv.npy", "tv", which=KSPACE,
        reading={"axes": "chw"},
    )  # fmt: skip
    error = [np.abs(one - np.abs(x)).std() for one in (np.load(tmp_path / "tv.npy"), found)]
    assert error[0] < 0.8 * error[1]


@pytest.mark.parametrize("which", [NOISE, KSPACE], ids=["noise", "kspace"])
def test_measurements_of_the_run_are_reconstructed_as_in_the_run(
    made_run: Run, tmp_path: Path, which: dict[str, str]
) -> None:
    cell = made_run.cell("tv", **which)
    task = str(made_run.cells.loc[cell, "task"])
    list(external.write_measurements(Store(made_run.folder), tmp_path))
    file = tmp_path / task / "measurements.h5"
    reconstruct(made_run, file, tmp_path / "x.h5", "tv", which=which)
    with h5py.File(tmp_path / "x.h5") as content:
        found = content["x_hat"][:]
    expected = made_run.pictures(cell)["x_hat"]
    np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-5)
