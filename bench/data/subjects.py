"""Who was scanned: from the user's rule, from the files, or from the names of folders and files.

Images of one subject are never in two sets. A wrong guess that joins two people costs some images;
one that separates images of one person makes every score too good. Guesses therefore join.
"""

import csv
import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data import folders
from bench.errors import UserError

BIDS = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)")
NUMBERED = re.compile(r"(.*\D)?\d+")  # a name that ends in a number
COUNTED = re.compile(r"[-_. ]*(slice|sl|s|z|image|img|im|frame)?[-_. ]*$", re.IGNORECASE)

SubjectOf = Callable[[str], str]


@dataclass(frozen=True)
class Assignment:
    """Who is on each image.

    Attributes:
        subjects: one per image; None if unknown.
        together: one per image; images of one name are of one person as far as can be guessed.
        note: how subjects were found, for the audit.
        certain: whether that is more than a guess.
    """

    subjects: list[str | None]
    together: list[str]
    note: str
    certain: bool = True


def rule_of(root: Path, regex: str | None, table: str | None) -> SubjectOf | None:
    """Make the function that finds a file's subject by the user's rule; None if there is no rule.

    Args:
        root: folder below which files are named, where the table may lie.
        regex: finds the subject in a file's path: its first group, or the whole match.
        table: a CSV file with columns `file` and `subject`.

    Raises:
        UserError: both are given, an invalid pattern, or an unreadable table.
    """
    if regex is not None and table is not None:
        raise UserError("dataset.subject_regex and dataset.subject_csv: give one of them")
    if regex is not None:
        return _by_regex(regex)
    return by_table(root, table, "subject") if table is not None else None


def by_table(root: Path, table: str, column: str) -> SubjectOf:
    """Make the function that looks a file up in a CSV file (`dataset.<column>_csv`).

    Args:
        root: folder below which files are named, where the table may lie too.
        table: its path.
        column: the column beside `file`.

    Raises:
        UserError: an unreadable table, or one that lists a file twice.
    """
    key = f"dataset.{'split' if column == 'part' else column}_csv"
    inside = root / table
    path = inside if inside.exists() else Path(table)
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines))
        pairs = [(row["file"].strip().removeprefix("./"), row[column].strip()) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); see {key}") from None
    except (KeyError, AttributeError):
        raise UserError(f"{path}: {key} needs the columns 'file' and '{column}'") from None
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        raise UserError(f"{path}: lists {twice[0]!r} twice")
    known = dict(pairs)

    def found(name: str) -> str:
        if not known.get(name):
            raise UserError(f"{path}: gives no {column} for {name!r} ({key})")
        return known[name]

    return found


def _by_regex(regex: str) -> SubjectOf:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise UserError(f"dataset.subject_regex: {regex!r} is not a pattern ({error})") from None

    def subject(name: str) -> str:
        match = pattern.search(name)
        if match is None:
            raise UserError(f"{name}: dataset.subject_regex {regex!r} finds no subject in it")
        return match[1] if pattern.groups else match[0]

    return subject


def assign(
    files: Sequence[str],
    volumes: Sequence[str],
    stated: Sequence[str | None],
    presumed: Sequence[bool] = (),
    rule: SubjectOf | None = None,
    hashed: bool = False,
) -> Assignment:
    """Find out who is on each image.

    Args:
        files: path of each image's file below the dataset's folder.
        volumes: name of each image's volume.
        stated: the subject that the file itself states.
        presumed: whether that is uncertain; if it always is, patients' folders take precedence.
        rule: the user's rule, which takes precedence over everything else.
        hashed: names of folders and files are not written, because they may name patients.
    """
    together = list(volumes) if hashed else _guesses(files, volumes)
    if rule is not None:
        found = {file: rule(file) for file in dict.fromkeys(files)}
        return Assignment(
            [found[file] for file in files], together, f"{len(set(found.values()))} subjects, as "
            "dataset.subject_regex or dataset.subject_csv names them.",
        )  # fmt: skip
    unsure = bool(presumed) and all(presumed)
    if all(stated) and not unsure:
        return Assignment(
            list(stated), together, f"{len(set(stated))} subjects, as the files name them.",
            certain=not any(presumed),
        )  # fmt: skip
    bids = [BIDS.search(file) for file in files]
    if all(bids) and (unsure or not any(stated)):
        named = [match[1] for match in bids if match]
        return Assignment(
            list(named), together, f"{len(set(named))} subjects, as BIDS names them (`sub-`)."
        )
    level = folders.of_patients(files) if unsure or not any(stated) else None
    if level is not None:
        keys, certain = level
        keys = [_hash(name) for name in keys] if hashed else keys
        names = sorted(set(keys))
        return Assignment(
            list(keys), together,
            f"The {len(names)} folders {names[0]}, {names[1]}"
            f"{', ...' if len(names) > 2 else ''} count as one subject each; "
            "if they are not patients, set dataset.subject_regex or dataset.subject_csv.",
            certain,
        )  # fmt: skip
    if all(stated):
        return Assignment(
            list(stated), together,
            f"{len(set(stated))} subjects, presumed from what the files say; if they are wrong, "
            "set dataset.subject_regex or dataset.subject_csv.",
            certain=False,
        )  # fmt: skip
    return Assignment(
        list(stated), together,
        "Subjects are unknown and only guessed; name them with dataset.subject_regex (a pattern "
        "for paths; '^([^/]+)/' takes the first folder) or dataset.subject_csv (columns file, "
        "subject).",
        certain=False,
    )  # fmt: skip


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _guesses(files: Sequence[str], volumes: Sequence[str]) -> list[str]:
    """Group the slices of a volume, and files whose names differ only in a last number.

    The common part of the names must itself contain a number (`L067_12.npy`), as a patient's name
    does and a class's does not, and there must be several common parts.
    """
    alone = {volume for volume, count in Counter(volumes).items() if count == 1}
    stems = {file: _stem(file) for file in dict.fromkeys(files)}
    members: dict[str, set[str]] = defaultdict(set)
    for file, stem in stems.items():
        members[_common_part(stem)].add(file)
    groups = {
        name for name, theirs in members.items() if 1 < len(theirs) <= folders.MANY_IMAGES
    } - {""}
    made = []
    for file, volume in zip(files, volumes, strict=True):
        common = _common_part(stems[file])
        named = BIDS.search(file)
        if named:
            made.append(named[1])
        elif volume not in alone:
            # A file is of one person, and so is the corresponding file of another scan.
            made.append(_without_scans(stems[file]) if volume.startswith(file) else volume)
        elif common in groups and len(groups) > 1:
            made.append(common)
        else:
            made.append(volume)
    return made


def _common_part(stem: str) -> str:
    """Cut the last number off a file's name; the result is empty if no other number is left."""
    folder, slash, name = stem.rpartition("/")
    match = NUMBERED.fullmatch(name)
    common = COUNTED.sub("", match[1] or "") if match else ""
    return folder + slash + common if re.search(r"\d", common) else ""


def _without_scans(stem: str) -> str:
    *above, name = stem.split("/")
    return "/".join([*(folder for folder in above if not folders.is_scan(folder)), name])


def _stem(file: str) -> str:
    folder, slash, name = file.rpartition("/")
    return folder + slash + re.sub(r"(\.nii|\.tar)?(\.[A-Za-z0-9]{1,7})?(\.gz)?$", "", name)
