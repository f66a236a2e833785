"""Official parts of a dataset, as its folders name them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

WORDS = {
    "train": {"train", "training", "tr"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing", "ts"},
}


def parts_of(names: Sequence[str]) -> list[str]:
    """Give the official part of each file: "train", "val" or "test".

    A part is named by a folder on the way to the file, alone or with other words:
    `Training/glioma/1.jpg`, `multicoil_val/file.h5`.

    Returns:
        one part per name, or an empty list where not every file has one, or where all have the
        same or none is for training.
    """
    parts = [_part(name) for name in names]
    if "" in parts or len(set(parts)) < 2 or "train" not in parts:
        return []
    return parts


def home(present: Iterable[str]) -> str:
    """Give the one part that a subject standing in several is kept in: the most protected."""
    return min(present, key=("test", "val", "train").index)


def left_out(subjects: Sequence[str], parts: Sequence[str]) -> int:
    """Count the images that a split leaves out because their subject has its home elsewhere."""
    present: dict[str, set[str]] = defaultdict(set)
    for subject, part in zip(subjects, parts, strict=True):
        present[subject].add(part)
    return sum(
        part != home(present[subject]) for subject, part in zip(subjects, parts, strict=True)
    )


def _part(name: str) -> str:
    for folder in PurePosixPath(name).parent.parts:
        words = set(re.split(r"[^a-z]+", folder.lower()))
        for part, synonyms in WORDS.items():
            if words & synonyms:
                return part
    return ""
