import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from bench import data, gallery, physics
from bench.data.measured import load_kspace
from bench.errors import UserError
from bench.physics._coils import birdcage
from bench.physics.mri_cartesian import fourier
from bench.spec import DatasetSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        grey = np.random.default_rng(number).integers(0, 255, (40, 48)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write the k-space of two slices and four coils, zero-padded to the left and right."""
    x = torch.rand(2, 1, 48, 32, generator=torch.Generator().manual_seed(0))
    kspace = fourier(birdcage(4, (48, 32)) * x).numpy()
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["kspace"] = np.pad(kspace, ((0, 0), (0, 0), (0, 0), (8, 8)))
    return path


def test_images_are_spread_over_those_found(folder: Path) -> None:
    results = list(gallery.degrade(folder, "mri_cartesian", 4.0, 32, 3))
    assert [result.id for result in results] == ["0.png", "2.png", "4.png"]
    for result in results:
        captions = [panel.caption.splitlines()[0] for panel in result.panels]
        assert captions == ["x", "y", "A_dagger(y)", "mask"]
        score = result.scores["A_dagger(y)"]
        assert score.psnr == pytest.approx(float(result.panels[2].caption.split()[1]), abs=0.01)


def test_one_image_and_a_denoising_task(folder: Path) -> None:
    (result,) = gallery.degrade(folder / "1.png", "gaussian_noise", 0.1, 32, 4)
    assert [panel.caption.splitlines()[0] for panel in result.panels] == ["x", "y"]
    assert result.scores["A_dagger(y)"].psnr == pytest.approx(10, abs=0.5)


@pytest.mark.parametrize("name", physics.names())
def test_every_measurement_has_a_picture(name: str) -> None:
    operator = physics.create(name, physics.find(name).presets[0], (40, 32))
    picture = gallery.picture_of(operator.measure(torch.rand(1, 1, 40, 32), ["a"]), operator)
    assert picture.ndim == 2
    assert 0 <= picture.min() < picture.max() <= 1


def test_measured_kspace_is_undersampled_where_it_was_acquired(scan: Path) -> None:
    result = gallery.degrade_kspace(scan, 2.0, ["cg_sense", "tv"], calibration=16)
    assert [panel.caption.splitlines()[0] for panel in result.panels][-1] == "mask"
    mask = result.panels[-1].image
    assert not mask[:, :8].any()
    assert not mask[:, -8:].any()
    assert mask[:, 8:-8].mean() == pytest.approx(0.5)
    start = result.scores["A_dagger(y)"]
    assert 10 < start.psnr < 100
    assert result.scores["cg_sense"].residual < 0.2
    complete = gallery.degrade_kspace(scan, 1.0, ["tv"], calibration=16)
    assert math.isnan(complete.scores["tv"].psnr)
    assert complete.scores["tv"].residual < 0.5
    assert "x" not in [panel.caption.splitlines()[0] for panel in complete.panels]


def test_kspace_that_cannot_be_read(scan: Path, folder: Path) -> None:
    brightest = np.abs(load_kspace(scan, 0)).max()
    assert np.isfinite(brightest)
    with pytest.raises(UserError, match=r"scan\.h5: there is no slice 2; it has 2"):
        load_kspace(scan, 2)
    with pytest.raises(UserError, match=r"0\.png: not a NumPy, HDF5 or MATLAB file"):
        load_kspace(folder / "0.png")
    with pytest.raises(UserError, match="no such file"):
        load_kspace(folder / "none.npy")
    np.save(folder / "real.npy", np.ones((32, 32)))
    with pytest.raises(UserError, match=r"real\.npy: is real"):
        load_kspace(folder / "real.npy")
    for method, says in (("unet", "training images"), ("fbp", "does not support mri_cartesian")):
        with pytest.raises(UserError, match=says):
            gallery.check_methods([method], "mri_cartesian")
    with pytest.raises(UserError, match="not by mri_radial"):
        gallery.check_cartesian("mri_radial")


def test_the_gallery_shows_every_degradation() -> None:
    page = gallery.gallery(None, 32)
    rows = -(-len(physics.names()) // 2)
    assert page.height >= rows * gallery.SMALL_SIDE
    assert page.width >= 8 * gallery.SMALL_SIDE


def test_a_contact_sheet_shows_every_folder(tmp_path: Path) -> None:
    for number in range(30):
        grey = np.random.default_rng(number).integers(0, 255, (24, 24)).astype(np.uint8)
        (tmp_path / f"p{number % 3}").mkdir(exist_ok=True)
        Image.fromarray(grey).save(tmp_path / f"p{number % 3}" / f"{number}.png")
    found = data.load(DatasetSpec(path=str(tmp_path), image_size=24))
    for count, shown in ((48, 30), (12, 12), (7, 6), (2, 2)):
        page = gallery.contact_sheet(found, count)
        columns = min(8, shown)
        rows = -(-shown // 8)
        cell = gallery.SMALL_SIDE + gallery.GAP
        assert page.size == (columns * cell + 8, rows * (cell + gallery.CAPTION) + 8)


def test_the_reader_takes_options_too(tmp_path: Path) -> None:
    volume = np.linspace(-200, 300, 4 * 24 * 24).reshape(4, 24, 24).astype(np.float32)
    np.save(tmp_path / "a.npy", volume)
    reading = {"window": [40, 400], "axes": "shw"}
    results = list(gallery.degrade(tmp_path, "gaussian_noise", 0.1, 24, 4, (), reading))
    np.testing.assert_allclose(
        results[1].panels[0].image, ((volume[1] + 160) / 400).clip(0, 1), atol=1e-5
    )
    for wrong, says in (
        ({"windw": 1}, "did you mean 'window'"),
        ({"n_val": "x"}, r"dataset\.n_val"),
    ):
        with pytest.raises(UserError, match=says):
            list(gallery.degrade(tmp_path, "gaussian_noise", 0.1, 24, 1, (), wrong))


def test_measured_kspace_by_key_axes_and_slice(tmp_path: Path) -> None:
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(32), indexing="ij")
    head = torch.hypot((rows - 24) / 20, (columns - 16) / 12) < 1
    x = torch.rand(3, 1, 48, 32) * head
    noise = 0.02 * torch.randn(3, 16, 48, 32, dtype=torch.complex64)
    kspace = (fourier(birdcage(16, (48, 32)) * x) + noise).numpy()
    np.savez(tmp_path / "scan.npz", other=np.ones((48, 32)), raw16=kspace.transpose(2, 3, 1, 0))
    reading = {"key": "raw16", "axes": "hwcs", "slice_number": 2}
    result = gallery.degrade_kspace(tmp_path / "scan.npz", 2.0, (), reading, calibration=16)
    assert any(note.startswith("`raw`") for note in result.notes)
    made = fourier(birdcage(4, (48, 32)) * x[:1]).numpy()
    np.save(tmp_path / "kspace.npy", made[0])
    simulated = gallery.degrade_kspace(
        tmp_path / "kspace.npy", 2.0, (), {"axes": "chw"}, calibration=16
    )
    assert any("simulated" in note for note in simulated.notes)
    with pytest.raises(UserError, match="did you mean 'axes'"):
        gallery.degrade_kspace(tmp_path / "scan.npz", 2.0, (), {"axs": "hwc"})
