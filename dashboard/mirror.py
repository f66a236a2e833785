"""Local copies of runs in object stores (`s3://`, `gs://`), which are only read.

A copy has what the pages read: tables, pictures, report and journal, but no models or checkpoints.
It keeps the times of the objects, so that the report's summary of the tables stays valid, and only
what has changed is fetched again.
"""

import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bench import listing
from bench.places import Place, Remote

LEFT_OUT = ("models/", "checkpoints/")
THREADS = 16  # each request is slow
FRESH_SECONDS = 3.0


@dataclass
class Mirror:
    """A local copy of a run in an object store.

    Attributes:
        remote: the run.
        folder: the copy; it is deleted when the process ends.
    """

    remote: Remote
    folder: Path
    _held: dict[str, tuple[int, int]] = field(default_factory=dict)
    _time: float = -FRESH_SECONDS
    _alone: threading.Lock = field(default_factory=threading.Lock)

    def refresh(self) -> Path:
        """Fetch what has changed, unless that was done a moment ago, and return the copy.

        Raises:
            UserError: the object store cannot be reached.
        """
        with self._alone:
            if time.monotonic() - self._time >= FRESH_SECONDS:
                now = listing.files(self.remote)
                wanted = {name: facts for name, facts in now.items() if _is_wanted(name)}
                for name in self._held.keys() - wanted.keys():
                    (self.folder / name).unlink(missing_ok=True)
                changed = [name for name in wanted if wanted[name] != self._held.get(name)]
                with ThreadPoolExecutor(THREADS) as threads:
                    list(threads.map(lambda name: self._fetch(name, wanted[name][1]), changed))
                self._held, self._time = wanted, time.monotonic()
        return self.folder

    def _fetch(self, name: str, modified: int) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}")
        try:
            temporary.write_bytes((self.remote / name).read_bytes())
        except FileNotFoundError:  # it was replaced, or deleted
            return
        os.utime(temporary, ns=(modified, modified))
        temporary.replace(target)


def _is_wanted(name: str) -> bool:
    # A name from a store must not lead out of the folder.
    return not name.startswith(LEFT_OUT) and ".." not in name.split("/")


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="reconbench-dashboard-")


_mirrors: dict[Path, Mirror] = {}


def local(run: Place) -> Path:
    """Return a run folder in a file system: the run itself, or its copy as it is now.

    Raises:
        UserError: the object store cannot be reached.
    """
    if isinstance(run, Path):
        return run
    folder = Path(_temporary().name) / run.scheme / str(run.key)
    folder.mkdir(parents=True, exist_ok=True)
    return _mirrors.setdefault(folder, Mirror(run, folder)).refresh()


def renew(folder: Path) -> None:
    """Fetch what has changed, if the folder is a copy.

    Raises:
        UserError: the object store cannot be reached.
    """
    if folder in _mirrors:
        _mirrors[folder].refresh()


def address(folder: Path) -> str:
    """Name a run as a user does: by the address of what was copied, or else by its folder."""
    return str(_mirrors[folder].remote if folder in _mirrors else folder)


def find(folder: Remote) -> list[Place]:
    """List the runs in a folder of an object store.

    Raises:
        UserError: the object store cannot be reached.
    """
    return [inner for inner in folder.iterdir() if (inner / "spec.yaml").exists()]
