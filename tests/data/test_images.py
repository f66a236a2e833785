import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from bench import data
from bench.errors import UserError
from bench.spec import DatasetSpec


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def load(folder: Path, size: int = 32) -> data.Dataset:
    return data.load(DatasetSpec(source="images", path=str(folder), image_size=size))


def test_every_kind_of_file_becomes_the_same_grey_image(tmp_path: Path) -> None:
    grey = picture(32, 32)
    alpha = np.full_like(grey, 200)
    kinds = {
        "grey.png": Image.fromarray(grey),
        "rgb.png": Image.fromarray(np.stack([grey] * 3, -1)),
        "rgba.png": Image.fromarray(np.stack([grey] * 3 + [alpha], -1)),
        "grey_alpha.png": Image.fromarray(np.stack([grey, alpha], -1)),
        "sixteen.png": Image.fromarray(grey.astype(np.uint16) * 257),
        "palette.png": Image.fromarray(grey).convert("P"),
        "sub/deep/grey.tif": Image.fromarray(grey),
    }
    for name, image in kinds.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    found = load(tmp_path)
    assert found.ids == sorted(kinds)
    assert found.images.dtype == np.float32
    for image in found.images[:, 0]:
        np.testing.assert_allclose(image, grey / 255, atol=1e-3)


def test_colour_becomes_luma_as_pillow_has_it(tmp_path: Path) -> None:
    colour = np.stack([picture(32, 32, seed) for seed in range(3)], -1)
    Image.fromarray(colour).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(colour).convert("L"), dtype=np.float32) / 255
    np.testing.assert_allclose(load(tmp_path).images[0, 0], expected, atol=1 / 255)


@pytest.mark.parametrize(("height", "width"), [(60, 30), (30, 60), (41, 64)])
def test_shape_is_kept_by_padding(tmp_path: Path, height: int, width: int) -> None:
    rows, columns = np.mgrid[:height, :width]
    disc = np.hypot(rows - height / 2, columns - width / 2) < 0.4 * min(height, width)
    Image.fromarray((255 * disc).astype(np.uint8)).save(tmp_path / "disc.png")
    image = load(tmp_path).images[0, 0] > 0.5
    across, along = image.any(0).sum(), image.any(1).sum()
    assert abs(int(across) - int(along)) <= 1
    assert across == pytest.approx(0.8 * min(height, width) * 32 / max(height, width), abs=1.5)


def test_resizing_does_not_alias(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128), dtype=np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    inner = load(tmp_path).images[0, 0, 4:-4, 4:-4]
    np.testing.assert_allclose(inner, 0.5, atol=0.02)


def test_a_few_bad_files_are_skipped_and_named(tmp_path: Path) -> None:
    for number in range(60):
        Image.fromarray(picture(40, 40, number)).save(tmp_path / f"{number:02}.jpg")
    whole = (tmp_path / "07.jpg").read_bytes()
    (tmp_path / "07.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "08.jpg").write_bytes(b"")
    Image.new("L", (40, 40), 7).save(tmp_path / "09.jpg")
    found = load(tmp_path)
    assert len(found) == 57
    assert set(found.audit.skipped) == {"07.jpg", "08.jpg", "09.jpg"}
    assert "truncated" in found.audit.skipped["07.jpg"]
    assert "constant" in found.audit.skipped["09.jpg"]


def test_too_many_bad_files_are_one_clear_error(tmp_path: Path) -> None:
    for number in range(5):
        Image.fromarray(picture(40, 40, number)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(UserError, match=r"3\.png: cannot be read .*1 of 5 files") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_nothing_usable_at_the_path(tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(b"x")
    empty = tmp_path / "empty"
    empty.mkdir()
    for path, says in [
        (tmp_path / "none", "no such folder"),
        (tmp_path / "file.png", "cannot be read"),
        (empty, "no image"),
    ]:
        with pytest.raises(UserError, match=says) as caught:
            load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(UserError, match=r"dataset\.path"):
        data.load(DatasetSpec(source="images"))


def test_exact_copies_are_one_subject(tmp_path: Path) -> None:
    for name, seed in {"a": 0, "b": 1, "copy_of_a": 0}.items():
        Image.fromarray(picture(40, 40, seed)).save(tmp_path / f"{name}.png")
    found = load(tmp_path)
    assert found.subjects[0] == found.subjects[2] != found.subjects[1]
    assert "subjects unknown" in found.audit.badges
    assert any("1 exact cop" in note for note in found.audit.notes)


def test_jpeg_shows_by_its_blocks_whatever_the_ending(tmp_path: Path) -> None:
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(8, 128, 128)), (0, 2, 2))
    grey = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    for number, image in enumerate(grey):
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "JPEG", quality=60)
        for name, content in (("clean", Image.fromarray(image)), ("lossy", Image.open(packed))):
            (tmp_path / name).mkdir(exist_ok=True)
            content.save(tmp_path / name / f"{number}.png")
    clean, lossy = (load(tmp_path / name).audit for name in ("clean", "lossy"))
    assert "jpeg_block_edges" not in clean.findings
    assert lossy.findings["jpeg_block_edges"] == 8
    assert any("8x8 blocks, as JPEG" in note for note in lossy.notes)
    assert clean.findings["eight_bit"] == lossy.findings["eight_bit"] == 8
