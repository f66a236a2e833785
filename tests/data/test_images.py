import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from scipy.ndimage import gaussian_filter

from bench import data
from bench.errors import UserError
from bench.spec import DatasetSpec


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def load(folder: Path, size: int = 32, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(source="images", path=str(folder), image_size=size, **options))


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
        (empty, "is empty"),
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
    assert any("edges of JPEG's 8x8 blocks" in note for note in lossy.notes)
    assert clean.findings["eight_bit"] == lossy.findings["eight_bit"] == 8


KINDS = {
    "uint8": 255, "uint16": 65535, "uint32": 4_000_000_000, "int16": 30_000, "int32": 2_000_000_000,
    "float16": 1, "float32": 0.004, "float64": 1e6,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form",
    [
        {}, {"compression": "deflate", "predictor": True}, {"compression": "lzw"},
        {"byteorder": ">"}, {"bigtiff": True}, {"photometric": "miniswhite"},
        {"tile": (16, 16)}, {"planarconfig": "contig"}, {"planarconfig": "separate"},
    ],
)  # fmt: skip
def test_tiff_of_any_kind(tmp_path: Path, kind: str, form: dict) -> None:
    grey = picture(32, 32) / 255
    grey[0, 0], grey[0, 1] = 1, 0
    stored = (grey * KINDS[kind]).astype(kind)
    if form.get("photometric") == "miniswhite":
        if stored.dtype.kind != "u":
            pytest.skip("white is not defined")
        stored = np.iinfo(kind).max - (grey * np.iinfo(kind).max).astype(kind)
    if form.get("planarconfig") == "contig":
        stored = np.stack([stored] * 2, -1)
    elif form.get("planarconfig") == "separate":
        stored = np.stack([stored] * 3)
    try:
        tifffile.imwrite(tmp_path / "a.tif", stored, **{"photometric": "minisblack", **form})
    except (ValueError, NotImplementedError) as reason:
        pytest.skip(f"tifffile does not write it: {reason}")
    np.testing.assert_allclose(load(tmp_path).images[0, 0], grey, atol=0.004)


def test_a_tiff_stack_is_a_volume(tmp_path: Path) -> None:
    pages = np.stack([picture(32, 32, k).astype(np.uint16) * (k + 1) for k in range(3)])
    tifffile.imwrite(tmp_path / "pages.tif", pages, photometric="minisblack")
    tifffile.imwrite(tmp_path / "imagej.tif", pages, imagej=True)
    first = [Image.fromarray(page) for page in pages]
    first[0].save(tmp_path / "pillow.tif", save_all=True, append_images=first[1:])
    found = load(tmp_path)
    assert len(found) == 9
    assert found.ids[0] == "imagej.tif/page-000"
    assert len(set(found.subjects)) == 1  # the same pages three times
    for place, image in enumerate(found.images[:, 0]):
        np.testing.assert_allclose(image, pages[place % 3] / 1023, atol=1e-5)


def test_thumbnails_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(picture(64, 64), photometric="minisblack")
        writer.write(picture(64, 64)[::2, ::2], photometric="minisblack", subfiletype=1)
    assert len(load(tmp_path)) == 1


def test_channels_that_differ_are_asked_about(tmp_path: Path) -> None:
    channels = np.stack([picture(32, 32, seed) for seed in range(5)], -1)
    tifffile.imwrite(tmp_path / "a.tif", channels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(UserError, match=r"5 channels that differ.*dataset\.channel: 0"):
        load(tmp_path)
    np.testing.assert_allclose(
        load(tmp_path, channel=3).images[0, 0], channels[..., 3] / 255, atol=1e-6
    )
    with pytest.raises(UserError, match=r"has 5 channels, 0 to 4"):
        load(tmp_path, channel=5)


@pytest.mark.parametrize("turn", range(1, 9))
def test_cameras_orientation_is_followed(tmp_path: Path, turn: int) -> None:
    grey = Image.fromarray((255 * gaussian_filter(picture(40, 32) / 255.0, 3)).astype(np.uint8))
    note = Image.Exif()
    note[0x0112] = turn
    for end, more in (("jpg", {"quality": 100}), ("png", {})):
        (tmp_path / end).mkdir()
        grey.save(tmp_path / end / f"a.{end}", exif=note, **more)
        upright = ImageOps.exif_transpose(Image.open(tmp_path / end / f"a.{end}"))
        upright.save(tmp_path / end / f"b.{end}", **more)
        first, second = load(tmp_path / end).images
        np.testing.assert_allclose(first, second, atol=0.02)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "tiff"])
