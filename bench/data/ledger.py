"""A record of how each file below a dataset's path was handled, so that none is lost silently."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.data import files
from bench.data.volume import NoImage
from bench.errors import UserError, printable

# A few damaged files among many are skipped and named; a larger share is an error of the folder.
TOLERATED = 0.05
READ, UNUSABLE = "read", "unusable files"


@dataclass
class Ledger:
    """How each file below the path was handled.

    Attributes:
        root: folder below which files are named.
        kinds: file -> its kind, for files that are left out.
        reasons: file -> why it is left out, if more is known than its kind.
        unusable: file -> why it cannot be used.
        spell: function that writes names and reasons without patients' ids.
    """

    root: Path
    kinds: dict[Path, str] = field(default_factory=dict)
    reasons: dict[Path, str] = field(default_factory=dict)
    unusable: dict[Path, str] = field(default_factory=dict)
    spell: Callable[[str], str] = str

    def leave_out(self, found: Sequence[Path], why: NoImage) -> None:
        """Record files that hold no image."""
        for file in found:
            self.kinds[file] = why.kind
            self.reasons[file] = why.reason

    def counts(self, found: Sequence[Path]) -> dict[str, int]:
        """Count all files by how they were handled; the sum is the number of files."""
        return dict(
            Counter(
                UNUSABLE if file in self.unusable else self.kinds.get(file, READ) for file in found
            ).most_common()
        )

    def skipped(self) -> dict[str, str]:
        """Name the files that were opened and left out, with the reason."""
        why = {**self.reasons, **self.unusable}
        return {
            self.spell(files.name_of(file, self.root)): self.spell(reason)
            for file, reason in sorted(why.items())
        }

    def refuse_many(self, total: int) -> None:
        """Raise a UserError that names the first unusable file if more than a few are unusable."""
        if len(self.unusable) <= TOLERATED * total:
            return
        file, reason = min(self.unusable.items())
        share = (
            f" ({len(self.unusable)} of {total} files are unusable, more than {TOLERATED:.0%}; "
            "repair them, or leave them out with dataset.exclude)"
        )
        name = self.spell(printable(str(file)))
        raise UserError(f"{name}: {self.spell(reason)}{share if total > 1 else ''}")

    def refuse_none(self, path: Path) -> None:
        """Raise a UserError that says why there is nothing to read."""
        if self.unusable:
            self.refuse_many(0)
        first = next(iter(self.reasons.items()), None)
        counts = Counter(self.kinds.values()).most_common()
        if first is not None:
            more = f" ({_listed(counts)})" if len(self.kinds) > 1 else ""
            name = self.spell(printable(str(first[0])))
            raise UserError(f"{name}: {self.spell(first[1])}{more}")
        raise UserError(f"{printable(str(path))}: holds no image: {_listed(counts) or 'nothing'}")


def _listed(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts)
