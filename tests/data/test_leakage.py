"""No split shares a subject or an image; copies are found, across official parts above all."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.data import Audit, Dataset, load, split
from bench.data.base import SUBJECTS_UNKNOWN
from bench.data.duplicates import SIMILAR, alike, examine, join, thumbnails
from bench.data.parts import parts_of
from bench.errors import UserError
from bench.spec import DatasetSpec


def dataset(
    subjects: list[str], pixels: list[int], parts: list[str], known: bool = False
) -> Dataset:
    images = np.array(pixels, dtype=np.float32).reshape(-1, 1, 1, 1)
    audit = Audit(badges=[] if known else [SUBJECTS_UNKNOWN])
    return Dataset(images, [f"i{k}" for k in range(len(pixels))], subjects, audit, parts)


IMAGE = st.tuples(
    st.integers(0, 60), st.integers(0, 300), st.sampled_from(["train", "val", "test"])
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(IMAGE, min_size=10, max_size=90),
    st.tuples(st.integers(1, 12), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["none", "train test", "train val", "train val test"]),
)
def test_no_split_shares_a_subject_or_a_hash(images, sizes, official) -> None:
    allowed = official.split()
    parts = [part if part in allowed else "train" for *_, part in images]
    found = dataset(
        [f"s{subject}" for subject, *_ in images],
        [pixel for _, pixel, _ in images],
        [] if official == "none" else parts,
    )
    assume(official == "none" or set(parts) == set(allowed))
    try:
        chosen = split(found, *sizes)
    except UserError as error:
        assert "cannot fill" in str(error)
        assume(False)
    sets = {"train": chosen.train, "val": chosen.val, "test": chosen.test}
    assert [len(part) for part in sets.values()] == list(sizes)
    for name, part in sets.items():
        for other in set(sets) - {name}:
            assert not set(part.subjects) & set(sets[other].subjects)
            assert not set(part.pixel_digests()) & set(sets[other].pixel_digests())
    if official != "none":
        origin = {name: {parts[int(id_[1:])] for id_ in part.ids} for name, part in sets.items()}
        assert origin["train"] == {"train"}
        assert origin["test"] == ({"test"} if "test" in allowed else {"val"})
        assert origin["val"] == ({"val"} if "val" in allowed else {"train"})


@settings(max_examples=100, deadline=None)
@given(st.lists(IMAGE, min_size=60, max_size=120), st.integers(1, 2), st.integers(3, 6))
def test_official_parts_nest_too(images, small, large) -> None:
    found = dataset(
        [f"s{subject}" for subject, *_ in images],
        [pixel for _, pixel, _ in images],
        [part for *_, part in images],
    )
    try:
        more = split(found, large, 2, 2)
    except UserError:
        assume(False)
    fewer = split(found, small, 2, 2)
    assert fewer.train.ids == more.train.ids[:small]
    assert (fewer.val.ids, fewer.test.ids) == (more.val.ids, more.test.ids)


def test_a_known_subject_in_two_official_parts_is_refused() -> None:
    parts = ["train"] * 10 + ["test"] * 10
    subjects = [f"s{k}" for k in range(19)] + ["s3"]
    with pytest.raises(UserError, match=r"subject 's3' is in the official parts test and tr"):
        split(dataset(subjects, list(range(20)), parts, known=True), 2, 2, 2)
    left = split(dataset(subjects, list(range(20)), parts), 9 - 2, 2, 2)
    assert "s3" not in {*left.train.subjects, *left.val.subjects}


def test_too_few_images_in_an_official_part_names_it() -> None:
    parts = ["train"] * 10 + ["test"] * 3
    with pytest.raises(UserError, match=r"'test': 3, 'train': 10.*n_test=4"):
        split(dataset([f"s{k}" for k in range(13)], list(range(13)), parts), 2, 2, 4)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Training/a/1.jpg", "Testing/a/1.jpg"], ["train", "test"]),
        (["x/train/1.png", "x/valid/1.png", "x/test/1.png"], ["train", "val", "test"]),
        (["multicoil_train/a.h5/slice-001", "multicoil_val/b.h5/slice-001"], ["train", "val"]),
        (["train/1.png", "other/1.png"], []),
        (["test/1.png", "test/2.png"], []),
        (["training.png", "test_scan.npz/slice-1"], []),
        (["latest/1.png", "trainer/1.png"], []),
    ],
)
def test_official_parts_are_named_by_folders(names, expected) -> None:
    assert parts_of(names) == expected


def smooth(seed: int, side: int = 48) -> np.ndarray:
    """A random smooth picture with enough detail to be told from others."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side] / side
    waves = [
        rng.normal() * np.cos(2 * np.pi * (rng.uniform(0, 6) * rows + rng.uniform(0, 6) * columns))
        for _ in range(20)
    ]
    picture = np.sum(waves, axis=0)
    return ((picture - picture.min()) / np.ptp(picture)).astype(np.float32)


