from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from bench import data
from bench.errors import UserError
from bench.spec import DatasetSpec

HEADER = (
    "<ismrmrdHeader><encoding><reconSpace><matrixSize><x>48</x><y>48</y></matrixSize>"
    "</reconSpace></encoding></ismrmrdHeader>"
)


def load(path: Path, size: int = 48, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(path=str(path), image_size=size, **options))


def phantom(slices: int = 3, side: int = 48) -> np.ndarray:
    """Slices that differ, float32 (slices, side, side) in [0, 1]; the last one is the brightest."""
    one = resize(shepp_logan_phantom(), (side, side)).astype(np.float32)
    one /= one.max()
    return np.stack([one * (k + 1) / slices for k in range(slices)])


def kspace_of(images: np.ndarray, coils: int = 4) -> np.ndarray:
    """Multi-coil k-space with smooth complex sensitivities of unit sum of squares."""
    side = images.shape[-1]
    y, x = np.mgrid[:side, :side] / side - 0.5
    maps = np.stack(
        [
            np.exp(-3 * ((y - np.sin(a)) ** 2 + (x - np.cos(a)) ** 2) + 1j * (a + 3 * x))
            for a in np.linspace(0, 2 * np.pi, coils, endpoint=False)
        ]
    )
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    axes = (-2, -1)
    coil_images = np.fft.ifftshift(images[:, None] * maps, axes)
    return np.fft.fftshift(np.fft.fft2(coil_images, norm="ortho"), axes).astype(np.complex64)


def two_reals(values: np.ndarray) -> np.ndarray:
    return np.stack([values.real, values.imag], -1)


def write_h5(path: Path, attributes: dict | None = None, **arrays: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        file.attrs.update(attributes or {})
    return path


@pytest.mark.parametrize("suffix", ["h5", "hdf5", "t5"])
def test_fastmri_layout(tmp_path: Path, suffix: str) -> None:
    images = phantom()
    attributes = {"patient_id": "p7", "acquisition": "AXT2", "max": images.max()}
    write_h5(
        tmp_path / f"a.{suffix}",
        attributes,
        kspace=kspace_of(images),
        reconstruction_rss=images * 9,
    )
    found = load(tmp_path)
    np.testing.assert_allclose(found.images[:, 0], images, atol=1e-5)
    assert set(found.subjects) == {"p7"}
    assert found.ids[0] == f"a.{suffix}/slice-000"
    assert found.audit.badges == ["raw"]


@pytest.mark.parametrize("stored", [np.asarray, two_reals])
def test_rss_of_multi_coil_kspace_is_the_image(tmp_path: Path, stored) -> None:
    images = phantom()
    write_h5(tmp_path / "a.h5", kspace=stored(kspace_of(images)))
    np.testing.assert_allclose(load(tmp_path).images[:, 0], images, atol=1e-4)


def test_single_coil_kspace_of_fastmri_has_slices_first(tmp_path: Path) -> None:
    images = phantom()
    write_h5(tmp_path / "a.h5", {"acquisition": "CORPD"}, kspace=kspace_of(images, 1)[:, 0])
    np.testing.assert_allclose(load(tmp_path).images[:, 0], images, atol=1e-4)


def test_readout_oversampling_is_cut_off(tmp_path: Path) -> None:
    images = phantom()
    wide = np.pad(images, ((0, 0), (24, 24), (0, 0)))
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wide, axes)), axes)
    write_h5(tmp_path / "a.h5", {"acquisition": "x"}, kspace=kspace, ismrmrd_header=HEADER)
    np.testing.assert_allclose(load(tmp_path).images[:, 0], images, atol=1e-4)


def test_numpy_arrays_of_every_layout(tmp_path: Path) -> None:
    images = phantom()
    kspace = kspace_of(images)
    np.save(tmp_path / "stack.npy", images)
    np.save(tmp_path / "slices_last.npy", phantom(5).transpose(1, 2, 0))
    np.save(tmp_path / "single.npy", images[2])
    np.save(tmp_path / "ksp_coils_first.npy", kspace[2])
    np.save(tmp_path / "ksp_coils_last.npy", kspace[2].transpose(1, 2, 0))
    np.savez(tmp_path / "several.npz", mask=np.ones((48, 48)), vol=images)
    for name, count in {
        "stack.npy": 3, "slices_last.npy": 5, "single.npy": 1, "ksp_coils_first.npy": 1,
        "ksp_coils_last.npy": 1, "several.npz": 3,
    }.items():  # fmt: skip
        found = load(tmp_path / name)
        assert len(found) == count, name
        np.testing.assert_allclose(found.images[-1, 0], images[-1], atol=1e-4, err_msg=name)


