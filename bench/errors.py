"""The exceptions of ReconBench, and helpers for their messages."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UserError(Exception):
    """A mistake in the input: one line that names the file or key, what is wrong, what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class UnwritableError(UserError):
    """The run folder cannot be written or reached, because of a full disk or a network failure for
    example: no trial is to blame.
    """


class DamagedError(UserError):
    """The content of a run's file has changed since it was written.

    Attributes:
        file: its path.
    """

    def __init__(self, file: Any, reason: object):
        super().__init__(file, reason)
        self.file = file

    def __str__(self) -> str:
        return f"{self.file}: is damaged ({' '.join(str(self.args[1]).split())[:200]})"


class LostError(Exception):
    """Something that a trial needs was lost, such as another worker or images in memory: its method
    is not to blame.
    """


class DivergedError(Exception):
    """A trial whose numbers are no longer finite; recorded as failed, while the sweep continues."""


def printable(name: str) -> str:
    """Write a name on one line; bytes that are not UTF-8 become `\\xe4`, a new line `\\n`."""
    if name.isascii() and name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def unknown(what: str, given: str, known: Iterable[str]) -> UserError:
    """Build the error for a misspelt name: the nearest spelling and everything that is known."""
    known = sorted(known)
    listed = ", ".join(known) or "none"
    return UserError(f"unknown {what} {given!r}{spelling(given, known)} (known: {listed})")


def spelling(given: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the known name nearest to a wrong one; "" if none is."""
    near = get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
