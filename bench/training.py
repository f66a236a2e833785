"""One training run in plain PyTorch, without Ray: usable in a notebook and on any GPU.

`fit` runs a method to the end of its budget; `steps` is the same run as a generator that stops at
each validation, which is how the sweep drives, prunes and abandons it. A classical method goes the
same way: it is built, perhaps shown the training images, and validated once.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bench import methods, metrics
from bench.data import ImageSet
from bench.data.augment import augment
from bench.errors import DivergedError, UserError
from bench.methods.losses import loss
from bench.physics import Physics
from bench.plugins import check_options, options_of
from bench.seeds import derive_seed
from bench.spec import Budget

CHUNK = 16


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; any of it may stand in a search space or be held fixed.

    Attributes:
        lr: peak learning rate of AdamW (Loshchilov and Hutter, arXiv 1711.05101).
        weight_decay: its decoupled weight decay.
        warmup: fraction of the steps over which the rate rises; it then falls along a cosine.
        clip_norm: greatest norm of the gradient.
        loss: a name of `bench.methods.losses`.
        augment: a name of `bench.data.augment.PRESETS`.
    """

    lr: float = 4e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    clip_norm: float = 1.0
    loss: str = "mse"
    augment: str = "flips"


@dataclass(frozen=True)
class Progress:
    """A validation in the middle of a run: PSNR in dB, averaged over the validation images."""

    step: int
    psnr: float


@dataclass(frozen=True)
class Fit:
    """A finished run.

    Attributes:
        reconstructor: with the weights that were best on validation, in evaluation mode.
        psnr: mean validation PSNR of these, in dB.
        step: optimiser steps until these.
        history: every validation.
        seconds: wall-clock time of the run.
        parameters: trainable numbers.
    """

    reconstructor: nn.Module
    psnr: float
    step: int
    history: list[Progress]
    seconds: float
    parameters: int


def fit(
    method: str,
    config: Mapping[str, Any],
    train: ImageSet,
    val: ImageSet,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int = 1,
    report: Callable[[Progress], None] | None = None,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
) -> Fit:
    """Run a method to the end of its budget.

    Args:
        method: its name or dotted path.
        config: keywords of the method and fields of `Recipe`, together.
        train: training images; of these only measurements and images of this set are used.
        val: validation images, which choose the weights.
        physics: the task's physics.
        budget: steps, batch size and number of validations.
        seed: of initial weights, order and training noise.
        workers: processes that train together with one global batch; each calls this function
            after `torch.distributed` was set up.
        report: called at each validation.
        device: default: the GPU where there is one.
        precision: "fp32", "bf16", or "auto": bf16 where the hardware has it.

    Raises:
        UserError: unknown method, keyword or loss, or a batch that the workers cannot share.
        DivergedError: the loss is no longer finite.
    """
    run = steps(
        method, config, train, val, physics, budget, seed, workers,
        device=device, precision=precision,
    )  # fmt: skip
    while True:
        try:
            progress = next(run)
        except StopIteration as end:
            return end.value
        if report is not None:
            report(progress)


def steps(
    method: str,
    config: Mapping[str, Any],
    train: ImageSet,
    val: ImageSet,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int = 1,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
) -> Generator[Progress, None, Fit]:
    """Run a method as a generator of its validations that returns the `Fit`; see `fit`."""
    start = time.perf_counter()
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(seed)
    recipe, options = _divide(method, config)
    model = methods.create(method, **options).to(device)
    physics = physics.to(device)
    judge = _Judge(val, physics, device)
    if isinstance(model, methods.Classical):
        model.prepare(_tensor(train, device))
        training = iter([0])
    else:
        training = _train(model, recipe, train, physics, budget, seed, workers, device, precision)

    history: list[Progress] = []
    best: dict[str, Tensor] | None = None
    best_psnr, best_step = -math.inf, 0
    for step in training:
        progress = Progress(step, judge(model))
        history.append(progress)
        if progress.psnr > best_psnr:
            best_psnr, best_step = progress.psnr, step
            best = {key: value.detach().clone() for key, value in model.state_dict().items()}
        yield progress
    if best is None:
        raise DivergedError("no validation gave a finite PSNR")
    model.load_state_dict(best)
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    seconds = time.perf_counter() - start
    return Fit(model.eval(), best_psnr, best_step, history, seconds, parameters)


