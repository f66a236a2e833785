"""From prepared slices to a dataset: subjects, copies, and the audit of everything noticed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32

from bench.data import duplicates, notes, pairs, subjects
from bench.data.base import SUBJECTS_UNKNOWN, Audit, Dataset
from bench.data.kspace import quadrants_swapped
from bench.data.measurement import Measured
from bench.data.parts import parts_of
from bench.data.pieces import Facts, Piece

LOW_CONTRAST = 0.25  # share of [0, 1]; below it, PSNR with data range 1 says little about an image
DROPPED = "slices_dropped"
# Findings, the most important first.
ORDER = (
    "test_images_with_a_near_copy_elsewhere", "near_groups_across_parts",
    "exact_groups_across_parts", "shifted_pairs", "left_out_of_training", "low_contrast",
    "quadrants_swapped", "nan_outside", "hot_pixels_clipped", "exact_copies", "near_copies",
    "saturated", "nearly_empty", "lossy_compression", "jpeg_block_edges", "transparent", "colour",
    "eight_bit",
)  # fmt: skip
BLOCK = 512  # images that a thread copies at a time
MOST_LINES = 500  # of the table; a page shows fewer


def _stacked(
    images: Sequence[Float32[np.ndarray, "h w"]],
) -> Float32[np.ndarray, "n 1 h w"]:
    """Copy images into one array, by threads: most of the time is spent on allocating memory."""
    stacked = np.empty((len(images), 1, *images[0].shape), np.float32)

    def fill(start: int) -> None:
        np.stack(images[start : start + BLOCK], out=stacked[start : start + BLOCK, 0])

    with ThreadPoolExecutor() as threads:
        list(threads.map(fill, range(0, len(images), BLOCK)))
    return stacked


def _noticed(images: Float32[np.ndarray, "n h w"]) -> dict[str, int]:
    """Count images of low contrast, and those whose quadrants are swapped."""
    # Low and high percentiles of a sample of the pixels, so that a few hot ones do not count.
    step = max(1, images.shape[1] // 20)
    some = np.sort(images[:, ::step, ::step].reshape(len(images), -1), axis=1)
    few = some.shape[1] // 1000 + 1
    low = some[:, -1 - few] - some[:, few] < LOW_CONTRAST
    return {
        "low_contrast": int(low.sum()),
        "quadrants_swapped": int(quadrants_swapped(images[:, ::2, ::2]).sum()),
    }


def assemble(
    pieces: Sequence[Piece],
    facts: Sequence[Facts],
    files: dict[str, int],
    skipped: dict[str, str],
    remarks: Sequence[str],
    rule: subjects.SubjectOf | None = None,
    parts: list[str] | None = None,
    hashed: bool = False,
) -> Dataset:
    """Make a dataset of pieces, with its audit.

    Where subjects are unknown, near-copies and slices of a volume are gathered into
    pseudo-subjects.

    Args:
        pieces: what was read.
        facts: one entry for each volume.
        files: what became of the files -> their number.
        skipped: file -> why it was left out.
        remarks: sentences of the reader about the data.
        rule: the user's rule that finds a file's subject.
        parts: the user's official part for each piece; None: as the folders name them.
        hashed: names of folders are not written, because they may be names of patients.
    """
    names = [piece.name for piece in pieces]
    paths = [piece.file for piece in pieces]
    images = _stacked([piece.image for piece in pieces])
    found = subjects.assign(
        paths, [piece.volume for piece in pieces], [piece.subject for piece in pieces],
        [piece.presumed for piece in pieces], rule, hashed,
    )  # fmt: skip
    chosen = parts_of(paths) if parts is None else parts
    copies = duplicates.examine(images, [piece.digest for piece in pieces], chosen, found.together)
    known = all(found.subjects)
    who = [subject or "" for subject in found.subjects] if known else copies.clusters
    sentences = [*notes.of_subjects(found.note, known, who, chosen, copies), *copies.notes]
    badges = sorted({piece.badge for piece in pieces})
    marks = Counter(mark for piece in pieces for mark in set(piece.marks))
    marks += Counter(_noticed(images[:, 0]))
    measured = {piece.name: piece.pair for piece in pieces if piece.pair is not None}
    findings = {**copies.findings, **marks}
    if measured:
        findings["shifted_pairs"] = sum(pair.shifted for pair in measured.values())
    dropped = sum((fact.dropped for fact in facts if fact.dropped), Counter[str]())
    if dropped:
        findings[DROPPED] = dropped.total()
    sentences += [
        *pairs.notes_of(measured),
        *notes.of_origins(pieces, badges),
        *notes.of_marks(marks, len(pieces)),
        *notes.of_files(files, skipped, dropped),
        *remarks,
        *notes.of_scales(facts),
        notes.of_all(pieces, files, who),
    ]
    audit = Audit(
        notes=sentences,
        skipped=skipped,
        badges=[*badges, *([] if found.certain else [SUBJECTS_UNKNOWN])],
        findings=_sorted(findings),
        files=files,
        volumes=_table(facts, pieces, who, chosen),
        crossing=copies.crossing(names),
        pairs=pairs.lines_of(measured),
    )
    return Dataset(images, names, who, audit, chosen, measured=_measured(list(measured.values())))


def _measured(found: Sequence[pairs.Pair]) -> Measured | None:
    """Stack the measurements of pairs."""
    if not found:
        return None
    return Measured(
        "image",
        _stacked([pair.image for pair in found]),
        np.array([pair.noise for pair in found], np.float32),
        [hashlib.sha256(pair.image.tobytes()).hexdigest()[:16] for pair in found],
        np.arange(len(found)),
    )


def _sorted(findings: dict[str, int | float]) -> dict[str, int | float]:
    rank = {name: position for position, name in enumerate(ORDER)}
    return dict(sorted(findings.items(), key=lambda item: rank.get(item[0], len(rank))))


def _table(
    facts: Sequence[Facts], pieces: Sequence[Piece], who: Sequence[str], parts: Sequence[str]
) -> list[dict[str, str | int | float]]:
    """Describe each volume, and each folder of pictures, in a line; at most `MOST_LINES`."""
    whose: dict[str, set[str]] = defaultdict(set)
    where: dict[str, set[str]] = defaultdict(set)
    for number, piece in enumerate(pieces):
        whose[piece.volume].add(who[number])
        where[piece.volume] |= {parts[number]} if parts else set()
    groups: dict[str, list[Facts]] = defaultdict(list)
    for fact in facts:
        groups[fact.group].append(fact)
    return [
        {
            "name": name,
            "images": sum(fact.images for fact in group),
            "dropped": sum(fact.dropped.total() for fact in group),
            "size": _common(fact.size for fact in group),
            "spacing": _common(fact.spacing for fact in group),
            "orientation": _common(fact.orientation for fact in group),
            "low": _least(fact.low for fact in group),
            "high": -_least(-fact.high for fact in group),
            "scale": _common(fact.rule for fact in group),
            "subjects": len(set().union(*(whose[fact.volume] for fact in group))),
            "part": ", ".join(sorted(set().union(*(where[fact.volume] for fact in group)))),
        }
        for name, group in list(groups.items())[:MOST_LINES]
    ]


def _common(values: Iterable[str]) -> str:
    """Name the value that all share, or the most frequent one and how many others there are."""
    counts = Counter(values)
    first = counts.most_common(1)[0][0]
    return first if len(counts) == 1 else f"{first} and {len(counts) - 1} others"


def _least(values: Iterable[float]) -> float:
    """Find the least of the known values; 0 where none is known, because JSON has no NaN."""
    known = [value for value in values if value == value]
    return float(f"{min(known):.6g}") if known else 0.0
