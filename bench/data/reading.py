"""What every reader of files shares: find them, read them in parallel, name the bad ones."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float32
from rich.console import Console
from rich.progress import track

from bench.data import duplicates
from bench.data.base import SUBJECTS_UNKNOWN, Audit, Dataset
from bench.data.parts import left_out, parts_of
from bench.data.prepare import Preparation, Unusable
from bench.errors import UserError

# A few bad files among many are skipped and named; more than this and the folder is at fault.
TOLERATED = 0.05

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Slice:
    """A prepared image.

    Attributes:
        name: its id, unique in the dataset and stable across runs.
        image: magnitude in [0, 1].
        subject: who was scanned; None where nobody knows.
        digest: hash by which exact copies are known: of the file, or of the pixels.
        badge: `raw` if made here from k-space as it was acquired, `processed` if somebody else
            made the magnitudes, `magnitude-sim` if its k-space was computed from magnitudes.
        reason: why the badge is not better, where that is known.
        marks: what else a reader noticed, counted in the audit.
    """

    name: str
    image: Float32[np.ndarray, "size size"]
    subject: str | None
    digest: str
    badge: str = "processed"
    reason: str = ""
    marks: tuple[str, ...] = ()


def cut(
    volume: Float32[np.ndarray, "slices h w"],
    name: str,
    subject: str,
    prepare: Preparation,
    *,
    label: str = "slice",
    spacing: tuple[float, float] = (1.0, 1.0),
    badge: str = "processed",
    reason: str = "",
) -> list[Slice]:
    """Prepare the slices of a volume; their ids are `<name>/<label>-<number>`.

    Raises:
        Unusable: the volume is constant, holds NaN, or is no magnitude.
    """
    return [
        Slice(
            f"{name}/{label}-{number:03d}",
            image,
            subject,
            hashlib.sha256(image.tobytes()).hexdigest(),
            badge,
            reason,
        )
        for number, image in prepare(volume, spacing)
    ]


def find(
    path: str | None,
    source: str,
    suffixes: Iterable[str],
    recognises: Callable[[Path], bool] = lambda file: False,
) -> tuple[Path, list[Path]]:
    """List the files of a kind at a path: the file itself, or those below a folder.

    Args:
        path: the file or folder.
        source: the reader's name, for errors.
        suffixes: endings of its files, in lower case.
        recognises: tells of a file without such an ending whether it is one nevertheless.

    Returns:
        the folder below which ids are counted, and the files in order of their names.

    Raises:
        UserError: no path, nothing there, or no such file below it.
    """
    if path is None:
        raise UserError(f"dataset.path: the source {source!r} needs a file or folder")
    root = Path(path)
    if not root.exists():
        raise UserError(f"{root}: no such folder or file (dataset.path)")
    if root.is_file():
        return root.parent, [root]
    endings = tuple(suffixes)
    files = [
        file
        for file in root.rglob("*")
        if file.is_file()
        and not _hidden(file, root)
        and (file.name.lower().endswith(endings) or recognises(file))
    ]
    if not files:
        kind = "image" if source == "images" else f"{source} file"
        raise UserError(f"{root}: no {kind} below it ({', '.join(sorted(endings))})")
    return root, sorted(files)


def _hidden(file: Path, root: Path) -> bool:
    """Tell whether the file or a folder on the way to it is hidden, as editors' copies are."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def survey(
    items: Sequence[Item], work: Callable[[Item], Result], doing: str = "reading files"
) -> Iterator[tuple[Item, Result | str]]:
    """Work through items in parallel, in order; a string says why an item is unusable."""

    def attempt(item: Item) -> Result | str:
        try:
            return work(item)
        except Unusable as reason:
            return str(reason)
        except UserError:
            raise
        except Exception as error:  # decoders raise whatever a broken file provokes
            return f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        console = Console(stderr=True)
        done = track(
            pool.map(attempt, items), doing, total=len(items), console=console, transient=True,
            disable=not console.is_terminal,
        )  # fmt: skip
        yield from zip(items, done, strict=True)


def read_files(
    root: Path, files: list[Path], read_one: Callable[[Path, str], list[Slice]]
) -> tuple[list[Slice], dict[str, str]]:
    """Read every file; give the slices, and why files were skipped.

    Args:
        root: folder below which files are named.
        files: what to read.
        read_one: gives the slices of a file, from the file and its name.

    Raises:
        UserError: too many of the files are unusable.
    """
    slices: list[Slice] = []
    skipped: dict[str, str] = {}
    for file, got in survey(files, lambda file: read_one(file, name_of(file, root))):
        if isinstance(got, str):
            skipped[name_of(file, root)] = got
        else:
            slices += got
    refuse_many(root, skipped, len(files))
    return slices, skipped


def name_of(file: Path, root: Path) -> str:
    """Name a file by its path below the folder."""
    return file.relative_to(root).as_posix()


def refuse_many(root: Path, skipped: dict[str, str], total: int) -> None:
    """Raise a UserError that names the first bad file if more than a few are bad."""
    if len(skipped) > TOLERATED * total:
        first, reason = next(iter(skipped.items()))
        share = (
            f" ({len(skipped)} of {total} files are unusable, more than {TOLERATED:.0%}); "
            "mend or remove them"
        )
        raise UserError(f"{root / first}: {reason}{share if total > 1 else ''}")


def assemble(
    slices: list[Slice],
    skipped: dict[str, str],
    notes: list[str],
    files: Sequence[str] | None = None,
) -> Dataset:
    """Make a dataset of slices, with what an audit finds in it.

    Where subjects are unknown, near-copies are gathered into pseudo-subjects.

    Args:
        slices: what was read.
        skipped: file -> why it was left out.
        notes: what the reader has to say about the data.
        files: path of each slice's file, where its name does not begin with it.
    """
    names = [piece.name for piece in slices]
    images = np.stack([piece.image for piece in slices])[:, None]
    parts = parts_of(names if files is None else files)
    copies = duplicates.examine(images, [piece.digest for piece in slices], parts)
    known = all(piece.subject is not None for piece in slices)
    subjects = [piece.subject or "" for piece in slices] if known else copies.clusters
    notes = [*notes, *copies.notes]
    if not known:
        notes.append(
            f"Subjects are unknown: images that are much alike at {images.shape[-1]} pixels a side "
            f"count as one pseudo-subject ({len(set(subjects))} of them), but slices "
            "of one patient that differ more may stand on both sides of the split."
        )
    if parts and not known:
        copies.findings["left_out_of_training"] = left_out(subjects, parts)
        notes.append(
            f"{copies.findings['left_out_of_training']} training or validation images are left "
            "out: their pseudo-subject stands in a more protected part."
        )
    badges = sorted({piece.badge for piece in slices})
    reasons = Counter((piece.badge, piece.reason) for piece in slices if piece.reason)
    notes += [f"{n} slices are `{badge}`: {why}." for (badge, why), n in reasons.items()]
    if len(badges) > 1:
        notes.append(f"Images of several origins are mixed: {', '.join(badges)}.")
    marks = [*badges, *([] if known else [SUBJECTS_UNKNOWN])]
    noticed = Counter(mark for piece in slices for mark in piece.marks)
    findings = {**copies.findings, **noticed}
    audit = Audit(notes, skipped, marks, findings, copies.crossing(names))
    return Dataset(images, names, subjects, audit, parts)
