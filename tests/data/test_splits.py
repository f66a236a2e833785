import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.data import ImageSet, fitting, split
from bench.errors import UserError


def images_of(subjects: list[str]) -> ImageSet:
    count = len(subjects)
    pixels = np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1)
    return ImageSet(pixels, [f"image-{i}" for i in range(count)], subjects)


SUBJECTS = st.lists(st.integers(0, 25), min_size=12, max_size=80)


@settings(max_examples=80, deadline=None)
@given(SUBJECTS, st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_no_subject_stands_in_two_sets(
    numbers: list[int], n_train: int, n_val: int, n_test: int
) -> None:
    images = images_of([f"s{number}" for number in numbers])
    try:
        parts = split(images, n_train, n_val, n_test)
    except UserError:
        assume(False)
    sets = [parts.train, parts.val, parts.test]
    assert [len(part) for part in sets] == [n_train, n_val, n_test]
    for part in sets:
        for other in sets:
            if part is not other:
                assert not set(part.subjects) & set(other.subjects)
                assert not set(part.ids) & set(other.ids)
    for part in sets:  # each image kept its id and subject
        for pixel, name, subject in zip(part.images, part.ids, part.subjects, strict=True):
            assert name == f"image-{int(pixel.item())}"
            assert subject == images.subjects[int(pixel.item())]


@settings(max_examples=100, deadline=None)
@given(SUBJECTS, st.integers(1, 5), st.integers(2, 10))
def test_sizes_nest_and_leave_validation_and_test_alone(
    numbers: list[int], small: int, large: int
) -> None:
    assume(small < large)
    images = images_of([f"s{number}" for number in numbers])
    try:
        more = split(images, large, 3, 3)
    except UserError:
        assume(False)
    fewer = split(images, small, 3, 3)
    assert fewer.train.ids == more.train.ids[:small]
    assert fewer.val.ids == more.val.ids
    assert fewer.test.ids == more.test.ids


def test_the_order_of_the_images_does_not_choose_the_subjects() -> None:
    subjects = [f"s{i // 2}" for i in range(40)]
    forward = split(images_of(subjects), 10, 4, 6)
    backward = split(images_of(subjects[::-1]), 10, 4, 6)
    assert set(forward.test.subjects) == set(backward.test.subjects)


def test_too_few_images() -> None:
    with pytest.raises(UserError, match=r"4 images of 2 subjects .*dataset\.n_test=3"):
        split(images_of(["a", "a", "b", "b"]), 5, 2, 3)


def test_few_subjects_of_many_slices_take_turns() -> None:
    subjects = [f"s{i // 100}" for i in range(1000)]
    parts = split(images_of(subjects), 40, 10, 20)
    counts = {
        name: sorted(part.subjects.count(subject) for subject in set(part.subjects))
        for name, part in vars(parts).items()
    }
    assert counts == {"test": [10, 10], "val": [10], "train": [5, 5, 6, 6, 6, 6, 6]}
    # Slices come from all over a volume, not from one end of it.
    heights = [int(name.removeprefix("image-")) % 100 for name in parts.train.ids]
    assert np.ptp(heights) > 50


def test_single_images_are_used_to_the_last() -> None:
    parts = split(images_of([f"s{i}" for i in range(100)]), 75, 10, 15)
    assert len(parts.train) == 75


@settings(max_examples=60, deadline=None)
@given(SUBJECTS)
def test_fitting_sizes_can_be_filled_and_no_larger_training_set_can(numbers: list[int]) -> None:
    images = images_of([f"s{number}" for number in numbers])
    assume(len(set(numbers)) >= 3)
    try:
        sizes, n_val, n_test = fitting(images, [5, 1000], 24, 60)
    except UserError:
        assume(False)
    assert n_val <= 24
    assert n_test <= 60
    split(images, max(sizes), n_val, n_test)
    with pytest.raises(UserError):
        split(images, max(sizes) + 1, n_val, n_test)


@settings(max_examples=60, deadline=None)
@given(SUBJECTS, st.integers(1, 20))
def test_held_out_sets_shrink_for_training_sets_that_somebody_chose(
    numbers: list[int], n_train: int
) -> None:
    images = images_of([f"s{number}" for number in numbers])
    try:
        split(images, n_train, 1, 2)
    except UserError:
        with pytest.raises(UserError, match=f"n_test=60, .*n_train={n_train}"):
            fitting(images, [n_train], 24, 60, shrink_training=False)
        return
    sizes, n_val, n_test = fitting(images, [n_train], 24, 60, shrink_training=False)
    assert sizes == [n_train]
    split(images, n_train, n_val, n_test)


def test_fitting_leaves_what_fits_alone() -> None:
    images = images_of([f"s{i}" for i in range(400)])
    assert fitting(images, [25, 100], 24, 60) == ([25, 100], 24, 60)
