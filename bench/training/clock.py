"""What a training run takes: wall-clock time, and time of the processor."""

import math
import time
from typing import NamedTuple


class Spent(NamedTuple):
    """Time spent.

    Attributes:
        seconds: wall-clock time, which what runs beside it prolongs.
        cpu_seconds: of all threads of this process, in which waiting does not count; NaN where
            other processes, or a GPU, do part of the work.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Clock:
    """Measures a run from its beginning on.

    Args:
        alone: whether this process does all the work.

    Attributes:
        before: what the run had spent when it was interrupted.
        start: when it began here, by `time.perf_counter`.
    """

    def __init__(self, alone: bool):
        self.before = Spent()
        self.start, self._cpu = time.perf_counter(), time.process_time() if alone else math.nan

    def read(self) -> Spent:
        """Return what the run has spent."""
        return Spent(
            self.before.seconds + time.perf_counter() - self.start,
            self.before.cpu_seconds + time.process_time() - self._cpu,
        )
