"""Training, validation and test images: parted by subject, the training sets nested."""

from dataclasses import dataclass

from bench.data.base import ImageSet
from bench.errors import UserError
from bench.seeds import derive_seed


@dataclass(frozen=True)
class Split:
    """Three sets that share no subject.

    Attributes:
        train: the largest training set; the first n images are the training set of size n.
        val: validation images, which tune and choose.
        test: test images, which only finished methods meet.
    """

    train: ImageSet
    val: ImageSet
    test: ImageSet


def split(images: ImageSet, n_train: int, n_val: int, n_test: int) -> Split:
    """Part images by subject.

    Subjects are ordered by a hash of their name; test, validation and training are filled in
    this order, each to its exact size. The surplus of a subject that overfills a set is left
    out. Hence test and validation never depend on n_train, and training sets are nested.

    Raises:
        UserError: too few images.
    """
    by_subject: dict[str, list[int]] = {}
    for position, subject in enumerate(images.subjects):
        by_subject.setdefault(subject, []).append(position)
    queue = sorted(by_subject, key=lambda name: (derive_seed("split", name), name))
    sizes = {"test": n_test, "val": n_val, "train": n_train}
    parts: dict[str, list[int]] = {}
    for part, size in sizes.items():
        parts[part] = []
        while len(parts[part]) < size:
            if not queue:
                raise UserError(
                    f"{len(images)} images of {len(by_subject)} subjects cannot fill "
                    f"dataset.n_test={n_test}, dataset.n_val={n_val} and n_train={n_train} "
                    "without sharing a subject: lower one of these, or bring more images"
                )
            parts[part] += by_subject[queue.pop(0)]
        del parts[part][size:]
    chosen = Split(**{part: images.take(index) for part, index in parts.items()})
    _refuse_shared(chosen)
    return chosen


def _refuse_shared(parts: Split) -> None:
    seen: dict[str, str] = {}
    for name, part in vars(parts).items():
        for subject in set(part.subjects):
            if subject in seen:
                raise UserError(f"subject {subject!r} stands in {seen[subject]} and in {name}")
            seen[subject] = name
