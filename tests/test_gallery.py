import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from bench import gallery, physics
from bench.data.measured import load_kspace
from bench.errors import UserError
from bench.physics._coils import birdcage
from bench.physics.mri_cartesian import fourier


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(5):
        grey = np.random.default_rng(number).integers(0, 255, (40, 48)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Write the k-space of two slices and four coils, zero-padded to the left and right."""
    x = torch.rand(2, 1, 48, 32)
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
    with pytest.raises(UserError, match=r"0\.png: no NumPy, HDF5 or MATLAB file"):
        load_kspace(folder / "0.png")
    with pytest.raises(UserError, match="no such file"):
        load_kspace(folder / "none.npy")
    np.save(folder / "real.npy", np.ones((32, 32)))
    with pytest.raises(UserError, match=r"real\.npy: is real"):
        load_kspace(folder / "real.npy")
    for method, says in (("unet", "training images"), ("fbp", "does not serve mri_cartesian")):
        with pytest.raises(UserError, match=says):
            gallery.check_methods([method], "mri_cartesian")
    with pytest.raises(UserError, match="not by mri_radial"):
        gallery.check_cartesian("mri_radial")


def test_the_gallery_shows_every_degradation() -> None:
    page = gallery.gallery(None, 32)
    rows = -(-len(physics.names()) // 2)
    assert page.height >= rows * gallery.SMALL_SIDE
    assert page.width >= 8 * gallery.SMALL_SIDE
