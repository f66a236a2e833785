"""The Optuna journal of a run: Optuna's own format, written by the one driver of the run."""

import json
import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from bench.errors import UserError


class Journal(BaseJournalBackend):
    """Appends to the file what belongs together in one write.

    Optuna's own file backend is made for many writers: it locks the file, writes, waits for the
    disk and reads back for every attribute of a trial, some twenty times. Here the run folder is
    claimed by one driver, and a trial takes two writes, one as it begins and one as it ends.

    Args:
        path: the file; what a crash left of a last, half-written line is cut off.

    Raises:
        UserError: a line that is no JSON.
    """

    def __init__(self, path: Path):
        self.path = path
        self._unread: list[dict[str, Any]] = []
        self._unwritten: list[bytes] = []
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            os.truncate(path, sum(map(len, lines[:-1])))
            del lines[-1]
        for number, line in enumerate(lines, 1):
            try:
                self._unread.append(json.loads(line))
            except ValueError:
                raise UserError(
                    f"{path}: line {number} is damaged; restore the file, or choose another --out"
                ) from None

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Give what was logged since the last call; the one storage on top keeps it."""
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
        """
        if not self._unwritten:
            return
        with self.path.open("ab") as file:
            file.write(b"".join(self._unwritten))
            file.flush()
            if wait:
                os.fsync(file.fileno())
        self._unwritten.clear()
