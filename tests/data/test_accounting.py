"""Every file below the path is read, or counted under what it is."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import data, report
from bench.data import files, kinds, ledger, survey
from bench.data.parts import parts_of
from bench.errors import UserError
from bench.spec import DatasetSpec


def picture(seed: int = 0, side: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def load(path: Path, **options: object) -> data.Dataset:
    return data.load(DatasetSpec(path=str(path), image_size=24, **options))


def number_of_files(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def test_the_sum_of_all_kinds_is_the_number_of_files(tmp_path: Path) -> None:
    for number in range(40):
        save(tmp_path / f"p{number % 4}" / f"{number}.png", picture(number))
    save(tmp_path / "p0" / "0_mask.png", ((picture() > 128) * 255).astype(np.uint8))
    save(tmp_path / "p1" / "flat.png", np.full((24, 24), 9, np.uint8))
    save(tmp_path / "p1" / "icon.png", picture(0, 9))
    save(tmp_path / ".cache" / "a.png", picture())
    for name in ("notes.txt", "table.csv", ".DS_Store", "Thumbs.db", "volume.nii.gz", "x.12"):
        (tmp_path / name).write_text("x")
    (tmp_path / "p2" / "broken.png").write_bytes(b"\x89PNG")
    found = load(tmp_path)
    assert len(found) == 40
    assert found.audit.files == {
        "read": 40,
        "hidden or system files": 3,
        "label maps or masks": 1,
        "blank images": 1,
        "images of less than 16 pixels a side": 1,
        "unusable files": 1,
        "not recognised (.txt)": 1,
        "not recognised (.csv)": 1,
        "not recognised (no usual ending)": 1,
        "for dataset.source: nifti (.nii.gz)": 1,
    }
    assert sum(found.audit.files.values()) == number_of_files(tmp_path)
    assert set(found.audit.skipped) == {"p1/flat.png", "p1/icon.png", "p2/broken.png"}
    page = report.audit_page(vars(found.audit))
    assert f"| **all below the path** | {number_of_files(tmp_path)} |" in page


FOLDER = st.sampled_from(["a", "b/c", "labelsTr", ".git", "x y", "images"])
NAME = st.sampled_from(["scan", "scan_mask", "scan_seg", ".hidden", "noisy", "Thumbs"])
END = st.sampled_from([".png", ".txt", "", ".nii.gz", ".PNG", ".bmp", ".db"])


@settings(max_examples=40, deadline=None)
@given(st.sets(st.tuples(FOLDER, NAME, END), max_size=25), st.lists(FOLDER, max_size=2))
def test_whatever_lies_there_is_accounted_for(tmp_path_factory, places, excluded) -> None:
    root = tmp_path_factory.mktemp("any")
    save(root / "good.png", picture(99))
    for number, (folder, name, end) in enumerate(sorted(places)):
        place = root / folder / f"{name}{end}"
        if end.lower() == ".png":
            save(place, picture(number))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("x")
    found = load(root, source="images", exclude=excluded)
    assert sum(found.audit.files.values()) == number_of_files(root)
    assert found.audit.files["read"] == len(found)


def test_links_are_followed_once(tmp_path: Path) -> None:
    save(tmp_path / "store" / "a.png", picture(0))
    save(tmp_path / "store" / "b.png", picture(1))
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "all").symlink_to(tmp_path / "store")
    (scans / "again").symlink_to(tmp_path / "store")
    (scans / "loop").symlink_to(scans)
    (scans / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (scans / "one.png").symlink_to(tmp_path / "store" / "a.png")
    found = load(scans)
    assert len(found) == 3
    assert found.audit.files == {"read": 3, "broken links": 1}
    (scans / "real").mkdir()
    save(scans / "real" / "c.png", picture(2))
    (scans / "alias").symlink_to(scans / "real")
    assert "real/c.png" in load(scans).ids


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"include": ["*.png"]}, {"p1/a.png", "p2/a.png", "p2/b_raw.png"}),
        ({"include": "p1"}, {"p1/a.png", "p1/b.tif"}),
        ({"include": ["p1/*", "p2/a*"]}, {"p1/a.png", "p1/b.tif", "p2/a.png"}),
        ({"include": ["**/b*"]}, {"p1/b.tif", "p2/b_raw.png"}),
        ({"exclude": ["*_raw*"]}, {"p1/a.png", "p1/b.tif", "p2/a.png"}),
        ({"exclude": ["p2/"]}, {"p1/a.png", "p1/b.tif"}),
        ({"include": ["*.png"], "exclude": ["p1/**"]}, {"p2/a.png", "p2/b_raw.png"}),
    ],
)
def test_patterns_choose(tmp_path: Path, options: dict, left: set[str]) -> None:
    for number, name in enumerate(["p1/a.png", "p1/b.tif", "p2/a.png", "p2/b_raw.png"]):
        save(tmp_path / name, picture(number))
    found = load(tmp_path, **options)
    assert set(found.ids) == left
    kind = "files that dataset.include or dataset.exclude leaves out"
    assert found.audit.files[kind] == 4 - len(left)


def test_patterns_that_leave_nothing_are_named(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    with pytest.raises(UserError, match=r"dataset\.include: \*\.tif leaves none.*first is a\.png"):
        load(tmp_path, include=["*.tif"])
    with pytest.raises(UserError, match=r"dataset\.exclude: a\* leaves none"):
        load(tmp_path, exclude=["a*"])


def test_previews_and_hidden_files_do_not_choose_the_reader(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).random((20, 24, 24), dtype=np.float32)
    np.save(tmp_path / "scan.npy", volume)
    for number in range(30):
        save(tmp_path / f"preview{number}.png", picture(number))
        save(tmp_path / "__MACOSX" / f"._{number}.png", picture(number, 200))
    assert data.guess(tmp_path) == "npy"
    found = load(tmp_path)
    assert len(found) == 20
    assert found.audit.files["for dataset.source: images (.png)"] == 30
    for number in range(40):
        save(tmp_path / f"photo{number}.png", picture(number, 256))
    assert data.guess(tmp_path) == "images"


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (["a/x.png", "a/x_mask.png"], {"a/x_mask.png": kinds.LABELS}),
        (["imagesTr/1.nii.gz", "labelsTr/1.nii.gz"], {"labelsTr/1.nii.gz": kinds.LABELS}),
        (["c1/imaging.nii", "c1/segmentation.nii"], {"c1/segmentation.nii": kinds.LABELS}),
        (["BraTS_1_t1.nii", "BraTS_1_seg.nii"], {"BraTS_1_seg.nii": kinds.LABELS}),
        (["s1/brainMask.nii", "s1/T1.nii"], {"s1/brainMask.nii": kinds.LABELS}),
        (["label_0/1.png", "label_1/1.png"], {}),
        (["unmasked/1.png", "masked/2.png", "segura/3.png"], {}),
        (["mask_001.png", "mask_002.png"], {}),
        (["s_e1.nii.gz", "s_e1_ph.nii.gz"], {"s_e1_ph.nii.gz": kinds.PHASES}),
        (["f_mag.nii", "f_phase.nii"], {"f_phase.nii": kinds.PHASES}),
        (["sub-1_part-mag_T2.nii", "sub-1_part-phase_T2.nii"],
         {"sub-1_part-phase_T2.nii": kinds.PHASES}),
        (["arterial_phase/1.nii", "venous_phase/1.nii"], {}),
        (["L1_0_input.npy", "L1_0_target.npy"], {"L1_0_input.npy": kinds.HALVES}),
        (["low/p1/a.png", "high/p1/a.png"], {"low/p1/a.png": kinds.HALVES}),
        (["quarter_1mm/1.IMA", "full_1mm/1.IMA"], {"quarter_1mm/1.IMA": kinds.HALVES}),
        (["noisy/a.tif", "averaged/a.tif", "averaged/b.tif"], {"noisy/a.tif": kinds.HALVES}),
        (["low_grade/1.png", "high_grade/1.png"], {}),
        (["low/1.png", "low/2.png", "low/3.png", "high/1.png", "high/9.png"], {}),
        (["input_1.png", "input_2.png"], {}),
        (["images/1.jpg", "train_masks/1.png"], {"train_masks/1.png": kinds.LABELS}),
        (["CT/1.png", "lung masks/1.png"], {"lung masks/1.png": kinds.LABELS}),
        (["lung masks/1.png", "other/2.png"], {}),
        (["p1_frame01.nii.gz", "p1_frame01_gt.nii.gz"], {"p1_frame01_gt.nii.gz": kinds.LABELS}),
        (["a_gt.png", "b_gt.png"], {}),
        (["sub-1_part-real_T2.nii", "sub-1_part-mag_T2.nii"],
         {"sub-1_part-real_T2.nii": kinds.PHASES}),
        (["5_gre.nii.gz", "5_gre_real.nii.gz", "5_gre_imaginary.nii.gz"],
         {"5_gre_real.nii.gz": kinds.PHASES, "5_gre_imaginary.nii.gz": kinds.PHASES}),
        (["sub-0_localizer.nii.gz", "sub-0_T1w.nii.gz"],
         {"sub-0_localizer.nii.gz": kinds.SCOUTS}),
        (["P0/dose.nii.gz", "P0/ct.nii.gz"], {"P0/dose.nii.gz": kinds.DOSES}),
        (["low_dose_1.png", "scan_2.png"], {}),
    ],
)  # fmt: skip
def test_names_tell_what_is_no_image(names: list[str], left_out: dict[str, str]) -> None:
    assert kinds.by_name(names) == left_out


def test_a_word_that_the_user_includes_tells_nothing() -> None:
    names = ["a_input.png", "a_target.png"]
    assert kinds.by_name(names, ["*_input.png"]) == {}
    assert kinds.by_name(names, ["a*"]) == {"a_input.png": kinds.HALVES}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 40), st.integers(0, 10_000), st.sampled_from([np.uint8, np.int16, np.float32])
)
def test_label_maps_are_known_by_their_values(count: int, seed: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, 64, (count, 4)).reshape(count, 2, 2), axis=2)
    labels = np.zeros((64, 64))
    labels[8:56, 8:56] = 1
    for number, ((top, bottom), (left, right)) in enumerate(corners):
        if bottom - top > 10 and right - left > 10:
            labels[top:bottom, left:right] = number + 1
    assert kinds.is_label_map(labels.astype(kind).astype(np.float32))
    grey = 30 + 200 * labels / labels.max() + rng.normal(0, 5, labels.shape)
    assert not kinds.is_label_map(grey.round().astype(np.float32))


def test_label_maps_without_a_telling_name_are_left_out(tmp_path: Path) -> None:
    rows = np.mgrid[:24, :24][0]
    for number in range(4):
        save(tmp_path / f"case{number}" / "t1.png", picture(number))
        save(tmp_path / f"case{number}" / "truth.png", (rows // 8).astype(np.uint8))
    found = load(tmp_path)
    assert {name.rpartition("/")[2] for name in found.ids} == {"t1.png"}
    assert found.audit.files == {"read": 4, kinds.LABELS: 4}
    assert len(load(tmp_path, include=["truth.png"])) == 4  # where it is all there is


def test_masks_in_colour_and_with_blank_slices(tmp_path: Path) -> None:
    mask = np.zeros((6, 24, 24), np.uint8)
    mask[2:5, 4:18, 5:19] = 1
    for number in range(4):
        save(tmp_path / "a" / f"{number}.png", picture(number))
        red = np.dstack([mask[3] * 128, mask[3] * 0, mask[3] * 0])
        save(tmp_path / "b" / f"{number}.png", red)
    assert load(tmp_path).audit.files == {"read": 4, kinds.LABELS: 4}
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    for number in range(3):
        scan = np.random.default_rng(number).random((6, 24, 24), dtype=np.float32)
        np.save(volumes / f"{number}_ct.npy", scan)
        np.save(volumes / f"{number}_tumor.npy", mask)
    assert load(volumes).audit.files == {"read": 3, kinds.LABELS: 3}


def test_names_are_taken_literally_too(tmp_path: Path) -> None:
    for number, name in enumerate(["scan [3].png", "scan 3.png", "two\nlines.png"]):
        save(tmp_path / name, picture(number))
    assert "scan [3].png" not in load(tmp_path, exclude=["scan [3].png"]).ids
    assert "two\\nlines.png" in load(tmp_path).ids


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", picture(number))
    odd = os.fsencode(str(tmp_path)) + b"/Sch\xe4del"
    os.mkdir(odd)  # noqa: PTH102
    os.rename(tmp_path / "0.png", odd + b"/M\xfcller.png")  # noqa: PTH104
    with open(odd + b"/kaputt\xe4.txt", "w") as file:  # noqa: PTH123
        file.write("x")
    found = load(tmp_path)
    assert "Sch\\xe4del/M\\xfcller.png" in found.ids
    report.audit_page(vars(found.audit)).encode()
    data.split(found, 1, 1, 1)
    with pytest.raises(UserError) as caught:
        load(tmp_path, include=["nothing"])
    str(caught.value).encode()


@given(st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b))
def test_any_name_can_be_written(name: bytes) -> None:
    text = files.printable(os.fsdecode(name))
    text.encode()
    assert text.isprintable()
    if name.isascii() and name.decode().isprintable():
        assert text == name.decode()


def test_parts_of_the_decathlon(tmp_path: Path) -> None:
    assert parts_of(["imagesTr/a.nii.gz", "imagesTs/b.nii.gz"]) == ["train", "test"]
    assert parts_of(["ImagesTr/a.nii.gz", "TestSet/b.nii.gz"]) == ["train", "test"]


def test_a_split_that_somebody_has(tmp_path: Path) -> None:
    names = [f"p{number}/{k}.png" for number in range(6) for k in range(2)]
    for number, name in enumerate(names):
        save(tmp_path / name, picture(number))
    words = ["training", "train", "val", "validation", "test", "Testing"]
    lines = [f"{name},{words[int(name[1])]}" for name in names]
    table = tmp_path / "split.csv"
    table.write_text("\n".join(["file,part", *lines]))
    found = load(tmp_path, split_csv="split.csv")
    chosen = data.split(found, 4, 2, 4)
    assert {name[:2] for name in chosen.train.ids} == {"p0", "p1"}
    assert {name[:2] for name in chosen.val.ids} <= {"p2", "p3"}
    assert {name[:2] for name in chosen.test.ids} == {"p4", "p5"}
    assert found.audit.files["tables that the benchmark file names"] == 1
    for text, says in {
        "\n".join(["file,part", *lines[1:]]): r"no part for 'p0/0\.png' \(dataset\.split_csv\)",
        "\n".join(["file,part", *lines]).replace(
            "val", "other"
        ): "'other' is not a part; write train",
        "\n".join(
            ["file,subject", *lines]
        ): "dataset.split_csv needs the columns 'file' and 'part'",
    }.items():
        table.write_text(text)
        with pytest.raises(UserError, match=says):
            load(tmp_path, split_csv="split.csv")


def test_processes_read_what_threads_read(tmp_path: Path, monkeypatch) -> None:
    for number in range(12):
        save(tmp_path / f"{number:02}.png", picture(number))
    save(tmp_path / "flat.png", np.full((24, 24), 3, np.uint8))
    (tmp_path / "99.png").write_bytes(b"\x89PNG")
    monkeypatch.setattr(ledger, "TOLERATED", 0.5)
    threads = load(tmp_path)
    monkeypatch.setattr(survey, "MANY", 1)
    processes = load(tmp_path)
    assert threads.digest() == processes.digest()
    assert vars(threads.audit) == vars(processes.audit)
    monkeypatch.setattr(ledger, "TOLERATED", 0.0)
    with pytest.raises(UserError, match=r"99\.png: cannot be read"):
        load(tmp_path)
