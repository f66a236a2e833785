"""One training run on several workers that share each batch, with Ray Train.

A trial that drives workers reserves their resources as one placement group, as any trial reserves
its CPU: so Tune waits until all of them are free, releases its idle actors, and frees the group
when the trial stops. Ray Train always creates another placement group for its workers; it fits into
the `RESERVED_SHARE` of each worker's resources that the trial leaves unreserved.
"""

import pickle
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

POLL_SECONDS = 1.0  # between checks whether the workers are still alive
RESERVED_SHARE = 0.01
RETRIES = 1
EVERY_ATTEMPT = "every attempt"


class _MessageQueue(Queue):
    """A queue of pickled messages: its actor need not import PyTorch to hold them."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Send a message."""
        super().put(pickle.dumps(item), block, timeout)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Receive a message."""
        return pickle.loads(super().get(block, timeout))


@dataclass(frozen=True)
class _WorkerConfig:
    """What each worker receives.

    Attributes:
        job: what is trained.
        images: reference to the training and validation images.
        size: of the training set, which is the beginning of these.
        physics: the task's.
        threads: of each worker.
        up: sends each validation, and finally the result, from the first worker.
        down: sends back whether to continue.
    """

    job: TrainingJob
    images: Any
    size: int
    physics: Physics
    threads: int
    up: _MessageQueue
    down: _MessageQueue


@dataclass(frozen=True)
class _Message:
    """A message of the first worker or to it, with the attempt to which it belongs.

    If workers die they are started again, and must not read an answer to an earlier attempt.
    """

    attempt: str
    content: Any


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
    up, down = (_MessageQueue(actor_options={"num_cpus": 0}) for _ in range(2))
    settings = _WorkerConfig(job, images, size, physics, int(share["CPU"]), up, down)
    with tempfile.TemporaryDirectory(prefix="reconbench-") as scratch, ThreadPoolExecutor(1) as own:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"settings": settings},
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
            while isinstance((message := _next(up, running)).content, Validation):
                yield message.content
                down.put(_Message(message.attempt, True))
            if isinstance(message.content, Exception):
                raise message.content
            model = training.build(job.method, job.config, physics)
            model.load_state_dict(message.content.weights)
            return Fit(model.eval(), **message.content.fit)
        finally:
            down.put(_Message(EVERY_ATTEMPT, False))
            running.exception()  # waits until the workers have ended
            for queue in (up, down):
                queue.shutdown(force=True)


def reservation(share: dict[str, float], workers: int) -> list[dict[str, float]]:
    """Return the bundles of a trial that drives workers: an empty one for itself, and theirs."""
    return [{}, *[{name: amount - RESERVED_SHARE for name, amount in share.items()}] * workers]


def _next(up: _MessageQueue, running: Future[Any]) -> _Message:
    while True:
        try:
            return up.get(timeout=POLL_SECONDS)
        except Empty:
            if running.done():
                error = running.exception()
                # If one died, the others raise too.
                causes = getattr(error, "worker_failures", {}).values()
                raised = all(map(private.raised_by_code, causes))
                kind = RuntimeError if causes and raised else LostError
                raise kind(f"the workers died: {error}") from None


def _work(config: dict[str, Any]) -> None:
    settings: _WorkerConfig = config["settings"]
    torch.set_num_threads(settings.threads)
    first = get_context().get_world_rank() == 0
    attempt = uuid4().hex
    device = get_device()
    assert isinstance(device, torch.device)
    train, val = ray.get(settings.images)
    run = training.steps(settings.job, train.first(settings.size), val, settings.physics, device)
    while True:
        try:
            validation = next(run)
        except StopIteration as end:
            if first:
                settings.up.put(_Message(attempt, _packed(end.value)))
            return
        except Exception as error:
            # These would happen again; Ray Train retries after all others.
            final = isinstance(error, (DivergedError, UnwritableError))
            if not (final or training.out_of_memory(error)):
                raise
            settings.up.put(_Message(attempt, error))
            return
        proceed = torch.ones(1, device=device)
        if first:
            settings.up.put(_Message(attempt, validation))
            proceed *= _answer(settings.down, attempt)
        dist.broadcast(proceed, 0)
        if not proceed:
            return


def _answer(down: _MessageQueue, attempt: str) -> bool:
    while (message := down.get()).attempt not in (attempt, EVERY_ATTEMPT):
        pass
    return message.content


def _packed(fit: Fit) -> _Result:
    weights = {key: value.cpu() for key, value in fit.reconstructor.state_dict().items()}
    numbers = {key: value for key, value in vars(fit).items() if key != "reconstructor"}
    return _Result(weights, numbers)
