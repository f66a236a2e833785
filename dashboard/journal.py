"""Reads the validations of trials from the Optuna journal of a run, without Optuna.

Each line of the journal is a JSON object with an operation code; studies and trials are numbered in
the order of their creation (Optuna's `JournalStorage`).
"""

import contextlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

STUDY, TRIAL, VALUE, NOTE = (b'{"op_code":%d,' % code for code in (0, 4, 7, 8))
NOTES = (b'"user_attr":{"index":', b'"user_attr":{"reports":')
COLUMNS = ("cell", "trial", "step", "value")


def validations(folder: Path) -> pd.DataFrame:
    """Read the validations of every trial of a run.

    Returns:
        `COLUMNS`: cell, number of the trial in it, optimiser step, and the objective on the
        validation images; empty if there is no journal. Lines that are damaged, or incomplete in a
        run in progress, are left out.

    Raises:
        ValueError: the journal cannot be read.
    """
    file = folder / "studies" / "journal.log"
    try:
        facts = file.stat()
        return _read(file, facts.st_size, facts.st_mtime_ns)
    except FileNotFoundError:
        return pd.DataFrame(columns=list(COLUMNS))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error})") from None


@lru_cache(maxsize=2)
def _read(file: Path, size: int, modified: int) -> pd.DataFrame:
    journal = _Journal()
    with file.open("rb") as lines:
        for line in lines:
            wanted = line.startswith((STUDY, TRIAL, VALUE))
            if wanted or (line.startswith(NOTE) and any(note in line for note in NOTES)):
                with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                    journal.add(json.loads(line))
    return journal.table()


class _Journal:
    """What the lines of a journal have said so far about studies and trials, by their numbers."""

    def __init__(self) -> None:
        self.cells: dict[int, str] = {}
        self.owners: dict[int, int] = {}  # the study of each trial
        self.indices: dict[int, int] = {}  # a trial that is resumed is another one with its index
        self.values: dict[tuple[int, int], float] = {}  # by trial and step

    def add(self, log: dict[str, Any]) -> None:
        """Take in a line."""
        code = log["op_code"]
        if code == 0:
            self.cells[len(self.cells)] = str(log["study_name"])
        elif code == 4:
            self.owners[len(self.owners)] = log["study_id"]
        elif code == 7:
            self.values[log["trial_id"], int(log["step"])] = float(log["intermediate_value"])
        elif "index" in (note := log["user_attr"]):
            self.indices[log["trial_id"]] = int(note["index"])
        else:  # of searches with several aims, of which Optuna takes no intermediate values
            for step, value in note["reports"].items():
                self.values[log["trial_id"], int(step)] = float(value)

    def table(self) -> pd.DataFrame:
        """Return `COLUMNS`."""
        lines = [
            (
                self.cells.get(self.owners.get(trial, -1), ""),
                self.indices.get(trial, -1),
                step,
                value,
            )
            for (trial, step), value in self.values.items()
        ]
        table = pd.DataFrame(lines, columns=list(COLUMNS))
        known = table[(table.cell != "") & (table.trial >= 0)]
        return known.drop_duplicates(["cell", "trial", "step"], keep="last", ignore_index=True)
