"""The Optuna journal of a run: in Optuna's format, written only by the driver of the run.

Each line ends with a checksum of itself and of all earlier lines, which Optuna ignores. So a
changed or missing line is detected.
"""

import json
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from optuna.storages.journal import BaseJournalBackend

from bench import places
from bench.places import Place, Remote

SEGMENT_BYTES = 2**18
LINE = re.compile(rb'(?P<log>\{.*),"sum":"(?P<sum>[0-9a-f]{8})"\}')


class _Appendable(Protocol):
    """Stored bytes to which more can be appended."""

    def read(self) -> bytes: ...
    def append(self, content: bytes, wait: bool) -> None: ...
    def replace(self, content: bytes) -> None: ...
    def close(self) -> None: ...


class _File:
    def __init__(self, path: Path):
        self.path = path

    def read(self) -> bytes:
        """Return the content; an incomplete last line, left by a crash, is cut off."""
        content = self.path.read_bytes() if self.path.exists() else b""
        if content and not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            os.truncate(self.path, len(content))
        return content

    def append(self, content: bytes, wait: bool) -> None:
        with self.path.open("ab") as file:
            if not file.tell():
                places.share_like_folder(self.path)
            file.write(content)
            file.flush()
            if wait:
                os.fsync(file.fileno())

    def replace(self, content: bytes) -> None:
        """Set the file aside, and begin a new one."""
        places.set_aside(self.path)
        with places.atomic_write(self.path) as path:
            path.write_bytes(content)

    def close(self) -> None:
        """Leave the file as it is."""


class _Segments:
    """Appends to objects, which cannot grow: in segments, the last of which is uploaded repeatedly.

    A segment is named by the number of bytes before it, as in `journal.log.000000262144`. So one
    that was already joined to the rest, but not deleted because of a crash, is recognised.
    """

    def __init__(self, whole: Remote):
        self.whole = whole
        self._last = b""
        self._before = len(self.read())

    def read(self) -> bytes:
        """Return what `close` joined earlier, and every segment since.

        A missing segment is detected by the checksum of the next line.
        """
        content = self.whole.read_bytes() if self.whole.exists() else b""
        for segment in self._segments():
            before = int(segment.name.rpartition(".")[2])
            if before >= len(content):
                content += segment.read_bytes()
        return content

    def append(self, content: bytes, wait: bool) -> None:
        longer = self._last + content
        (self.whole.parent / f"{self.whole.name}.{self._before:012}").write_bytes(longer)
        self._last = longer
        if len(longer) >= SEGMENT_BYTES:
            self._before, self._last = self._before + len(longer), b""

    def replace(self, content: bytes) -> None:
        """Set all objects aside, and begin a new one."""
        for one in [self.whole] * self.whole.exists() + self._segments():
            places.set_aside(one)
        self.whole.write_bytes(content)
        self._before, self._last = len(content), b""

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
    """An Optuna journal backend that writes the logs of a trial together.

    Optuna's own file backend allows many writers: for every attribute of a trial, some twenty
    times, it locks the file, writes, waits for the disk and reads back. Here one driver has claimed
    the run folder, and a trial takes two writes, at its beginning and at its end.

    A damaged journal is set aside, and a new one continues from the last line before the damage:
    later trials are run again.

    Attributes:
        damage: a message about it; empty if nothing is damaged.

    Args:
        path: the file; an incomplete last line, left by a crash, is cut off. In an object store it
            is complete once the journal is closed.
        check: raises UnwritableError if the run may no longer write.
    """

    def __init__(self, path: Place, check: Callable[[], None] | None = None):
        self._check = check or (lambda: None)
        self._stored: _Appendable = _Segments(path) if isinstance(path, Remote) else _File(path)
        # The logs since the last read; the storages of the run have applied earlier ones.
        self._recent: list[dict[str, Any]] = []
        self._applied = 0
        self._unwritten: list[bytes] = []
        self._sum = 0
        self.damage = ""
        lines = self._stored.read().splitlines(keepends=True)
        for number, line in enumerate(lines):
            if not self._read_line(line.rstrip(b"\n")):
                self._stored.replace(b"".join(lines[:number]))
                self.damage = (
                    f"{path}: is damaged (line {number + 1}, or one before it is missing); it is "
                    f"set aside as {path.name}.damaged, and the trials from there on are run again"
                )
                break

    def _read_line(self, line: bytes) -> bool:
        """Read a line; return whether it and all earlier lines are intact, by its checksum."""
        if (found := LINE.fullmatch(line)) is None:
            return False
        total = zlib.crc32(found["log"], self._sum)
        if int(found["sum"], 16) != total:
            return False
        self._sum = total
        self._recent.append(json.loads(line))
        return True

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the logs from a number on; see `BaseJournalBackend`.

        Logs that one storage has read are not kept in memory; another reads them from the file.
        """
        if log_number_from < self._applied:
            lines = [*self._stored.read().splitlines(), *b"".join(self._unwritten).splitlines()]
            return [json.loads(line) for line in lines[log_number_from:]]
        logs = self._recent[log_number_from - self._applied :]
        self._applied += len(self._recent)
        self._recent = []
        return logs

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append logs, which `flush` writes."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        for line in lines:
            log = line[:-1].encode()
            self._sum = zlib.crc32(log, self._sum)
            self._unwritten.append(b'%s,"sum":"%08x"}\n' % (log, self._sum))
        # As a later run reads them: enumerations are numbers, and no objects are shared.
        self._recent += [json.loads(line) for line in lines]

    def flush(self, wait: bool = True) -> None:
        """Write the pending logs; wait for the disk too, so that they survive a loss of power.

        Raises:
            OSError: the file cannot be written.
            UnwritableError: the object store cannot be reached, or the run may not write.
        """
        if self._unwritten:
            self._check()
            self._stored.append(b"".join(self._unwritten), wait)
            self._unwritten.clear()

    def close(self) -> None:
        """Write the pending logs, and leave one file, which optuna-dashboard opens.

        Raises:
            OSError: the file cannot be written.
            UnwritableError: the object store cannot be reached.
        """
        self.flush()
        self._stored.close()
