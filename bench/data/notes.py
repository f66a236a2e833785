"""Sentences on what was noticed while a dataset was read, the most important first."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from bench.data.duplicates import Copies
from bench.data.files import ending
from bench.data.kinds import DOSES, HALVES, LABELS, PHASES, SCOUTS
from bench.data.parts import left_out
from bench.data.pieces import Facts, Piece

WORTH_SAYING = 0.1  # share of the images
EXAMPLES = 3  # most examples in a note
BY_NAME = {LABELS, PHASES, HALVES, SCOUTS, DOSES}
WANTED = " dataset.include reads such files too: '*_mask*' reads masks."


def of_subjects(
    note: str, known: bool, who: Sequence[str], parts: list[str], copies: Copies
) -> list[str]:
    """Describe how subjects were found, and what guessing them costs."""
    if known:
        return [note]
    notes = [
        f"{note} Until then, slices of a volume, and very similar images, count as one "
        f"pseudo-subject ({len(set(who))} in all); slices of one patient that differ more may "
        "be on both sides of the split."
    ]
    if parts:
        copies.findings["left_out_of_training"] = left_out(who, parts)
        notes.append(
            f"{copies.findings['left_out_of_training']} training or validation images are left "
            "out, because their pseudo-subject is also in a more protected part."
        )
    return notes


def of_origins(pieces: Sequence[Piece], badges: Sequence[str]) -> list[str]:
    """Name the origins that are mixed, and why a badge is not better."""
    mixed = [f"Images of several origins are mixed: {', '.join(badges)}."] * (len(badges) > 1)
    reasons = Counter((piece.badge, piece.reason) for piece in pieces if piece.reason)
    return mixed + [f"{n} slices are `{badge}`: {why}." for (badge, why), n in reasons.items()]


def of_marks(marks: Counter[str], total: int) -> list[str]:
    """Describe the important findings."""
    sentences = {
        "low_contrast": "use less than a quarter of [0, 1] (low contrast): PSNR with data range 1 "
        "says little about them; dataset.scale or dataset.window sets what becomes 0 and 1",
        "quadrants_swapped": "have their quadrants swapped, as happens if the Fourier transform "
        "was shifted once too often",
        "nan_outside": "hold NaN around the object, which becomes black",
        "hot_pixels_clipped": "are of volumes in which single pixels are far brighter than all "
        "others; these pixels are clipped",
        "jpeg_block_edges": "show the edges of JPEG's 8x8 blocks: they seem to have been "
        "compressed with loss before any degradation here, and methods are scored against them",
        "lossy_compression": "were compressed with loss, as their files state, and methods are "
        "scored against them",
        "transparent": "have transparent pixels, which become black",
        "colour": "have visible colour, of which the brightness is used",
    }
    return [
        f"{marks[mark]} of {total} images {words}."
        for mark, words in sentences.items()
        if marks[mark] > WORTH_SAYING * total or (marks[mark] and mark != "low_contrast")
    ]


def of_files(files: dict[str, int], skipped: dict[str, str], dropped: Counter[str]) -> list[str]:
    """Count what was left out, with examples."""
    others = [f"{count} {kind}" for kind, count in files.items() if kind != "read"]
    examples = list(skipped)[:EXAMPLES]
    notes = []
    if others:
        named = f" (such as {', '.join(examples)})" if examples else ""
        notes.append(
            f"Of {sum(files.values())} files {files.get('read', 0)} were read; left out: "
            f"{', '.join(others)}{named}.{WANTED if BY_NAME & files.keys() else ''}"
        )
    if dropped:
        notes.append(f"Slices dropped: {', '.join(f'{n} {kind}' for kind, n in dropped.items())}.")
    return notes


def of_scales(facts: Sequence[Facts]) -> list[str]:
    """State the rules for what became 0 and 1."""
    rules = Counter(fact.rule for fact in facts if fact.images)
    shown = [f"{rule} ({n})" if len(rules) > 1 else rule for rule, n in rules.most_common(EXAMPLES)]
    more = f" and {len(rules) - EXAMPLES} more rules" if len(rules) > EXAMPLES else ""
    return [f"What becomes 0 and 1: {'; '.join(shown)}{more}. What lies outside is clipped."]


def of_all(pieces: Sequence[Piece], files: dict[str, int], who: Sequence[str]) -> str:
    """Count images, files by their endings, and subjects."""
    endings = Counter(ending(PurePosixPath(file)) for file in {piece.file for piece in pieces})
    kinds = ", ".join(f"{count} {end}" for end, count in endings.most_common())
    return (
        f"{_counted(len(pieces), 'image')} from {_counted(files.get('read', 0), 'file')} ({kinds}) "
        f"of {_counted(len(set(who)), 'subject or pseudo-subject')}."
    )


def _counted(number: int, what: str) -> str:
    plural = what.replace(" or ", "s or ") + "s"
    return f"{number} {what if number == 1 else plural}"
