"""Reads the tables of a run folder once, and then what has changed.

It starts from the summary that the report writes, and reads only tables that are not in it. So a
finished run of thousands of cells is open in a moment, and one in progress is read once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import pandas as pd
import pyarrow as pa

from bench import curves, summary, tables
from bench.summary import Listing

BATCH = 256  # tables of rows in memory at once
EMPTY = {
    "rows": ("file", "cell", "seed"),
    "trials": ("file", "cell", "trial", "state", "psnr", "step", "seconds", "error", "config"),
    "curves": ("file", *curves.COLUMNS),
}


@dataclass
class Reader:
    """What is known of the tables of one run folder.

    Attributes:
        folder: the run folder.
        known: the files that were read, with size and time of modification.
        damaged: those of them that are damaged.
        tables: by `bench.summary.KINDS` the lines of the files; of rows, `bench.summary.refits`.
        lines: of the leaderboard, for the tasks whose rows are those that the report was made from.
    """

    folder: Path
    known: dict[str, tuple[int, int]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    lines: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["cell", "task"]))
    _summary: tuple[int, int] = (0, 0)
    _lock: Lock = field(default_factory=Lock)

    def update(self, now: Listing) -> None:
        """Read what has changed.

        Args:
            now: the tables of the folder, see `bench.summary.files`.

        Raises:
            ValueError: a file cannot be read.
        """
        with self._lock:
            self._begin(now)
            gone = {file for file, facts in self.known.items() if now.get(file) != facts}
            fresh = [file for file in now if now[file] != self.known.get(file)]
            changed = self._tasks(gone)
            for kind, table in self.tables.items():
                if gone:
                    self.tables[kind] = table[~table["file"].isin(gone)]
            self.damaged -= gone
            self.known = {file: now[file] for file in now}
            for kind in summary.KINDS:
                mine = [file for file in fresh if file.startswith(f"{kind}/")]
                found = [one for one in self._read(kind, mine) if len(one)]
                if found:
                    joined = [self.tables[kind], *found] if len(self.tables[kind]) else found
                    self.tables[kind] = pd.concat(joined, ignore_index=True)
            changed |= self._tasks(set(fresh))
            if changed:
                self.lines = self.lines[~self.lines["task"].isin(changed)]

    def _begin(self, now: Listing) -> None:
        """Begin with the summary, if there is a new one."""
        written = _facts(self.folder / summary.SOURCES)
        if self.tables and written == self._summary:
            return
        self._summary, self.known, self.damaged = written, {}, set()
        self.tables = {kind: pd.DataFrame(columns=list(names)) for kind, names in EMPTY.items()}
        found = summary.read(self.folder)
        if found is None:
            return
        # Files that have changed are dropped by `update`, like those that change later.
        same = summary.unchanged(self.folder, found.sources, now)
        for file, size in zip(found.sources["file"], found.sources["size"], strict=True):
            if file.split("/")[0] in summary.KINDS:
                self.known[file] = now[file] if file in same else (size, -1)
        self.tables = {"rows": found.refits, "trials": found.trials, "curves": found.curves}
        self.lines = tables.with_task(found.lines)

    def _tasks(self, files: set[str]) -> set[str]:
        rows = self.tables["rows"]
        mine = rows[rows["file"].isin(files)] if files else rows[:0]
        return set(tables.with_task(mine)["task"]) if len(mine) else set()

    def _read(self, kind: str, files: Sequence[str]) -> Iterator[pd.DataFrame]:
        """Read tables in batches, since all rows of a large run would fill the memory."""
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            intact = [(file, one) for file in batch if (one := self._table(file)) is not None]
            if not intact:
                continue
            names = [file for file, _ in intact]
            index = np.repeat(np.arange(len(names)), [len(one) for _, one in intact])
            joined = tables.joined([one for _, one in intact])
            if kind == "rows":
                yield summary.refits(joined, index, names)
            else:
                yield joined.assign(file=np.array(names, dtype=object)[index])

    def _table(self, file: str) -> pa.Table | None:
        try:
            return tables.from_bytes((self.folder / file).read_bytes())
        except FileNotFoundError:  # it was replaced, or renamed
            return None
        except (pa.ArrowException, ValueError):
            self.damaged.add(file)
            return None
        except OSError as error:
            raise ValueError(f"{self.folder / file}: cannot be read ({error})") from None


@lru_cache(maxsize=8)
def of_folder(folder: Path) -> Reader:
    """Return the reader of a run folder, which remembers what it has read."""
    return Reader(folder)


def _facts(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
        return found.st_size, found.st_mtime_ns
    except OSError:
        return 0, 0
