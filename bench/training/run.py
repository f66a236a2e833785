"""One training run."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench import methods, metrics
from bench.data import ImageSet
from bench.errors import DivergedError
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.spec import Budget
from bench.training import checkpoint
from bench.training.batches import Batch, Drawn, as_tensor, batches
from bench.training.clock import Clock, Spent
from bench.training.job import TrainingJob, build, split_config
from bench.training.optimisation import Trainer
from bench.training.running_statistics import recalibrate_batch_norm, recalibration_batches
from bench.training.validation import BestWeights, Validation, Validator


@dataclass(frozen=True)
class Fit:
    """A finished run.

    Attributes:
        reconstructor: with the weights of the best validation, in evaluation mode.
        psnr: mean PSNR in that validation, in dB.
        ssim: mean SSIM in that validation.
        score: score of that validation, see `Validation`.
        step: optimiser steps before that validation.
        history: every validation.
        spent: time of the run, of the part before an interruption too.
        parameters: number of trainable parameters.
        microbatches: into how many each batch was cut.
    """

    reconstructor: nn.Module
    psnr: float
    ssim: float
    score: float
    step: int
    history: list[Validation]
    spent: Spent
    parameters: int
    microbatches: int = 1


def fit(
    method: methods.Given,
    config: Mapping[str, Any],
    train: ImageSet,
    val: ImageSet,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int = 1,
    report: Callable[[Validation], None] | None = None,
    *,
    device: str | torch.device | None = None,
    **options: Any,
) -> Fit:
    """Run a method to the end of its budget.

    Args:
        method: see `TrainingJob`, as for `config`, `budget` and `seed`.
        config: keywords of the method and of `Recipe`.
        train: training images.
        val: validation images, which choose the weights.
        physics: the task's physics.
        budget: steps, batch size and number of validations.
        seed: of initial weights, order and training noise.
        workers: processes that train together with one global batch; each calls this function
            after `torch.distributed` was set up.
        report: called at each validation.
        device: default: the GPU if there is one.
        options: further fields of `TrainingJob`, such as `precision` and `checkpoint`.

    Raises:
        UserError: unknown method, keyword, metric or loss, a batch that the workers cannot share,
            or a checkpoint of another run.
        DivergedError: the loss is no longer finite.
    """
    job = TrainingJob(method, config, budget, seed, workers, **options)
    run = steps(job, train, val, physics, device)
    while True:
        try:
            validation = next(run)
        except StopIteration as end:
            return end.value
        if report is not None:
            report(validation)


def steps(
    job: TrainingJob,
    train: ImageSet,
    val: ImageSet,
    physics: Physics,
    device: str | torch.device | None = None,
) -> Generator[Validation, None, Fit]:
    """Run a job as a generator of its validations that returns the `Fit`; see `fit`."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    clock = Clock(alone=device.type == "cpu" and job.workers == 1)
    torch.manual_seed(job.seed)
    method = methods.find(job.method)
    physics = physics.to(device)
    model = build(method, job.config, physics.of(val)).to(device)
    methods.prepare(model, as_tensor(train), physics.of(train), train.ids)
    model.to(device)  # with what it has made of them
    validate = Validator(val, physics, device, job.objective)
    if method.learned:
        return (yield from _train(job, model, train, validate, clock))
    only = validate(model, 0)
    yield only
    if math.isnan(only.psnr):
        raise DivergedError("a pixel of a reconstruction is not finite")
    if math.isnan(only.score):
        name = metrics.name_of(job.objective)
        raise DivergedError(f"{name} is not defined on any validation image")
    fitted = sum(weight.numel() for weight in model.parameters()) if method.kind == "fitted" else 0
    return Fit(model.eval(), only.psnr, only.ssim, only.score, 0, [only], clock.read(), fitted)


def _train(
    job: TrainingJob, model: nn.Module, train: ImageSet, validate: Validator, clock: Clock
) -> Generator[Validation, None, Fit]:
    """Train a network; `clock` has measured its run so far."""
    device, budget = validate.device, job.budget
    physics = methods.training_physics(model, validate.physics).to(device)
    recipe, _ = split_config(methods.find(job.method), job.config)
    trainer = Trainer(
        model, recipe, budget, job.workers, device, job.precision, job.compile_network,
        job.microbatches,
    )  # fmt: skip
    best = BestWeights()
    done, clock.before = checkpoint.resume(job, trainer, best, device)
    yield from best.history  # for a caller that was stopped too
    if best.weights is None and getattr(model, "usable_untrained", False):
        best.consider(validate(model, 0), model, final=not trainer.pretrained)
    drawn: Drawn = {}

    def draw(seed: int, after: int = 0) -> Iterator[Batch]:
        return batches(
            train, physics, recipe, budget.batch_size, seed, device,
            after=after, rank=trainer.rank, workers=job.workers, network=model, drawn=drawn,
        )  # fmt: skip

    recalibration = recalibration_batches(trainer.network, draw(derive_seed("moments", job.seed)))
    validated_at = set(report_steps(budget))
    saved = clock.start
    numbers = range(done + 1, budget.steps + 1)
    for step, batch in zip(numbers, draw(job.seed, after=done), strict=False):
        # Randomness inside the network derives from the step, so that a resumed run repeats it.
        torch.manual_seed(derive_seed("step", job.seed, step, trainer.rank))
        trainer.step(step, batch)
        if step not in validated_at:
            continue
        trainer.check()
        network = trainer.network
        recalibrate_batch_norm(network, recalibration)
        best.note(validate(network, step), network, final=step > trainer.pretrained)
        now = time.perf_counter()
        due = now - saved >= job.checkpoint_seconds or step == job.checkpoint_at
        if job.checkpoint is not None and trainer.rank == 0 and due:
            saved = now
            checkpoint.save(job, step, clock.read(), trainer, best)
        yield best.history[-1]
    if best.weights is None:
        name = metrics.name_of(job.objective)
        raise DivergedError(f"no validation had a finite {name.upper()}")
    model.load_state_dict(best.weights)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    return Fit(
        model.eval(), best.psnr, best.ssim, best.score, best.step, best.history, clock.read(),
        parameters, job.microbatches,
    )  # fmt: skip


def out_of_memory(error: Exception) -> bool:
    """Return whether an error says that the machine or the GPU ran out of memory."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        "can't allocate memory" in text or "out of memory" in text
    )


def report_steps(budget: Budget) -> list[int]:
    """List the steps after which a run is validated, evenly spaced, the last one included."""
    reports = min(budget.reports, budget.steps)
    return [round(budget.steps * (k + 1) / reports) for k in range(reports)]
