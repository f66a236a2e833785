"""From prepared slices to a dataset: subjects, copies, and the audit of all that was noticed."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float32

from bench.data import duplicates, subjects
from bench.data.base import SUBJECTS_UNKNOWN, Audit, Dataset
from bench.data.files import ending
from bench.data.kspace import quadrants_swapped
from bench.data.parts import left_out, parts_of
from bench.data.prepare import Prepared
from bench.data.volume import Volume

WORTH_SAYING = 0.1  # share of the images
LOW_CONTRAST = 0.25  # images that use less of [0, 1]: PSNR with data range 1 says little of them
DROPPED = "slices_dropped"
# Findings, what matters most first.
ORDER = (
    "test_images_with_a_near_copy_elsewhere", "near_groups_across_parts",
    "exact_groups_across_parts", "left_out_of_training", "low_contrast", "quadrants_swapped",
    "nan_outside", "hot_pixels_clipped", "exact_copies", "near_copies", "saturated",
    "nearly_empty", "lossy_compression", "jpeg_block_edges", "transparent", "colour", "eight_bit",
)  # fmt: skip
MOST_LINES = 500  # of the table; a page shows fewer
MANY = 3  # examples that a note names


@dataclass(frozen=True)
class Piece:
    """A prepared image.

    Attributes:
        name: its id, unique in the dataset and stable across runs.
        image: magnitude in [0, 1].
        file: path of its file below the dataset's folder.
        volume: the volume that it is a slice of.
        subject: who was scanned, as the file says; None where it does not.
        presumed: see `bench.data.volume.Volume`.
        digest: hash by which exact copies are known: of the file, or of the pixels.
        badge: see `bench.data.volume.Volume`, as `reason`.
        reason: why the badge is not better.
        marks: what was noticed, counted in the audit.
    """

    name: str
    image: Float32[np.ndarray, "size size"]
    file: str
    volume: str
    subject: str | None
    presumed: bool
    digest: str
    badge: str
    reason: str
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """What the audit's table says of a volume.

    Attributes:
        volume: its name.
        group: the volume, or the folder of a single picture.
        images: how many images came of it.
        dropped: kind -> slices of it that are none.
        size: shape of its slices.
        spacing: of their pixels.
        orientation: how they lie.
        low: the least value.
        high: the greatest value.
        rule: what became 0 and 1, or why nothing did.
    """

    volume: str
    group: str
    images: int
    dropped: Counter[str]
    size: str
    spacing: str
    orientation: str
    low: float
    high: float
    rule: str

    @classmethod
    def of(cls, volume: Volume, made: Prepared | None, failed: str = "") -> "Facts":
        """Describe a volume, or one that failed."""
        plane = volume.planes[0]
        rows, columns = plane.spacing
        return cls(
            volume=volume.name,
            group=volume.name if volume.label else volume.file.rpartition("/")[0] or ".",
            images=len(made.images) if made else 0,
            dropped=Counter(made.dropped.values()) if made else Counter(),
            size="x".join(map(str, plane.values.shape)),
            spacing=f"{rows:.3g} x {columns:.3g}" if min(rows, columns) > 0 else "",
            orientation=volume.orientation,
            low=made.span.low if made else float("nan"),
            high=made.span.high if made else float("nan"),
            rule=made.rule if made else failed,
        )


def pieces_of(volume: Volume, made: Prepared) -> list[Piece]:
    """Make the pieces of a volume; their ids are `<name>/<label>-<number>`."""
    return [
        Piece(
            f"{volume.name}/{volume.label}-{number:03d}" if volume.label else volume.name,
            image,
            volume.planes[number].file or volume.file,
            volume.name,
            volume.subject,
            volume.presumed,
            volume.digest or hashlib.sha256(image.tobytes()).hexdigest(),
            volume.badge,
            volume.reason,
            (*volume.marks, *made.marks),
        )
        for number, image in made.images.items()
    ]


def _noticed(images: Float32[np.ndarray, "n h w"]) -> dict[str, int]:
    """Count images of low contrast, and those whose quadrants are swapped."""
    # The least and the greatest of some pixels, but for a few hot ones.
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
    """Make a dataset of pieces, with what an audit finds in it.

    Where subjects are unknown, near-copies and slices of a volume are gathered into
    pseudo-subjects.

    Args:
        pieces: what was read.
        facts: of its volumes.
        files: what became of how many files.
        skipped: file -> why it was left out.
        remarks: what the reader has to say about the data.
        rule: what the user says of a file's subject.
        parts: what the user says of each piece's part; None: as the folders name them.
        hashed: names of folders are not written, as they may be those of patients.
    """
    names = [piece.name for piece in pieces]
    places = [piece.file for piece in pieces]
    images = np.stack([piece.image for piece in pieces])[:, None]
    found = subjects.assign(
        places, [piece.volume for piece in pieces], [piece.subject for piece in pieces],
        [piece.presumed for piece in pieces], rule, hashed,
    )  # fmt: skip
    chosen = parts_of(places) if parts is None else parts
    copies = duplicates.examine(images, [piece.digest for piece in pieces], chosen, found.together)
    known = all(found.subjects)
    who = [subject or "" for subject in found.subjects] if known else copies.clusters
    notes = [*_of_subjects(found.note, known, who, chosen, copies), *copies.notes]
    badges = sorted({piece.badge for piece in pieces})
    marks = Counter(mark for piece in pieces for mark in set(piece.marks))
    marks += Counter(_noticed(images[:, 0]))
    findings = {**copies.findings, **marks}
    dropped = sum((fact.dropped for fact in facts), Counter[str]())
    if dropped:
        findings[DROPPED] = dropped.total()
    notes += [
        *_of_origins(pieces, badges),
        *_of_marks(marks, len(pieces)),
        *_of_files(files, skipped, dropped),
        *remarks,
        *_of_scales(facts),
        _of_all(pieces, files, who),
    ]
    audit = Audit(
        notes=notes,
        skipped=skipped,
        badges=[*badges, *([] if found.certain else [SUBJECTS_UNKNOWN])],
        findings=_sorted(findings),
        files=files,
        volumes=_table(facts, pieces, who, chosen),
        crossing=copies.crossing(names),
    )
    return Dataset(images, names, who, audit, chosen)


def _sorted(findings: dict[str, int | float]) -> dict[str, int | float]:
    rank = {name: place for place, name in enumerate(ORDER)}
    return dict(sorted(findings.items(), key=lambda item: rank.get(item[0], len(rank))))


def _of_subjects(
    note: str, known: bool, who: Sequence[str], parts: list[str], copies: duplicates.Copies
) -> list[str]:
    """Say how subjects were found, and what guessing them costs."""
    if known:
        return [note]
    notes = [
        f"{note} Until then slices of a volume, and images that are much alike, count as one "
        f"pseudo-subject ({len(set(who))} of them); slices of one patient that differ more may "
        "stand on both sides of the split."
    ]
    if parts:
        copies.findings["left_out_of_training"] = left_out(who, parts)
        notes.append(
            f"{copies.findings['left_out_of_training']} training or validation images are left "
            "out: their pseudo-subject stands in a more protected part."
        )
    return notes


def _of_origins(pieces: Sequence[Piece], badges: Sequence[str]) -> list[str]:
    mixed = [f"Images of several origins are mixed: {', '.join(badges)}."] * (len(badges) > 1)
    reasons = Counter((piece.badge, piece.reason) for piece in pieces if piece.reason)
    return mixed + [f"{n} slices are `{badge}`: {why}." for (badge, why), n in reasons.items()]


def _of_marks(marks: Counter[str], total: int) -> list[str]:
    """Put into words the findings that matter."""
    sentences = {
        "low_contrast": "use less than a quarter of [0, 1] (low contrast): PSNR with data range 1 "
        "says little of them; dataset.scale or dataset.window names what becomes 0 and 1",
        "quadrants_swapped": "have their quadrants swapped, as an image has whose Fourier "
        "transform was shifted once too often",
        "nan_outside": "hold NaN around what is shown; it counts as black",
        "hot_pixels_clipped": "are of volumes in which single pixels are far brighter than all "
        "others; these are clipped",
        "jpeg_block_edges": "show edges of 8x8 blocks, as JPEG leaves them: they seem compressed "
        "with loss before any degradation here, and a method is scored against that",
        "lossy_compression": "were compressed with loss, as their files say: a method is scored "
        "against that",
        "transparent": "have transparent pixels, which count as black",
        "colour": "have real colour, of which the brightness is taken",
    }
    return [
        f"{marks[mark]} of {total} images {words}."
        for mark, words in sentences.items()
        if marks[mark] > WORTH_SAYING * total or (marks[mark] and mark != "low_contrast")
    ]


def _of_files(files: dict[str, int], skipped: dict[str, str], dropped: Counter[str]) -> list[str]:
    others = [f"{count} {kind}" for kind, count in files.items() if kind != "read"]
    examples = list(skipped)[:MANY]
    notes = []
    if others:
        named = f" (such as {', '.join(examples)})" if examples else ""
        notes.append(
            f"Of {sum(files.values())} files {files.get('read', 0)} were read; left out: "
            f"{', '.join(others)}{named}. dataset.include and dataset.exclude choose otherwise."
        )
    if dropped:
        notes.append(f"Slices dropped: {', '.join(f'{n} {kind}' for kind, n in dropped.items())}.")
    return notes


def _of_scales(facts: Sequence[Facts]) -> list[str]:
    rules = Counter(fact.rule for fact in facts if fact.images)
    shown = [f"{rule} ({n})" if len(rules) > 1 else rule for rule, n in rules.most_common(MANY)]
    more = f" and {len(rules) - MANY} more rules" if len(rules) > MANY else ""
    return [f"What becomes 0 and 1: {'; '.join(shown)}{more}. What lies outside is clipped."]


def _of_all(pieces: Sequence[Piece], files: dict[str, int], who: Sequence[str]) -> str:
    endings = Counter(ending(PurePosixPath(file)) for file in {piece.file for piece in pieces})
    kinds = ", ".join(f"{count} {end}" for end, count in endings.most_common())
    return (
        f"{len(pieces)} images from {files.get('read', 0)} files ({kinds}) and of {len(set(who))} "
        "subjects or pseudo-subjects."
    )


def _table(
    facts: Sequence[Facts], pieces: Sequence[Piece], who: Sequence[str], parts: Sequence[str]
) -> list[dict[str, str | int | float]]:
    """Describe each volume, and each folder of pictures, in a line; the first of very many."""
    whose: dict[str, set[str]] = defaultdict(set)
    where: dict[str, set[str]] = defaultdict(set)
    for place, piece in enumerate(pieces):
        whose[piece.volume].add(who[place])
        where[piece.volume] |= {parts[place]} if parts else set()
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
    """Find the least of the values that are known; JSON knows no NaN, so 0 where none is."""
    known = [value for value in values if value == value]
    return float(f"{min(known):.6g}") if known else 0.0
