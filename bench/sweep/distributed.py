"""One training run on several workers that share each batch, under Ray Train.

A trial that drives workers takes what they need as one placement group, as any trial takes its CPU:
so Tune waits until all of it is free, gives back the actors that it keeps warm, and frees it when
the trial is stopped. Ray Train always makes a placement group of its own for its workers; there is
room for it in the `RESERVED_SHARE` that the trial leaves of each worker's share.
"""

import tempfile
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty
from typing import Any
from uuid import uuid4

import ray
import torch
import torch.distributed as dist
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue
from torch import Tensor

from bench import private, training
from bench.errors import DivergedError, LostError, UnwritableError
from bench.physics import Physics
from bench.training import Fit, TrainingJob, Validation

POLL_SECONDS = 1.0  # seconds between looks at whether the workers are still alive
RESERVED_SHARE = 0.01
RETRIES = 1
EVERY = "every start"


@dataclass(frozen=True)
class _Order:
    """What each worker is told.

    Attributes:
        job: what is trained.
        images: reference to the training and validation images.
        size: of the training set, which is the beginning of these.
        physics: the task's.
        threads: of each worker.
        up: carries each validation, and at last the result, from the first worker.
        down: carries back whether to continue.
    """

    job: TrainingJob
    images: Any
    size: int
    physics: Physics
    threads: int
    up: Queue
    down: Queue


@dataclass(frozen=True)
class _Message:
    """A message of the first worker, and by which start of the workers it was sent.

    Workers that died are started again, and must not take for an answer what was meant for those
    before them.
    """

    start: str
    what: Any


@dataclass(frozen=True)
class _Result:
    weights: dict[str, Tensor]
    fit: dict[str, Any]


def steps(
    job: TrainingJob, images: Any, size: int, physics: Physics, share: dict[str, float]
) -> Generator[Validation, None, Fit]:
    """Run a job as `training.steps` does, on several workers; closing the generator stops them.

    Args:
        job: what is trained.
        images: reference to the training and validation images.
        size: of the training set, which is the beginning of these.
        physics: the task's.
        share: resources of each worker.

    Raises:
        DivergedError: the loss is no longer finite.
        LostError: the workers died.
        RuntimeError: the method failed on one of them.
    """
    up, down = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    order = _Order(job, images, size, physics, int(share["CPU"]), up, down)
    with tempfile.TemporaryDirectory(prefix="reconbench-") as scratch, ThreadPoolExecutor(1) as own:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"order": order},
            scaling_config=ScalingConfig(
                num_workers=job.workers,
                use_gpu="GPU" in share,
                resources_per_worker=dict.fromkeys(share, RESERVED_SHARE),
            ),
            run_config=RunConfig(
                storage_path=scratch, failure_config=FailureConfig(max_failures=RETRIES)
            ),
        )
        running = own.submit(trainer.fit)
        try:
            while isinstance((message := _next(up, running)).what, Validation):
                yield message.what
                down.put(_Message(message.start, True))
            if isinstance(message.what, Exception):
                raise message.what
            model = training.build(job.method, job.config, physics)
            model.load_state_dict(message.what.weights)
            return Fit(model.eval(), **message.what.fit)
        finally:
            down.put(_Message(EVERY, False))
            running.exception()  # until the workers have gone
            for queue in (up, down):
                queue.shutdown(force=True)


def reservation(share: dict[str, float], workers: int) -> list[dict[str, float]]:
    """Return the bundles of a trial that drives workers: nothing for itself, and theirs."""
    return [{}, *[{name: amount - RESERVED_SHARE for name, amount in share.items()}] * workers]


def _next(up: Queue, running: Future[Any]) -> _Message:
    while True:
        try:
            return up.get(timeout=POLL_SECONDS)
        except Empty:
            if running.done():
                error = running.exception()
                # Where one died, the others raise since they miss it.
                causes = getattr(error, "worker_failures", {}).values()
                raised = all(map(private.raised_by_code, causes))
                kind = RuntimeError if causes and raised else LostError
                raise kind(f"the workers died: {error}") from None


def _work(config: dict[str, Any]) -> None:
    order: _Order = config["order"]
    torch.set_num_threads(order.threads)
    first = get_context().get_world_rank() == 0
    start = uuid4().hex
    device = get_device()
    assert isinstance(device, torch.device)
    train, val = ray.get(order.images)
    run = training.steps(order.job, train.first(order.size), val, order.physics, device)
    while True:
        try:
            validation = next(run)
        except StopIteration as end:
            if first:
                order.up.put(_Message(start, _packed(end.value)))
            return
        except Exception as error:
            # What would only happen again; all else is for Ray Train to try once more.
            final = isinstance(error, (DivergedError, UnwritableError))
            if not (final or training.out_of_memory(error)):
                raise
            order.up.put(_Message(start, error))
            return
        go_on = torch.ones(1, device=device)
        if first:
            order.up.put(_Message(start, validation))
            go_on *= _answer(order.down, start)
        dist.broadcast(go_on, 0)
        if not go_on:
            return


def _answer(down: Queue, start: str) -> bool:
    while (message := down.get()).start not in (start, EVERY):
        pass
    return message.what


def _packed(fit: Fit) -> _Result:
    weights = {key: value.cpu() for key, value in fit.reconstructor.state_dict().items()}
    numbers = {key: value for key, value in vars(fit).items() if key != "reconstructor"}
    return _Result(weights, numbers)
