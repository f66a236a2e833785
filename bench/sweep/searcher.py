"""Decides what Tune runs next: refits of finished cells first, then the next cell's trials."""

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from bench import methods, metrics, places
from bench.cells import seeds_of, workers_of
from bench.errors import UnwritableError, UserError
from bench.spec import Benchmark, Cell
from bench.store import Store
from bench.sweep.cell_study import DIED, CellStudy
from bench.sweep.studies import Studies
from bench.sweep.trial import MICROBATCHES, Job, checkpoint_of, timeout_marker

TABLE_SECONDS = 1.0  # minimum interval between table writes

Observer = Callable[[str, Job, dict[str, Any]], None]


class SweepSearcher(Searcher):
    """A Tune searcher over all cells, each with its own Optuna study.

    There are no barriers: while a cell's last trials run, the next cell's begin, and a cell's
    refits are issued as soon as its own trials are done. What is finished according to the journal
    and the store is never issued again.

    Attributes:
        observers: called at each job's beginning, validations and end.
        failed: cell -> why it has no result.
        fatal: why the run folder can no longer be written; no job is begun from then on.

    Args:
        spec: the benchmark.
        cells: the cells in the order in which they are searched.
        store: the run folder.
        studies: the studies in its journal.
    """

    def __init__(
        self,
        spec: Benchmark,
        cells: Sequence[Cell],
        store: Store,
        studies: Studies,
    ):
        super().__init__(metric="psnr", mode="max")
        self.spec = spec
        self.store = store
        self.objective = metrics.describe(spec.metrics)[spec.objective]
        self.studies = {
            cell.id: CellStudy(
                cell, spec.budget, studies, spec.search, spec.deterministic, self.objective
            )
            for cell in cells
        }
        self._nearby = _neighbours(cells) if spec.search.warm_start else {}
        self.failed: dict[str, str] = {}
        self.fatal: UserError | None = None
        self.observers: Sequence[Observer] = ()
        self._jobs: dict[str, Job] = {}
        self._waiting: set[str] = set()
        self._unsaved: set[str] = set()
        self._saved = time.monotonic()
        self._refits: list[Job] = []
        self._open = [study for study in self.studies.values() if not study.done]
        for cell, study in self.studies.items():
            if study.finished != store.count_trials(cell):  # a crash came between the two writes
                store.write_trials(cell, study.table())
            if study.done:
                self._issue_refits(study)
        with self._writing():
            studies.flush()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run or running."""
        return not (self._open or self._refits or self._jobs)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the next job for Tune, None to wait, or FINISHED."""
        if self._waiting:
            # Workers that train together must start together: they never would if single trials
            # took every CPU that becomes free.
            return None
        job = None
        with self._writing():
            job = self._next()
        if self.fatal:
            return Searcher.FINISHED
        if job is None:
            return Searcher.FINISHED if self.finished else None
        self._jobs[trial_id] = job
        self._tell("began", job, {})
        if workers_of(self.studies[job.cell].cell) > 1:
            self._waiting.add(trial_id)
        return asdict(job)

    def _next(self) -> Job | None:
        if self._refits:
            return self._refits.pop(0)
        for study in list(self._open):
            nearby = [self.studies[cell] for cell in self._nearby.get(study.cell.id, [])]
            if self.spec.deterministic and not all(other.done for other in nearby):
                if missed := [other for other in nearby if other.exhausted and not other.done]:
                    self._leave(study, f"depends on {missed[0].cell.id}, which has no result")
                continue
            hints = [other.best for other in nearby if other.done and other.best]
            if candidate := study.ask(hints):
                return Job(
                    study.cell.id, candidate.config, trial=candidate.index, until=candidate.until
                )
        return None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record a validation."""
        job = self._jobs[trial_id]
        self._waiting.discard(trial_id)
        if job.trial is not None and "score" in result and not result.get("done"):
            with self._writing():
                self.studies[job.cell].report(job.trial, result["step"], result["score"])
        self._tell("validated", job, result)

    def _tell(self, what: str, job: Job, result: dict[str, Any]) -> None:
        for observer in self.observers:
            with self._writing():
                observer(what, job, result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a job, and issue its cell's refits if it was the last trial."""
        job = self._jobs.pop(trial_id)
        self._waiting.discard(trial_id)
        result = dict(result or {})
        if "unwritable" in result:  # as after a crash, nothing else is recorded of the job
            self.fatal = UnwritableError(result["unwritable"])
            return
        if error:  # the worker died; Tune tells no more
            result = {key: value for key, value in result.items() if key != "done"} | {"lost": DIED}
        reason = result.get("failed") or result.get("lost")
        with self._writing():
            if "lost" not in result and (job.until is None or reason):
                self._drop_files(job)
            if not job.is_refit:
                self._end_trial(job, result)
            elif reason:
                self.failed[job.cell] = f"refit {job.seed}: {reason}"
        paused = job.until is not None and result.get("step", 0) < self.spec.budget.steps
        if reason:
            self._tell("failed", job, {**result, "failed": reason})
        else:
            self._tell("paused" if paused else "ended", job, result)

    def _drop_files(self, job: Job) -> None:
        for microbatches in (1, MICROBATCHES):
            checkpoint_of(self.store.folder, job, microbatches).unlink(missing_ok=True)
        if self.spec.time_limit is not None:
            timeout_marker(self.store.folder, job).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Note errors of the run folder, such as a full disk, so that Tune's loop can end."""
        try:
            yield
        except UserError as error:
            self.fatal = error
        except OSError as error:
            folder = self.store.folder
            self.fatal = UserError(f"{folder}: cannot be written ({error.strerror or error})")

    def _end_trial(self, job: Job, result: dict[str, Any]) -> None:
        assert job.trial is not None
        study = self.studies[job.cell]
        if "lost" in result and study.lose(job.trial, result["lost"]):
            self.failed[job.cell] = f"trial {job.trial}: {result['lost']}"
            if study.exhausted:
                self._leave(study, self.failed[job.cell])
            return
        step = int(result.get("step", 0))
        study.tell(
            job.trial,
            self.objective.sign * result.get("best", math.nan),
            psnr=result.get("psnr", math.nan),
            ssim=result.get("ssim", math.nan),
            parameters=int(result.get("parameters", 0)),
            pruned=step < self.spec.budget.steps and methods.find(study.cell.method.name).learned,
            error=result.get("failed") or result.get("lost", ""),
            step=step,
            seconds=float(result.get("seconds", 0.0)),
            node=result.get("node", ""),
        )
        self._unsaved.add(job.cell)
        if study.done or time.monotonic() - self._saved >= TABLE_SECONDS:
            self.save_tables()
        if study.done:
            # Checkpoints of paused trials that are never resumed are left otherwise.
            places.remove_tree(self.store.folder / "checkpoints" / job.cell)
            self._open.remove(study)
            self._issue_refits(study)
        elif study.exhausted:
            self._leave(study, self.failed[job.cell])

    def _leave(self, study: CellStudy, reason: str) -> None:
        """Leave the remaining trials of a cell to the next run."""
        study.exhausted = True
        self._open.remove(study)
        self.failed[study.cell.id] = reason

    def save_tables(self) -> None:
        """Update the tables of trials from the journal, as a run also does when it begins.

        Raises:
            UserError: they cannot be written.
        """
        while self._unsaved:
            cell = self._unsaved.pop()
            self.store.write_trials(cell, self.studies[cell].table())
        self._saved = time.monotonic()

    def _issue_refits(self, study: CellStudy) -> None:
        if study.best is None:
            self.failed[study.cell.id] = f"no trial succeeded: {study.table()['error'].iloc[-1]}"
            return
        for seed in range(seeds_of(study.cell, self.spec)):
            pictures = seed == 0 and self.spec.pictures > 0
            if not self.store.is_finished(study.cell.id, seed, study.best, pictures):
                self.store.drop_rows(study.cell.id, seed)
                self._refits.append(Job(study.cell.id, study.best, seed=seed))

    def refits_left(self) -> dict[str, set[int]]:
        """Return the seeds of each cell's refits that are not finished."""
        left: dict[str, set[int]] = {
            cell: set() if study.done else set(range(seeds_of(study.cell, self.spec)))
            for cell, study in self.studies.items()
        }
        for job in self._refits:
            left[job.cell].add(job.seed or 0)
        return left

    # Tune pickles its searcher for its own way to resume. Here the journal and the store are the
    # state; they contain locks, which cannot be pickled.

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal and the store are the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the journal and the store are the state."""


def _neighbours(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """List for each cell the earlier ones that differ by one step in level or in size only."""
    found: dict[str, list[str]] = {}
    grids: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        grids[cell.method.label, cell.task.degradation.label].append(cell)
    for grid in grids.values():
        levels = {level: k for k, level in enumerate(sorted({c.task.level for c in grid}))}
        sizes = {size: k for k, size in enumerate(sorted({c.n_train for c in grid}))}
        before: dict[tuple[int, int], str] = {}
        for cell in grid:
            i, j = levels[cell.task.level], sizes[cell.n_train]
            adjacent = [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]
            found[cell.id] = [before[key] for key in adjacent if key in before]
            before[i, j] = cell.id
    return found
