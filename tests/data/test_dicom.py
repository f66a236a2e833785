"""DICOM in the benchmark's units: pixels against formulas, grouping, privacy."""

import json
import shutil
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import (
    NATIVE,
    PATIENT,
    enhanced,
    item,
    load,
    look,
    ramp,
    save,
    scan,
    write,
    write_compressed,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)  # fmt: skip

from bench import data
from bench.data import dicom
from bench.errors import UserError
from bench.spec import DatasetSpec

MR = "1.2.840.10008.5.1.4.1.1.4"
ANEW = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FEWER = settings(ANEW, max_examples=20)  # of whole series


# ---- pixels --------------------------------------------------------------------------------------


def test_ct_is_hounsfield_units_in_the_stated_window(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(), RescaleSlope=2, RescaleIntercept=-1024)
    found = load(tmp_path, window=[0, 1000])
    expected = ((ramp() * 2.0 - 1024 + 500) / 1000).clip(0, 1)
    np.testing.assert_allclose(found.images[0, 0], expected, atol=1e-5)
    assert any("-500 to 500" in note for note in found.audit.notes)


def test_the_window_of_the_file(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000}
    write(tmp_path / "a.dcm", ramp(), WindowCenter=[50, 0], WindowWidth=[500, 9], **tags)
    expected = ((ramp() - 1000.0 + 200) / 500).clip(0, 1)
    np.testing.assert_allclose(load(tmp_path, window="file").images[0, 0], expected, atol=1e-5)
    write(tmp_path / "a.dcm", ramp(), **tags)
    with pytest.raises(UserError, match=r"a\.dcm: states no window"):
        load(tmp_path, window="file")


def test_a_window_in_every_slice_is_that_slice_s_own(tmp_path: Path) -> None:
    for k, width in enumerate([100, 400, 1000]):
        write(
            tmp_path / f"{k}.dcm", ramp(k), InstanceNumber=k, RescaleIntercept=-1000,
            WindowCenter=width / 2, WindowWidth=width,
        )  # fmt: skip
    _, (volume,) = look(tmp_path)
    assert [plane.window for plane in volume.planes] == [(50, 100), (200, 400), (500, 1000)]


@given(
    bits=st.sampled_from([7, 8, 10, 12, 15, 16]),
    signed=st.booleans(),
    inverse=st.booleans(),
    slope=st.floats(0.01, 50),
    intercept=st.floats(-3000, 3000),
    padding=st.sampled_from([None, "exact", "wrong sign"]),
    rubbish=st.booleans(),
    syntax=st.sampled_from(NATIVE),
    seed=st.integers(0, 999),
)
@ANEW
def test_any_bits_sign_rescale_padding_and_photometry(
    tmp_path: Path, bits, signed, inverse, slope, intercept, padding, rubbish, syntax, seed
) -> None:
    """Against the definition: PS3.5 8.1.1, PS3.3 C.7.6.3.1.2, C.7.5.1.1.2, C.11.1.1.2."""
    rng = np.random.default_rng(seed)
    low = -(2 ** (bits - 1)) if signed else 0
    high = low + 2**bits - 1
    whole = rng.integers(low, high + 1, (9, 8))
    mask = rng.random((9, 8)) < 0.3
    pad = int(rng.integers(low, high + 1))
    whole[~mask & (whole == pad)] = pad + 1 if pad < high else pad - 1
    tags: dict[str, object] = {}
    if padding:
        whole[mask] = pad
        tags["PixelPaddingValue"] = pad
    # What stands above the stored bits means nothing, the sign among it.
    stored = whole & (2**bits - 1)
    if rubbish and bits < 16:
        stored = stored | (rng.integers(0, 2 ** (16 - bits), (9, 8)) << bits)
    stored = stored.astype(np.uint16).view(np.int16 if signed else np.uint16)
    slope, intercept = round(slope, 3), round(intercept, 3)
    made = scan(
        stored, Modality="MR", SOPClassUID=MR, BitsStored=bits, RescaleSlope=slope,
        RescaleIntercept=intercept,
        PhotometricInterpretation="MONOCHROME1" if inverse else "MONOCHROME2", **tags,
    )  # fmt: skip
    made.PixelData = stored.astype(stored.dtype.newbyteorder(_order(syntax))).tobytes()
    if padding:
        made["PixelPaddingValue"].VR = "SS" if signed else "US"
    if padding == "wrong sign" and pad < 0:
        made["PixelPaddingValue"].VR = "US"
        made.PixelPaddingValue = pad + 2**16
    _, (volume,) = look(save(tmp_path / "a.dcm", made, syntax))
    ends = np.array([low, high]) * slope + intercept
    expected = whole * slope + intercept
    if inverse:
        expected = ends.sum() - expected if ends[0] >= 0 else ends[1] - expected
    (plane,) = volume.planes
    np.testing.assert_allclose(plane.values, expected, rtol=1e-5, atol=1e-5 * np.abs(ends).max())
    if padding:
        np.testing.assert_array_equal(plane.outside, mask)
    else:
        assert plane.outside is None
    assert not volume.inverted


