"""Official parts of a dataset, as its folders or a table name them."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import PurePosixPath

from bench.data.kinds import words
from bench.errors import UserError

WORDS = {
    "train": {"train", "training", "tr"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing", "ts"},
}


def parts_of(names: Sequence[str]) -> list[str]:
    """Find the official part of each file: "train", "val" or "test".

    A part is named by a folder in the file's path, alone or with other words:
    `Training/glioma/1.jpg`, `multicoil_val/file.h5`, `imagesTr/1.nii.gz`.

    Returns:
        one part per name, or an empty list if a file has none, if all have the same part, or if
        there is no training part.
    """
    parts = [_part(name) for name in names]
    if "" in parts or len(set(parts)) < 2 or "train" not in parts:
        return []
    return parts


def part_called(word: str) -> str:
    """Find the part that a word means, as `training` means "train".

    Raises:
        UserError: it means no part.
    """
    found = part_in(word)
    if not found:
        raise UserError(
            f"dataset.split_csv: {word!r} is not a part; write train, val or test in column 'part'"
        )
    return found


def are_parts(folders: Collection[str]) -> bool:
    """Return whether folders name parts; names that differ only by a number are patients."""
    kinds = {re.sub(r"\d+", "", folder) for folder in folders}
    return all(map(part_in, folders)) and (len(kinds) > 1 or len(folders) == 1)


def part_in(folder: str) -> str:
    """Find the part that a folder's name means; empty if it means none."""
    found_words = set(words(folder))
    return next((part for part, synonyms in WORDS.items() if found_words & synonyms), "")


def assigned_split(present: Iterable[str]) -> str:
    """Choose the one part in which a subject of several parts is kept: the most protected one."""
    return min(present, key=("test", "val", "train").index)


def left_out(subjects: Sequence[str], parts: Sequence[str]) -> int:
    """Count the images that a split leaves out: their subject is assigned to another part."""
    present: dict[str, set[str]] = defaultdict(set)
    for subject, part in zip(subjects, parts, strict=True):
        present[subject].add(part)
    return sum(
        part != assigned_split(present[subject])
        for subject, part in zip(subjects, parts, strict=True)
    )


def _part(name: str) -> str:
    found = (part_in(folder) for folder in PurePosixPath(name).parent.parts)
    return next(filter(None, found), "")
