"""Raw k-space: what was acquired is what every method gets, with the maps of its own coils."""

from pathlib import Path

import kspace_files
import numpy as np
import pytest
import torch

from bench import api, badges, data, methods, metrics, physics, rules, spec, training
from bench.cells import cells_of
from bench.data import Dataset
from bench.data.coils import compressed, espirit, misfit, noise_std, sensitivities
from bench.data.measured import open_file
from bench.data.raw import _fitted
from bench.errors import UserError
from bench.physics._coils import birdcage
from bench.physics.mri_cartesian import fourier, inverse_fourier
from bench.scoring import physics_of, rebuild, score_refit
from bench.spec import Benchmark, DatasetSpec

SIZE, COILS, SUBJECTS = 32, 4, 7
METHODS = [
    "tv", "wavelet_cs", "cg_sense", "espirit_wavelet", {"name": "unet", "fixed": {"width": 4}},
    {"name": "modl", "fixed": {"width": 4, "iterations": 2}},
]  # fmt: skip


@pytest.fixture(scope="module")
def fastmri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kspace_files.write_fastmri(tmp_path_factory.mktemp("scans"), SUBJECTS, size=SIZE)


def loaded(path: Path, **more: object) -> Dataset:
    given = {"path": str(path), "measured": True, "image_size": SIZE, **more}
    return data.load(DatasetSpec.model_validate(given))


@pytest.fixture(scope="module")
def dataset(fastmri: Path) -> Dataset:
    return loaded(fastmri)


def test_the_images_are_those_that_were_scanned(dataset: Dataset) -> None:
    true = kspace_files.images(SUBJECTS, 2, SIZE)
    true = true / true.max((1, 2, 3), keepdims=True)
    assert np.abs(dataset.images[:, 0] - true.reshape(-1, SIZE, SIZE)).mean() < 0.01
    assert dataset.subjects == [f"patient {k}" for k in range(SUBJECTS) for _ in range(2)]
    assert dataset.audit.badges == ["raw"]
    assert dataset.measured.values.shape == (2 * SUBJECTS, COILS, SIZE, SIZE)
    # 0.01 in units of the brightest pixel, which is below 1.
    assert 0.01 < dataset.measured.noise_std < 0.016
    assert isinstance(dataset.measured.values, np.memmap)


def test_fastmri_and_bart_agree(dataset: Dataset, tmp_path: Path) -> None:
    bart = loaded(kspace_files.write_bart(tmp_path, 2, size=SIZE))
    error = np.abs(bart.images - dataset.images[:4])
    assert error.mean() < 0.015  # the noise of each
    assert bart.measured.values.shape == (4, COILS, SIZE, SIZE)


def test_arrays_of_numpy_and_matlab_and_acquisitions_are_the_same_scan(
    dataset: Dataset, tmp_path: Path
) -> None:
    """The axes of arrays are given; the oversampled readouts of acquisitions are cropped."""
    bart = loaded(kspace_files.write_bart(tmp_path / "bart", 2, size=SIZE))
    numpy = loaded(kspace_files.write_numpy(tmp_path / "numpy", 2), axes="schw")
    matlab = loaded(kspace_files.write_matlab(tmp_path / "matlab", 2), axes="hwcs", key="DATA")
    for other in (numpy, matlab):
        np.testing.assert_allclose(other.images, bart.images, atol=1e-6)
        np.testing.assert_allclose(other.measured.values, bart.measured.values, atol=1e-6)
        assert "raw" in other.audit.badges
    acquisitions = loaded(kspace_files.write_ismrmrd(tmp_path / "ismrmrd", 2))
    assert acquisitions.measured.values.shape == (4, COILS, SIZE, SIZE)
    assert np.abs(acquisitions.images - dataset.images[:4]).mean() < 0.015  # the noise of each
    bound = physics.create("mri_cartesian", 1, SIZE).of(acquisitions)
    x = torch.tensor(acquisitions.images)
    y = bound.measure(x, acquisitions.ids)
    found = training.reconstruct(methods.create("cg_sense"), y, bound)
    assert metrics.evaluate(found.abs(), x)["psnr"].min() > 60


