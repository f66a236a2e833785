"""Who was scanned, from folders and names: images of one person never stand in two sets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import data
from bench.data.subjects import assign
from bench.spec import DatasetSpec


def of(files: list[str]) -> list[str | None]:
    return assign(files, files, [None] * len(files)).subjects


def grown(pattern: str, folders: list[str], each: int = 3) -> list[str]:
    return [pattern.format(folder, k) for folder in folders for k in range(each)]


PATIENTS = [f"TCGA_DU_{number}" for number in range(5849, 5857)]


@pytest.mark.parametrize(
    ("files", "depth"),
    [
        (grown("{}/s{}.png", PATIENTS), 1),
        (grown("{}/s{}.png", ["anna", "ben", "clara", "dora"]), 1),
        (grown("{}/s{}.png", [str(k) for k in range(1, 7)]), 1),
        (grown("{}/{}.png", [f"{p}/{kind}" for p in PATIENTS for kind in ("T1", "FLAIR")]), 1),
        (grown("{}/{}.png", [f"{s}/{p}" for s, ps in (("north", PATIENTS[:4]),
                                                       ("south", PATIENTS[4:])) for p in ps]), 2),
        (grown("{}/{}.png", [f"Training/{p}" for p in PATIENTS[:5]]
               + [f"Testing/{p}" for p in PATIENTS[5:]]), 2),
        (grown("{}/{}.png", [f"{p}/1.3.12.2.{n}.9.{n}" for n, p in enumerate(PATIENTS)]), 1),
    ],
)  # fmt: skip
def test_folders_of_patients(files: list[str], depth: int) -> None:
    assert of(files) == ["/".join(file.split("/")[:depth]) for file in files]


@pytest.mark.parametrize(
    "files",
    [
        grown("{}/{}.jpg", [f"{part}/{kind}" for part in ("Training", "Testing")
                            for kind in ("glioma", "notumor", "pituitary")], 30),
        grown("{}/{}.jpg", ["yes", "no"], 40),
        grown("{}/{}.jpg", ["glioma", "notumor", "pituitary"], 300),
        grown("{}/{}.nii", ["ixi-t1-2mm", "oasis-t1-1mm"]),
        grown("{}/p{}.mat", ["GRE", "FSE", "FLAIR", "FSE-coronal", "T2w_3T"]),
        grown("{}/{}.png", [f"subject{k}" for k in range(5)], 1),
        [f"{k}.png" for k in range(9)],
    ],
)  # fmt: skip
def test_folders_of_something_else(files: list[str]) -> None:
    assert set(of(files)) == {None}


def test_the_same_patient_below_two_contrasts_is_one() -> None:
    files = grown("{}/{}.png", [f"{kind}/{p}" for kind in ("T1", "T2") for p in PATIENTS])
    assert of(files) == [file.split("/")[1] for file in files]


SUBJECTS = [f"sub{k:02}" for k in range(8)]


@pytest.mark.parametrize(
    ("folders", "depth", "certain"),
    [
        ([f"visit{v}/{s}" for v in (1, 2) for s in SUBJECTS], 1, True),
        ([f"20{y}/P{k}" for y in (10, 11, 12) for k in range(8)], 1, True),
        ([f"TP{t}/mouse{k}" for t in (1, 2) for k in range(8)], 1, True),
        ([f"{name}/series{k}" for name in ("anna", "bert", "cleo") for k in range(4)], 0, True),
        ([f"pat_{name}/echo{k}" for name in "abcd" for k in range(2)], 0, True),
        ([f"site{s}/p{k}/ser1" for s in (0, 1) for k in range(8 * s, 8 * s + 8)], 1, True),
        ([f"fold{f}/{s}" for f, some in enumerate((SUBJECTS[:4], SUBJECTS[4:])) for s in some],
         1, True),
        ([f"group{g}/{s}" for g in (1, 2) for s in SUBJECTS], 1, False),
        ([f"BraTS20_Training_{k:03}" for k in range(4)], 0, True),
        ([f"TR{k:03}" for k in range(6)], 0, True),
    ],
)  # fmt: skip
def test_scans_sites_and_visits_are_no_patients(folders, depth: int, certain: bool) -> None:
    files = grown("{}/{}.png", folders)
    found = assign(files, files, [None] * len(files))
    assert len(set(found.subjects)) == len({name.split("/")[depth] for name in folders})
    by_person = {}
    for file, subject in zip(files, found.subjects, strict=True):
        by_person.setdefault(file.split("/")[depth], set()).add(subject)
    assert all(len(subjects) == 1 for subjects in by_person.values())
    assert found.certain == certain


def test_one_person_seen_by_several_scans_is_kept_together() -> None:
    files = grown("{}/p{}.mat", ["GRE", "FSE", "FLAIR"])
    slices = [file for file in files for _ in range(4)]
    assert set(assign(slices, slices, [None] * len(slices)).together) == {"p0", "p1", "p2"}


def test_what_is_known_goes_before_what_is_guessed() -> None:
    files = grown("{}/s{}.png", PATIENTS)
    stated = assign(files, files, ["x"] * len(files))
    assert set(stated.subjects) == {"x"}
    ruled = assign(files, files, ["x"] * len(files), rule=lambda name: name[-5])
    assert set(ruled.subjects) == {"0", "1", "2"}
    presumed = assign(files, files, ["x"] * len(files), [True] * len(files))
    assert (len(set(presumed.subjects)), presumed.certain) == (len(PATIENTS), True)
    flat = assign(["a.dcm", "b.dcm"], ["a", "b"], ["x", "y"], [True, True])
    assert (flat.subjects, flat.certain) == (["x", "y"], False)
    half = assign(files, files, ["x"] * len(files), [True, *[False] * (len(files) - 1)])
    assert (set(half.subjects), half.certain) == ({"x"}, False)
    bids = assign(
        [f"sub-{k // 2}/a{k}.nii" for k in range(6)], [str(k) for k in range(6)], [None] * 6
    )
    assert bids.subjects == ["sub-0", "sub-0", "sub-1", "sub-1", "sub-2", "sub-2"]
    hidden = assign(files, files, [None] * len(files), hashed=True)
    assert len(set(hidden.subjects)) == len(PATIENTS)
    assert not any("TCGA" in str(name) for name in [*hidden.subjects, hidden.note])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["L067_0.npy", "L067_1.npy", "L096_0.npy", "L096_1.npy"], 2),
        (["p1-slice012.png", "p1-slice013.png", "p2-slice001.png", "p2-slice002.png"], 2),
        (["IXI002 z1.png", "IXI002 z2.png", "IXI012 z1.png", "IXI012 z2.png"], 2),
        (["Tr-gl_0010.jpg", "Tr-gl_0011.jpg", "Tr-no_0010.jpg", "Tr-no_0011.jpg"], 4),
        (["0001.png", "0002.png", "0003.png"], 3),
        (["img_001.png", "img_002.png"], 2),
    ],
)
def test_numbered_slices_of_a_patient_are_kept_together(names: list[str], groups: int) -> None:
    assert len(set(assign(names, names, [None] * len(names)).together)) == groups


def save_slices(folder: Path, names: list[str]) -> None:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(seed).integers(0, 255, (24, 24), dtype=np.uint8)
        Image.fromarray(grey).save(folder / name)


@settings(max_examples=15, deadline=None)
@given(st.integers(6, 12), st.integers(2, 6), st.integers(0, 100))
def test_no_patient_of_a_folder_stands_in_two_sets(
    tmp_path_factory, patients, slices, seed
) -> None:
    root = tmp_path_factory.mktemp("patients")
    numbers = np.random.default_rng(seed).permutation(1000)[:patients]
    save_slices(root, [f"case_{n:03d}/{k}.png" for n in numbers for k in range(slices)])
    found = data.load(DatasetSpec(path=str(root), image_size=24))
    assert "subjects unknown" not in found.audit.badges
    assert any(f"The {patients} folders" in note for note in found.audit.notes)
    chosen = data.split(found, 3, 1, 2)
    sets = [{name.split("/")[0] for name in part.ids} for part in vars(chosen).values()]
    assert sum(map(len, sets)) == len(set().union(*sets))


def test_volumes_are_guessed_to_be_patients_and_the_badge_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("anna", "ben"):
        np.save(tmp_path / f"{name}.npy", rng.random((5, 24, 24), dtype=np.float32))
    found = data.load(DatasetSpec(path=str(tmp_path), image_size=24))
    assert set(found.subjects) == {"anna", "ben"}
    assert found.audit.badges == ["processed", "subjects unknown"]
    assert any("dataset.subject_csv" in note for note in found.audit.notes)


def test_every_reader_takes_subjects_from_the_user(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        np.save(tmp_path / f"g{number % 2}_{number}.npy", rng.random((24, 24), dtype=np.float32))
    found = data.load(DatasetSpec(path=str(tmp_path), image_size=24, subject_regex="^(g.)"))
    assert found.subjects == ["g0", "g0", "g1", "g1"]
    lines = [f"g{k % 2}_{k}.npy,{'ab'[k // 2]}" for k in range(4)]
    (tmp_path / "who.csv").write_text("\n".join(["file,subject", *lines]))
    found = data.load(DatasetSpec(path=str(tmp_path), image_size=24, subject_csv="who.csv"))
    assert found.subjects == ["a", "b", "a", "b"]
    assert found.audit.badges == ["processed"]


def test_images_that_are_all_alike_can_still_be_split(tmp_path: Path) -> None:
    base = np.random.default_rng(9).integers(0, 200, (24, 24))
    for seed in range(20):
        grey = base + np.random.default_rng(seed).integers(0, 3, (24, 24))
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / f"{seed}.png")
    found = data.load(DatasetSpec(path=str(tmp_path), image_size=24))
    assert any("so similar" in note for note in found.audit.notes)
    assert found.audit.findings["near_copies"] == 19
    data.split(found, 8, 4, 4)
