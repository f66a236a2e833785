"""Origin, axes and provenance of k-space, and the containers of raw data."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
import sigpy.mri
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.datasets import load_mni152_template
from scipy.ndimage import gaussian_filter

from bench.data import bart, hdf5, npy
from bench.data.channels import compare
from bench.data.kspace import centred, magnitude, provenance, quadrants_swapped
from bench.data.measured import load_kspace, load_measured
from bench.data.volume import Unusable
from bench.errors import UserError

AXES = (-2, -1)


@cache
def template() -> np.ndarray:
    """The MNI152 head without skull at 2 mm, axial slices in [0, 1]."""
    values = load_mni152_template(resolution=2).get_fdata().transpose(2, 1, 0)[:, ::-1]
    return values / values.max()


def heads(count: int = 4, step: int = 1) -> np.ndarray:
    """Neighbouring slices of a real head, (count, 128, 128) in [0, 1]."""
    chosen = template()[40 : 40 + count * step : step]
    rows, columns = (128 - side for side in chosen.shape[1:])
    padding = ((0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2))
    return np.pad(chosen, padding)


def fft(images: np.ndarray) -> np.ndarray:
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, AXES), norm="ortho"), AXES)


def noise(shape: tuple[int, ...], level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return level * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def maps_of(coils: int, shape: tuple[int, int]) -> np.ndarray:
    return sigpy.mri.birdcage_maps((coils, *shape), r=1.2)


def smooth_phase(shape: tuple[int, int], seed: int, turns: float = 1.0) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 20, mode="wrap")
    return np.exp(2j * np.pi * turns * field / np.abs(field).max())


def raw(coils: int = 8, level: float = 0.01, seed: int = 0) -> np.ndarray:
    """k-space of one slice as a scanner measures it, (coils, h, w)."""
    image = heads(1)[0]
    measured = image * smooth_phase(image.shape, seed) * maps_of(coils, image.shape)
    return (fft(measured) + noise(measured.shape, level, seed)).astype(np.complex64)


def stack(level: float = 0.01, count: int = 4, step: int = 1) -> np.ndarray:
    """k-space of slices of a single coil, (count, h, w)."""
    images = heads(count, step)
    phases = np.stack([smooth_phase(images.shape[1:], seed) for seed in range(count)])
    return (fft(images * phases) + noise(images.shape, level)).astype(np.complex64)


def as_batch(kspace: np.ndarray) -> np.ndarray:
    return kspace[None].astype(np.complex64)


# ---- coils or slices --------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([4, 8, 16]), st.sampled_from([0.002, 0.01, 0.03]), st.integers(0, 99))
def test_coils_share_their_details(coils: int, level: float, seed: int) -> None:
    assert compare(raw(coils, level, seed)).verdict in ("coils", "unclear")
    assert compare(raw(coils, 0.002, seed)).verdict == "coils"


@settings(max_examples=10, deadline=None)
@given(st.integers(2, 4), st.sampled_from([1, 2]), st.sampled_from([0.0, 0.01, 0.05]))
def test_slices_are_never_taken_for_coils(count: int, step: int, level: float) -> None:
    assert compare(stack(level, count, step)).verdict != "coils"


def test_repeats_are_images() -> None:
    one = stack(0.0, 1)[0]
    repeats = np.stack([one + noise(one.shape, 0.01, seed) for seed in range(4)])
    assert compare(repeats).verdict == "images"
    assert compare(np.stack([one, one * np.exp(1j)])).verdict == "images"


@pytest.mark.parametrize("last", [False, True])
def test_three_axes_of_kspace(tmp_path: Path, last: bool) -> None:
    for name, kspace, count in (("ksp_coils", raw(), 1), ("ksp_slices", stack(), 4)):
        np.save(tmp_path / f"{name}.npy", np.moveaxis(kspace, 0, -1) if last else kspace)
        (volume,) = npy.read(tmp_path / f"{name}.npy", f"{name}.npy")
        assert len(volume.planes) == count
        assert "dataset.axes" in volume.remarks[0]
        images = np.fft.fftshift(np.fft.ifft2(kspace, norm="ortho"), AXES)
        expected = np.abs(images) if count > 1 else np.sqrt((np.abs(images) ** 2).sum(0))[None]
        for plane, wanted in zip(volume.planes, expected, strict=True):
            np.testing.assert_allclose(plane.values, wanted, atol=1e-5)


def test_what_the_data_do_not_tell_is_asked(tmp_path: Path) -> None:
    wide = sigpy.mri.birdcage_maps((4, 128, 128), r=6.0)
    np.save(tmp_path / "ksp.npy", fft(heads(1) * wide).astype(np.complex64))
    with pytest.raises(Unusable, match=r"dataset\.axes: chw for coils, or shw") as asked:
        npy.read(tmp_path / "ksp.npy", "ksp.npy")
    assert "\n" not in str(asked.value)
    assert len(npy.read(tmp_path / "ksp.npy", "a", axes="chw")[0].planes) == 1
    assert len(npy.read(tmp_path / "ksp.npy", "a", axes="shw")[0].planes) == 4


def test_four_axes_of_kspace(tmp_path: Path) -> None:
    coils = np.stack([raw(4, seed=1), 0.8 * raw(4, seed=2), 0.7 * raw(4, seed=3)])
    images = heads(4)
    slices = fft(images[1:, None] * maps_of(4, images.shape[1:])[None])
    slices = (slices + noise(slices.shape, 0.005)).astype(np.complex64)
    np.save(tmp_path / "ksp.npy", slices)
    (volume,) = npy.read(tmp_path / "ksp.npy", "a")
    assert len(volume.planes) == 3
    np.save(tmp_path / "ksp.npy", slices.transpose(2, 3, 0, 1))  # MATLAB: h, w, slices, coils
    assert len(npy.read(tmp_path / "ksp.npy", "a")[0].planes) == 3
    repeats = np.stack([stack(0.0, 3), stack(0.0, 3)], -1)
    repeats = repeats.transpose(1, 2, 0, 3) + noise((128, 128, 3, 2), 0.01)
    np.save(tmp_path / "ksp.npy", repeats.astype(np.complex64))
    frames = npy.read(tmp_path / "ksp.npy", "a")
    assert [frame.name for frame in frames] == ["a/t-000", "a/t-001"]
    assert [len(frame.planes) for frame in frames] == [3, 3]
    assert coils.shape == (3, 4, 128, 128)


def test_advice_for_five_axes_works(tmp_path: Path) -> None:
    frames = np.stack([np.stack([raw(4, seed=seed) for seed in range(3)])] * 2)
    for array, axes in ((frames, "tschw"), (frames.transpose(3, 4, 2, 1, 0), "hwcst")):
        np.save(tmp_path / "kspace.npy", array)
        with pytest.raises(Unusable, match=rf"dataset\.axes: {axes}"):
            npy.read(tmp_path / "kspace.npy", "a")
        volumes = npy.read(tmp_path / "kspace.npy", "a", axes=axes)
        assert [len(volume.planes) for volume in volumes] == [3, 3]
        assert volumes[0].span == volumes[1].span


def test_kspace_in_three_dimensions_is_no_stack(tmp_path: Path) -> None:
    volume = np.pad(heads(8), ((4, 4), (0, 0), (0, 0)))
    whole = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume))).astype(np.complex64)
    np.save(tmp_path / "ksp.npy", whole)
    with pytest.raises(Unusable, match=r"three dimensions.*dataset\.axes: shw"):
        npy.read(tmp_path / "ksp.npy", "a")
    assert len(npy.read(tmp_path / "ksp.npy", "a", axes="shw")[0].planes) == 16


# ---- where DC and the object are ----------------------------------------------------------------

CONVENTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "centred": fft,
    "numpy": np.fft.fft2,
    "no ifftshift": lambda x: np.fft.fftshift(np.fft.fft2(x), AXES),
    "no fftshift": lambda x: np.fft.fft2(np.fft.ifftshift(x, AXES)),
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("shape", [(128, 128), (125, 118)])
def test_the_object_is_in_the_middle(convention: str, shape: tuple[int, int]) -> None:
    image = heads(1)[0][: shape[0], : shape[1]]
    coils = image * smooth_phase(shape, 0) * maps_of(4, shape)
    kspace = as_batch(CONVENTIONS[convention](coils))
    images, found = magnitude(kspace)
    wanted = np.sqrt((np.abs(coils) ** 2).sum(0))
    np.testing.assert_allclose(images[0] / images.max(), wanted / wanted.max(), atol=1e-4)
    assert bool(found.remarks) == (convention != "centred")
    picture = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(centred(kspace, found)[0], AXES)), AXES)
    np.testing.assert_allclose(
        np.abs(picture) / np.abs(picture).max(), np.abs(coils) / np.abs(coils).max(), atol=1e-4
    )


def test_an_object_larger_than_the_field_of_view_stays() -> None:
    image = heads(1)[0][:, 40:90]
    _, found = magnitude(as_batch(fft(image[None])))
    assert found.remarks == ()


def test_pictures_with_swapped_quadrants_are_noticed() -> None:
    for image in heads(5):
        assert not quadrants_swapped(image)
        assert quadrants_swapped(np.fft.fftshift(image))
        assert not quadrants_swapped(1 - image)
        assert not quadrants_swapped(np.fft.fftshift(image, 0))
    assert not quadrants_swapped(np.ones((32, 32)))
    assert not quadrants_swapped(np.zeros((32, 32)))
    assert not quadrants_swapped(np.full((32, 32), np.nan))


# ---- how k-space was made -----------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    coils=st.sampled_from([0, 1, 4]),
    phase=st.floats(-3, 3),
    turns=st.sampled_from([0.0, 0.5, 1.5, 2.5]),
    rolls=st.tuples(st.integers(-128, 128), st.integers(-128, 128)),
    convention=st.sampled_from(list(CONVENTIONS)),
    seed=st.integers(0, 99),
)
def test_simulated_kspace_is_never_raw(
    coils: int, phase: float, turns: float, rolls: tuple[int, int], convention: str, seed: int
) -> None:
    image = heads(1)[0]
    coil_images = image * np.exp(1j * phase) * smooth_phase(image.shape, seed, turns)
    coil_images = coil_images * (maps_of(coils, image.shape) if coils else 1)
    kspace = np.roll(CONVENTIONS[convention](coil_images), rolls, AXES)
    badge, reason = provenance(as_batch(kspace.reshape(-1, *image.shape)))
    assert badge == "magnitude-sim"
    assert "simulated" in reason


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, 4, 8]), st.sampled_from([0.003, 0.01, 0.05]), st.integers(0, 99))
def test_measured_kspace_is_raw(coils: int, level: float, seed: int) -> None:
    assert provenance(as_batch(raw(coils, level, seed))) == ("raw", "")
    numpy_order = np.fft.ifftshift(raw(coils, level, seed), AXES)
    assert provenance(as_batch(numpy_order)) == ("raw", "")


@pytest.mark.parametrize("filling", [0.0, 1e-18, 1e-9])
@pytest.mark.parametrize("corner", [False, True])
def test_zero_padding_is_seen(filling: float, corner: bool) -> None:
    kspace = raw()
    kspace[..., :16] = kspace[..., -16:] = filling * np.abs(kspace).max()
    kspace = np.fft.ifftshift(kspace, AXES) if corner else kspace
    badge, reason = provenance(as_batch(kspace))
    assert badge == "processed"
    assert "from 128x96 to 128x128" in reason


def test_padded_simulations_are_simulations() -> None:
    kspace = fft(heads(1))
    kspace[..., :40] = kspace[..., -40:] = 0
    assert provenance(as_batch(kspace))[0] == "magnitude-sim"


def test_smooth_objects_are_not_undersampled() -> None:
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    blob = np.exp(-40 * (y**2 + x**2))
    assert provenance(as_batch(fft(blob[None])))[0] == "magnitude-sim"


@pytest.mark.parametrize("filling", [0.0, 1e-12])
def test_undersampled_kspace_is_no_ground_truth(filling: float) -> None:
    kspace = raw()
    kspace[..., ::2] = filling * np.abs(kspace).max()
    with pytest.raises(Unusable, match="undersampled"):
        provenance(as_batch(kspace))
    with pytest.raises(Unusable, match="zeros"):
        provenance(as_batch(0 * kspace))
    kspace[0, 0, 0] = np.nan
    with pytest.raises(Unusable, match="NaN"):
        provenance(as_batch(kspace))


# ---- BART ---------------------------------------------------------------------------------------


def write_cfl(path: Path, array: np.ndarray) -> Path:
    """Write BART's pair; the dimensions follow BART's order."""
    dimensions = " ".join(map(str, (*array.shape, *(1,) * (16 - array.ndim))))
    path.with_suffix(".hdr").write_text(f"# Dimensions\n{dimensions}\n# Command\nphantom\n")
    array.astype("<c8").ravel("F").tofile(path)
    return path


def test_bart_pairs(tmp_path: Path) -> None:
    kspace = raw()
    file = write_cfl(tmp_path / "ksp.cfl", kspace.transpose(1, 2, 0)[:, :, None])
    assert bart.recognises(file)
    (volume,) = bart.read(file, "ksp.cfl")
    (plane,) = volume.planes
    expected = np.abs(np.fft.fftshift(np.fft.ifft2(kspace, norm="ortho"), AXES))
    np.testing.assert_allclose(plane.values, np.sqrt((expected**2).sum(0)), atol=1e-5)
    assert (volume.name, volume.badge) == ("ksp.cfl", "raw")
    np.testing.assert_allclose(np.abs(load_kspace(file)), np.abs(kspace / plane.values.max()))
    one_readout = write_cfl(tmp_path / "one_ksp.cfl", kspace.transpose(1, 2, 0)[None])
    assert bart.read(one_readout, "a")[0].planes[0].values.shape == (128, 128)


def test_bart_pairs_of_three_dimensions_and_echoes(tmp_path: Path) -> None:
    volume = np.pad(heads(6), ((1, 1), (0, 0), (0, 0)))
    kspace = np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(volume), norm="ortho"))
    file = write_cfl(tmp_path / "ksp.cfl", kspace.transpose(1, 2, 0))
    (found,) = bart.read(file, "a")
    values = np.stack([plane.values for plane in found.planes])
    np.testing.assert_allclose(values, volume, atol=1e-5)
    echoes = np.stack([volume, volume / 2], -1).transpose(1, 2, 0, 3)[..., None, None, :]
    file = write_cfl(tmp_path / "echoes.cfl", echoes)
    with pytest.raises(Unusable, match=r"complex.*dataset\.kind"):
        bart.read(file, "a")
    first, second = bart.read(file, "a", kind="image")
    assert (first.name, second.name) == ("a/t-000", "a/t-001")
    np.testing.assert_allclose(second.planes[3].values, volume[3] / 2, atol=1e-6)


def test_other_cfl_files_are_not_recognised(tmp_path: Path) -> None:
    file = write_cfl(tmp_path / "ksp.cfl", raw().transpose(1, 2, 0))
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(Unusable, match="truncated"):
        bart.read(file, "ksp.cfl")
    for header in ("", "# Dimensions\n", "# Dimensions\n3 x\n", "\x5c\x01\x00\x00"):
        file.with_suffix(".hdr").write_text(header)
        assert not bart.recognises(file)
    file.with_suffix(".hdr").unlink()
    assert not bart.recognises(file)
    assert not bart.recognises(tmp_path / "ksp.npy")


# ---- ISMRMRD ------------------------------------------------------------------------------------


def header(width: int, height: int, recon: int, trajectory: str = "cartesian") -> str:
    def space(name: str, x: int, y: int) -> str:
        return (
            f"<{name}><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize><fieldOfView_mm>"
            f"<x>{x * 2}</x><y>{y * 3}</y><z>5</z></fieldOfView_mm></{name}>"
        )

    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<subjectInformation><patientID>P7</patientID></subjectInformation><encoding>"
        f"{space('encodedSpace', width, height)}{space('reconSpace', recon, height)}"
        f"<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{height - 1}"
        f"</maximum><center>{height // 2}</center></kspace_encoding_step_1></encodingLimits>"
        f"<trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"
    )


def oversampled(slices: int = 2, coils: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """k-space (slices, coils, 128, 256) with twice the readout, and the images wanted of it."""
    images = heads(slices)[:, None] * maps_of(coils, (128, 128))
    images = images + noise(images.shape, 0.005)
    kspace = fft(np.pad(images, ((0, 0), (0, 0), (0, 0), (64, 64))))
    return kspace, np.sqrt((np.abs(images) ** 2).sum(1))


def write_ismrmrd(
    path: Path,
    kspace: np.ndarray,
    lines: slice = slice(None),
    trajectory: str = "cartesian",
    repetitions: int = 1,
) -> Path:
    """Write acquisitions with ISMRMRD's own library: two averages, a noise scan, a navigator."""
    _, _, height, width = kspace.shape
    with ismrmrd.Dataset(str(path), "dataset") as dataset:
        dataset.write_xml_header(header(width, height, width // 2, trajectory).encode())
        for flag in (ismrmrd.ACQ_IS_NOISE_MEASUREMENT, ismrmrd.ACQ_IS_NAVIGATION_DATA):
            other = ismrmrd.Acquisition.from_array(np.full((1, 32), 1e3, np.complex64))
            other.set_flag(flag)
            dataset.append_acquisition(other)
        for repetition in range(repetitions):
            for number, coils in enumerate(kspace):
                for line in range(height)[lines]:
                    for average in range(2):
                        data = coils[:, line] * (0.5 + average) / (1 + repetition)
                        one = ismrmrd.Acquisition.from_array(data.astype(np.complex64))
                        one.center_sample = width // 2
                        one.idx.kspace_encode_step_1 = line
                        one.idx.slice, one.idx.average = number, average
                        one.idx.repetition = repetition
                        dataset.append_acquisition(one)
    return path


def test_ismrmrd_acquisitions_become_images(tmp_path: Path) -> None:
    kspace, wanted = oversampled()
    file = write_ismrmrd(tmp_path / "scan.h5", kspace)
    (volume,) = hdf5.read(file, "scan.h5")
    for plane, image in zip(volume.planes, wanted, strict=True):
        np.testing.assert_allclose(plane.values, image, atol=1e-5)
        assert plane.spacing == (3.0, 2.0)
    assert (volume.subject, volume.badge) == ("P7", "raw")
    coils = load_kspace(file, 1)
    assert coils.shape == (4, 128, 128)
    image = np.sqrt((np.abs(np.fft.ifft2(coils, norm="ortho")) ** 2).sum(0))
    np.testing.assert_allclose(np.fft.fftshift(image), wanted[1] / wanted[1].max(), atol=1e-5)
    with pytest.raises(UserError, match="leave out key and axes"):
        load_kspace(file, axes="schw")


def test_repetitions_are_time_frames(tmp_path: Path) -> None:
    kspace, wanted = oversampled(1)
    first, second = hdf5.read(write_ismrmrd(tmp_path / "scan.h5", kspace, repetitions=2), "scan.h5")
    assert (first.name, second.name) == ("scan.h5/t-000", "scan.h5/t-001")
    np.testing.assert_allclose(second.planes[0].values, wanted[0] / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("lines", "trajectory", "says"),
    [
        (slice(None, None, 2), "cartesian", "undersampled"),
        (slice(0, 80), "cartesian", "partial Fourier"),
        (slice(None), "spiral", "spiral trajectory"),
    ],
)
def test_other_acquisitions_are_refused(
    tmp_path: Path, lines: slice, trajectory: str, says: str
) -> None:
    kspace, _ = oversampled(1)
    file = write_ismrmrd(tmp_path / "scan.h5", kspace, lines, trajectory)
    with pytest.raises(Unusable, match=rf"raw acquisitions \(ISMRMRD\).*{says}"):
        hdf5.read(file, "scan.h5")


def test_broken_acquisitions_are_named(tmp_path: Path) -> None:
    kspace, _ = oversampled(1)
    file = write_ismrmrd(tmp_path / "scan.h5", kspace)
    for xml in (b"", b"<ismrmrdHeader/>", b"<ismrmrdHeader>"):
        with h5py.File(file, "a") as content:
            del content["dataset/xml"]
            content["dataset/xml"] = np.bytes_(xml)
        with pytest.raises(Unusable, match=r"raw acquisitions \(ISMRMRD\) that cannot be read"):
            hdf5.read(file, "scan.h5")
        with pytest.raises(UserError, match=r"scan\.h5: holds raw acquisitions"):
            load_kspace(file)


# ---- measured k-space for an operator -----------------------------------------------------------


def test_sixteen_coils_are_opened(tmp_path: Path) -> None:
    slices = np.stack([raw(16, seed=seed) for seed in range(3)])
    file = tmp_path / "scan.h5"
    with h5py.File(file, "w") as content:
        content["measured"] = slices.transpose(0, 2, 3, 1)
    found = load_measured(file, 1, "measured", "shwc")
    assert found.kspace.shape == (16, 128, 128)
    assert (found.badge, found.reason) == ("raw", "")
    simulated = tmp_path / "ksp.npy"
    np.save(simulated, fft(heads(1) * maps_of(16, (128, 128))))
    made = load_measured(simulated)
    assert made.badge == "magnitude-sim"
    assert "simulated" in made.reason


def test_an_operator_gets_centred_kspace(tmp_path: Path) -> None:
    image = heads(1)[0]
    coils = image * smooth_phase(image.shape, 0) * maps_of(8, image.shape)
    coils = coils + noise(coils.shape, 0.01)
    pictures = {}
    for name, convention in CONVENTIONS.items():
        np.save(tmp_path / "ksp.npy", convention(coils).astype(np.complex64))
        kspace = load_kspace(tmp_path / "ksp.npy", axes="chw")
        assert (
            np.hypot(*np.subtract(np.unravel_index(np.abs(kspace).sum(0).argmax(), (128, 128)), 64))
            < 5
        )
        pictures[name] = np.abs(np.fft.ifft2(kspace))
    for picture in pictures.values():
        np.testing.assert_allclose(picture, pictures["centred"], atol=1e-5)