def test_matlab_files_of_both_kinds(tmp_path: Path) -> None:
    images = phantom()
    kspace = kspace_of(images)[2].transpose(1, 2, 0)  # as MATLAB users have it: h, w, coils
    scipy.io.savemat(tmp_path / "old.mat", {"DATA": kspace})
    with h5py.File(tmp_path / "new.mat", "w") as file:
        pair = np.empty(kspace.T.shape, dtype=[("real", "<f4"), ("imag", "<f4")])
        pair["real"], pair["imag"] = kspace.T.real, kspace.T.imag
        file["DATA"] = pair
        file["DATA"].attrs["MATLAB_class"] = np.bytes_("double")
    for name in ("old.mat", "new.mat"):
        found = load(tmp_path / name, kind="kspace")
        np.testing.assert_allclose(found.images[0, 0], images[2], atol=1e-4, err_msg=name)
        with pytest.raises(UserError, match=rf"{name}: is complex in 'DATA'.*dataset\.kind"):
            load(tmp_path / name)


def test_badges_tell_how_kspace_was_made(tmp_path: Path) -> None:
    images, axes = phantom(), (-2, -1)
    real = np.fft.fftshift(np.fft.fft2(images[:1]), axes)
    padded = kspace_of(images)
    padded[..., :8] = padded[..., -8:] = 0
    for name, kspace, badge in [
        ("raw", kspace_of(images), "raw"),
        ("zero_phase", real, "magnitude-sim"),
        ("padded", padded, "processed"),
    ]:
        np.save(tmp_path / f"ksp_{name}.npy", kspace)
        found = load(tmp_path / f"ksp_{name}.npy")
        assert found.audit.badges == [badge], name
        assert any(badge in note for note in found.audit.notes) == (badge != "raw")


def test_the_key_can_be_given(tmp_path: Path) -> None:
    images = phantom()
    write_h5(tmp_path / "a.h5", **{"group/first": images, "group/second": images[::-1]})
    with pytest.raises(UserError, match=r"a\.h5: holds several arrays.*dataset\.key"):
        load(tmp_path)
    assert load(tmp_path, key="group/second").images[0].max() == pytest.approx(1)
    with pytest.raises(UserError, match=r"has no array 'third'; it has: group/first \(3, 48, 48\)"):
        load(tmp_path, key="third")


def test_axes_can_be_given(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((20, 30, 40)).astype(np.float32)
    np.save(tmp_path / "a.npy", volume)
    assert len(load(tmp_path, axes="hsw")) == 30
    for wrong in ("hw", "hhw", "xyz", "sch"):
        with pytest.raises(UserError, match=r"a\.npy: .*dataset\.axes"):
            load(tmp_path, axes=wrong)


def test_bad_files_end_in_one_line(tmp_path: Path) -> None:
    images = phantom()
    write_h5(tmp_path / "whole.h5", image=images)
    whole = (tmp_path / "whole.h5").read_bytes()
    (tmp_path / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "empty.npy").write_bytes(b"")
    write_h5(tmp_path / "nothing.h5", mask=np.ones(5))
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.where(images > 0.9, np.nan, images))
    np.save(tmp_path / "constant.npy", np.ones((3, 48, 48)))
    np.save(tmp_path / "line.npy", np.ones(48))
    np.save(tmp_path / "rank4.npy", np.random.default_rng(0).random((3, 4, 48, 48)))
    np.save(tmp_path / "colour.npy", np.random.default_rng(0).random((48, 48, 3)))
    np.save(tmp_path / "mask.npy", images > 0.5)
    np.save(tmp_path / "tiny.npy", images[:, :9, :9])
    np.save(tmp_path / "huge.npy", images.astype(np.float64) * 1e300)
    np.save(tmp_path / "complex.npy", images.astype(np.complex64))
    np.save(tmp_path / "real_ksp.npy", images)
    sparse = kspace_of(images)
    sparse[..., np.random.default_rng(0).random((48, 48)) < 0.7] = 0
    np.save(tmp_path / "ksp_sparse.npy", sparse)
    for name, says in {
        "truncated.h5": "cannot be read",
        "empty.h5": "cannot be read",
        "empty.npy": "cannot be read",
        "nothing.h5": "no array of images",
        "pickled.npy": "cannot be read",
        "nan.npy": "NaN",
        "constant.npy": "is constant",
        "line.npy": "rank 1",
        "rank4.npy": r"rank 4.*dataset\.axes",
        "colour.npy": "colour",
        "mask.npy": "bool",
        "tiny.npy": "9x9 pixels",
        "huge.npy": "NaN or infinite",
        "complex.npy": r"complex.*dataset\.kind",
        "real_ksp.npy": r"real.*dataset\.kind",
        "ksp_sparse.npy": "undersampled",
    }.items():
        with pytest.raises(UserError, match=says) as caught:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