def _order(syntax: str) -> str:
    return ">" if syntax == NATIVE[2] else "<"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_monochrome1_is_the_picture_of_monochrome2(tmp_path: Path, bits: int, signed: bool) -> None:
    picture = (ramp().astype(float) / ramp().max() * (2**bits - 1)).round().astype(int)
    low = -(2 ** (bits - 1)) if signed else 0
    kind = {8: "1", 12: "2", 16: "2"}[bits]
    for name, stored, photometry in [
        ("a.dcm", picture + low, "MONOCHROME2"),
        ("b.dcm", low + 2**bits - 1 - picture, "MONOCHROME1"),
    ]:
        write(
            tmp_path / name, stored.astype(f"{'i' if signed else 'u'}{kind}"), Modality="MR",
            SOPClassUID=MR, BitsStored=bits, PhotometricInterpretation=photometry,
            RescaleIntercept=-low, SeriesInstanceUID=f"1.{name == 'b.dcm':d}",
        )  # fmt: skip
    found = load(tmp_path)
    np.testing.assert_allclose(found.images[0], found.images[1], atol=1e-5)
    np.testing.assert_allclose(found.images[0, 0], picture / (2**bits - 1), atol=1e-5)


def test_signed_monochrome1_without_rescale_is_black_at_its_highest_value(tmp_path: Path) -> None:
    picture = (np.linspace(0, 4095, 32)[None] * np.ones((32, 1))).round()
    stored = (2047 - picture).astype(np.int16)
    write(
        tmp_path / "a.dcm", stored, Modality="CR", BitsStored=12,
        PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    np.testing.assert_allclose(load(tmp_path).images[0, 0], picture / 4095, atol=1e-5)


def test_monochrome1_in_hounsfield_units_is_inverted_after_the_window(tmp_path: Path) -> None:
    write(
        tmp_path / "a.dcm", ramp(), RescaleIntercept=-1000,
        PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=int(ramp().max()),
    )  # fmt: skip
    expected = 1 - ((ramp() - 1000.0 + 160) / 400).clip(0, 1)
    expected[ramp() == ramp().max()] = 0
    np.testing.assert_allclose(load(tmp_path).images[0, 0], expected, atol=1e-5)


def test_the_window_of_a_monochrome1_file_is_that_of_its_own_values(tmp_path: Path) -> None:
    write(
        tmp_path / "a.dcm", ramp(), Modality="CR", BitsStored=12,
        PhotometricInterpretation="MONOCHROME1", WindowCenter=900, WindowWidth=700,
    )  # fmt: skip
    expected = 1 - ((ramp() - 550.0) / 700).clip(0, 1)
    np.testing.assert_allclose(load(tmp_path, window="file").images[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("first", "last", "signed"), [(0, 9, False), (9, 0, False), (-2000, -1000, True)]
)
def test_a_range_of_padding(tmp_path: Path, first: int, last: int, signed: bool) -> None:
    stored = ramp().astype(np.int16) - (2000 if signed else 0)
    stored = stored if signed else stored.astype(np.uint16)
    made = scan(stored, PixelPaddingValue=first, PixelPaddingRangeLimit=last)
    made.PixelData = stored.tobytes()
    for name in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        made[name].VR = "SS" if signed else "US"
    _, (volume,) = look(save(tmp_path / "a.dcm", made))
    low, high = sorted((first, last))
    np.testing.assert_array_equal(volume.planes[0].outside, (stored >= low) & (stored <= high))


def test_padding_above_the_stored_bits(tmp_path: Path) -> None:
    stored = ramp()
    stored[:5] = 63536  # in 12 bits this would be 2096
    stored[6, 6] = 2096
    write(tmp_path / "a.dcm", stored, Modality="MR", BitsStored=12, PixelPaddingValue=63536)
    _, (volume,) = look(tmp_path)
    np.testing.assert_array_equal(volume.planes[0].outside, stored == 63536)


def test_bits_at_the_top_of_a_sample(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp() << np.uint16(4), Modality="MR", BitsStored=12, HighBit=15)
    _, (volume,) = look(tmp_path)
    np.testing.assert_array_equal(volume.planes[0].values, ramp())


@given(
    first=st.integers(-2000, 2000),
    entries=st.lists(st.integers(0, 65535), min_size=2, max_size=300),
    words=st.booleans(),
    signed=st.booleans(),
    seed=st.integers(0, 99),
)
@ANEW
def test_modality_table(tmp_path: Path, first, entries, words, signed, seed) -> None:
    stored = np.random.default_rng(seed).integers(-2500 if signed else 0, 2500, (6, 6))
    first = first if signed else abs(first)
    table = item(LUTDescriptor=[len(entries), first, 16], ModalityLUTType="US")
    table["LUTDescriptor"].VR = "SS" if signed else "US"
    table.LUTData = np.array(entries, "<u2").tobytes() if words else entries
    table["LUTData"].VR = "OW" if words else "US"
    made = scan(
        stored.astype(np.int16 if signed else np.uint16), Modality="CR", ModalityLUTSequence=[table]
    )
    made.PixelData = stored.astype("<i2").tobytes()
    _, (volume,) = look(save(tmp_path / "a.dcm", made))
    expected = [[entries[min(max(v - first, 0), len(entries) - 1)] for v in row] for row in stored]
    np.testing.assert_array_equal(volume.planes[0].values, expected)


def test_empty_and_absent_rescale(tmp_path: Path) -> None:
    for k, tags in enumerate([{"RescaleSlope": ""}, {"RescaleIntercept": ""}, {}]):
        made = scan(ramp(k), Modality="MR", SeriesInstanceUID=f"1.{k}", **tags)
        made.PixelData = ramp(k).tobytes()
        save(tmp_path / f"{k}.dcm", made)
        _, (volume,) = look(tmp_path / f"{k}.dcm")
        np.testing.assert_array_equal(volume.planes[0].values, ramp(k))


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_pixels_that_are_fractions(tmp_path: Path, kind: str) -> None:
    values = (ramp() / 7.0).astype(kind)
    write(tmp_path / "a.dcm", values, Modality="MR", RescaleSlope=3, BitsStored=None)
    _, (volume,) = look(tmp_path)
    np.testing.assert_allclose(volume.planes[0].values, values * 3, rtol=1e-6)


@given(
    slopes=st.lists(st.floats(0.001, 9), min_size=2, max_size=5), seed=st.integers(0, 99),
    modality=st.sampled_from(["PT", "MR", "NM"]),
)  # fmt: skip
@FEWER
def test_every_slice_by_its_own_slope(tmp_path: Path, slopes, seed, modality) -> None:
    stored = np.random.default_rng(seed).integers(0, 3000, (len(slopes), 6, 6)).astype(np.uint16)
    folder = tmp_path / "series"
    shutil.rmtree(folder, ignore_errors=True)
    slopes = [round(slope, 5) for slope in slopes]
    for k, slope in enumerate(slopes):
        write(
            folder / f"{k}.dcm", stored[k], Modality=modality, RescaleSlope=slope,
            RescaleIntercept=0, InstanceNumber=k, Units="BQML",
        )  # fmt: skip
    _, (volume,) = look(folder)
    expected = stored * np.array(slopes)[:, None, None]
    np.testing.assert_allclose([plane.values for plane in volume.planes], expected, rtol=1e-5)


def test_which_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    signed = ramp().astype(np.int16) - np.int16(1000)
    for stored, tags, units in [
        (ramp(), {"RescaleIntercept": -1024}, "HU"),
        (ramp(), {"RescaleIntercept": -1024, "RescaleType": "US"}, "HU"),
        (ramp(), {"RescaleIntercept": -1024, "Modality": None}, "HU"),
        (ramp(), {"RescaleIntercept": 0, "RescaleType": "HU", "Modality": "OT"}, "HU"),
        (signed, {}, "HU"),
        (ramp(), {}, ""),
        (ramp(), {"RescaleIntercept": -1024, "RescaleType": "Z_EFF"}, ""),
        (ramp(), {"RescaleIntercept": -1024, "Modality": "MR"}, ""),
    ]:
        _, (volume,) = look(write(tmp_path / "a.dcm", stored, **tags))
        assert volume.units == units, tags


# ---- functional groups ---------------------------------------------------------------------------


@given(
    slopes=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    shared=st.booleans(),
    seed=st.integers(0, 99),
)
@FEWER
def test_rescale_in_functional_groups(tmp_path: Path, slopes, shared, seed) -> None:
    rng = np.random.default_rng(seed)
    stored = rng.integers(0, 3000, (len(slopes), 6, 5)).astype(np.uint16)
    slopes = slopes[:1] * len(slopes) if shared else slopes
    group = "PixelValueTransformationSequence"
    tags = [{"RescaleSlope": s, "RescaleIntercept": -1000, "RescaleType": "HU"} for s in slopes]
    _, (volume,) = look(
        enhanced(
            tmp_path / "a.dcm",
            stored,
            {"PixelMeasuresSequence": {"PixelSpacing": [0.5, 0.7]}}
            | ({group: tags[0]} if shared else {}),
            [{} if shared else {group: one} for one in tags],
            RescaleSlope=99,  # what the groups say goes before
        )
    )
    expected = stored * np.array(slopes)[:, None, None] - 1000.0
    np.testing.assert_allclose([plane.values for plane in volume.planes], expected)
    assert volume.units == "HU"
    assert {plane.spacing for plane in volume.planes} == {(0.5, 0.7)}


def test_windows_and_spacings_of_frames(tmp_path: Path) -> None:
    frames = [
        {
            "FrameVOILUTSequence": {"WindowCenter": 40 * k, "WindowWidth": 100 * k},
            "PixelMeasuresSequence": {"PixelSpacing": [k, 2 * k]},
        }
        for k in (1, 2)
    ]
    _, (volume,) = look(enhanced(tmp_path / "a.dcm", np.stack([ramp(0), ramp(1)]), {}, frames))
    assert [plane.window for plane in volume.planes] == [(40, 100), (80, 200)]
    assert [plane.spacing for plane in volume.planes] == [(1, 2), (2, 4)]


@pytest.mark.parametrize("by", ["stack position", "place"])
def test_frames_come_in_the_order_of_their_stack(tmp_path: Path, by: str) -> None:
    order = [2, 0, 3, 1]
    stored = np.stack([ramp(k) + np.uint16(k) for k in order])
    frames = [
        {"FrameContentSequence": {"StackID": "1", "InStackPositionNumber": k + 1}}
        if by == "stack position"
        else {"PlanePositionSequence": {"ImagePositionPatient": [0, 0, 5 * k]}}
        for k in order
    ]
    shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}}
    _, (volume,) = look(enhanced(tmp_path / "a.dcm", stored, shared, frames))
    np.testing.assert_array_equal(
        [plane.values for plane in volume.planes], stored[np.argsort(order)]
    )


