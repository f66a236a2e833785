"""What becomes 0 and 1: by what the data hold, and refused where that cannot be known."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import data
from bench.data.prepare import Preparation
from bench.data.volume import NoImage, Plane, Unusable, Volume, planes_of, span_of
from bench.errors import UserError
from bench.spec import DatasetSpec


def scene(seed: int = 0, side: int = 24) -> np.ndarray:
    """A smooth picture in [0, 1] that reaches both."""
    rows, columns = np.mgrid[:side, :side] / side
    waves = np.random.default_rng(seed).normal(size=(4, 3))
    image = sum(a * np.cos(2 * np.pi * (b * rows + c * columns)) for a, b, c in waves)
    return ((image - image.min()) / np.ptp(image)).astype(np.float32)


def stack(count: int = 4) -> np.ndarray:
    return np.stack([scene(k) for k in range(count)])


def load(path: Path, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(path=str(path), image_size=24, **options))


def prepared(values: np.ndarray, **options: object) -> np.ndarray:
    volume = Volume("v", planes_of(values.astype(np.float32)), "v")
    made = Preparation(24, min_foreground=0.0, **options)(volume)
    return np.stack(list(made.images.values()))


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-20, 1e20), st.integers(0, 50))
def test_any_unit_of_magnitudes_gives_the_same_images(unit: float, seed: int) -> None:
    values = np.stack([scene(seed), scene(seed + 1)])
    np.testing.assert_allclose(prepared(values * np.float32(unit)), values, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(1, 1e4), st.booleans(), st.sampled_from(["window", "scale"]))
def test_windows_and_scales_say_what_is_0_and_1(
    low: float, width: float, inverted: bool, key: str
) -> None:
    values = (stack(2) * 3 - 1) * width + low
    given_ = (low + width / 2, width) if key == "window" else (low, low + width)
    volume = Volume("v", planes_of(values.astype(np.float32)), "v", inverted=inverted)
    made = Preparation(24, min_foreground=0.0, **{key: given_})(volume)
    expected = ((values - low) / width).clip(0, 1)
    expected = 1 - expected if inverted else expected
    np.testing.assert_allclose(np.stack(list(made.images.values())), expected, atol=2e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.floats(4, 1000), st.integers(0, 100))
def test_hot_pixels_do_not_hide_the_rest(count: int, times: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.stack([scene(seed + k) for k in range(16)])
    hot = values.copy()
    hot[tuple(rng.integers(0, 24, (3, count)) % np.array([[16], [24], [24]]))] = times
    images = prepared(hot)
    untouched = hot == values
    assert np.abs(images - values)[untouched].max() < 0.05
    volume = Volume("v", planes_of(hot), "v")
    assert Preparation(24)(volume).marks == ("hot_pixels_clipped",)
    assert prepared(hot, normalisation="per_volume_max")[untouched].max() <= 1 / times + 1e-6


@pytest.mark.parametrize("metal", [None, 3000, 12_000, 30_000])
@pytest.mark.parametrize("cut", [slice(None), slice(0, 2)])
def test_hounsfield_units_are_never_taken_for_magnitudes(metal: int | None, cut: slice) -> None:
    values = np.where(stack() > 0.3, stack() * 300 - 100, -1000)[cut]
    if metal is not None:
        values[0, 10:13, 10:13] = metal
    with pytest.raises(Unusable, match=r"dataset\.window: \[40, 400\]"):
        prepared(values)
    expected = ((values + 160) / 400).clip(0, 1)
    np.testing.assert_allclose(prepared(values, window=(40.0, 400.0)), expected, atol=1e-5)
    low, high = float(values.min()), float(values.max())
    assert prepared(values, scale=(low, high)).max() == 1


def test_undershoot_of_interpolation_is_no_reason_to_refuse() -> None:
    values = stack()
    values[:, 3, 4:9] = -0.04
    assert prepared(values).min() == 0


@pytest.mark.parametrize("end", ["tif", "nii", "npy"])
def test_hounsfield_units_in_every_format(tmp_path: Path, end: str) -> None:
    values = np.where(stack() > 0.3, stack() * 300 - 100, -1000).round().astype(np.int16)
    if end == "npy":
        np.save(tmp_path / "a.npy", values)
    elif end == "tif":
        for number, image in enumerate(values):
            tifffile.imwrite(tmp_path / f"{number}.tif", image)
    else:
        nib.save(
            nib.Nifti1Image(values[:, ::-1, ::-1].transpose(2, 1, 0), np.eye(4)), tmp_path / "a.nii"
        )
    with pytest.raises(UserError, match=r"not magnitudes.*dataset\.window"):
        load(tmp_path)
    found = load(tmp_path, window=[40, 400])
    expected = ((values + 160) / 400.0).clip(0, 1)
    np.testing.assert_allclose(found.images[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_depth_of_16_bit_pictures_is_what_they_use(tmp_path: Path, bits: int) -> None:
    white = 2**bits - 1
    for number in range(3):
        share = (1.0, 0.5, 0.25)[number]
        grey = (scene(number) * white * share).round().astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    found = load(tmp_path)
    for number, share in enumerate((1.0, 0.5, 0.25)):
        np.testing.assert_allclose(found.images[number, 0], scene(number) * share, atol=2 / 2**8)
    assert found.audit.volumes[0]["scale"] == f"0 to {white}, the full scale"


@pytest.mark.parametrize(("offset", "width"), [(32768, 1180), (31744, 4000), (30000, 300)])
def test_ct_coded_with_an_offset_is_asked_about(tmp_path: Path, offset: int, width: int) -> None:
    images = stack()
    for number, image in enumerate(images):
        grey = (image * width + offset).round().astype(np.uint16)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    with pytest.raises(
        UserError,
        match=r"0\.png: .*offset, or an inverted image; write dataset\.scale: \[\d+, \d+\]",
    ) as e:
        load(tmp_path)
    assert "dataset.window" in str(e.value)
    for options in ({"scale": [offset, offset + width]}, {"window": [offset + width / 2, width]}):
        np.testing.assert_allclose(load(tmp_path, **options).images[:, 0], images, atol=0.01)


def test_low_contrast_is_a_finding(tmp_path: Path) -> None:
    for number in range(4):
        grey = (100 + 40 * scene(number)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    found = load(tmp_path)
    assert found.audit.findings["low_contrast"] == 4
    assert any("low contrast" in note and "dataset.scale" in note for note in found.audit.notes)
    again = load(tmp_path, scale=[100, 140])
    assert "low_contrast" not in again.audit.findings
    np.testing.assert_allclose(again.images[:, 0], stack(), atol=0.03)


def test_nan_around_is_outside_and_nan_inside_is_asked_about() -> None:
    values = stack()
    rows, columns = np.mgrid[:24, :24]
    values[:, np.hypot(rows - 12, columns - 12) > 11] = np.nan
    images = prepared(values)
    assert images[:, 0, 0].max() == 0
    assert np.isfinite(images).all()
    values[1, 12, 12:16] = np.nan
    with pytest.raises(Unusable, match=r"dataset\.nan: 0"):
        prepared(values)
    np.testing.assert_allclose(
        prepared(values, nan=0.0), np.nan_to_num(images * (values == values)), atol=1e-5
    )
    values[2, 5, 5] = np.inf
    with pytest.raises(Unusable, match="NaN or infinite"):
        prepared(values)
    assert np.isfinite(prepared(values, nan=0.0)).all()


def test_padding_is_black_whatever_its_value() -> None:
    outside = np.zeros((24, 24), dtype=bool)
    outside[:, 20:] = True
    values = scene() * 500 + 500
    for padding in (-2000, 0, 700, 60_000):
        stored = np.where(outside, padding, values).astype(np.float32)
        volume = Volume("v", [Plane(stored, outside=outside)], "v")
        (image,) = Preparation(24)(volume).images.values()
        assert image[outside].max() == 0
        np.testing.assert_allclose(
            image[~outside], (values / values[~outside].max())[~outside], atol=1e-5
        )
    with pytest.raises(NoImage):
        span_of([Plane(stored, outside=np.ones_like(outside))])


def test_blank_and_empty_members_do_not_sink_a_volume(tmp_path: Path) -> None:
    volume = np.concatenate([stack(), np.zeros((3, 24, 24), np.float32)])
    volume[4, 5, 5] = 1  # nearly empty
    np.save(tmp_path / "a.npy", volume)
    for number in range(5):
        np.save(tmp_path / f"flat{number}.npy", np.full((24, 24), 7.0))
    found = load(tmp_path)
    assert len(found) == 4
    assert found.audit.files == {"blank images": 5, "read": 1}
    assert found.audit.findings["slices_dropped"] == 3
    note = next(note for note in found.audit.notes if note.startswith("Slices dropped"))
    assert "1 nearly empty slices" in note
    assert "2 blank images" in note


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.sampled_from(["good", "zero", "constant", "nan", "inf", "negative", "tiny", "spot"]),
        min_size=1, max_size=6,
    ),
    st.sampled_from([None, 0.0]),
)  # fmt: skip
def test_bad_values_never_reach_a_run(
    tmp_path_factory, kinds: list[str], nan: float | None
) -> None:
    root = tmp_path_factory.mktemp("bad")
    for number, kind in enumerate(kinds):
        image = scene(number)
        if kind in ("zero", "constant"):
            image[:] = {"zero": 0, "constant": 3}[kind]
        elif kind in ("nan", "inf", "negative"):
            image[9:15, 9:15] = {"nan": np.nan, "inf": np.inf, "negative": -5}[kind]
        elif kind == "spot":
            image[:] = 0
            image[3, 3] = 1
        np.save(root / f"{number}.npy", image[:9, :9] if kind == "tiny" else image)
    try:
        found = load(root, nan=nan)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(found.images).all()
    assert (np.ptp(found.images, axis=(1, 2, 3)) > 0).all()
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert found.images.shape[1:] == (1, 24, 24)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale": [3, 3]}, r"dataset\.scale: 3 is not below 3"),
        ({"scale": [0, 1], "window": [0, 1]}, r"dataset\.scale says what becomes 0 and 1"),
        ({"scale": [0, 1], "normalisation": "percentile"}, "drop dataset.window and"),
        ({"window": [40, 400], "normalisation": "per_image_max"}, "do not go together"),
        ({"window": "file"}, r"states no window; write dataset\.window: \[centre, width\]"),
        ({"window": "wide"}, r"dataset\.window: "),
        ({"nan": "zero"}, r"dataset\.nan: "),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict, says: str) -> None:
    np.save(tmp_path / "a.npy", stack())
    with pytest.raises(UserError, match=says) as caught:
        load(tmp_path, **options)
    assert "\n" not in str(caught.value)
