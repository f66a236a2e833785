"""Content of a file of arrays: which of them is the image, and what the file says about it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from bench.data.axes import MIN_SIDE
from bench.data.kinds import LABEL_WORDS, LABELS, words
from bench.data.volume import NoImage, Unusable

# Names that are chosen if a file holds several arrays and no key is given, best first: first the
# names that are always chosen, then those chosen only if no other array has the same shape.
CERTAIN = ("reconstruction_rss", "reconstruction_esc", "kspace", "ksp")
LIKELY = ("image", "images", "vol", "volume", "data")
# Names of k-space, as consecutive words: k_space, kspace_full, KSpace1, T2-ksp; not stack_data.
KSPACE_NAMES = {("k", "space"), ("k", "data"), ("k", "sp"), ("ksp",), ("kdata",), ("kspc",)}
TRAJECTORIES = {"k", "traj", "trajectory", "ktraj", "coord", "coords", "kx"}
SUBJECTS = ("patient_id", "subject_id", "patientid", "subjectid", "patient", "subject")
# Besides label maps: arrays that belong to a scan but are not images.
COMPANIONS = frozenset({"sens", "sensitivity", "sensitivities", "smaps", "csm", "csms"})
RANKS = range(2, 9)
LISTED = 12


@dataclass(frozen=True)
class Content:
    """The content of a file.

    Attributes:
        arrays: name (`group/name`) -> array, or anything else with `shape` and `dtype`.
        facts: texts and numbers by name, which may state who was scanned.
    """

    arrays: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> str | None:
        """Who was scanned, if the file states it."""
        for wanted in SUBJECTS:
            for name, value in self.facts.items():
                if re.split(r"[/.]", name)[-1].lower().replace("-", "_") == wanted:
                    text = text_of(value)
                    if text:
                        return text
        return None


def text_of(value: Any) -> str | None:
    """Read a single text or number, whatever type a file wraps it in; None for anything else."""
    values = np.asarray(value)
    while values.dtype.kind == "O" and values.size == 1:
        values = np.asarray(values.reshape(-1)[0])
    if values.size != 1 or values.dtype.kind not in "SUOiuf":
        return None
    found = values.reshape(-1)[0]
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
    return text.strip() or None


def is_kspace_name(name: str) -> bool:
    """Return whether a word of a name, or two consecutive ones, say that it is k-space."""
    last = re.split(r"[/.]", name)[-1]
    parts = [word for word in words(last) if not word.isdigit()]
    return any(part.startswith("kspace") or (part,) in KSPACE_NAMES for part in parts) or any(
        pair in KSPACE_NAMES for pair in pairwise(parts)
    )


def choose(arrays: Mapping[str, Any], key: str | None) -> tuple[str, tuple[str, ...]]:
    """Choose the array of a file: by key, by a usual name, or the largest that may be images.

    Args:
        arrays: name -> array, or anything else with `shape` and `dtype`.
        key: the name to take, with `/` or `.` between its parts, or None.

    Returns:
        its name, and a remark if there were other candidates.

    Raises:
        NoImage: nothing but label maps.
        Unusable: no such key, no array of images, or several equally good candidates.
    """
    if key is not None:
        names = [name for name in (key, key.replace(".", "/")) if name in arrays]
        if not names:
            raise Unusable(f"has no array {key!r}; it has: {_listed(arrays)} (dataset.key)")
        return names[0], ()
    possible = [name for name, array in arrays.items() if _may_be_images(array)]
    found = [name for name in possible if not is_companion(name)]
    if possible and not found:
        raise NoImage(LABELS)
    if not found:
        raise Unusable(
            f"holds no array of images: numbers, of rank 2 or more, {MIN_SIDE} pixels a side "
            f"(it has: {_listed(arrays)})"
        )
    ends = {name: re.split(r"[/.]", name)[-1].lower() for name in found}
    for wanted in CERTAIN:
        named = [name for name in found if ends[name] == wanted]
        if len(named) == 1:
            return named[0], ()
    named = [name for name in found if is_kspace_name(name)] or [
        name for wanted in LIKELY for name in found if ends[name] == wanted
    ]
    best = named[0] if named else max(found, key=lambda name: int(np.prod(arrays[name].shape)))
    others = [name for name in found if name != best]
    if any(_rivals(arrays[best].shape, arrays[name].shape, bool(named)) for name in others):
        raise Unusable(
            f"holds several arrays; choose one with dataset.key (it has: {_listed(arrays)})"
        )
    if not others:
        return best, ()
    return best, (f"Of several arrays {best!r} was read; dataset.key selects another.",)


def is_companion(name: str) -> bool:
    """Return whether a name says that an array is a label map or another companion of a scan."""
    return bool((LABEL_WORDS | COMPANIONS).intersection(words(re.split(r"[/.]", name)[-1])))


def _rivals(shape: tuple[int, ...], other: tuple[int, ...], named: bool) -> bool:
    """Return whether another array is an equal candidate: the same shape, or the same pictures."""
    if named:
        return sorted(shape) == sorted(other)
    return sorted(shape)[-2:] == sorted(other)[-2:] or np.prod(shape) == np.prod(other)


def check_grid(arrays: Mapping[str, Any], chosen: str) -> None:
    """Refuse k-space if the file also holds its trajectory.

    Raises:
        Unusable: there is a trajectory.
    """
    shape = tuple(arrays[chosen].shape)
    for name, other in arrays.items():
        last = re.split(r"[/.]", name)[-1].lower()
        if name != chosen and last in TRAJECTORIES and tuple(other.shape)[:2] == shape[:2]:
            raise Unusable(
                f"holds k-space along a trajectory ({name!r} beside {chosen!r}); only k-space on "
                "a Cartesian grid is read: regrid it, or provide the images"
            )


def _listed(arrays: Mapping[str, Any]) -> str:
    every = [
        f"{name} {tuple(array.shape)}" + (f" {array.dtype}" if array.dtype.kind in "bOSU" else "")
        for name, array in arrays.items()
    ]
    more = len(every) - LISTED
    return ", ".join(every[:LISTED]) + (f" and {more} more" if more > 0 else "") or "none"


def _may_be_images(array: Any) -> bool:
    if len(array.shape) not in RANKS or array.dtype.kind not in "uifcV":
        return False
    return sum(side >= MIN_SIDE for side in array.shape) >= 2