def test_transparent_pixels_are_black(tmp_path: Path, mode: str) -> None:
    grey = np.maximum(picture(32, 32), 100)
    alpha = np.full_like(grey, 255)
    alpha[:, :8] = 0
    if mode == "tiff":
        tifffile.imwrite(
            tmp_path / "a.tif", np.dstack([grey, alpha]), photometric="minisblack",
            extrasamples=["unassalpha"], planarconfig="contig",
        )  # fmt: skip
    else:
        whole = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))
        whole.convert(mode).save(tmp_path / "a.png")
    found = load(tmp_path)
    assert found.images[0, 0, :, :8].max() == 0
    np.testing.assert_allclose(found.images[0, 0, :, 8:], grey[:, 8:] / 255, atol=0.01)
    assert found.audit.findings["transparent"] == 1


@pytest.mark.parametrize("end", ["bmp", "pgm", "webp", "jp2"])
def test_other_pictures(tmp_path: Path, end: str) -> None:
    grey = picture(32, 32)
    more = {"lossless": True} if end == "webp" else {}
    Image.fromarray(grey).save(tmp_path / f"a.{end}", **more)
    guessed = data.load(DatasetSpec(path=str(tmp_path), image_size=32))
    np.testing.assert_allclose(guessed.images[0, 0], grey / 255, atol=1e-3)
    (tmp_path / f"b.{end}").write_bytes(b"something else")
    found = load(tmp_path)
    assert found.audit.files == {"read": 1, f"not recognised (.{end})": 1}


def test_16_bit_pgm_and_colour(tmp_path: Path) -> None:
    grey = picture(32, 32).astype(np.uint16) * 16
    grey[0, 0] = 4095
    Image.fromarray(grey).save(tmp_path / "a.pgm")
    tifffile.imwrite(tmp_path / "b.tif", np.dstack([grey * 16] * 3), photometric="rgb")
    for image, white in zip(load(tmp_path).images[:, 0], (65535, 65535), strict=True):
        assert image.max() * white == pytest.approx(
            4095 * 16 if image.max() > 0.5 else 4095, rel=1e-3
        )
    assert load(tmp_path / "a.pgm").images.max() == pytest.approx(1)
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = picture(32, 32)
    Image.fromarray(red).save(tmp_path / "c.png")
    assert load(tmp_path / "c.png").audit.findings["colour"] == 1


def test_a_thumbnail_first_does_not_hide_the_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(picture(32, 32), photometric="minisblack")
        for seed in range(5):
            writer.write(picture(64, 64, seed), photometric="minisblack")
    found = load(tmp_path, 64)
    assert len(found) == 5
    np.testing.assert_allclose(found.images[4, 0], picture(64, 64, 4) / 255, atol=1e-6)
    assert any("differs from most" in note for note in found.audit.notes)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_of_16_bits_a_channel(tmp_path: Path, channels: int) -> None:
    codecs = pytest.importorskip("imagecodecs")
    grey = picture(32, 32).astype(np.uint16) * 16 + 7
    stored = np.dstack([grey] * channels)
    if channels in (2, 4):
        stored[..., -1] = 65535
        stored[:, :4, -1] = 0
    (tmp_path / "a.png").write_bytes(codecs.png_encode(stored))
    found = load(tmp_path)
    white = 2 ** int(grey.max()).bit_length() - 1
    np.testing.assert_allclose(found.images[0, 0, :, 4:], grey[:, 4:] / white, atol=1e-4)
    assert "eight_bit" not in found.audit.findings
    assert (found.images[0, 0, :, :4].max() == 0) == (channels in (2, 4))
