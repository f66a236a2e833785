"""What a Ray actor does: one trial or refit after another, on warm imports and shared data."""

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import ray
import torch
from ray import tune
from ray.exceptions import RayError
from torch import Tensor, nn

from bench import methods, metrics, physics, places, training
from bench.claim import Claim
from bench.data import ImageSet
from bench.errors import LostError, UnwritableError
from bench.physics import Physics
from bench.places import Place
from bench.seeds import derive_seed
from bench.spec import Benchmark, Cell
from bench.store import Store
from bench.sweep import distributed

HUNG = 75  # exit status of a worker that outlasted the time limit
MARK_SECONDS = 10.0  # that such a worker has to say so
OBSERVED = 16  # validation images whose noise is measured, where it depends on the image
PARTS = 2  # into which batches are cut that memory is not enough for


@dataclass(frozen=True)
class Shared:
    """What every actor reads from the object store.

    Attributes:
        spec: the benchmark.
        cells: by id.
        folder: the run folder.
        images: reference to the largest training set, whose beginning smaller ones are, and to the
            validation images.
        test: reference to the test images, which only refits fetch.
        claim: of the run on its folder.
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
        until: the step at which a trial is left with its checkpoint; None: its last.
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
        if shared.spec.deterministic:  # the call takes a second, which it spends on imports
            torch.use_deterministic_algorithms(True, warn_only=True)
        resources = self.trial_resources.required_resources
        torch.set_num_threads(max(1, int(resources.get("CPU", 1))))
        if 0 < (share := resources.get("GPU", 0)) < 1 and torch.cuda.is_available():
            # What one trial takes beyond its share, another on the same GPU would lack.
            torch.cuda.set_per_process_memory_fraction(share)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another job on this actor."""
        self.run.close()
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Run to the next validation; a failure is a result, so that the sweep goes on.

        It is `failed` where the method is to blame, `lost` where something else has gone that the
        job needs.
        """
        return {**self._result(), "node": self.node}

    def _result(self) -> dict[str, Any]:
        with _deadline(self.ends, hung_mark(self.shared.folder, self.job)):
            try:
                result = next(self.run)
                return {**result, "timesteps_total": result["step"]}  # the axis of loggers
            except UnwritableError as error:
                return {"unwritable": str(error), "done": True}
            except (Exception, SystemExit) as error:
                if hasattr(error, "ray_terminate_msg"):
                    raise  # so Ray ends a worker; a method may call sys.exit too
                kind = "lost" if isinstance(error, (LostError, RayError)) else "failed"
                message = " ".join(str(error).split())
                return {kind: f"{type(error).__name__}: {message}"[:500], "done": True}

    def cleanup(self) -> None:
        """Stop what still runs, workers elsewhere too."""
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
def _deadline(ends: float | None, mark: Place) -> Iterator[None]:
    """End the whole process if the block outlasts a time: nothing less stops one that hangs.

    An empty file says to the driver why the process died.
    """
    if ends is None:
        yield
        return

    def leave_mark() -> None:
        with contextlib.suppress(OSError, UnwritableError):
            places.make_folder(mark.parent)
            mark.touch()

    def give_up() -> None:
        marking = threading.Thread(
            target=leave_mark, daemon=True
        )  # it may be the folder that hangs
        marking.start()
        marking.join(MARK_SECONDS)
        os._exit(HUNG)

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
    if spec.time_limit is not None and hung_mark(shared.folder, job).exists():
        raise TimeoutError(  # what hung once would again
            f"it ran, or hung, for longer than the time limit of {spec.time_limit:g} s"
        )
    operator = physics_of(cell, spec, ray.get(shared.images)[1])
    best = -np.inf
    with contextlib.closing(_frugal(shared, job, operator)) as run:
        while True:
            try:
                progress = next(run)
            except StopIteration as end:
                fit: training.Fit = end.value
                break
            store.check_claim()
            best = max(best, progress.psnr)
            result = {
                "step": progress.step,
                "psnr": progress.psnr,
                "ssim": progress.ssim,
                "best": best,
                "seconds": time.perf_counter() - start,
            }
            yield result
            if progress.step == job.until:
                yield {**result, "done": True}
                return
    if job.is_refit:
        _keep(shared, cell, job, operator, fit)
    yield {
        "step": fit.history[-1].step,
        "psnr": fit.psnr,
        "best": fit.psnr,
        "ssim": fit.ssim,
        "parameters": fit.parameters,
        "seconds": time.perf_counter() - start,
        "done": True,
    }


def _refuse_unshared(folder: str) -> None:
    """Keep a node that does not see the run folder from writing its results where none looks."""
    if not (places.place(folder) / "spec.yaml").exists():
        raise UnwritableError(
            f"{folder}: {socket.gethostname()}, a node of this cluster, does not see this folder; "
            "choose an --out that all nodes share"
        )


def hung_mark(folder: str | Place, job: Job) -> Place:
    """Name the file that says of a job that it outlasted the time limit."""
    return places.place(folder) / "checkpoints" / job.cell / f"{job.label}.hung"


def checkpoint_of(folder: str | Place, job: Job, parts: int = 1) -> Place:
    """Name a job's checkpoint, which stays there until the driver knows that the job has ended.

    One with batches cut in parts has another, and goes on with these.
    """
    config = hashlib.sha256(json.dumps(job.config, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{job.label}-{config}{f'-{parts}' if parts > 1 else ''}.pt"
    return places.place(folder) / "checkpoints" / job.cell / name


def _frugal(
    shared: Shared, job: Job, operator: Physics
) -> Generator[training.Progress, None, training.Fit]:
    """Train; out of memory, begin again with batches cut in two, once."""
    if not checkpoint_of(shared.folder, job, parts=PARTS).exists():
        try:
            return (yield from _training(shared, job, operator))
        except (MemoryError, RuntimeError) as error:  # PyTorch's is one of the latter
            if not training.out_of_memory(error):
                raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return (yield from _training(shared, job, operator, parts=PARTS))


def _training(
    shared: Shared, job: Job, operator: Physics, parts: int = 1
) -> Generator[training.Progress, None, training.Fit]:
    """Begin a job's training, here or on as many workers as its method asks for."""
    cell, spec = shared.cells[job.cell], shared.spec
    seed = training_seed(cell, job.seed)
    checkpoint = checkpoint_of(shared.folder, job, parts)
    if workers_of(cell) > 1:
        return distributed.steps(
            cell.method.name, job.config, shared.images, cell.n_train, operator, spec.budget, seed,
            workers_of(cell), spec.precision, share_of(cell),
            checkpoint, spec.checkpoint_seconds, job.until, parts,
        )  # fmt: skip
    train, val = ray.get(shared.images)
    return training.steps(
        cell.method.name, job.config, train.first(cell.n_train), val, operator, spec.budget,
        seed, precision=spec.precision, checkpoint=checkpoint,
        checkpoint_seconds=spec.checkpoint_seconds, checkpoint_at=job.until,
        compile_network=spec.compile, parts=parts,
    )  # fmt: skip