def test_frames_behind_one_another_keep_their_order(tmp_path: Path) -> None:
    stored = np.stack([ramp(k) for k in range(3)])
    for heights in ([9, 5, 1], [1, 5, 9], [1, 1, 5]):
        frames = [{"PlanePositionSequence": {"ImagePositionPatient": [0, 0, z]}} for z in heights]
        shared = {"PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}}
        _, (volume,) = look(enhanced(tmp_path / "a.dcm", stored, shared, frames))
        np.testing.assert_array_equal([plane.values for plane in volume.planes], stored)


def test_frames_of_other_directions_are_volumes_of_their_own(tmp_path: Path) -> None:
    stored = np.stack([ramp(k) for k in range(4)])
    turned = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [0.999, 0.04, 0, -0.04, 0.999, 0]]
    frames = [
        {"PlaneOrientationSequence": {"ImageOrientationPatient": turned[k]}} for k in (0, 1, 2, 1)
    ]
    _, volumes = look(enhanced(tmp_path / "a.dcm", stored, {}, frames))
    assert [volume.orientation for volume in volumes] == ["axial", "sagittal"]
    np.testing.assert_array_equal([p.values for p in volumes[0].planes], stored[[0, 2]])
    np.testing.assert_array_equal([p.values for p in volumes[1].planes], stored[[1, 3]])
    assert len({volume.name for volume in volumes}) == 2