def test_a_physics_is_bound_to_its_images(dataset: Dataset) -> None:
    operator = physics.create("mri_cartesian", 4, SIZE)
    bound = operator.of(dataset.first(3))
    x = torch.tensor(dataset.images[:3])
    y = bound.measure(x, dataset.ids[:3])
    assert torch.equal(y, operator.keep(dataset.first(3).measured.read()))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, SIZE, SIZE, dtype=torch.complex64, generator=generator)
    w = torch.randn(y.shape, dtype=torch.complex64, generator=generator)
    left, right = (bound.A(x).conj() * w).sum(), (x.conj() * bound.A_adjoint(w)).sum()
    assert (left - right).abs() <= 1e-5 * bound.A(x).norm() * w.norm()
    torch.testing.assert_close(bound.A_normal(x), bound.A_adjoint(bound.A(x)))
    alone = bound.part(slice(1, 2))
    torch.testing.assert_close(alone.A(x[1:2]), bound.A(x)[1:2])
    assert torch.equal(alone.measure(x[1:2].abs(), ["any"]), y[1:2])
    assert operator.measured is None
    # What is simulated nevertheless is another measurement.
    assert physics.create("mri_cartesian", 4, SIZE, simulate=True).of(dataset).measured is None


def test_all_samples_give_the_reference(dataset: Dataset) -> None:
    """By least squares, to 60 dB: without acceleration A^H A is 1 where there are maps."""
    some = dataset.first(4)
    bound = physics.create("mri_cartesian", 1, SIZE).of(some)
    x = torch.tensor(some.images)
    found = training.reconstruct(methods.create("cg_sense"), bound.measure(x, some.ids), bound)
    assert metrics.evaluate(found.abs(), x)["psnr"].min() > 60


def test_the_response_is_that_of_the_closest_convolution(dataset: Dataset) -> None:
    """Eigenvalues are the diagonal of F A^H A F^-1, computed here column by column."""
    few = dataset.first(1)
    maps = torch.from_numpy(few.measured.maps[:1, :, 8:20, 10:22].copy())
    bound = physics.create("mri_cartesian", 2, 12, centre_fraction=0.2).of(few)
    bound.set_maps(maps)
    unit = torch.eye(144, dtype=torch.complex64).view(144, 1, 12, 12)
    waves = torch.fft.ifft2(unit, norm="ortho")
    diagonal = (unit.conj() * torch.fft.fft2(bound.A_normal(waves), norm="ortho")).sum((1, 2, 3))
    coverage = maps.abs().square().sum(1).mean()
    found, exact = bound.normal_eigenvalues(waves[:1])
    assert not exact
    torch.testing.assert_close(found.flatten(), diagonal.real / coverage, atol=1e-4, rtol=1e-3)


def parsed(path: Path, **more: object) -> Benchmark:
    dataset = {"path": str(path), "measured": True, "image_size": SIZE, "n_val": 4, "n_test": 4}
    return spec.parse(
        {
            "dataset": dataset,
            "degradations": [
                {"name": "mri_cartesian", "levels": [4]},
                {"name": "mri_cartesian", "label": "simulated", "levels": [4], "simulate": True,
                 "coils": COILS},
            ],
            "n_train": [6],
            "methods": METHODS,
            "budget": {"steps": 3, "batch_size": 3, "reports": 1, "trials": 2},
            **more,
        }
    )  # fmt: skip


def test_methods_for_real_images_have_no_cells(fastmri: Path) -> None:
    checked, notices = rules.check(parsed(fastmri, methods=["tv", "stacked_cs"]))
    supported = "linear physics, real images only"
    assert f"stacked_cs supports {supported}: no cells for mri_cartesian" in notices
    assert rules.simulated(checked) == ["simulated"]
    phased = {
        "name": "mri_cartesian",
        "levels": [4],
        "simulate": True,
        "complex": True,
        "label": "a",
    }
    radial = {"name": "mri_radial", "levels": [20], "complex": True, "label": "b"}
    both = parsed(fastmri, degradations=[phased, radial])
    assert rules.simulated(both) == ["a", "b"]
    assert badges.of_task(["raw", "subjects unknown"], "simulated", ["simulated"]) == [
        "magnitude-sim", "subjects unknown",
    ]  # fmt: skip
    assert badges.of_task(["raw"], "mri_cartesian", ["simulated"]) == ["raw"]


