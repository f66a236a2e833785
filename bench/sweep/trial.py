"""The Ray actor that runs trials and refits, one after another, with shared data."""

import contextlib
import hashlib
import json
import math
import os
import socket
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray import tune
from ray.exceptions import RayError

from bench import metrics, places, private, scoring, training
from bench.cells import resources_of, workers_of
from bench.claim import Claim
from bench.data import ImageSet
from bench.errors import LostError, UnwritableError
from bench.physics import Physics
from bench.places import Place
from bench.spec import Benchmark, Cell
from bench.store import Store
from bench.training import Fit, TrainingJob, Validation

TIMEOUT_EXIT_CODE = 75  # exit status of a worker that exceeded the time limit
MARKER_SECONDS = 10.0  # that such a worker has to write its marker
MICROBATCHES = 2  # into how many a batch is cut that does not fit into memory


@dataclass(frozen=True)
class Shared:
    """What every actor reads from the object store.

    Attributes:
        spec: the benchmark.
        cells: by id.
        folder: the run folder.
        images: reference to the largest training set, of which smaller ones are the beginning, and
            to the validation images.
        test: reference to the test images, which only refits fetch.
        claim: the run's claim on its folder.
    """

    spec: Benchmark
    cells: dict[str, Cell]
    folder: str
    images: Any
    test: Any
    claim: Claim | None = None


@dataclass(frozen=True)
class Job:
    """A search trial, or the refit of a cell's best configuration with one seed.

    Attributes:
        until: the step at which a trial pauses, with a checkpoint; None: it runs to its last step.
    """

    cell: str
    config: dict[str, Any]
    trial: int | None = None
    seed: int | None = None
    until: int | None = None

    @property
    def is_refit(self) -> bool:
        """Whether this is a refit, which alone sees test images and is never stopped early."""
        return self.seed is not None

    @property
    def label(self) -> str:
        """What it is within its cell, as part of a file's name."""
        return f"refit{self.seed}" if self.is_refit else f"trial{self.trial}"


class CellTrial(tune.Trainable):
    """Runs a job; each step of Tune is one validation of the training run."""

    def setup(self, config: dict[str, Any], shared: Shared | None = None) -> None:
        """Keep the shared data and begin the first job."""
        assert shared is not None
        self.shared = shared
        self.node = ray.get_runtime_context().get_node_id()
        if shared.spec.deterministic:  # conditional, since the call imports for a second
            torch.use_deterministic_algorithms(True, warn_only=True)
        resources = self.trial_resources.required_resources
        torch.set_num_threads(max(1, int(resources.get("CPU", 1))))
        if 0 < (share := resources.get("GPU", 0)) < 1 and torch.cuda.is_available():
            # A trial that exceeds its share would take memory from another one on the same GPU.
            torch.cuda.set_per_process_memory_fraction(share)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another job on this actor."""
        self.run.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run to the next validation; a failure is a result, so that the sweep continues.

        It is `failed` if the method is to blame, `lost` if something else that the job needs was
        lost.
        """
        return {**self._result(), "node": self.node}

    def _result(self) -> dict[str, Any]:
        with _deadline(self.ends, timeout_marker(self.shared.folder, self.job)):
            try:
                result = next(self.run)
                return {**result, "timesteps_total": result["step"]}  # the axis of loggers
            except UnwritableError as error:
                return {"unwritable": str(error), "done": True}
            except (Exception, SystemExit) as error:
                if private.ends_worker(error):
                    raise  # unlike a method that calls sys.exit
                kind = "lost" if isinstance(error, (LostError, RayError)) else "failed"
                message = " ".join(str(error).split())
                return {kind: f"{type(error).__name__}: {message}"[:500], "done": True}

    def cleanup(self) -> None:
        """Stop what still runs, also on other nodes."""
        self.run.close()

    def _begin(self, config: dict[str, Any]) -> None:
        limit = self.shared.spec.time_limit
        self.ends = None if limit is None else time.monotonic() + limit
        self.job = Job(**config)
        self.run = self.work()

    def work(self) -> Generator[dict[str, Any], None, None]:
        """Begin the job."""
        return run_job(self.shared, self.job)