def test_alike_lists_each_pair_once_across_blocks(monkeypatch) -> None:
    monkeypatch.setattr("bench.data.duplicates.BLOCK", 7)
    images = np.stack([smooth(k % 15) for k in range(40)])[:, None]
    thumbs = thumbnails(images)
    pairs, values = alike(thumbs)
    full = np.triu(np.corrcoef(thumbs), 1)
    assert {tuple(pair) for pair in pairs} == {tuple(pair) for pair in np.argwhere(full > SIMILAR)}
    assert len(values) == len(pairs)
    assert values.min() > SIMILAR


def test_near_copies_are_one_pseudo_subject() -> None:
    base = [smooth(k) for k in range(6)]
    brighter = base[0] * 0.8 + 0.1
    noisy = (base[1] + np.random.default_rng(1).normal(0, 0.01, (48, 48))).clip(0, 1)
    images = np.stack([*base, brighter, noisy, base[2]]).astype(np.float32)[:, None]
    digests = [*"abcdefgh", "c"]
    found = examine(images, digests, [])
    assert found.findings["exact_copies"] == 1
    assert found.findings["near_copies"] == 3
    clusters = found.clusters
    assert clusters[0] == clusters[6]
    assert clusters[1] == clusters[7]
    assert clusters[2] == clusters[8]
    assert len(set(clusters)) == 6
    order = np.random.default_rng(0).permutation(9)
    again = examine(images[order], [digests[k] for k in order], [])
    assert again.clusters == [clusters[k] for k in order]


def test_join_merges_chains() -> None:
    labels = np.array([0, 1, 2, 3, 3], dtype=np.int64)
    pairs = np.array([[0, 1], [1, 3]], dtype=np.int64)
    merged = join(labels, pairs)
    assert merged[0] == merged[1] == merged[3] == merged[4] != merged[2]


def test_the_audit_of_a_folder_with_official_parts(tmp_path: Path) -> None:
    for part, seeds in {"Training": range(12), "Testing": [20, 21, 22, 3]}.items():
        (tmp_path / part).mkdir()
        for seed in seeds:
            Image.fromarray((255 * smooth(seed)).astype(np.uint8)).save(
                tmp_path / part / f"{seed}.png"
            )
    hidden = tmp_path / "Testing" / ".checkpoints"
    hidden.mkdir()
    (hidden / "a.png").write_bytes((tmp_path / "Testing" / "20.png").read_bytes())
    spec = DatasetSpec(path=str(tmp_path), image_size=32)
    found = load(spec)
    assert len(found) == 16
    assert found.audit.findings["exact_groups_across_parts"] == 1
    assert found.audit.findings["left_out_of_training"] == 1
    assert found.audit.crossing == [["Testing/3.png", "Training/3.png"]]
    chosen = split(found, 9, 2, 4)
    assert {name.split("/")[0] for name in chosen.test.ids} == {"Testing"}
    assert "Training/3.png" not in chosen.train.ids + chosen.val.ids
    with pytest.raises(UserError, match="cannot fill"):
        split(found, 10, 2, 4)
    assert load(spec.model_copy(update={"official_split": False})).parts == []


def test_spoilt_images_are_counted() -> None:
    saturated = smooth(1).clip(0, 0.6)
    nearly_empty = np.zeros((48, 48), dtype=np.float32)
    nearly_empty[20:22, 20:22] = 1
    images = np.stack([smooth(0), saturated, nearly_empty])[:, None]
    findings = examine(images, ["a", "b", "c"], []).findings
    assert (findings["saturated"], findings["nearly_empty"]) == (1, 1)