def share_of(cell: Cell, on_gpus: bool | None = None) -> dict[str, float]:
    """Return the resources of a cell's trial, or of each of its workers.

    Args:
        cell: whose method says what it asks for.
        on_gpus: whether there are GPUs; default: as the cluster has.
    """
    gpus = cell.method.gpus if methods.is_learned(cell.method.name) else 0.0
    if on_gpus is None:
        on_gpus = bool(ray.cluster_resources().get("GPU", 0))
    if not gpus or not on_gpus:
        return {"CPU": float(cell.method.cpus)}
    return {"CPU": float(cell.method.cpus), "GPU": gpus}


def workers_of(cell: Cell) -> int:
    """Return the number of workers that train a cell's method together."""
    return cell.method.workers if methods.is_learned(cell.method.name) else 1


def physics_of(cell: Cell, spec: Benchmark, val: ImageSet) -> Physics:
    """Build the physics of a cell's task; its noise is observed on validation images."""
    degradation = cell.task.degradation
    operator = physics.create(
        degradation.name, cell.task.level, spec.dataset.image_size, **degradation.options
    )
    few = val.first(OBSERVED)
    operator.observe(training.as_tensor(few), few.ids)
    return operator


def training_seed(cell: Cell, refit: int | None) -> int:
    """Derive the seed of a run: the same for all trials of a cell, one for each refit."""
    return derive_seed(cell.id, "search" if refit is None else f"refit {refit}")