@contextlib.contextmanager
def _deadline(ends: float | None, marker: Place) -> Iterator[None]:
    """End the whole process if the block takes too long: nothing less stops one that hangs.

    An empty file tells the driver why the process died.
    """
    if ends is None:
        yield
        return

    def write_marker() -> None:
        with contextlib.suppress(OSError, UnwritableError):
            places.make_folder(marker.parent)
            marker.touch()

    def give_up() -> None:
        # In a thread, since it may be the folder that hangs.
        writing = threading.Thread(target=write_marker, daemon=True)
        writing.start()
        writing.join(MARKER_SECONDS)
        os._exit(TIMEOUT_EXIT_CODE)

    timer = threading.Timer(max(ends - time.monotonic(), 0), give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run_job(shared: Shared, job: Job) -> Generator[dict[str, Any], None, None]:
    """Run a trial or refit; yield a result at each validation, then the last one with `done`.

    A refit has written its rows, pictures and weights by then.
    """
    start = time.perf_counter()
    _refuse_unshared(shared.folder)
    store = Store(shared.folder, shared.claim)
    store.check_claim()
    cell, spec = shared.cells[job.cell], shared.spec
    if spec.time_limit is not None and timeout_marker(shared.folder, job).exists():
        raise TimeoutError(  # a job that hung once would hang again
            f"it ran, or hung, for longer than the time limit of {spec.time_limit:g} s"
        )
    operator = scoring.physics_of(cell, spec, ray.get(shared.images)[1])
    best, sign = -math.inf, metrics.find(spec.objective_metric).column(spec.objective).sign
    with contextlib.closing(_train_with_oom_retry(shared, job, operator)) as run:
        while True:
            try:
                validation = next(run)
            except StopIteration as end:
                fit: Fit = end.value
                break
            store.check_claim()
            best = max(best, validation.score)
            result = {
                "step": validation.step,
                "psnr": validation.psnr,
                "ssim": validation.ssim,
                "score": validation.score,
                "best": sign * best,
                "seconds": time.perf_counter() - start,
            }
            yield result
            if validation.step == job.until:
                yield {**result, "done": True}
                return
    if job.seed is not None:
        test: ImageSet = ray.get(shared.test)
        scoring.write_refit(store, cell, job.seed, spec, fit, job.config, operator, test)
    yield {
        "step": fit.history[-1].step,
        "psnr": fit.psnr,
        "best": sign * fit.score,
        "ssim": fit.ssim,
        "score": fit.score,
        "parameters": fit.parameters,
        "seconds": time.perf_counter() - start,
        "done": True,
    }


def _refuse_unshared(folder: str) -> None:
    """Stop a node that does not see the run folder, where its results would be lost."""
    if not (places.place(folder) / "spec.yaml").exists():
        raise UnwritableError(
            f"{folder}: {socket.gethostname()}, a node of this cluster, does not see this folder; "
            "choose a run folder that all nodes share"
        )


def timeout_marker(folder: str | Place, job: Job) -> Place:
    """Return the place of the file that marks a job as having exceeded the time limit."""
    return places.place(folder) / "checkpoints" / job.cell / f"{job.label}.hung"


def checkpoint_of(folder: str | Place, job: Job, microbatches: int = 1) -> Place:
    """Return the place of a job's checkpoint, kept until the driver knows that the job has ended.

    A job with micro-batches has a separate one, and resumes with micro-batches.
    """
    config = hashlib.sha256(json.dumps(job.config, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{job.label}-{config}{f'-{microbatches}' if microbatches > 1 else ''}.pt"
    return places.place(folder) / "checkpoints" / job.cell / name


def _train_with_oom_retry(
    shared: Shared, job: Job, operator: Physics
) -> Generator[Validation, None, Fit]:
    """Train; if memory runs out, begin again once with each batch cut in two."""
    if not checkpoint_of(shared.folder, job, microbatches=MICROBATCHES).exists():
        try:
            return (yield from _training(shared, job, operator))
        except (MemoryError, RuntimeError) as error:  # PyTorch raises a RuntimeError
            if not training.out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return (yield from _training(shared, job, operator, microbatches=MICROBATCHES))


def _training(
    shared: Shared, job: Job, operator: Physics, microbatches: int = 1
) -> Generator[Validation, None, Fit]:
    """Start a job's training, here or on several workers."""
    cell, spec = shared.cells[job.cell], shared.spec
    workers = workers_of(cell)
    training_job = TrainingJob(
        cell.method.name,
        job.config,
        spec.budget,
        scoring.training_seed(cell, job.seed),
        workers,
        precision=spec.precision,
        compile_network=spec.compile and workers == 1,
        microbatches=microbatches,
        objective=spec.objective_metric,
        checkpoint=checkpoint_of(shared.folder, job, microbatches),
        checkpoint_seconds=spec.checkpoint_seconds,
        checkpoint_at=job.until,
    )
    if workers > 1:
        from bench.sweep import distributed  # it loads Ray Train, which most runs do without

        return distributed.steps(
            training_job, shared.images, cell.n_train, operator, share_of(cell)
        )
    train, val = ray.get(shared.images)
    return training.steps(training_job, train.first(cell.n_train), val, operator)


def share_of(cell: Cell) -> dict[str, float]:
    """Return the resources of a cell's trial, or of each of its workers, on this cluster."""
    return resources_of(cell, on_gpus=bool(ray.cluster_resources().get("GPU", 0)))
