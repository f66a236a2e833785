"""One training run on several workers that share each batch, under Ray Train.

A trial that drives workers takes what they need as one placement group, as any trial takes its CPU:
so Tune waits until all of it is free, gives back the actors that it keeps warm, and frees it when
the trial is stopped. Ray Train always makes a placement group of its own for its workers; there is
room for it in the `SLIVER` that the trial leaves of each worker's share.
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
from bench.places import Place
from bench.spec import Budget
from bench.training import Fit, Progress

PATIENCE = 1.0  # seconds between looks at whether the workers are still alive
SLIVER = 0.01
RETRIES = 1
EVERY = "every start"


@dataclass(frozen=True)
class Order:
    """What each worker is told.

    Attributes:
        images: reference to the training and validation images.
        size: of the training set, which is the beginning of these.
        up: carries each validation, and at last the result, from the first worker.
        down: carries back whether to go on.
    """

    method: str
    config: dict[str, Any]
    images: Any
    size: int
    physics: Physics
    budget: Budget
    seed: int
    workers: int
    precision: str
    checkpoint: Place
    checkpoint_seconds: float
    checkpoint_at: int | None
    parts: int
    objective: str
    threads: int
    up: Queue
    down: Queue


@dataclass(frozen=True)
class _Said:
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
    method: str,
    config: dict[str, Any],
    images: Any,
    size: int,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int,
    precision: str,
    share: dict[str, float],
    checkpoint: Place,
    checkpoint_seconds: float,
    checkpoint_at: int | None,
    parts: int,
    objective: str,
) -> Generator[Progress, None, Fit]:
    """Be `training.steps` on several workers; closing the generator stops them.

    Raises:
        DivergedError: the loss is no longer finite.
        LostError: the workers died.
        RuntimeError: the method failed on one of them.
    """
    up, down = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    order = Order(
        method, config, images, size, physics, budget, seed, workers, precision, checkpoint,
        checkpoint_seconds, checkpoint_at, parts, objective, int(share["CPU"]), up, down,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="reconbench-") as scratch, ThreadPoolExecutor(1) as own:
        trainer = TorchTrainer(
            _work,
            train_loop_config={"order": order},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu="GPU" in share,
                resources_per_worker=dict.fromkeys(share, SLIVER),
            ),
            run_config=RunConfig(
                storage_path=scratch, failure_config=FailureConfig(max_failures=RETRIES)
            ),
        )
        running = own.submit(trainer.fit)
        try:
            while isinstance((said := _next(up, running)).what, Progress):
                yield said.what
                down.put(_Said(said.start, True))
            if isinstance(said.what, Exception):
                raise said.what
            model = training.build(method, config, physics)
            model.load_state_dict(said.what.weights)
            return Fit(model.eval(), **said.what.fit)
        finally:
            down.put(_Said(EVERY, False))
            running.exception()  # until the workers have gone
            for queue in (up, down):
                queue.shutdown(force=True)


def reservation(share: dict[str, float], workers: int) -> list[dict[str, float]]:
    """Return the bundles of a trial that drives workers: nothing for itself, and theirs."""
    return [{}, *[{name: amount - SLIVER for name, amount in share.items()}] * workers]


def _next(up: Queue, running: Future[Any]) -> _Said:
    while True:
        try:
            return up.get(timeout=PATIENCE)
        except Empty:
            if running.done():
                error = running.exception()
                # Where one died, the others raise since they miss it.
                causes = getattr(error, "worker_failures", {}).values()
                raised = all(map(private.raised_by_code, causes))
                kind = RuntimeError if causes and raised else LostError
                raise kind(f"the workers died: {error}") from None


def _work(config: dict[str, Any]) -> None:
    order: Order = config["order"]
    torch.set_num_threads(order.threads)
    first = get_context().get_world_rank() == 0
    start = uuid4().hex
    device = get_device()
    assert isinstance(device, torch.device)
    train, val = ray.get(order.images)
    run = training.steps(
        order.method, order.config, train.first(order.size), val, order.physics,
        order.budget, order.seed, order.workers, device=device, precision=order.precision,
        checkpoint=order.checkpoint, checkpoint_seconds=order.checkpoint_seconds,
        checkpoint_at=order.checkpoint_at, parts=order.parts, objective=order.objective,
    )  # fmt: skip
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            if first:
                order.up.put(_Said(start, _packed(end.value)))
            return
        except Exception as error:
            # What would only happen again; all else is for Ray Train to try once more.
            final = isinstance(error, (DivergedError, UnwritableError))
            if not (final or training.out_of_memory(error)):
                raise
            order.up.put(_Said(start, error))
            return
        go_on = torch.ones(1, device=device)
        if first:
            order.up.put(_Said(start, progress))
            go_on *= _answer(order.down, start)
        dist.broadcast(go_on, 0)
        if not go_on:
            return


def _answer(down: Queue, start: str) -> bool:
    while (said := down.get()).start not in (start, EVERY):
        pass
    return said.what


def _packed(fit: Fit) -> _Result:
    weights = {key: value.cpu() for key, value in fit.reconstructor.state_dict().items()}
    numbers = {key: value for key, value in vars(fit).items() if key != "reconstructor"}
    return _Result(weights, numbers)
