"""Files besides scans in folders of images: label maps, phase images, halves of pairs."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float32

LABELS, HALVES = "label maps or masks", "degraded halves of pairs"
PHASES = "phase images, real and imaginary parts"
SCOUTS, DOSES = "localizers", "dose maps"

LABEL_WORDS = frozenset({
    "seg", "segs", "segm", "segmentation", "segmentations", "mask", "masks", "label", "labels",
    "labelmap", "labelmaps", "annotation", "annotations", "annot", "roi", "rois", "aseg",
    "aparc", "dseg", "probseg", "contour", "contours",
})  # fmt: skip
# Label maps, if there is also a file without the word.
TRUTH_WORDS = frozenset({"gt", "groundtruth", "truth"})
PHASE_WORDS = frozenset({"phase", "phases", "ph", "pha", "real", "imag", "imaginary"})
SCOUT_WORDS = frozenset({"localizer", "localiser", "scout", "scouts", "survey", "topogram"})
# A dose map, if the name has no other words.
DOSE_WORDS = frozenset({"rt", "dose", "rtdose", "map", "grid"})
MAGNITUDE_WORDS = ("mag", "magnitude", "magn", "m", "")
# Words that distinguish the two sides of a pair, if the rest of the two paths is the same.
DEGRADED_WORDS = frozenset({
    "input", "inputs", "noisy", "noise", "low", "lowdose", "ld", "ldct", "quarter",
    "quarterdose", "qd", "lq", "lr", "undersampled", "degraded", "corrupted", "blurred",
    "artifact", "artifacts", "lowres",
})  # fmt: skip
CLEAN_WORDS = frozenset({
    "target", "targets", "clean", "high", "fulldose", "full", "normal", "fd", "fdct", "nd",
    "ndct", "hd", "hq", "hr", "gt", "groundtruth", "averaged", "average", "reference", "ref",
    "fullysampled", "highres",
})  # fmt: skip
# Splits camelCase, snake_case and kebab-case into words: labelsTr, case_01-seg.
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
NUMBER = re.compile(r"\d+")
BIDS_PHASE = re.compile(r"_part-(phase|real|imag)(_|\.)|_phase(diff|1|2)\.")

# A fast test: most datasets have none of these words.
ANY_WORD = re.compile(
    "|".join(
        sorted(LABEL_WORDS | TRUTH_WORDS | PHASE_WORDS | SCOUT_WORDS | {"dose"} | DEGRADED_WORDS)
    ),
    re.IGNORECASE,
)
# `low_grade` is not a half of a pair.
CLASS_WORDS = re.compile(r"[_\- ]?(grade|risk|stage|class)", re.IGNORECASE)
PAIRED = 0.9

# A label map has few values, and neighbouring pixels of an object have the same value.
FEW_VALUES, VERY_FEW = 64, 8
SAME = 0.85


def words(text: str) -> list[str]:
    """Split a name into its words, in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def by_name(names: Sequence[str], wanted: Sequence[str] = ()) -> dict[str, str]:
    """Find the files whose names say that they are not images to reconstruct.

    A word that all names share is ignored: if every file is called a mask, the word means
    something else.

    Args:
        names: paths below the dataset's folder.
        wanted: patterns that the user includes; a word in one of them is ignored.

    Returns:
        name -> kind, for the files to leave out.
    """
    known = {word for pattern in wanted for word in words(pattern)}
    found: dict[str, str] = {}
    # Names that differ only in their numbers are examined once.
    if not any(map(ANY_WORD.search, {NUMBER.sub("", name) for name in names})):
        return found
    for kind, names_of in (
        (LABELS, _labels(names, LABEL_WORDS - known, TRUTH_WORDS - known)),
        (SCOUTS, {name for name in names if (SCOUT_WORDS - known) & {*words(_stem(name))}}),
        (DOSES, {name for name in names if "dose" not in known and _is_dose(name)}),
        (PHASES, _phases(names, PHASE_WORDS - known)),
        (HALVES, _halves(names, DEGRADED_WORDS - known)),
    ):
        if len(names_of) < len(names):
            found |= {name: kind for name in names_of if name not in found}
    return found if len(found) < len(names) else {}


