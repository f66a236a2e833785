"""The Optuna journal of a run: Optuna's own format, written by the one driver of the run."""

import json
import os
from pathlib import Path
from typing import Any, Protocol

from optuna.storages.journal import BaseJournalBackend

from bench.errors import UserError
from bench.places import Place, Remote

SEGMENT_BYTES = 2**18


class _Growing(Protocol):
    """Bytes that are kept, and to which more are added."""

    def read(self) -> bytes: ...
    def append(self, content: bytes, wait: bool) -> None: ...
    def close(self) -> None: ...


class _File:
    def __init__(self, path: Path):
        self.path = path

    def read(self) -> bytes:
        """Return what is there, less the half of a line that a crash left, which is cut off."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if content and not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            os.truncate(self.path, len(content))
        return content

    def append(self, content: bytes, wait: bool) -> None:
        with self.path.open("ab") as file:
            file.write(content)
            file.flush()
            if wait:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Leave the file as it is."""


class _Segments:
    """Grows where no object can: in segments, the last of which is uploaded again and again.

    A segment is called by the bytes before it, as `journal.log.000000262144`: so one that a crash
    left when it was already joined to the rest is known by its number.
    """

    def __init__(self, whole: Remote):
        self.whole = whole
        self._last = b""
        self._before = len(self.read())

    def read(self) -> bytes:
        """Return what was joined at an earlier end, and every segment since."""
        content = self.whole.read_bytes() if self.whole.exists() else b""
        for segment in self._segments():
            before = int(segment.name.rpartition(".")[2])
            if before > len(content):
                raise UserError(
                    f"{segment}: the segment before is missing; restore it, or choose another --out"
                )
            if before == len(content):
                content += segment.read_bytes()
        return content

    def append(self, content: bytes, wait: bool) -> None:
        longer = self._last + content
        (self.whole.parent / f"{self.whole.name}.{self._before:012}").write_bytes(longer)
        self._last = longer
        if len(longer) >= SEGMENT_BYTES:
            self._before, self._last = self._before + len(longer), b""

    def close(self) -> None:
        """Join all segments to one object."""
        if segments := self._segments():
            self.whole.write_bytes(self.read())
            for segment in segments:
                segment.unlink(missing_ok=True)

    def _segments(self) -> list[Remote]:
        found = self.whole.parent.rglob(f"{self.whole.name}.{'[0-9]' * 12}")
        return sorted(found, key=lambda segment: segment.name)


class Journal(BaseJournalBackend):
    """Appends to the file what belongs together in one write.

    Optuna's own file backend is made for many writers: it locks the file, writes, waits for the
    disk and reads back for every attribute of a trial, some twenty times. Here the run folder is
    claimed by one driver, and a trial takes two writes, one as it begins and one as it ends.

    Args:
        path: the file; what a crash left of a last, half-written line is cut off. In an object
            store it is whole once the journal was closed.

    Raises:
        UserError: a line that is no JSON, or a segment that is missing.
    """

    def __init__(self, path: Place):
        self._kept: _Growing = _Segments(path) if isinstance(path, Remote) else _File(path)
        self._unread: list[dict[str, Any]] = []
        self._unwritten: list[bytes] = []
        for number, line in enumerate(self._kept.read().splitlines(), 1):
            try:
                self._unread.append(json.loads(line))
            except ValueError:
                raise UserError(
                    f"{path}: line {number} is damaged; restore the file, or choose another --out"
                ) from None

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return what was logged since the last call; the one storage on top keeps it."""
        fresh, self._unread = self._unread, []
        return fresh

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Take in what is to be logged."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        self._unwritten += [f"{line}\n".encode() for line in lines]
        # As a later run will read it: enumerations are numbers there, and nothing is shared.
        self._unread += [json.loads(line) for line in lines]

    def flush(self, wait: bool = True) -> None:
        """Write what waits; wait for the disk too, so that it outlives a loss of power.

        Raises:
            OSError: the file cannot be written.
            UnwritableError: the object store cannot be reached.
        """
        if self._unwritten:
            self._kept.append(b"".join(self._unwritten), wait)
            self._unwritten.clear()

    def close(self) -> None:
        """Write what waits, and leave one file, which optuna-dashboard opens.

        Raises:
            OSError: the file cannot be written.
            UnwritableError: the object store cannot be reached.
        """
        self.flush()
        self._kept.close()
