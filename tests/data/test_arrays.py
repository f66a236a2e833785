import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from bench import data
from bench.data import hdf5, npy
from bench.data.contents import is_kspace_name
from bench.data.volume import NoImage, Unusable, Volume
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


def noisy(kspace: np.ndarray, level: float = 1e-3) -> np.ndarray:
    """Add complex noise, as every measurement has it."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(kspace.shape) + 1j * rng.standard_normal(kspace.shape)
    return (kspace + level * noise).astype(np.complex64)


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
        kspace=noisy(kspace_of(images)),
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
    padded = noisy(kspace_of(images))
    padded[..., :8] = padded[..., -8:] = 0
    for name, kspace, badge in [
        ("raw", noisy(kspace_of(images)), "raw"),
        ("maps", kspace_of(images), "magnitude-sim"),
        ("zero_phase", real, "magnitude-sim"),
        ("padded", padded, "processed"),
    ]:
        np.save(tmp_path / f"ksp_{name}.npy", kspace)
        found = load(tmp_path / f"ksp_{name}.npy")
        assert badge in found.audit.badges, name
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
        "pickled.npy": "pickled Python objects",
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


# ---- which array, which space, which axes -------------------------------------------------------


def read(path: Path, **options: object) -> list[Volume]:
    module = npy if path.suffix in npy.SUFFIXES else hdf5
    return module.read(path, path.name, **options)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("kspace", True), ("ksp", True), ("k_space", True), ("k-space", True), ("kdata", True),
        ("k_data", True), ("kspace_full", True), ("KSpace1", True), ("kSpace", True),
        ("multicoil_ksp2", True), ("scan/kspace", True), ("KSPACE", True), ("T2-k-space", True),
        ("stack_data", False), ("task_split1", False), ("network_data", False),
        ("mask_sparse", False), ("book_space", False), ("workspace", False), ("desk space", False),
        ("track_data", False), ("kspace/image", False), ("skspace", False), ("data", False),
    ],
)  # fmt: skip
def test_kspace_is_known_by_whole_words(name: str, told: bool) -> None:
    assert is_kspace_name(name) is told


@given(st.from_regex(r"[a-z]{2,6}", fullmatch=True), st.sampled_from(["data", "space", "sp"]))
def test_words_that_end_in_k_are_no_kspace(start: str, end: str) -> None:
    assert not is_kspace_name(f"{start}k_{end}")


def compound(kspace: np.ndarray, names: tuple[str, str]) -> np.ndarray:
    pair = np.empty(kspace.shape, dtype=[(names[0], "<f4"), (names[1], "<f4")])
    pair[names[0]], pair[names[1]] = kspace.real, kspace.imag
    return pair


def interleaved(kspace: np.ndarray) -> np.ndarray:
    """Coils on the last axis, real and imaginary parts in turn (Calgary-Campinas)."""
    parts = np.stack([kspace.real, kspace.imag], 2)  # slices, coils, 2, h, w
    return parts.reshape(len(kspace), -1, *kspace.shape[2:]).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("stored", "remark"),
    [
        (lambda k: compound(k, ("real", "imag")), ""),
        (lambda k: compound(k, ("r", "i")), ""),
        (lambda k: k.astype(">c16"), ""),
        (two_reals, ""),
        (lambda k: np.stack([k.real, k.imag], -3), "before rows and columns"),
        (interleaved, "alternate on the last axis"),
    ],
)
def test_complex_numbers_in_every_form(tmp_path: Path, stored, remark: str) -> None:
    images = phantom()
    file = write_h5(tmp_path / "a.h5", kspace=stored(noisy(kspace_of(images), 1e-6)))
    (volume,) = read(file)
    assert len(volume.planes) == 3
    for plane, image in zip(volume.planes, images, strict=True):
        np.testing.assert_allclose(plane.values, image, atol=1e-4)
    assert any(remark in each for each in volume.remarks)


def test_numbers_of_a_pixel_that_may_be_complex_are_asked_for(tmp_path: Path) -> None:
    kspace = kspace_of(phantom(), 1)[:, 0]
    for name, array, axes in (("e1", kspace, "thws"), ("e2", kspace[1], "hws")):
        np.save(tmp_path / f"{name}.npy", two_reals(array))
        with pytest.raises(Unusable, match=rf"dataset\.kind: kspace; .*dataset\.axes: {axes}"):
            read(tmp_path / f"{name}.npy")
        assert sum(len(v.planes) for v in read(tmp_path / f"{name}.npy", axes=axes)) in (2, 6)
        (volume,) = read(tmp_path / f"{name}.npy", kind="kspace")
        last = phantom()[2 if name == "e1" else 1]
        np.testing.assert_allclose(volume.planes[-1].values, last, atol=1e-4)


def test_the_wrong_kind_is_noticed(tmp_path: Path) -> None:
    kspace = noisy(kspace_of(phantom(), 1)[:, 0])
    images = np.fft.ifft2(kspace)
    np.save(tmp_path / "a.npy", images)
    np.save(tmp_path / "b.npy", kspace)
    for name, wrong, right in (("a", "kspace", "image"), ("b", "image", "kspace")):
        with pytest.raises(Unusable, match=r"is complex.*dataset\.kind"):
            read(tmp_path / f"{name}.npy")
        with pytest.raises(Unusable, match=rf"set dataset\.kind: {right}"):
            read(tmp_path / f"{name}.npy", kind=wrong, axes="shw")
        (volume,) = read(tmp_path / f"{name}.npy", kind=right, axes="shw")
        assert len(volume.planes) == 3
    with pytest.raises(UserError, match=r"dataset\.kind"):
        load(tmp_path / "a.npy", kind="imge")
    np.save(tmp_path / "ksp.npy", phantom())
    with pytest.raises(Unusable, match=r"is real.*dataset\.kind: image"):
        read(tmp_path / "ksp.npy")
    assert len(read(tmp_path / "ksp.npy", kind="image")[0].planes) == 3


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(16, 40), min_size=3, max_size=3),
    st.permutations("shw"),
    st.sampled_from(["<f4", ">f8", "<f2", "<u4", ">i2", "u1"]),
    st.booleans(),
)
def test_named_axes_are_obeyed(
    tmp_path_factory: pytest.TempPathFactory, sides: list[int], order: list[str], kind: str,
    fortran: bool,
) -> None:  # fmt: skip
    volume = np.random.default_rng(0).integers(0, 200, sides)
    stored = volume.transpose(["shw".index(letter) for letter in order]).astype(kind)
    file = tmp_path_factory.mktemp("a") / "a.npy"
    np.save(file, np.asfortranarray(stored) if fortran else stored)
    (found,) = read(file, axes="".join(order))
    np.testing.assert_array_equal([plane.values for plane in found.planes], volume)
    assert found.planes[0].values.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "axes", "says"),
    [
        ((12, 64, 48), "shw", "first axis counts slices"),
        ((64, 48, 12), "hws", "last axis counts slices"),
        ((240, 240, 155), "hws", "last axis counts slices"),
        ((64, 64, 64), "shw", "do not show"),
        ((48, 20, 48), "shw", "do not show"),
        ((1, 64, 48), "chw", ""),
        ((12, 1, 64, 48), "schw", "first axis counts slices"),
        ((64, 48, 12, 1), "hwsc", "last axis counts slices"),
        ((1, 1, 12, 1, 1, 64, 48), None, "first axis counts slices"),
    ],
)
def test_axes_of_images_are_guessed_and_said(
    tmp_path: Path, shape: tuple[int, ...], axes: str | None, says: str
) -> None:
    volume = np.random.default_rng(0).random(shape, np.float32)
    np.save(tmp_path / "a.npy", volume)
    (guessed,) = read(tmp_path / "a.npy")
    assert any(says in remark for remark in guessed.remarks) or not says
    if axes:
        (named,) = read(tmp_path / "a.npy", axes=axes)
        assert named.remarks == ()
        assert not says or axes in guessed.remarks[0]
        for one, other in zip(guessed.planes, named.planes, strict=True):
            np.testing.assert_array_equal(one.values, other.values)


@pytest.mark.parametrize(
    "shape",
    [
        (3, 4, 48, 40),
        (48, 40, 3, 4),
        (3, 48, 40, 4),
        (2, 1, 3, 48, 40),
        (48, 40, 3),
        (5, 48, 40, 3),
    ],
)
def test_advice_on_axes_works(tmp_path: Path, shape: tuple[int, ...]) -> None:
    volume = np.random.default_rng(0).random(shape, np.float32)
    np.save(tmp_path / "a.npy", volume)
    with pytest.raises(Unusable, match=r"dataset\.axes: \w+") as asked:
        read(tmp_path / "a.npy")
    axes = re.search(r"dataset\.axes: (\w+)", str(asked.value))
    assert axes
    found = read(tmp_path / "a.npy", axes=axes[1])
    assert sum(len(volume.planes) for volume in found) == np.prod(shape) // (48 * 40)
    assert {plane.values.shape for volume in found for plane in volume.planes} == {(48, 40)}
    assert len({volume.name for volume in found}) == len(found)


def test_time_frames_are_scaled_together(tmp_path: Path) -> None:
    images = phantom()
    both = np.stack([images, images / 2])
    both[0, 0, 0, 0] = np.nan
    np.save(tmp_path / "a.npy", both)
    first, second = read(tmp_path / "a.npy", axes="tshw")
    assert (first.name, second.name) == ("a.npy/t-000", "a.npy/t-001")
    assert first.file == second.file == "a.npy"
    assert first.span == second.span
    assert first.span and first.span.high == 1
    both[0, 0, 0, 0] = 0
    np.save(tmp_path / "a.npy", both)
    found = load(tmp_path / "a.npy", axes="tshw", min_foreground=0.0)
    assert found.ids[3] == "a.npy/t-001/slice-000"
    np.testing.assert_allclose(found.images[:, 0], both.reshape(-1, 48, 48), atol=1e-6)


def test_what_a_file_holds_beside_the_image(tmp_path: Path) -> None:
    images = phantom()
    masks = (images > 0.5).astype(np.uint8)
    np.savez(tmp_path / "a.npz", image=images, mask=masks, seg_labels=masks)
    assert read(tmp_path / "a.npz")[0].planes[0].values.max() == pytest.approx(images[0].max())
    np.savez(tmp_path / "b.npz", segmentation=masks)
    with pytest.raises(NoImage, match="label maps"):
        read(tmp_path / "b.npz")
    assert len(read(tmp_path / "b.npz", key="segmentation")[0].planes) == 3
    np.save(tmp_path / "c.npy", images > 0.5)
    with pytest.raises(NoImage, match="bool"):
        read(tmp_path / "c.npy")
    for pair in (("data", "target"), ("noisy", "clean"), ("image", "gt"), ("x1", "x2")):
        file = write_h5(tmp_path / "d.h5", **{pair[0]: images, pair[1]: images / 2})
        with pytest.raises(Unusable, match=r"several arrays; choose one with dataset\.key"):
            read(file)
        assert read(file, key=pair[1])[0].planes[2].values.max() == pytest.approx(0.5)
    file = write_h5(tmp_path / "e.h5", train=images, test=images[:2])
    with pytest.raises(Unusable, match=r"dataset\.key"):
        read(file)
    (volume,) = read(write_h5(tmp_path / "f.h5", vol=images, background=images[0]))
    assert "'vol' was read" in volume.remarks[0]


def test_subjects_come_from_what_a_file_says(tmp_path: Path) -> None:
    images = phantom()
    for name in ("patient_id", "subject_id", "PatientID", "patient", "subject"):
        assert read(write_h5(tmp_path / "a.h5", {name: "p7"}, image=images))[0].subject == "p7"
        assert read(write_h5(tmp_path / "a.h5", image=images, **{name: 7}))[0].subject == "7"
        np.savez(tmp_path / "a.npz", image=images, **{name: "p7"})
        assert read(tmp_path / "a.npz")[0].subject == "p7"
        scipy.io.savemat(tmp_path / "a.mat", {"image": images, "info": {name: "p7"}})
        assert read(tmp_path / "a.mat")[0].subject == "p7"
    assert read(write_h5(tmp_path / "a.h5", {"subject": ""}, image=images))[0].subject is None
    np.save(tmp_path / "p7.npy", images)
    assert read(tmp_path / "p7.npy")[0].subject is None


def test_fields_of_matlab_structs(tmp_path: Path) -> None:
    image = phantom()[2]
    brain = {"image": image * 1000, "TR": 2.0, "more": {"t2": image[:40]}}
    scipy.io.savemat(tmp_path / "a.mat", {"brain": brain})
    with pytest.raises(Unusable, match=r"has: brain/image.*brain/more/t2"):
        read(tmp_path / "a.mat", key="none")
    for key in ("brain/image", "brain.image"):
        (volume,) = read(tmp_path / "a.mat", key=key)
        np.testing.assert_allclose(volume.planes[0].values, image * 1000)
    assert read(tmp_path / "a.mat", key="brain.more.t2")[0].planes[0].values.shape == (40, 48)
    cells = np.empty(2, dtype=object)
    cells[:] = [image, image / 2]
    scipy.io.savemat(tmp_path / "cells.mat", {"scans": cells})
    with pytest.raises(Unusable, match=r"scans/0.*scans/1"):
        read(tmp_path / "cells.mat")
    assert read(tmp_path / "cells.mat", key="scans/1")[0].planes[0].values.max() == 0.5
    scipy.io.savemat(tmp_path / "text.mat", {"a": "words"})
    with pytest.raises(Unusable, match="no array of images"):
        read(tmp_path / "text.mat")


def test_groups_of_newer_matlab_files(tmp_path: Path) -> None:
    volume = np.arange(40 * 30 * 5, dtype=float).reshape(40, 30, 5)  # rows, columns, slices
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["brain/image"] = volume.T
        file["brain/image"].attrs["MATLAB_class"] = np.bytes_("double")
        file["brain/patient_id"] = np.array([[ord(letter)] for letter in "p7"], np.uint16)
        file["brain/patient_id"].attrs["MATLAB_class"] = np.bytes_("char")
    (found,) = read(tmp_path / "a.mat", key="brain.image")
    assert found.subject == "p7"
    np.testing.assert_array_equal(
        [plane.values for plane in found.planes], volume.transpose(2, 0, 1)
    )


def test_files_that_only_look_like_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=phantom(), extra=np.array([{}], dtype=object))
    assert len(read(tmp_path / "a.npz")[0].planes) == 3
    with pytest.raises(Unusable, match="Python objects"):
        read(tmp_path / "a.npz", key="extra")
    (tmp_path / "a.npy").write_bytes(b"garbage of some length")
    with pytest.raises(Unusable, match="does not begin"):
        read(tmp_path / "a.npy")
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    with pytest.raises(Unusable, match="text"):
        read(tmp_path / "text.npy")
    np.save(tmp_path / "b.npy", phantom())
    with pytest.raises(Unusable, match=r"drop dataset\.key"):
        read(tmp_path / "b.npy", key="image")
    assert read(tmp_path / "b.npy")[0].name == "b.npy"


def test_kspace_along_a_trajectory_is_no_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.standard_normal((600, 40, 8)) + 1j
    scipy.io.savemat(tmp_path / "spiral.mat", {"k": data[..., 0], "data": data})
    with pytest.raises(Unusable, match="trajectory"):
        read(tmp_path / "spiral.mat", key="data", kind="kspace")