def score(
    cell: Cell, seed: int, fit: training.Fit, operator: Physics, test: ImageSet
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Reconstruct the test images.

    Returns:
        the rows, and `y` and `x_hat` on the CPU.
    """
    device = next((p.device for p in fit.reconstructor.parameters()), torch.device("cpu"))
    x = training.as_tensor(test).to(device)
    y = operator.measure(x, test.ids)
    x_hat, milliseconds = _timed(fit.reconstructor, y, operator)
    residual = metrics.residual(operator.A(x_hat), y)
    scores = metrics.columns(x_hat, x, test.subjects)
    learned = methods.is_learned(cell.method.name)
    rows = pd.DataFrame(
        {
            "cell": cell.id,
            "dataset": cell.task.dataset,
            "degradation": cell.task.degradation.label,
            "level": cell.task.level,
            "n_train": cell.n_train,
            "method": cell.method.label,
            "kind": "learned" if learned else "classical",
            "seed": seed,
            "image": test.ids,
            "subject": test.subjects,
            "measurement_hash": [_digest(one) for one in y],
            **{name: value.cpu().numpy() for name, value in scores.items()},
            "data_residual": residual.cpu().numpy(),
            "train_seconds": fit.seconds if learned else 0.0,
            "infer_ms": milliseconds,
            "parameters": fit.parameters,
        }
    )
    return rows, {"y": y.cpu(), "x_hat": x_hat.cpu()}


def _timed(model: nn.Module, y: Tensor, operator: Physics) -> tuple[Tensor, float]:
    """Reconstruct, and measure the milliseconds per image once the first call is over."""
    training.reconstruct(model, y[:1], operator)
    _synchronise(y)
    start = time.perf_counter()
    x_hat = training.reconstruct(model, y, operator)
    _synchronise(x_hat)
    return x_hat, 1e3 * (time.perf_counter() - start) / len(y)


def _synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def _digest(measurement: Tensor) -> str:
    return hashlib.sha256(measurement.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]


def _keep(shared: Shared, cell: Cell, job: Job, operator: Physics, fit: training.Fit) -> None:
    """Score a refit on the test images and write what it leaves; the rows last, as its seal."""
    assert job.seed is not None
    store = Store(shared.folder, shared.claim)
    test: ImageSet = ray.get(shared.test)
    rows, images = score(cell, job.seed, fit, operator, test)
    recipe = {
        "method": cell.method.name,
        "config": job.config,
        "degradation": cell.task.degradation.model_dump(exclude={"levels"}),
        "level": cell.task.level,
        "image_size": shared.spec.dataset.image_size,
        "n_train": cell.n_train,
        "validation_psnr": fit.psnr,
        "best_step": fit.step,
        "parts": fit.parts,
        "threads": torch.get_num_threads(),
    }
    store.write_model(cell.id, job.seed, recipe, fit.reconstructor.state_dict())
    count = shared.spec.pictures
    if job.seed == 0 and count:
        y, x_hat = images["y"][:count].numpy(), images["x_hat"][:count].numpy()
        error = np.abs(x_hat - test.images[:count])
        store.write_pictures(
            cell.id, y=y, x_hat=x_hat, error=error, ids=np.array(test.ids[:count]),
            start=operator.A_dagger(images["y"][:count]).numpy(),
        )  # fmt: skip
    store.write_rows(cell.id, job.seed, rows)
