"""Live progress: a bar in a terminal, plain lines in a log file."""

import math
import time
from collections import defaultdict
from datetime import timedelta
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench import methods
from bench.cells import seeds_of
from bench.spec import Benchmark
from bench.sweep.searcher import SweepSearcher
from bench.sweep.trial import Job

LINE_SECONDS, BAR_SECONDS = 10.0, 0.5


class SweepProgress:
    """Counts cells, trials and refits, names the best method so far, estimates the time left.

    Args:
        spec: the benchmark.
        searcher: its studies state what is finished.
        console: where to write.
    """

    def __init__(self, spec: Benchmark, searcher: SweepSearcher, console: Console):
        self.searcher, self.console = searcher, console
        self._refits_left = searcher.refits_left()
        self._all_refits = sum(seeds_of(study.cell, spec) for study in searcher.studies.values())
        self._all_trials = sum(study.trials for study in searcher.studies.values())
        self._seconds: dict[tuple[str, bool], list[float]] = defaultdict(list)
        self._best: dict[str, tuple[float, str]] = {}
        self._start = time.monotonic()
        self._shown = -math.inf
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24), console=console
        )
        self._task = self._bar.add_task("starting", total=self._all_trials + self._all_refits)

    def __enter__(self) -> "SweepProgress":
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, what: str, job: Job, result: dict[str, Any]) -> None:
        """Count the end of a job."""
        if what in ("began", "validated"):
            return
        cell = self.searcher.studies[job.cell].cell
        self._seconds[cell.method.name, job.is_refit].append(result.get("seconds", 0.0))
        score = self.searcher.objective.sign * result.get("best", math.nan)
        if score > self._best.get(cell.task.id, (-math.inf, ""))[0]:
            self._best[cell.task.id] = (score, cell.method.label)
        if "failed" in result:
            what = f"refit {job.seed}" if job.is_refit else f"trial {job.trial}"
            self.console.print(f"failed: {job.cell} {what}: {result['failed']}", markup=False)
        elif job.is_refit:
            self._refits_left[job.cell].discard(job.seed or 0)
        self._show()

    def _show(self) -> None:
        # Counting ten thousand cells at every event would keep the driver busy.
        pause = BAR_SECONDS if self.console.is_terminal else LINE_SECONDS
        if time.monotonic() - self._shown < pause and not self.searcher.finished:
            return
        self._shown = time.monotonic()
        cells = sum(not left for left in self._refits_left.values())
        trials = sum(study.finished for study in self.searcher.studies.values())
        refits = self._all_refits - sum(len(left) for left in self._refits_left.values())
        text = (
            f"cells {cells}/{len(self._refits_left)}  trials {trials}/{self._all_trials}  "
            f"refits {refits}/{self._all_refits}  {self._times()}"
        )
        if self.console.is_terminal:
            self._bar.update(self._task, completed=trials + refits, description=text)
        else:
            objective = self.searcher.objective
            best = [
                f"{task} {objective.text(objective.sign * score)} ({who})"
                for task, (score, who) in self._best.items()
            ]
            line = f"{text}  best on validation: {', '.join(best)}"
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _times(self) -> str:
        elapsed = time.monotonic() - self._start
        left = self._left(elapsed)
        ahead = "time left unknown" if left is None else f"about {_clock(left)} left"
        return f"{_clock(elapsed)} elapsed, {ahead}"

    def _left(self, elapsed: float) -> float | None:
        """Estimate the seconds left from similar jobs; None until there is one for every kind."""
        busy = sum(sum(each) for each in self._seconds.values())
        pending = 0.0
        for cell_id, study in self.searcher.studies.items():
            name = study.cell.method.name
            for refit, count in (
                (False, study.trials - study.finished),
                (True, len(self._refits_left[cell_id])),
            ):
                seconds = self._mean_seconds(name, refit)
                if count and seconds is None:
                    return None
                pending += count * (seconds or 0.0)
        at_once = max(1.0, busy / max(elapsed, 1e-9))
        return pending / at_once

    def _mean_seconds(self, method: str, refit: bool) -> float | None:
        alike = [
            second
            for (name, _), seconds in self._seconds.items()
            if methods.find(name).learned == methods.find(method).learned
            for second in seconds
        ]
        exact = self._seconds.get((method, refit)) or self._seconds.get((method, not refit))
        return fmean(exact or alike) if exact or alike else None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
