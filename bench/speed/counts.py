"""What training asks of a GPU, counted without one: launches, copies, synchronisations, draws."""

import time
from collections.abc import Iterator
from typing import Any

import torch

import search_spaces
from bench import methods, physics, training
from bench.data import ImageSet
from bench.physics import Physics
from bench.spec import Budget
from bench.speed._pretended import DEVICE, Counting, Counts, pretended
from bench.training import Recipe
from bench.training.guard import EVERY
from bench.training.optimisation import Trainer

SIZE, BATCH = 64, 8
STEPS = 3  # before the one that is counted: the first ones fill caches
LARGE, MANY, REPEATS = 256, 32, 5  # pixels, images, batches: of the time on the CPU
DEGRADATIONS: dict[str, tuple[float, dict[str, Any]]] = {
    "gaussian_noise": (0.1, {}), "rician_noise": (0.05, {}), "poisson_noise": (100, {}),
    "salt_pepper_noise": (0.05, {}), "gaussian_blur": (2, {}), "super_resolution": (4, {}),
    "mri_cartesian": (4, {}), "mri_cartesian, 8 coils": (4, {"coils": 8}), "chain": (0.05, {}),
}  # fmt: skip
NETWORKS = {
    "unet": "gaussian_noise", "restormer": "gaussian_noise",
    "attention_residual_unet": "gaussian_noise", "nafnet": "super_resolution",
    "modl": "mri_cartesian", "cs_unet": "mri_cartesian", "learned_primal_dual": "mri_cartesian",
    "e2e_varnet": "mri_cartesian, 8 coils",
}  # fmt: skip

# The same, counted by this code in the version before training was prepared for a GPU (62dc5ab):
# launches, copies, bytes, synchronisations, draws, and milliseconds or casts.
BEFORE: dict[str, tuple[float, ...]] = {
    "gaussian_noise": (10, 4, 262280, 0, 10, 34.0), "rician_noise": (13, 5, 393352, 0, 18, 67.2),
    "poisson_noise": (10, 4, 262280, 1, 10, 215.8),
    "salt_pepper_noise": (14, 4, 262280, 0, 10, 38.0),
    "gaussian_blur": (15, 5, 295048, 0, 10, 79.6), "super_resolution": (42, 5, 139400, 0, 2, 21.7),
    "mri_cartesian": (22, 7, 434312, 1, 10, 79.1),
    "mri_cartesian, 8 coils": (22, 7, 2498696, 1, 10, 838.0),
    "chain": (19, 5, 295048, 0, 10, 80.7),
    "unet": (297, 0, 0, 2, 0, 36), "restormer": (770, 0, 0, 2, 0, 64),
    "attention_residual_unet": (463, 0, 0, 2, 0, 66), "nafnet": (720, 0, 0, 2, 0, 149),
    "modl": (516, 17, 163584, 2, 0, 35), "cs_unet": (602, 11, 112896, 3, 0, 59),
    "learned_primal_dual": (563, 20, 368640, 2, 0, 100), "e2e_varnet": (1467, 2, 8192, 2, 0, 79),
}  # fmt: skip
COLUMNS = "launches | copies to the GPU | their bytes | synchronisations | draws on the CPU"


def page() -> str:
    """Count, and return the page as Markdown."""
    lines = [
        "# What training asks of a GPU",
        "",
        "Counted by `make speed PART=counts` on a device that computes nothing, so without a GPU: "
        f"{SIZE}x{SIZE} pixels, batches of {BATCH}, in the fourth step. Launches are operations "
        "other than views; a synchronisation is a value that the CPU reads from the GPU. The fused "
        "update of the weights is not counted. Each entry is before → after training was prepared "
        "for GPUs.",
        "",
        f"| data path | {COLUMNS} | CPU ms for {MANY} images of {LARGE}x{LARGE} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in DEGRADATIONS:
        lines.append(_row(name, data_path(name), round(1e3 * host_seconds(name), 1)))
    lines += [
        "",
        f"| network, a step | {COLUMNS} | casts in bf16 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, degradation in NETWORKS.items():
        lines.append(_row(name, step(name, degradation), casts(name, degradation)))
    lines += [
        "",
        f"A GPU is asked every {EVERY} steps, and before a validation, if the loss was finite.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, counts: Counts, last: float) -> str:
    now = (
        counts.launches, counts.uploads, counts.uploaded, counts.synchronisations, counts.draws,
        last,
    )  # fmt: skip
    pairs = zip(BEFORE[name], now, strict=True)
    return f"| {name} | {' | '.join(f'{before:,} → {after:,}' for before, after in pairs)} |"


def data_path(name: str) -> Counts:
    """Count what drawing a batch takes."""
    with pretended(), Counting() as counting:
        drawn = training.batches(
            _images(SIZE, BATCH), _task(name, SIZE), Recipe(), BATCH, 0, DEVICE
        )
        for _ in range(STEPS):
            next(drawn)
        counting.counts = Counts()
        next(drawn)
    return counting.counts


def step(name: str, degradation: str) -> Counts:
    """Count what a step takes, with a batch that is there already."""
    with pretended(), Counting() as counting:
        for trainer, number, batch in _steps(name, degradation, DEVICE):
            counting.counts = Counts()
            trainer.step(number, batch)
    return counting.counts


def casts(name: str, degradation: str) -> int:
    """Count the conversions between types of numbers in a bf16 step, on the CPU."""
    with Counting(torch.device("cpu")) as counting:
        for trainer, number, batch in _steps(name, degradation, torch.device("cpu")):
            counting.counts = Counts()
            trainer.step(number, batch)
    return counting.counts.casts


def _steps(name: str, degradation: str, device: torch.device) -> Iterator[tuple[Trainer, int, Any]]:
    """Yield a trainer with the numbers and batches of the first steps."""
    images, operator = _images(SIZE, BATCH), _task(degradation, SIZE)
    space = methods.find(name).space({"loss": "mse"})
    torch.manual_seed(0)
    model = training.build(name, {**search_spaces.defaults(space), "loss": "mse"}, operator)
    model = model.to(device)
    budget, recipe = Budget(steps=100, batch_size=BATCH), Recipe()
    trainer = Trainer(model, recipe, budget, 1, device, "bf16")
    drawn = training.batches(images, operator, recipe, BATCH, 0, device, network=model)
    for number in range(1, STEPS + 2):
        yield trainer, number, next(drawn)


def host_seconds(name: str) -> float:
    """Return the CPU seconds that drawing a large batch takes, one thread on the CPU."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    drawn = training.batches(
        _images(LARGE, MANY), _task(name, LARGE), Recipe(), MANY, 0, torch.device("cpu")
    )
    next(drawn)
    start = time.process_time()
    for _ in range(REPEATS):
        next(drawn)
    took = (time.process_time() - start) / REPEATS
    torch.set_num_threads(threads)
    return took


def _images(size: int, count: int) -> ImageSet:
    values = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))
    ids = [str(k) for k in range(count)]
    return ImageSet(values.numpy(), ids, ids)


def _task(name: str, size: int) -> Physics:
    level, options = DEGRADATIONS[name]
    return physics.create(name.partition(",")[0], level, size, **options)
