"""A cell's physics and seeds, and the score of its refit on the test images: no Ray needed."""

import hashlib
import time

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bench import methods, metrics, physics, training
from bench.data import ImageSet
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.spec import Benchmark, Cell
from bench.store import Store

OBSERVED = 16  # validation images whose noise is measured, where it depends on the image


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
    learned = methods.find(cell.method.name).learned
    rows = pd.DataFrame(
        {
            "cell": cell.id,
            "task": cell.task.id,
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


def write_refit(
    store: Store,
    cell: Cell,
    seed: int,
    spec: Benchmark,
    fit: training.Fit,
    config: dict[str, object],
    operator: Physics,
    test: ImageSet,
) -> None:
    """Score a refit on the test images and write all it leaves.

    The rows come last: they mark it as complete.
    """
    rows, images = score(cell, seed, fit, operator, test)
    recipe = {
        "method": cell.method.name,
        "config": config,
        "degradation": cell.task.degradation.model_dump(exclude={"levels"}),
        "level": cell.task.level,
        "image_size": spec.dataset.image_size,
        "n_train": cell.n_train,
        "validation_psnr": fit.psnr,
        "best_step": fit.step,
        "parts": fit.parts,
        "threads": torch.get_num_threads(),
    }
    store.write_model(cell.id, seed, recipe, fit.reconstructor.state_dict())
    count = spec.pictures
    if seed == 0 and count:
        y, x_hat = images["y"][:count].numpy(), images["x_hat"][:count].numpy()
        error = np.abs(x_hat - test.images[:count])
        store.write_pictures(
            cell.id, y=y, x_hat=x_hat, error=error, ids=np.array(test.ids[:count]),
            start=operator.A_dagger(images["y"][:count]).numpy(),
        )  # fmt: skip
    store.write_rows(cell.id, seed, rows)


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
