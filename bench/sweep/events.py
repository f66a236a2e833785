"""One JSON line per event, for programs that watch a run."""

import json
import time
from pathlib import Path
from typing import IO, Any

from bench.sweep.trial import Job

KEPT = ("node", "step", "psnr", "ssim", "best", "parameters", "seconds", "failed")


class EventLog:
    """Appends to a file: time, event, cell, trial or seed, and what the job reports.

    Events are `began`, `validated`, `ended`, `failed`, and `paused`: a trial has paused. If it is
    promoted, it resumes with another `began`.

    Args:
        path: the file; None for no log.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.file: IO[str] | None = None

    def __enter__(self) -> "EventLog":
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="utf-8", buffering=1)
        return self

    def __exit__(self, *error: object) -> None:
        if self.file is not None:
            self.file.close()

    def __call__(self, what: str, job: Job, result: dict[str, Any]) -> None:
        """Write an event."""
        if self.file is None:
            return
        which = {"seed": job.seed} if job.is_refit else {"trial": job.trial}
        facts = {key: result[key] for key in KEPT if key in result}
        event = {"time": round(time.time(), 3), "event": what, "cell": job.cell, **which, **facts}
        self.file.write(json.dumps(event) + "\n")
