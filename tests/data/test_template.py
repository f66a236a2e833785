import numpy as np
import pytest

from bench import data
from bench.errors import UserError
from bench.spec import DatasetSpec


def load(**options: object) -> data.Dataset:
    return data.load(DatasetSpec(image_size=48, **options))


@pytest.fixture(scope="module")
def few() -> data.Dataset:
    return load(subjects=12)


def test_images_are_what_the_contract_says(few: data.Dataset) -> None:
    assert few.images.shape == (24, 1, 48, 48)
    assert few.images.dtype == np.float32
    assert few.images.min() >= 0
    assert few.images.max() == pytest.approx(1, abs=0.05)
    assert len(set(few.ids)) == 24
    assert len(set(few.subjects)) == 12
    assert all(id_.startswith(subject) for id_, subject in zip(few.ids, few.subjects, strict=True))


def test_a_subject_is_the_same_however_many_are_made(few: data.Dataset) -> None:
    again = load(subjects=3)
    np.testing.assert_array_equal(again.images, few.images[:6])
    assert again.ids == few.ids[:6]


def test_subjects_are_numbered_from_the_first(few: data.Dataset) -> None:
    later = load(subjects=2, first_subject=1)
    np.testing.assert_array_equal(later.images, few.images[2:6])
    assert later.subjects == few.subjects[2:6]


def test_as_many_slices_as_asked_for() -> None:
    many = load(subjects=1, slices_per_subject=60)
    assert len(set(many.ids)) == len(many) == 60


def test_subjects_differ_clearly_and_slices_of_one_are_alike(few: data.Dataset) -> None:
    flat = few.images.reshape(24, -1)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2) / np.linalg.norm(flat[0])
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.1


def test_slices_show_a_brain_on_black(few: data.Dataset) -> None:
    foreground = (few.images > 0.05).mean(axis=(1, 2, 3))
    assert foreground.min() > 0.15
    assert foreground.max() < 0.75
    border = np.concatenate([few.images[:, 0, 0], few.images[:, 0, -1]])
    assert border.max() < 0.05


def test_the_report_is_told_that_these_are_no_patients(few: data.Dataset) -> None:
    assert few.audit.badges == ["template-derived"]
    assert "not scans of patients" in few.audit.notes[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"subjets": 3}, "did you mean 'subjects'"),
        ({"subjects": "many"}, "dataset.subjects"),
        ({"subjects": 0}, "dataset.subjects"),
        ({"subjects": 1, "slices_per_subject": 61}, "raise dataset.subjects"),
        ({"path": "somewhere"}, "dataset.path"),
        ({"source": "tempalte"}, "did you mean 'template'"),
    ],
)
def test_mistakes(options: dict, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(**options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