def check(method: str, config: Mapping[str, Any]) -> None:
    """Refuse an unknown method or configuration key.

    Raises:
        UserError: with the nearest spelling.
    """
    _divide(method, config)


@torch.no_grad()
def reconstruct(
    model: nn.Module, y: Shaped[Tensor, "n ..."], physics: Physics
) -> Shaped[Tensor, "n 1 h w"]:
    """Reconstruct measurements a few at a time, in evaluation mode and float32."""
    model.eval()
    return torch.cat([model(part, physics) for part in y.split(CHUNK)])


def use_bf16(precision: str, device: torch.device) -> bool:
    """Tell whether to train in bf16; "auto" means where the hardware multiplies in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


class _Judge:
    """Scores a model on the validation images, measured once."""

    def __init__(self, val: ImageSet, physics: Physics, device: torch.device):
        self.x = _tensor(val, device)
        self.y = physics.measure(self.x, val.ids)
        self.physics = physics

    def __call__(self, model: nn.Module) -> float:
        x_hat = reconstruct(model, self.y, self.physics)
        return float(metrics.evaluate(x_hat, self.x)["psnr"].mean())


def _divide(method: str, config: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """Part a configuration into the training recipe and the method's own keywords."""
    own = options_of(methods.find(method))
    trainable = {field.name for field in fields(Recipe)} if methods.is_learned(method) else set()
    check_options(method, config, {*own, *trainable})
    recipe = Recipe(**{key: config[key] for key in config if key in trainable - set(own)})
    return recipe, {key: config[key] for key in config if key in own}


def _train(
    model: nn.Module,
    recipe: Recipe,
    train: ImageSet,
    physics: Physics,
    budget: Budget,
    seed: int,
    workers: int,
    device: torch.device,
    precision: str,
) -> Iterator[int]:
    """Train in place; yield the number of steps done whenever a validation is due."""
    parallel = _share(model, workers, budget)
    rank = dist.get_rank() if workers > 1 else 0
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rate(step, budget.steps, recipe.warmup)
    )
    images = _tensor(train, device)
    due = report_steps(budget)
    bf16 = use_bf16(precision, device)
    for step, batch in zip(
        range(1, budget.steps + 1), _batches(len(train), budget.batch_size, seed), strict=False
    ):
        model.train()
        mine = slice(rank, None, workers)
        # Fresh noise at each step: a simulated degradation can be drawn as often as wanted.
        ids = [f"{train.ids[i]}@{seed}.{step}.{place}" for place, i in enumerate(batch)]
        # Drawn for the whole batch, so that several workers see what one would.
        x = augment(images[batch], recipe.augment, derive_seed("augment", seed, step))[mine]
        y = physics.measure(x, ids[mine])
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            x_hat = parallel(y, physics)
        value = loss(recipe.loss, x_hat, x)
        if not torch.isfinite(value):
            raise DivergedError(f"the loss was {value.item()} at step {step}")
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimiser.step()
        schedule.step()
        if step in due:
            yield step


def report_steps(budget: Budget) -> list[int]:
    """List the steps after which a run is validated, evenly spaced, the last one included."""
    reports = min(budget.reports, budget.steps)
    return [round(budget.steps * (k + 1) / reports) for k in range(reports)]


def _share(model: nn.Module, workers: int, budget: Budget) -> nn.Module:
    """Wrap a model for data-parallel training where several workers share the batch."""
    if workers == 1:
        return model
    if not dist.is_initialized() or dist.get_world_size() != workers:
        raise UserError(f"workers={workers} needs a torch.distributed group of that size")
    if budget.batch_size % workers:
        raise UserError(
            f"budget.batch_size: {budget.batch_size} cannot be shared by {workers} workers"
        )
    return DistributedDataParallel(model)


def _rate(step: int, total: int, warmup: float) -> float:
    rise = max(1.0, warmup * total)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise)))


def _batches(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Yield batches of positions for ever: shuffled passes over the data, end to end."""
    waiting: list[int] = []
    epoch = 0
    while True:
        while len(waiting) < size:
            order = np.random.default_rng(derive_seed("order", seed, epoch))
            waiting += order.permutation(count).tolist()
            epoch += 1
        yield waiting[:size]
        waiting = waiting[size:]


def _tensor(images: ImageSet, device: torch.device) -> Float[Tensor, "n 1 h w"]:
    """Copy images, which may lie read-only in shared memory, into a tensor."""
    return torch.tensor(images.images, device=device)
