"""Training speed, side by side with a plain PyTorch loop over the same network.

The plain loop is a usual first version: fp32, Adam, the default memory format, noise added on the
fly. Ours does the same and more (augmentation, noise seeded by ids, gradient clipping, schedule).
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import mse_loss

from bench import data, methods, physics, training
from bench.data import ImageSet, Split
from bench.physics import Physics
from bench.spec import Budget, DatasetSpec
from bench.training import Recipe
from bench.training.optimisation import Trainer

SIZE, BATCH, VARIANCE = 128, 8, 0.1
TIMED_STEPS, REPEATS = 12, 3
LEARNING_STEPS, LEARNING_SIZE, SEEDS = 150, 64, 4
LR = 4e-3
NETWORKS: dict[str, dict[str, Any]] = {
    "unet, width 16": {"width": 16},
    "unet, width 32, depth 4": {"width": 32, "depth": 4},
    "attention_residual_unet, width 12": {"width": 12},
    "nafnet, width 16": {"width": 16, "encoder": "1-1-2"},
}


@dataclass(frozen=True)
class Line:
    """Images per second of one network, for each way of training it."""

    network: str
    plain: float
    fp32: float
    bf16: float
    compiled: float


def page() -> str:
    """Measure, and return the tables as Markdown."""
    split = _split(SIZE)
    operator = physics.create("gaussian_noise", VARIANCE, SIZE)
    lines = []
    for network in NETWORKS:
        lines.append(_measure(network, split, operator))
        print(lines[-1], flush=True)
    fp32, bf16 = _learn()
    text = [
        "# Speed of training",
        "",
        f"Measured by `make speed` on {torch.get_num_threads()} CPU threads: images per second, "
        f"{SIZE}x{SIZE}, in batches of {BATCH}, forward, backward and Adam. Median of {REPEATS} "
        f"repeats of {TIMED_STEPS} steps, in which the columns take turns; the first third of each "
        "repeat does not count. `bf16` is what a run uses by default on this processor; "
        "`torch.compile` is bf16 too, without the time of its compilation.",
        "",
        "| network | plain fp32 loop | ours, fp32 | ours, bf16 | bf16 / plain | torch.compile |",
        "|---|---|---|---|---|---|",
    ]
    text += [
        f"| {line.network} | {line.plain:.1f} | {line.fp32:.1f} | {line.bf16:.1f} | "
        f"{line.bf16 / line.plain:.2f} | {line.compiled:.1f} |"
        for line in lines
    ]
    text += [
        "",
        f"Validation PSNR of the U-Net of width 16 after {LEARNING_STEPS} steps on "
        f"{LEARNING_SIZE}x{LEARNING_SIZE}, mean of {SEEDS} seeds: {statistics.mean(fp32):.3f} dB "
        f"in fp32, {statistics.mean(bf16):.3f} dB in bf16 (difference "
        f"{statistics.mean(bf16) - statistics.mean(fp32):+.3f} dB; for each seed "
        f"{', '.join(f'{b - a:+.2f}' for a, b in zip(fp32, bf16, strict=True))}).",
    ]
    return "\n".join(text) + "\n"


def _split(size: int) -> Split:
    return data.split(data.load(DatasetSpec(source="template", image_size=size)), 100, 24, 2)


def _measure(network: str, split: Split, operator: Physics) -> Line:
    """Time all ways in turn, so that a slow minute of the machine affects each of them."""
    turns: dict[str, list[float]] = {"plain": [], "fp32": [], "bf16": [], "compiled": []}
    for _ in range(REPEATS):
        turns["plain"].append(_plain(network, split.train))
        for way, rates in list(turns.items())[1:]:
            rates.append(_ours(network, split.train, operator, way))
    return Line(network, **{way: statistics.median(rates) for way, rates in turns.items()})


def _build(network: str) -> nn.Module:
    return methods.create(network.partition(",")[0], **NETWORKS[network])


def _plain(network: str, train: ImageSet) -> float:
    images = torch.tensor(train.images)
    model = _build(network).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=LR)
    operator = physics.create("gaussian_noise", VARIANCE, SIZE)

    def step(number: int) -> None:
        x = images[torch.randint(len(images), (BATCH,))]
        loss = mse_loss(model(x + VARIANCE**0.5 * torch.randn_like(x), operator), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return _rate(step)


def _ours(network: str, train: ImageSet, operator: Physics, way: str) -> float:
    """Time the trainer of a real run, with its data, as `training.steps` drives it."""
    recipe = Recipe(optimiser="adam", lr=LR)
    budget = Budget(steps=1000, batch_size=BATCH)
    precision = "fp32" if way == "fp32" else "bf16"
    trainer = Trainer(
        _build(network), recipe, budget, 1, torch.device("cpu"), precision, way == "compiled"
    )
    drawn = training.batches(train, operator, recipe, BATCH, 0, torch.device("cpu"))

    def step(number: int) -> None:
        trainer.step(number, next(drawn))

    return _rate(step)


def _rate(step: Callable[[int], None]) -> float:
    before = TIMED_STEPS // 3
    for number in range(1, before + 1):
        step(number)
    start = time.perf_counter()
    for number in range(before + 1, TIMED_STEPS + 1):
        step(number)
    return BATCH * (TIMED_STEPS - before) / (time.perf_counter() - start)


def _learn() -> tuple[list[float], list[float]]:
    """Return validation PSNR in fp32 and in bf16, seed by seed."""
    split = _split(LEARNING_SIZE)
    operator = physics.create("gaussian_noise", VARIANCE, LEARNING_SIZE)
    budget = Budget(steps=LEARNING_STEPS, batch_size=BATCH, reports=1)
    found: dict[str, list[float]] = {"fp32": [], "bf16": []}
    for seed in range(SEEDS):
        for precision, values in found.items():
            fit = training.fit(
                "unet", {"lr": LR}, split.train, split.val, operator, budget, seed,
                precision=precision,
            )  # fmt: skip
            values.append(fit.psnr)
    return found["fp32"], found["bf16"]