def is_label_map(*images: Float32[np.ndarray, "..."]) -> bool:
    """Return whether values are few and shared by neighbours, as in a segmentation.

    Args:
        images: the slices of a volume, or an image, as stored; blank ones are ignored.
    """
    found: set[float] = set()
    same = pairs = 0
    for image in images:
        # The middle line suffices for most images.
        rows = image.reshape(-1, image.shape[-1])
        for some in (rows[len(rows) // 2], rows[:: max(1, len(rows) // 16)], rows):
            found |= set(np.unique(some[np.isfinite(some)]).tolist())
            if len(found) > FEW_VALUES:
                return False
        left, right = image[..., :-1], image[..., 1:]
        inside = (left != 0) | (right != 0)
        same += int((left == right)[inside].sum())
        pairs += int(inside.sum())
    return len(found) > 1 and (len(found) <= VERY_FEW or same > SAME * pairs > 0)


def _stem(name: str) -> str:
    return PurePosixPath(name).name.partition(".")[0]


def _is_dose(name: str) -> bool:
    found_words = {word for word in words(_stem(name)) if not word.isdigit()}
    return bool(found_words & {"dose", "rtdose"}) and found_words <= DOSE_WORDS


def _labels(names: Sequence[str], telling: frozenset[str], truths: frozenset[str]) -> set[str]:
    """Find names with a telling word in the file's name, or in a folder next to one of images."""
    found = set()
    beside: dict[str, set[str]] = defaultdict(set)
    for name in names:
        for level, folder in enumerate(folders := name.split("/")[:-1]):
            rest = "/".join([*folders[:level], "*", *folders[level + 1 :], _stem(name)])
            beside[rest].add(folder)
    plain = {name.rpartition(".")[0] or name for name in names}
    for name in names:
        *folders, last = name.split("/")
        stem = words(_stem(last))
        # `labelsTr` and `masks`, but not the class folder `label_3`.
        called = any(
            telling.intersection((found_words := words(folder))[:1])
            and set(found_words[1:]) <= {"tr", "ts", "train", "test"}
            for folder in folders
        )
        twin = any(
            telling.intersection(words(folder))
            and any(
                not telling.intersection(words(other))
                for other in beside[
                    "/".join([*folders[:level], "*", *folders[level + 1 :], _stem(last)])
                ]
            )
            for level, folder in enumerate(folders)
        )
        if called or twin or telling.intersection(stem) or _is_truth(name, truths, plain):
            found.add(name)
    return found


def _is_truth(name: str, truths: frozenset[str], plain: set[str]) -> bool:
    """Return whether a name ends in a word for the truth, and also exists without that word."""
    stem, dot, ends = name.rpartition("/")[2].partition(".")
    cut = re.fullmatch(r"(.+?)[_-]([A-Za-z]+)", stem)
    if cut is None or cut[2].lower() not in truths:
        return False
    folder = name.rpartition("/")[0]
    twin = f"{folder}/{cut[1]}{dot}{ends}" if folder else f"{cut[1]}{dot}{ends}"
    return twin.rpartition(".")[0] in plain


def _phases(names: Sequence[str], telling: frozenset[str]) -> set[str]:
    """Find names of phase images whose magnitudes are also present, and those that BIDS marks."""
    every = set(names)
    found = {name for name in names if telling and BIDS_PHASE.search(name)}
    for name in names:
        for word in telling.intersection(words(PurePosixPath(name).name)):
            pattern = re.compile(rf"(_|-|^)({word})(?=_|-|\.|$)", re.IGNORECASE)
            folder, slash, file = name.rpartition("/")
            for other in MAGNITUDE_WORDS:
                twin = pattern.sub(rf"\1{other}" if other else "", file)
                if twin != file and f"{folder}{slash}{twin}" in every:
                    found.add(name)
    return found


def _halves(names: Sequence[str], telling: frozenset[str]) -> set[str]:
    """Find the degraded files of pairs whose paths differ only in the words of their sides."""
    clean: set[str] = set()
    degraded: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        for match in WORD.finditer(name):
            word = match[0].lower()
            rest = f"{name[: match.start()]}*{name[match.end() :]}"
            if word in CLEAN_WORDS:
                clean.add(rest)
            elif word in telling and not CLASS_WORDS.match(name[match.end() :]):
                degraded[word][name] = rest
    found: set[str] = set()
    for sides in degraded.values():
        twins = {name for name, rest in sides.items() if rest in clean}
        # Classes called low and high have some numbers in common; pairs have all.
        if len(twins) >= PAIRED * len(sides):
            found |= twins
    return found
