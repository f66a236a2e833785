"""A claim on a run folder, so that only one run at a time writes to it.

A claim is a file `running.<number>.json` that names the process; the greatest number is valid. It
is created exclusively, and renewed as a heartbeat. A run that finds a stale claim takes the next
number and deletes the stale one before it writes anything. So the number is a fencing token: each
run checks its claim before it writes, and one whose heartbeat stopped for long finds the claim
deleted. No file-system locks are used, since network file systems and object stores may lack them.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import places
from bench.errors import UnwritableError, UserError
from bench.places import Place

NAME = re.compile(r"running\.(\d{1,9})\.json")
HEARTBEAT_SECONDS, STALE_AFTER_SECONDS = 10.0, 60.0
FRESH_SECONDS = 1.0  # for which a check of the claim stays valid
TRIES = 5


@dataclass
class Claim:
    """A run's claim on its folder.

    Attributes:
        file: the file that states it.
        content: of the file, different from that of any other claim.
    """

    file: Place
    content: bytes
    _seen: float = field(default=0.0, init=False)

    def check(self) -> None:
        """Refuse to continue once the claim is lost.

        Raises:
            UnwritableError: another run has taken the folder over, or it cannot be reached.
        """
        if 0 <= time.time() - self._seen < FRESH_SECONDS:
            return
        now = time.time()
        if not self._holds():
            raise UnwritableError(
                f"{self.file.parent}: another run has taken this folder over, because this one "
                "sent no heartbeat for too long; nothing more is written"
            )
        self._seen = now

    def _holds(self) -> bool:
        try:
            unchanged = self.file.read_bytes() == self.content
        except FileNotFoundError:
            return False
        newest = [file.name for _, file in _claims(self.file.parent)][-1:]
        return unchanged and newest == [self.file.name]

    def renew(self) -> None:
        """Renew the claim."""
        self.check()
        if isinstance(self.file, Path):
            os.utime(self.file)  # unlike touch(), it does not create a deleted file again
        else:
            self.file.write_bytes(self.content)


@contextlib.contextmanager
def held(folder: Place) -> Iterator[Claim]:
    """Hold a run folder while the block runs.

    Raises:
        UserError: another run is using it.
    """
    claim = take(folder)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError, UserError):
                claim.renew()

    heartbeat = threading.Thread(target=beat, daemon=True)
    heartbeat.start()
    try:
        yield claim
    finally:
        ended.set()
        heartbeat.join(HEARTBEAT_SECONDS)  # a renewal in progress could write the claim again
        release(claim)


def take(folder: Place) -> Claim:
    """Claim a folder; a stale claim is taken over.

    Raises:
        UserError: another run is using it.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid(), "born": _start_time(os.getpid())}
    content = json.dumps({**me, "token": uuid4().hex}).encode()
    for _ in range(TRIES):
        earlier = _claims(folder)
        if earlier:
            _refuse_active(earlier[-1][1])
        number = earlier[-1][0] + 1 if earlier else 1
        file = folder / f"running.{number}.json"
        if not places.create(file, content):
            continue  # another run was faster
        claim = Claim(file.resolve(), content)  # workers have another current folder
        now = _claims(folder)
        if now[-1][0] > number:
            release(claim)
            continue
        for _, earlier_file in now[:-1]:
            earlier_file.unlink(missing_ok=True)
        return claim
    raise UserError(
        f"{folder}: other runs keep starting there; try again, or choose another folder"
    )


def release(claim: Claim) -> None:
    """Remove a claim, if it is still there."""
    with contextlib.suppress(OSError, UserError):
        if claim.file.read_bytes() == claim.content:
            claim.file.unlink(missing_ok=True)


def is_active(folder: Place) -> bool:
    """Return whether a run is using a folder: its process exists, or it sent a heartbeat lately."""
    with contextlib.suppress(FileNotFoundError):
        claims = _claims(folder)
        return bool(claims) and _is_active(_read(claims[-1][1]), places.age(claims[-1][1]))
    return False


def _claims(folder: Place) -> list[tuple[int, Place]]:
    """List the claims in a folder in the order of their numbers."""
    named = ((NAME.fullmatch(file.name), file) for file in folder.iterdir())
    return sorted(((int(name[1]), file) for name, file in named if name), key=lambda one: one[0])


def _refuse_active(file: Place) -> None:
    try:
        other = _read(file)
        if not _is_active(other, places.age(file)):
            return
    except FileNotFoundError:
        return
    raise UserError(
        f"{file.parent}: another run is using it (process {other.get('pid')} on "
        f"{other.get('host')}); wait for it, or choose another run folder"
    )


def _read(file: Place) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError:  # being written, or damaged
        return {}
    return content if isinstance(content, dict) else {}


def _is_active(other: dict[str, Any], age: float) -> bool:
    """Return whether the run of a claim is active: by its process here, by its heartbeat elsewhere.

    A process of this machine that is suspended sends no heartbeat, but is still active.
    """
    if other.get("host") == socket.gethostname():
        pid, born = other.get("pid"), other.get("born")
        if not isinstance(pid, int) or not _exists(pid):
            return False
        if born:
            return _start_time(pid) == born
    return age <= STALE_AFTER_SECONDS


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _start_time(pid: int) -> str:
    """Return when a process started, which distinguishes it from a later one with the same id.

    Empty if there is no such process, or the system has no `/proc`.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