def test_a_benchmark_of_raw_kspace(fastmri: Path) -> None:
    checked, _ = rules.check(parsed(fastmri))
    prepared = rules.prepare(checked, rules.Shrinkable())
    split = prepared.split
    hashes: dict[str, set[tuple[str, ...]]] = {}
    psnr: dict[tuple[str, str], float] = {}
    for cell in cells_of(checked):
        label = cell.task.degradation.label
        if label == "simulated" and cell.method.label != "tv":
            continue
        operator = physics_of(cell, checked, split.val)
        config = {**cell.method.fixed, "augment": "flips"} if cell.n_train else cell.method.fixed
        fit = training.fit(
            cell.method.name, config, split.train, split.val, operator, checked.budget, 0,
            precision="fp32",
        )  # fmt: skip
        rows, scored = score_refit(cell, 0, fit, operator, split.test, kept=1)
        assert not scored.x_hat.is_complex()
        hashes.setdefault(label, set()).add(tuple(rows["measurement_hash"]))
        psnr[label, cell.method.label] = rows["psnr"].mean()
        if label == "simulated":
            assert "noise_std" not in rows
            continue
        assert operator.noise_std == pytest.approx(split.val.measured.noise_std)
        assert torch.equal(scored.y, operator.keep(split.test.measured.take([0]).read()))
        if cell.method.label == "modl":
            assert fit.reconstructor.channels == 2
            recipe = {
                "method": "modl", "config": config, "measured": "kspace", "coils": COILS,
                "degradation": {"name": "mri_cartesian"}, "level": 4, "image_size": SIZE,
                "noise": operator.observed_noise(),
            }  # fmt: skip
            model, again, exact = rebuild(recipe, fit.reconstructor.state_dict())
            assert exact
            few = split.test.first(1)
            x_hat = training.reconstruct(model, scored.y, again.of(few))
            torch.testing.assert_close(training.magnitude(x_hat), scored.x_hat[:1])
    assert {label: len(found) for label, found in hashes.items()} == {
        "mri_cartesian": 1, "simulated": 1,
    }  # fmt: skip
    assert all(psnr["mri_cartesian", name] > 20 for name in ("tv", "wavelet_cs", "cg_sense"))


def test_images_are_mirrored_in_kspace(dataset: Dataset) -> None:
    some = dataset.first(2).measured
    mirrored = some.mirrored(torch.tensor([True, False]))
    images = inverse_fourier(some.read())
    torch.testing.assert_close(mirrored.read()[:1], fourier(images[:1].flip(-1)), atol=1e-5, rtol=0)
    assert torch.equal(mirrored.read()[1:], some.read()[1:])
    assert torch.equal(mirrored.read_maps()[0], some.read_maps()[0].flip(-1))


def test_a_smaller_image_is_the_centre_of_kspace(fastmri: Path, dataset: Dataset) -> None:
    small = loaded(fastmri, image_size=24)
    inner = dataset.measured.values[:, :, 4:28, 4:28]
    scale = np.abs(small.measured.values).max() / np.abs(inner).max()
    np.testing.assert_allclose(
        small.measured.values[:2], scale * inner[:2], rtol=0.05, atol=1e-3 * np.abs(inner).max()
    )
    large = loaded(fastmri, image_size=40)
    assert "processed" in large.audit.badges
    assert any("zero-padded from 32x32 to 40x40" in note for note in large.audit.notes)


