"""Training, validation and test images: split by subject, with nested training sets."""

import itertools
import math
from bisect import bisect
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix

from bench.data.base import SUBJECTS_UNKNOWN, Dataset, ImageSet
from bench.data.parts import assigned_split
from bench.errors import UserError
from bench.seeds import derive_seed

LEAST_SHARE = {"test": 0.2, "val": 0.1}  # of the subjects, if other sets need them too
Group = list[int]  # indices of images that must be in the same set


@dataclass
class Split:
    """Three sets that share no subject and no image.

    Attributes:
        train: the largest training set; the first n images are the training set of size n.
        val: validation images, for tuning and model selection.
        test: test images, used only to score finished methods.
    """

    train: ImageSet
    val: ImageSet
    test: ImageSet


def split(images: ImageSet, n_train: int, n_val: int, n_test: int) -> Split:
    """Split images by subject; subjects that share an identical image count as one.

    Subjects are ordered by a hash of their name. The first ones provide the test images: as many
    subjects as are needed to fill the set, and at least a fifth of all (or one for each image). The
    next ones, at least a tenth, provide the validation images, all others the training images.
    Within a set, images are taken from the subjects in turn, so that a volume of many slices does
    not fill the set alone; the slices of a subject are ordered by a hash of their id. Hence test
    and validation sets never depend on n_train, and training sets are nested.

    Official parts, where a Dataset has them, are respected: test images are taken from the test
    part, training images from the training part, and so are validation images unless there is a
    validation part (which also serves as the test part where that is missing). Pseudo-subjects
    that cross the parts are left out of training.

    Raises:
        UserError: too few images, or a known subject is in two official parts.
    """
    sizes = {"test": n_test, "val": n_val, "train": n_train}
    queues = _queues(images)
    subjects = {part: len(queue) for part, queue in queues.items()}
    parts: dict[str, list[int]] = {}
    for part, size in sizes.items():
        queue = queues[part]
        shared = any(queues[other] is queue for other in sizes if other not in (part, *parts))
        wanted = math.ceil(LEAST_SHARE[part] * subjects[part]) if shared else subjects[part]
        groups: list[Group] = []
        while queue and (len(groups) < min(size, wanted) or sum(map(len, groups)) < size):
            groups.append(queue.pop(0))
        parts[part] = _in_turns(groups, images.ids)[:size]
        if len(parts[part]) < size:
            raise UserError(_too_few(images, sizes))
    chosen = Split(**{part: images.take(index) for part, index in parts.items()})
    _refuse_shared(chosen)
    return chosen


def _in_turns(groups: list[Group], ids: list[str]) -> list[int]:
    """Order images so that the groups take turns."""
    mixed = [sorted(group, key=lambda i: derive_seed("slice", ids[i])) for group in groups]
    rounds = itertools.zip_longest(*mixed)
    return [position for turn in rounds for position in turn if position is not None]


def fitting(
    images: ImageSet, n_train: list[int], n_val: int, n_test: int, shrink_training: bool = True
) -> tuple[list[int], int, int]:
    """Shrink default sizes if the images cannot fill them.

    If so, at most a quarter of the images goes to the test set and an eighth to the validation set,
    or fewer if the subjects require it; training sizes are limited to the remaining images.

    Args:
        images: all of them.
        n_train: training-set sizes.
        n_val: size of the validation set.
        n_test: size of the test set.
        shrink_training: whether training sets shrink too, or only the held-out sets.

    Returns:
        n_train, n_val and n_test.

    Raises:
        UserError: not even the smallest sets can be filled.
    """
    least = 1 if shrink_training else max(n_train)
    if _fits(images, max(n_train), n_val, n_test):
        return n_train, n_val, n_test
    if not _fits(images, least, 1, 2):
        split(images, max(n_train), n_val, n_test)  # raises the error that says why
    n_test = min(n_test, max(2, len(images) // 4))
    n_val = min(n_val, max(1, len(images) // 8))
    while (n_test, n_val) != (2, 1) and not _fits(images, least, n_val, n_test):
        n_test, n_val = max(2, n_test // 2), max(1, n_val // 2)
    if not shrink_training:
        return n_train, n_val, n_test
    most = bisect(
        range(1, max(n_train) + 1), False, key=lambda n: not _fits(images, n, n_val, n_test)
    )
    return sorted({min(size, most) for size in n_train}), n_val, n_test


def _fits(images: ImageSet, n_train: int, n_val: int, n_test: int) -> bool:
    try:
        split(images, n_train, n_val, n_test)
    except UserError:
        return False
    return True


def _queues(images: ImageSet) -> dict[str, list[Group]]:
    """Return for each set the groups that may fill it, in order; sets may share a queue."""
    groups = _groups(images)
    parts = images.parts if isinstance(images, Dataset) else []
    if not parts:
        return dict.fromkeys(("test", "val", "train"), groups)
    assert isinstance(images, Dataset)
    official: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        present = {parts[i] for i in group}
        if len(present) > 1 and SUBJECTS_UNKNOWN not in images.audit.badges:
            raise UserError(
                f"subject {images.subjects[group[0]]!r} is in the official parts "
                f"{' and '.join(sorted(present))}; correct the folders (or dataset.split_csv), or "
                "set dataset.official_split: false to split by subject alone"
            )
        part = assigned_split(present)
        official[part].append([i for i in group if parts[i] == part])
    train = official["train"]
    val = official["val"] if "val" in parts else train
    return {"test": official["test"] if "test" in parts else val, "val": val, "train": train}


def _groups(images: ImageSet) -> list[Group]:
    """Group images of one subject, and subjects that share an image, in the order of a hash."""
    from scipy.sparse.csgraph import connected_components  # 0.1 s, which every process would spend

    count = len(images)
    subject = np.unique(images.subjects, return_inverse=True)[1]
    pixels = np.unique(images.pixel_digests(), return_inverse=True)[1] + subject.max(initial=0) + 1
    nodes = int(pixels.max(initial=0)) + 1
    graph = coo_matrix((np.ones(count, dtype=bool), (subject, pixels)), shape=(nodes, nodes))
    labels = connected_components(graph, directed=False)[1][subject]
    groups: dict[int, Group] = defaultdict(list)
    for position, label in enumerate(labels.tolist()):
        groups[label].append(position)

    def order(group: Group) -> tuple[int, str]:
        name = min(images.subjects[i] for i in group)
        return derive_seed("split", name), name

    return sorted(groups.values(), key=order)


def _too_few(images: ImageSet, sizes: dict[str, int]) -> str:
    parts = images.parts if isinstance(images, Dataset) else []
    official = {part: parts.count(part) for part in sorted(set(parts))}
    return (
        f"{len(images)} images of {len(set(images.subjects))} subjects "
        f"{f'(official parts: {official}) ' if official else ''}cannot fill "
        f"dataset.n_test={sizes['test']}, dataset.n_val={sizes['val']} and "
        f"n_train={sizes['train']} without sharing a subject: lower one of these, or add more "
        "images (`reconbench audit` says how subjects were found; dataset.subject_regex or "
        "dataset.subject_csv name them)"
    )


def _refuse_shared(parts: Split) -> None:
    seen: dict[str, str] = {}
    for name, part in vars(parts).items():
        for mark in {*part.subjects, *part.pixel_digests()}:
            if mark in seen:
                raise UserError(f"subject or image {mark!r} is both in {seen[mark]} and in {name}")
            seen[mark] = name
