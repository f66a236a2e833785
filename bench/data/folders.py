"""Which level of folders holds one folder for each patient, if any."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.data.kinds import words
from bench.data.parts import are_parts

# Digits of contrasts, units, field strengths and versions are not patients' numbers.
NO_NUMBER = re.compile(
    r"(?<![a-z0-9])(t[12][a-z]*|b\d+|v\d+|[234]d|\d+(\.\d+)?(mm|cm|t|ch|x|bits?|px)|\d+x\d+)(?![a-z0-9])",
    re.IGNORECASE,
)
# Folders named by such words alone, or with a number, are scans and not patients.
SCANS = frozenset(
    {
        "acq", "adc", "asl", "axial", "baseline", "bold", "contrast", "cor", "coronal", "ct", "cta",
        "day", "dti", "dwi", "echo", "epi", "exam", "flair", "fold", "followup", "fse", "gre",
        "localizer", "mag", "magnitude", "month", "mprage", "mr", "mra", "mri", "pd", "pet",
        "plane", "run", "sag", "sagittal", "scan", "scanner", "se", "seq", "sequence", "series",
        "ser", "ses", "session", "site", "space", "stack", "stir", "study", "swi", "t", "time",
        "timepoint", "tof", "tp", "tra", "tse", "visit", "w", "week", "year",
    }
)  # fmt: skip
YEAR = re.compile(r"(19|20)\d\d([-_]?\d\d){0,2}")
UID = re.compile(r"\d+(\.\d+){4,}")
# An unnumbered folder of so many images, or one of so few folders, is a class, not a patient.
MANY_IMAGES, FEW_FOLDERS = 200, 3
# Up to so many names that recur in each folder of the level above are kinds of scans.
FEW_NAMES = 10


@dataclass(frozen=True)
class _Level:
    """A level of folders that may be patients: a name for each image.

    Attributes:
        keys: the names.
        numbered: whether most of them hold a number.
        crossed: whether they recur below every folder of a level above.
    """

    keys: list[str]
    numbered: bool
    crossed: bool


def of_patients(files: Sequence[str]) -> tuple[list[str], bool] | None:
    """Find the level of folders that are patients; None if there is none.

    Patients' folders hold several images each, and most have a number in their names; folders that
    name an official part or a kind of scan do not count. If two levels are crossed (every visit of
    every patient), the one with more names is chosen, as a guess.

    Returns:
        the name of the folder for each image, and whether that is more than a guess.
    """
    paths = [file.split("/")[:-1] for file in files]
    levels = [found for k in range(min(map(len, paths))) if (found := _level(paths, k))]
    named = [level for level in levels if level.numbered] or levels
    if not named:
        return None
    first = named[0]
    crossed = [level for level in named[1:] if level.crossed]
    most = max([first, *crossed], key=lambda level: len(set(level.keys)))
    return most.keys, not crossed


def _level(paths: Sequence[Sequence[str]], level: int) -> _Level | None:
    """Name the folder of each image if the folders of this level may be patients."""
    names = {path[level] for path in paths}
    numbered = sum(map(_is_numbered, names)) > len(names) / 2
    if len(names) < 2 or are_parts(names) or all(map(is_scan, names)):
        return None
    prefixes = ["/".join(path[: level + 1]) for path in paths]
    again = len(set(prefixes)) > len(names)
    above = {path[level - 1] for path in paths} if level else set()
    below_part = bool(above) and are_parts(above)
    if again and (not numbered or (below_part and len(names) <= FEW_NAMES)):
        return None
    crossed = again and not below_part
    keys = [path[level] for path in paths] if crossed else prefixes
    counts = sorted(Counter(keys).values())
    median = counts[len(counts) // 2]
    is_class = not numbered and (len(counts) < FEW_FOLDERS or median > MANY_IMAGES)
    if median < 2 or is_class:
        return None
    return _Level(keys, numbered, crossed and not all(map(is_scan, above)))


def is_scan(folder: str) -> bool:
    """Return whether a folder's name is only a kind of scan: `T1`, `FSE-coronal`."""
    if YEAR.fullmatch(folder):
        return True
    found = words(NO_NUMBER.sub("t", folder))
    named = [word for word in found if not word.isdigit()]
    return bool(named) and SCANS.issuperset(named)


def _is_numbered(name: str) -> bool:
    return bool(re.search(r"\d", NO_NUMBER.sub("", name))) and UID.fullmatch(name) is None