def test_coils_are_combined_into_virtual_ones(fastmri: Path, dataset: Dataset) -> None:
    whole = open_file(next(iter(sorted(fastmri.glob("*.h5"))))).kspace
    virtual = compressed(whole, 3)
    energy = [float((np.abs(one) ** 2).sum()) for one in (whole, virtual)]
    assert 0.98 < energy[1] / energy[0] < 1
    assert noise_std(virtual[0]) == pytest.approx(noise_std(whole[0]), rel=0.2)
    more = compressed(whole, 6)
    assert not more[:, 4:].any()
    fewer = loaded(fastmri, coils=3)
    assert fewer.measured.values.shape[1] == 3
    assert np.abs(fewer.images - dataset.images).mean() < 0.01


def test_maps_of_the_calibration_region_alone(fastmri: Path, dataset: Dataset) -> None:
    other = loaded(fastmri, maps="calibration", calibration=8, reference="rss")
    assert not np.array_equal(other.measured.maps, dataset.measured.maps)
    parts = inverse_fourier(other.measured.read()).abs().square().sum(1, keepdim=True).sqrt()
    np.testing.assert_allclose(other.images, parts, atol=1e-5)
    asked = parsed(fastmri).model_dump()
    asked["dataset"] |= {"maps": "calibration", "calibration": 12}
    with pytest.raises(UserError, match=r"dataset.calibration: 12 .* measures 2"):
        rules.check(spec.parse(asked))


def test_files_with_different_coils_need_a_number(fastmri: Path, tmp_path: Path) -> None:
    kspace_files.write_fastmri(tmp_path / "a", 1, size=SIZE)
    kspace_files.write_fastmri(tmp_path / "b", 1, size=SIZE, coils=3)
    with pytest.raises(UserError, match=r"has 3 coils, and files before it 4; set dataset.coils"):
        loaded(tmp_path)
    assert loaded(tmp_path, coils=4).measured.values.shape == (4, 4, SIZE, SIZE)


def test_what_one_set_of_maps_does_not_explain_is_found(dataset: Dataset) -> None:
    """Here a second part of the object shares the pixels, seen by other coils."""
    assert dataset.audit.findings["maps_do_not_fit"] == 0
    generator = np.random.default_rng(0)
    here, there = np.zeros((2, 4, 64, 64), np.complex64)
    here[:2], there[2:] = 0.5**0.5, 0.5**0.5
    first, second = generator.random((2, 64, 64))
    noise = 0.1 * generator.standard_normal((2, 4, 64, 64))
    for share in (0.0, 0.5):
        images = here * first + share * there * second + noise[0] + 1j * noise[1]
        energy = np.array([(first**2).sum(), share**2 * (second**2).sum()])
        total = (np.abs(images) ** 2).sum()
        found = misfit(images.astype(np.complex64), here, 0.1)
        assert found == pytest.approx(energy[1] / total, abs=5e-3)


def test_centres_of_odd_and_even_sizes_stay_in_the_middle() -> None:
    for before, after in ((9, 6), (9, 5), (8, 5), (8, 12), (7, 12), (6, 9)):
        kspace = np.zeros((1, 1, before, before), np.complex64)
        kspace[..., before // 2, before // 2] = 1
        assert _fitted(kspace, after)[0, 0, after // 2, after // 2] == 1


def test_from_python(dataset: Dataset) -> None:
    task = api.task(dataset, "mri_cartesian", 4, n_val=2, n_test=4)
    model = api.fit("tv", task)
    assert (api.evaluate(model, task).psnr > 18).all()


def test_a_centre_too_small_for_espirit_still_gives_maps() -> None:
    """As with 4x fewer lines of 64, of which 4 are in the centre; ESPIRiT finds nothing there."""
    x = kspace_files.images(1, 1, 64)[0]
    kspace = kspace_files.kspace_of(x, COILS, 0.001, 0, oversampling=1)[0]
    assert not espirit(kspace, 6).any()
    maps, true = sensitivities(kspace, 6), birdcage(COILS, (64, 64)).numpy()
    true = true / np.linalg.norm(true, axis=0)
    inside = x[0] > 0.1
    assert np.abs((maps.conj() * true).sum(0))[inside].mean() > 0.95
    assert np.linalg.norm(maps, axis=0)[inside] == pytest.approx(1, abs=1e-4)