@pytest.mark.parametrize(
    ("group", "attribute"),
    [
        ("MRImageFrameTypeSequence", {"FrameType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "NONE"]}),
        ("MRImageFrameTypeSequence", {"ComplexImageComponent": "PHASE"}),
        ("CTImageFrameTypeSequence", {"FrameType": ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]}),
    ],
)
def test_frames_of_other_kinds_are_left_out_and_told(tmp_path, group, attribute) -> None:
    stored = np.stack([ramp(k) for k in range(4)])
    frames = [{}, {group: attribute}, {}, {group: attribute}]
    _, (volume,) = look(enhanced(tmp_path / "a.dcm", stored, {}, frames, Modality="MR"))
    np.testing.assert_array_equal([p.values for p in volume.planes], stored[[0, 2]])
    assert any("are left out" in remark for remark in volume.remarks)
    gathered, volumes = look(
        enhanced(tmp_path / "a.dcm", stored, {group: attribute}, [{}] * 4, Modality="MR")
    )
    assert (len(volumes), len(gathered.left_out)) == (0, 1)


# ---- what counts as an image ---------------------------------------------------------------------

STORAGE = "1.2.840.10008.5.1.4.1.1."


@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("segmentations", {"SOPClassUID": STORAGE + "66.4"}),
        ("segmentations", {"Modality": "SEG"}),
        ("dose maps", {"SOPClassUID": STORAGE + "481.2"}),
        ("dose maps", {"Modality": "RTDOSE"}),
        ("parameter maps", {"SOPClassUID": STORAGE + "30"}),
        ("parameter maps", {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "ADC", "ND"]}),
        ("parameter maps", {"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "CBF"]}),
        ("parameter maps", {"ImageType": ["DERIVED", "PRIMARY", "T1 MAP", "ND"]}),
        ("raw data", {"SOPClassUID": STORAGE + "66"}),
        ("spectra", {"SOPClassUID": STORAGE + "4.2"}),
        ("presentation states", {"SOPClassUID": STORAGE + "11.1"}),
        ("reports", {"SOPClassUID": STORAGE + "88.67"}),
        ("encapsulated documents", {"SOPClassUID": STORAGE + "104.1"}),
        ("phase images", {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}),
        ("phase images", {"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "FFE"]}),
        ("phase images", {"ImageType": ["ORIGINAL", "PRIMARY", "VELOCITY"]}),
        ("phase images", {"ComplexImageComponent": "PHASE"}),
        ("real or imaginary parts", {"ImageType": ["ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"]}),
        ("real or imaginary parts", {"ImageType": ["DERIVED", "PRIMARY", "IMAGINARY"]}),
        ("localizers", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        ("localizers", {"SeriesDescription": "3-plane_Localiser"}),
        ("localizers", {"SeriesDescription": "Topogramm 0.6 T20f"}),
        ("localizers", {"SeriesDescription": "SURVEY_BFFE"}),
        ("localizers", {"SeriesDescription": "AAHScout_MPR"}),
        ("localizers", {"SeriesDescription": "3-pl Loc SSFSE"}),
        ("mosaics of slices (dcm2niix unfolds them)", {
            "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}),
        ("colour pictures", {"PhotometricInterpretation": "PALETTE COLOR"}),
        ("colour pictures", {"PhotometricInterpretation": "YBR_FULL"}),
        ("secondary captures", {"SOPClassUID": STORAGE + "7"}),
        ("secondary captures", {"SOPClassUID": STORAGE + "7.2"}),
        ("secondary captures", {"ConversionType": "WSD"}),
        ("secondary captures", {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}),
        ("copies of the same DICOM object", {"SOPInstanceUID": "1.5", "seed": 1}),
        ("images unlike the rest of their series", {"size": 40}),
        ("images unlike the rest of their series", {
            "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
    ],
)  # fmt: skip
def test_only_images_are_images(tmp_path: Path, kind: str, tags: dict) -> None:
    tags = dict(tags)
    usual = {"SOPClassUID": MR, "Modality": "MR"}
    flat = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    for k in range(10):
        write(
            tmp_path / f"{k}.dcm", ramp(k), SOPInstanceUID=f"1.{k + 4}", InstanceNumber=k,
            **usual, **flat,
        )  # fmt: skip
    odd = ramp(tags.pop("seed", 77))
    size = tags.pop("size", 32)
    odd = np.pad(odd, (0, size - 32), mode="reflect")
    write(tmp_path / "odd.dcm", odd, InstanceNumber=99, **(usual | flat | tags))
    gathered, volumes = look(tmp_path)
    assert {file.name: why for file, why in gathered.left_out.items()} == {"odd.dcm": kind}
    assert sum(len(volume.planes) for volume in volumes) == 10
    found = load(tmp_path, min_foreground=0.0)
    assert len(found) == 10
    assert kind in json.dumps([found.audit.notes, found.audit.skipped])


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "MPR", "CSA MPR", "", "CSAPARALLEL", "M", "ND"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]},
        {"ImageType": ["DERIVED", "PRIMARY", "DIFFUSION", "TRACEW", "ND", "NORM"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "P", "R"], "Modality": "CT"},
        {"ImageType": [], "SeriesDescription": "T2 TSE after the scan"},
        {"ComplexImageComponent": "MAGNITUDE", "SOPClassUID": STORAGE + "4.1"},
        {"SOPClassUID": STORAGE + "481.1", "Modality": "RTIMAGE"},
    ],
)
def test_images_of_unusual_types_stay_images(tmp_path: Path, tags: dict) -> None:
    usual = {"SOPClassUID": MR, "Modality": "MR"}
    gathered, volumes = look(write(tmp_path / "a.dcm", ramp(), **(usual | tags)))
    assert (len(volumes), gathered.left_out) == (1, {})


def test_phase_images_of_ge(tmp_path: Path) -> None:
    for number, kind in [(0, None), (1, "phase images"), (2, "real or imaginary parts")]:
        made = scan(ramp(), Modality="MR", Manufacturer="GE MEDICAL SYSTEMS")
        block = made.private_block(0x43, "GEMS_PARM_01", create=True)
        block.add_new(0x2F, "SS", number)
        made.PixelData = ramp().tobytes()
        gathered, _ = look(save(tmp_path / "a.dcm", made))
        assert next(iter(gathered.left_out.values()), None) == kind


def test_secondary_captures_are_read_where_there_is_nothing_else(tmp_path: Path) -> None:
    for k in range(3):
        write(tmp_path / f"{k}.dcm", ramp(k), SOPClassUID=STORAGE + "7", InstanceNumber=k)
    write(tmp_path / "colour.dcm", ramp(), PhotometricInterpretation="PALETTE COLOR")
    found = load(tmp_path)
    assert len(found) == 3
    assert any("secondary captures" in note for note in found.audit.notes)


def test_files_without_pixels_are_left_out_by_kind(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp())
    save(tmp_path / "report.dcm", item(SOPClassUID=STORAGE + "88.11", Modality="SR"))
    save(tmp_path / "note.dcm", item(SOPClassUID=STORAGE + "88.59", Modality="KO"))
    save(tmp_path / "empty.dcm", item(SOPClassUID=STORAGE + "77.1", PatientID="x"))
    shutil.copy(str(get_testdata_file("DICOMDIR-empty.dcm")), tmp_path / "DICOMDIR")
    gathered, (volume,) = look(tmp_path)
    assert {file.name: kind for file, kind in gathered.left_out.items()} == {
        "report.dcm": "reports",
        "note.dcm": "key object notes",
        "empty.dcm": "DICOM files without pixels",
        "DICOMDIR": "directories of a medium (DICOMDIR)",
    }
    assert len(volume.planes) == 1


def test_many_scouts_and_captures_do_not_spoil_the_set(tmp_path: Path) -> None:
    for k in range(6):
        write(tmp_path / f"{k}.dcm", ramp(k), InstanceNumber=k, RescaleIntercept=-1024)
    for k in range(9):
        write(tmp_path / f"scout{k}.dcm", ramp(k)[:20], SeriesDescription="Scout")
        write(tmp_path / f"screen{k}.dcm", ramp(k), SOPClassUID=STORAGE + "7.4")
    found = load(tmp_path, min_foreground=0.0)
    assert len(found) == 6
    told = " ".join(found.audit.notes)
    assert "9 localizers" in told and "9 secondary captures" in told


# ---- members of a series -------------------------------------------------------------------------


def test_slices_are_grouped_by_series_and_ordered(tmp_path: Path) -> None:
    for number in (3, 1, 2):
        write(
            tmp_path / f"{9 - number}.dcm", ramp(number) * np.uint16(number), Modality="MR",
            InstanceNumber=number, SeriesInstanceUID="1.2.5",
        )  # fmt: skip
    write(tmp_path / "other.dcm", ramp(7), Modality="MR", SeriesInstanceUID="1.2.6")
    write(tmp_path / "scout.dcm", ramp(8), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = load(tmp_path)
    tops = sorted(float(image.max()) for image in found.images)
    assert tops == pytest.approx([1 / 3, 2 / 3, 1, 1], abs=0.01)  # one maximum for a series
    assert len(set(found.subjects)) == 1
    assert len({name.split("/")[1] for name in found.ids}) == 2
    assert any("1 localizers" in note for note in found.audit.notes)


@given(order=st.permutations(range(5)), by=st.sampled_from(["number", "place", "uid"]))
@FEWER
def test_slices_are_ordered_by_number_place_or_uid(tmp_path: Path, order, by) -> None:
    folder = tmp_path / "series"
    shutil.rmtree(folder, ignore_errors=True)
    for at, k in enumerate(order):
        tags = {
            "number": {"InstanceNumber": k + 8, "SOPInstanceUID": f"1.{50 - k}"},
            "place": {
                "ImagePositionPatient": [-3 * k, 7, 7], "SOPInstanceUID": f"1.{50 + k}",
                "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
            },
            "uid": {"SOPInstanceUID": f"1.{k + 8}"},
        }[by]  # fmt: skip
        write(folder / f"{at}.dcm", ramp(k), Modality="MR", **tags)
    _, (volume,) = look(folder)
    np.testing.assert_array_equal([p.values for p in volume.planes], [ramp(k) for k in range(5)])


def test_two_patients_in_one_series_are_two_subjects(tmp_path: Path) -> None:
    for k in range(6):
        write(tmp_path / f"{k}.dcm", ramp(k), PatientID="ab"[k % 2] * 3, InstanceNumber=k)
    found = load(tmp_path)
    assert len(set(found.subjects)) == 2
    assert all(name.startswith(s) for name, s in zip(found.ids, found.subjects, strict=True))


def test_spacing_of_every_slice(tmp_path: Path) -> None:
    for k, tags in enumerate([
        {"PixelSpacing": [0.5, 1]},
        {"PixelSpacing": [0, 0], "ImagerPixelSpacing": [3, 1]},
        {"NominalScannedPixelSpacing": [2, 1]},
        {"PixelAspectRatio": [4, 3]},
        {"PixelSpacing": [-1, 1]},
        {"PixelSpacing": None},
    ]):  # fmt: skip
        write(tmp_path / f"{k}.dcm", ramp(k), Modality="MR", InstanceNumber=k, **tags)
    _, (volume,) = look(tmp_path)
    expected = [(0.5, 1), (3, 1), (2, 1), (4, 3), (0, 0), (0, 0)]
    assert [plane.spacing for plane in volume.planes] == expected


def test_unknown_spacing_is_square(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(), Modality="MR", PixelSpacing=[0, 0])
    np.testing.assert_allclose(load(tmp_path).images[0, 0], ramp() / ramp().max(), atol=1e-5)


def test_a_damaged_file_does_not_sink_its_series(tmp_path: Path) -> None:
    for k in range(30):
        write(tmp_path / f"{k:02d}.dcm", ramp(k), Modality="MR", InstanceNumber=k)
    whole = (tmp_path / "07.dcm").read_bytes()
    (tmp_path / "07.dcm").write_bytes(whole[:-300])
    found = load(tmp_path)
    assert len(found) == 29
    assert list(found.audit.skipped) == ["07.dcm"]


def test_one_uid_for_all_slices_is_no_copy(tmp_path: Path) -> None:
    for k in range(4):
        write(tmp_path / f"{k}.dcm", ramp(k), SOPInstanceUID="1.9", InstanceNumber=k)
    assert len(look(tmp_path)[1][0].planes) == 4


def test_a_copy_is_known_however_it_is_compressed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.dcm", ramp())
    made = pydicom.dcmread(file)
    made.compress(RLELossless, generate_instance_uid=False)
    made.save_as(tmp_path / "b.dcm")
    gathered, (volume,) = look(tmp_path)
    assert [file.name for file in gathered.left_out] == ["b.dcm"]
    assert len(volume.planes) == 1


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.dcm", "E69S4I1.MR", "IM_0001", "1.2.840.17", "x"])
@pytest.mark.parametrize("form", ["whole", "no preamble", "no file meta", "explicit", "big"])
def test_files_of_any_name_with_and_without_preamble(tmp_path: Path, name: str, form: str) -> None:
    file = tmp_path / name
    if form in ("whole", "no preamble"):
        write(file, ramp(), Modality="MR")
        if form == "no preamble":
            file.write_bytes(file.read_bytes()[132:])
    else:
        made = scan(ramp(), Modality="MR")
        made.PixelData = ramp().astype(">u2" if form == "big" else "<u2").tobytes()
        implicit = form == "no file meta"
        pydicom.dcmwrite(file, made, implicit_vr=implicit, little_endian=form != "big")
    assert dicom.recognises(file)
    _, (volume,) = look(file)
    np.testing.assert_array_equal(volume.planes[0].values, ramp())


@given(st.binary(max_size=400) | st.text(max_size=400).map(str.encode))
@ANEW
def test_other_files_are_no_dicom(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    assert not dicom.recognises(file)


def test_usual_files_of_other_kinds_are_no_dicom(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ramp())
    np.savez(tmp_path / "a.npz", ramp())
    imagecodecs.imwrite(str(tmp_path / "a.png"), ramp())
    (tmp_path / "a.json").write_text('{"a": 1}')
    (tmp_path / "zeros.raw").write_bytes(bytes(5000))
    (tmp_path / "eights.raw").write_bytes(np.full(999, 8, "<u2").tobytes())
    (tmp_path / "ramp.raw").write_bytes(np.arange(8, 999).astype("<u2").tobytes())
    (tmp_path / "nifti.nii").write_bytes((348).to_bytes(4, "little") + bytes(400))
    (tmp_path / "empty").write_bytes(b"")
    for file in tmp_path.iterdir():
        assert not dicom.recognises(file), file.name


def test_files_without_ending_are_known_by_their_content(tmp_path: Path) -> None:
    for number, name in enumerate(["IM0001", "1.2.840.17", "c.dcm"]):
        write(tmp_path / name, ramp(number), InstanceNumber=number)
    (tmp_path / "README").write_text("x" * 200)
    assert data.resolve(DatasetSpec(path=str(tmp_path))).source == "dicom"
    assert len(load(tmp_path)) == 3


def _frames(encode, stored: np.ndarray) -> list[bytes]:
    return [encode(np.ascontiguousarray(frame)) for frame in stored]


CODECS = {
    "JPEG baseline": (JPEGBaseline8Bit, 8, 3, lambda a: imagecodecs.jpeg8_encode(a, level=98)),
    "JPEG 12 bits": (
        JPEGExtended12Bit, 12, 9, lambda a: imagecodecs.jpeg8_encode(a, level=98, bitspersample=12),
    ),
    "JPEG lossless": (JPEGLossless, 16, 0, lambda a: imagecodecs.jpeg8_encode(
        a, lossless=True, bitspersample=16)),
    "JPEG lossless SV1": (JPEGLosslessSV1, 8, 0, lambda a: imagecodecs.jpeg8_encode(
        a, lossless=True, bitspersample=8)),
    "JPEG-LS": (JPEGLSLossless, 12, 0, imagecodecs.jpegls_encode),
    "JPEG-LS near": (JPEGLSNearLossless, 12, 2, lambda a: imagecodecs.jpegls_encode(a, level=2)),
    "JPEG 2000 lossless": (JPEG2000Lossless, 16, 0, lambda a: imagecodecs.jpeg2k_encode(
        a, level=0, reversible=True, codecformat="j2k")),
    "JPEG 2000": (JPEG2000, 12, 40, lambda a: imagecodecs.jpeg2k_encode(
        a, level=60, codecformat="j2k", bitspersample=12)),
    "HTJ2K lossless": (HTJ2KLossless, 16, 0, lambda a: imagecodecs.htj2k_encode(
        a, reversible=True)),
    "HTJ2K": (HTJ2K, 16, 0, lambda a: imagecodecs.htj2k_encode(a, reversible=True)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "signed"),
    # A lossy codec does not know where the sign turns over.
    [(name, signed) for name in CODECS for signed in (False, True) if not signed * CODECS[name][2]],
)
def test_compressed_pixels(tmp_path: Path, name: str, signed: bool) -> None:
    syntax, bits, tolerance, encode = CODECS[name]
    whole = np.stack([ramp(k).astype(int) for k in range(2)]) * (2**bits - 1) // 2020
    kept = np.uint8 if bits == 8 else np.uint16
    frames = _frames(encode, whole.astype(kept))
    expected = whole
    if signed:  # the bits that stand for negative numbers in a file of signed ones
        expected = np.where(whole >= 2 ** (bits - 1), whole - 2**bits, whole)
    stored = whole.astype(kept).view(f"i{kept().itemsize}" if signed else kept)
    file = write_compressed(
        tmp_path / "a.dcm", stored, syntax, frames, Modality="MR", BitsStored=bits
    )
    _, (volume,) = look(file)
    assert len(volume.planes) == 2
    for plane, frame in zip(volume.planes, expected, strict=True):
        assert np.abs(plane.values - frame).max() <= tolerance


def test_compressed_pixels_that_break_off(tmp_path: Path) -> None:
    for name, (syntax, bits, _, encode) in CODECS.items():
        stored = (ramp() * (2.0**bits - 1) / 2020).astype(np.uint8 if bits == 8 else np.uint16)
        frame = encode(stored)
        file = write_compressed(
            tmp_path / "a.dcm", stored, syntax, [frame[: len(frame) // 2]], BitsStored=bits
        )
        with pytest.raises(
            UserError, match=r"a\.dcm: its compressed pixels cannot be decoded \([^\n]*\)$"
        ):
            load(file)
        assert name


def test_without_decoders_the_extra_is_named(tmp_path, monkeypatch) -> None:
    shutil.copy(str(get_testdata_file("MR_small_jpeg_ls_lossless.dcm")), tmp_path / "a.dcm")
    monkeypatch.setattr("bench.data._dicom_pixels._plugin", lambda syntax: "")
    monkeypatch.setattr("pydicom.pixels.decoders.JPEGLSLosslessDecoder._available", {})
    with pytest.raises(UserError, match=r"a\.dcm: .*JPEG-LS.*pip install -e '\.\[dicom\]'"):
        load(tmp_path)


def test_bad_files_end_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "good.dcm", ramp())
    whole = (tmp_path / "good.dcm").read_bytes()
    (tmp_path / "truncated.dcm").write_bytes(whole[:-500])
    (tmp_path / "headless.dcm").write_bytes(whole[:300])
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "text.dcm").write_text("no scan")
    write(tmp_path / "slope.dcm", ramp(), RescaleSlope="7654")
    odd = (tmp_path / "slope.dcm").read_bytes().replace(b"7654", b"2_x ")
    (tmp_path / "slope.dcm").write_bytes(odd)
    for name, says in {
        "truncated": "cannot be read",
        "headless": "header is truncated",
        "empty": "is empty",
        "text": "is not a DICOM file",
        "slope": "RescaleSlope is not a number",
    }.items():
        with pytest.raises(UserError, match=says) as caught:
            load(tmp_path / f"{name}.dcm")
        assert f"{name}.dcm" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch) -> None:
    write(tmp_path / "a.dcm", ramp())
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[dicom\]'"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_packaged_files(name: str) -> None:
    path = Path(str(get_testdata_file(name)))
    found = load(path, 64)
    assert found.images.shape == (1, 1, 64, 64)
    assert found.images.min() >= 0
    assert found.images.max() > 0.8
    assert str(pydicom.dcmread(path).PatientID) not in json.dumps([found.ids, found.subjects])


# ---- privacy and subjects ------------------------------------------------------------------------


def test_no_trace_of_the_patient_is_written(tmp_path: Path) -> None:
    folder = tmp_path / f"archive/{PATIENT}"
    for number in range(30):
        write(folder / f"{PATIENT}_{number}.dcm", ramp(number), InstanceNumber=number)
    (folder / f"{PATIENT}_broken.dcm").write_bytes(b"nothing")
    write(folder / "Mann_Muster.dcm", ramp(9), SeriesDescription="scout")
    write(tmp_path / "7" / "b.dcm", ramp(31), PatientID="7", SeriesInstanceUID="1.7")
    found = load(tmp_path)
    assert any(name.endswith("_broken.dcm") for name in found.audit.skipped)
    written = json.dumps([found.ids, found.subjects, vars(found.audit)], default=str)
    assert PATIENT not in written
    assert "Muster" not in written


@given(
    patient=st.text("bc7-_.+ ", min_size=1, max_size=9).map(str.strip).filter(bool),
    around=st.text("xyz/ _.", max_size=9),
)
@ANEW
def test_names_and_reasons_hide_patients(patient: str, around: str) -> None:
    text = dicom.anonymous(f"{around}/{patient}/{around}", {patient: "hidden", "7": "hidden"})
    assert f"/{patient}/" not in text
    assert dicom.anonymous("nothing to hide", {"7": "4567"}) == "nothing to hide"
    assert dicom.anonymous("70 of 7", {"7": "0123"}) == "70 of 0123"


def test_subjects_do_not_change_when_others_come(tmp_path: Path) -> None:
    write(tmp_path / "a.dcm", ramp(0))
    before = load(tmp_path)
    write(tmp_path / "b.dcm", ramp(1), PatientID="other", SeriesInstanceUID="1.1")
    after = load(tmp_path)
    assert set(before.subjects) < set(after.subjects)
    assert set(before.ids) < set(after.ids)


def test_without_patient_a_study_or_a_series_is_a_subject(tmp_path: Path) -> None:
    for k in range(3):
        write(tmp_path / f"{k}.dcm", ramp(k), PatientID="", SeriesInstanceUID=f"1.{k}")
        write(
            tmp_path / f"s{k}.dcm", ramp(k + 3), PatientID=None, SeriesInstanceUID=f"2.{k}",
            StudyInstanceUID="2",
        )  # fmt: skip
    found = load(tmp_path)
    assert len(set(found.subjects)) == 4
    assert any("without PatientID" in note for note in found.audit.notes)
    assert "subjects unknown" in found.audit.badges


def test_a_blank_patient_in_a_series_is_the_one_that_the_series_names(tmp_path: Path) -> None:
    for k in range(4):
        write(tmp_path / f"{k}.dcm", ramp(k), PatientID="" if k == 2 else "p", InstanceNumber=k)
    assert len(set(load(tmp_path).subjects)) == 1


def test_one_slice_at_fault_is_the_one_that_is_named(tmp_path: Path) -> None:
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000}
    for k in range(30):
        window = {} if k == 2 else {"WindowCenter": 50, "WindowWidth": 500}
        write(tmp_path / f"{k:02}.dcm", ramp(k), InstanceNumber=k + 1, **tags, **window)
    found = load(tmp_path, window="file")
    assert len(found) == 29
    assert list(found.audit.skipped) == ["02.dcm"]
    assert "states no window" in found.audit.skipped["02.dcm"]
