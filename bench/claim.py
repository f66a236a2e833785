"""Who is at work in a run folder: one run at a time, and none that was taken for dead.

A claim is a file `running.<number>.json` that says who is here; the greatest number holds. It is
created exclusively, and touched as a sign of life. A run that finds a dead one's takes the next
number and deletes the earlier claim before it writes anything. So the number is a fencing token:
a run that was silent for long and checks its claim before it writes finds that it is gone. No
lock of a file system is relied on, since network file systems and object stores do without.
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
FRESH_SECONDS = 1.0  # for which a look at the claim is good
TRIES = 5


@dataclass
class Claim:
    """A run's hold on its folder.

    Attributes:
        file: where it is.
        content: of the file, unlike that of any other claim.
    """

    file: Place
    content: bytes
    _seen: float = field(default=0.0, init=False)

    def check(self) -> None:
        """Refuse to continue once the claim is gone.

        Raises:
            UnwritableError: another run has taken the folder over, or it cannot be reached.
        """
        if 0 <= time.time() - self._seen < FRESH_SECONDS:
            return
        now = time.time()
        if not self._holds():
            raise UnwritableError(
                f"{self.file.parent}: another run has taken this folder over, since this one was "
                "silent for too long; it writes no more"
            )
        self._seen = now

    def _holds(self) -> bool:
        try:
            unchanged = self.file.read_bytes() == self.content
        except FileNotFoundError:
            return False
        newest = [file.name for _, file in _claims(self.file.parent)][-1:]
        return unchanged and newest == [self.file.name]

    def sign(self) -> None:
        """Renew the claim."""
        self.check()
        if isinstance(self.file, Path):
            os.utime(self.file)  # unlike a touch it does not bring back what was deleted
        else:
            self.file.write_bytes(self.content)


@contextlib.contextmanager
def held(folder: Place) -> Iterator[Claim]:
    """Hold a run folder while the block runs.

    Raises:
        UserError: another run is at work there.
    """
    claim = take(folder)
    ended = threading.Event()

    def live() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError, UserError):
                claim.sign()

    living = threading.Thread(target=live, daemon=True)
    living.start()
    try:
        yield claim
    finally:
        ended.set()
        living.join(HEARTBEAT_SECONDS)  # a sign under way could bring the claim back
        release(claim)


def take(folder: Place) -> Claim:
    """Claim a folder; what a dead run left is taken over.

    Raises:
        UserError: another run is at work there.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid())}
    content = json.dumps({**me, "token": uuid4().hex}).encode()
    for _ in range(TRIES):
        earlier = _claims(folder)
        if earlier:
            _refuse_living(earlier[-1][1])
        number = earlier[-1][0] + 1 if earlier else 1
        file = folder / f"running.{number}.json"
        if not places.create(file, content):
            continue  # another was faster
        claim = Claim(file.resolve(), content)  # for workers too, which run in another folder
        now = _claims(folder)
        if now[-1][0] > number:
            release(claim)
            continue
        for _, earlier_file in now[:-1]:
            earlier_file.unlink(missing_ok=True)
        return claim
    raise UserError(
        f"{folder}: other runs begin there all the time; try again, or choose another folder"
    )


def release(claim: Claim) -> None:
    """Remove a claim, if it is still there."""
    with contextlib.suppress(OSError, UserError):
        if claim.file.read_bytes() == claim.content:
            claim.file.unlink(missing_ok=True)


def _claims(folder: Place) -> list[tuple[int, Place]]:
    """List the claims in a folder by their numbers."""
    named = ((NAME.fullmatch(file.name), file) for file in folder.iterdir())
    return sorted(((int(name[1]), file) for name, file in named if name), key=lambda one: one[0])


def _refuse_living(file: Place) -> None:
    try:
        other = _read(file)
        if not _lives(other, places.age(file)):
            return
    except FileNotFoundError:
        return
    raise UserError(
        f"{file.parent}: another run is at work there (process {other.get('pid')} on "
        f"{other.get('host')}); wait for it, or choose another run folder"
    )


def _read(file: Place) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except ValueError:  # being written, or damaged
        return {}
    return content if isinstance(content, dict) else {}


def _lives(other: dict[str, Any], age: float) -> bool:
    """Return whether a claim counts: of this machine by the process, of others by its last sign.

    A process of this machine that is stopped is silent, and alive all the same.
    """
    if other.get("host") == socket.gethostname():
        if not _exists(other["pid"]):
            return False
        if other["born"]:
            return _born(other["pid"]) == other["born"]
    return age <= STALE_AFTER_SECONDS


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _born(pid: int) -> str:
    """Return when a process began, which tells it from a later one of the same number.

    Empty where there is no such process, or the system does not say so in `/proc`.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
