"""A cell's physics and seeds, and the score of its refit on the test images, without Ray."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bench import methods, metrics, physics, training
from bench.data import ImageSet
from bench.errors import UserError
from bench.metrics import Metric
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.spec import Benchmark, Cell
from bench.store import Store

OBSERVED = 16  # validation images on which a physics observes noise that depends on the image


def physics_of(cell: Cell, spec: Benchmark, val: ImageSet) -> Physics:
    """Build the physics of a cell's task; its noise is observed on validation images."""
    degradation = cell.task.degradation
    operator = physics.create(
        degradation.name, cell.task.level, spec.dataset.image_size, **degradation.options
    )
    observe(operator, val)
    return operator


def observe(operator: Physics, val: ImageSet) -> None:
    """Let a physics observe its noise on validation images, if it depends on the image."""
    few = val.first(OBSERVED)
    operator.observe(training.as_tensor(few), few.ids)


def training_seed(cell: Cell, refit: int | None) -> int:
    """Derive the seed of a run: the same for all trials of a cell, one for each refit."""
    return derive_seed(cell.id, "search" if refit is None else f"refit {refit}")


@dataclass(frozen=True)
class Scored:
    """Reconstructed test images and their scores.

    Attributes:
        columns: metrics by the name of their column in rows, each of shape (n,).
        y: the measurements, on the CPU.
        x_hat: the reconstructions, on the CPU.
        milliseconds: time to reconstruct one image.
    """

    columns: dict[str, np.ndarray]
    y: Tensor
    x_hat: Tensor
    milliseconds: float


def score_images(
    model: nn.Module,
    operator: Physics,
    test: ImageSet,
    further: Sequence[str | type[Metric]] = (),
) -> Scored:
    """Measure test images, reconstruct and score them.

    Args:
        model: the reconstructor.
        operator: the task's physics.
        test: the images.
        further: metrics beside the standard ones.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x = training.as_tensor(test).to(device)
    y = operator.measure(x, test.ids)
    x_hat, milliseconds = _timed(model, y, operator)
    scores = metrics.columns(x_hat, x, test.subjects, further)
    scores["data_residual"] = metrics.residual(operator.A(x_hat), y)
    columns = {name: value.cpu().numpy() for name, value in scores.items()}
    return Scored(columns, y.cpu(), x_hat.cpu(), milliseconds)


def score_refit(
    cell: Cell,
    seed: int,
    fit: training.Fit,
    operator: Physics,
    test: ImageSet,
    further: Sequence[str] = (),
) -> tuple[pd.DataFrame, Scored]:
    """Score a refit on the test images, and build its rows; see `score_images`."""
    found = score_images(fit.reconstructor, operator, test, further)
    kind = methods.find(cell.method.name).kind
    rows = pd.DataFrame(
        {
            "cell": cell.id,
            "task": cell.task.id,
            "dataset": cell.task.dataset,
            "degradation": cell.task.degradation.label,
            "level": cell.task.level,
            "n_train": cell.n_train,
            "method": cell.method.label,
            "kind": kind,
            "seed": seed,
            "image": test.ids,
            "subject": test.subjects,
            "measurement_hash": [_digest(one) for one in found.y],
            **found.columns,
            "train_seconds": 0.0 if kind == "classical" else fit.seconds,
            "infer_ms": found.milliseconds,
            "parameters": fit.parameters,
        }
    )
    return rows, found


def write_refit(
    store: Store,
    cell: Cell,
    seed: int,
    spec: Benchmark,
    fit: training.Fit,
    config: Mapping[str, Any],
    operator: Physics,
    test: ImageSet,
) -> None:
    """Score a refit on the test images and write its model, pictures and rows.

    The rows are written last, since they mark the refit as complete.
    """
    rows, found = score_refit(cell, seed, fit, operator, test, spec.metrics)
    recipe = {
        "method": cell.method.name,
        "config": dict(config),
        "degradation": cell.task.degradation.model_dump(exclude={"levels"}),
        "level": cell.task.level,
        "image_size": spec.dataset.image_size,
        "n_train": cell.n_train,
        "validation_psnr": fit.psnr,
        "best_step": fit.step,
        "parts": fit.microbatches,
        "threads": torch.get_num_threads(),
        "noise": operator.observed_noise(),
    }
    store.write_model(cell.id, seed, recipe, fit.reconstructor.state_dict())
    if methods.find(cell.method.name).learned:
        curve = pd.DataFrame([vars(one) for one in fit.history])
        store.write_curve(cell.id, seed, curve)
    count = spec.pictures
    if seed == 0 and count:
        y, x_hat = found.y[:count].numpy(), found.x_hat[:count].numpy()
        error = np.abs(x_hat - test.images[:count])
        store.write_pictures(
            cell.id, y=y, x_hat=x_hat, error=error, ids=np.array(test.ids[:count]),
            start=operator.A_dagger(found.y[:count]).numpy(),
        )  # fmt: skip
    store.write_rows(cell.id, seed, rows)


def rebuild(
    recipe: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> tuple[nn.Module, Physics, bool]:
    """Build a refit's reconstructor and physics from the files of its run.

    Args:
        recipe: see `write_refit`.
        weights: of a network, or what a classical method keeps of its training images.

    Returns:
        the reconstructor in evaluation mode, its physics, and whether the physics knows the noise
        that was observed in the run (runs of earlier versions did not record it).

    Raises:
        UserError: the code of the method has changed so that it cannot be built.
    """
    options = {k: v for k, v in recipe["degradation"].items() if k not in ("name", "label")}
    operator = physics.create(
        recipe["degradation"]["name"], recipe["level"], recipe["image_size"], **options
    )
    if "noise" in recipe:
        operator.restore_noise(recipe["noise"])
    model = training.build(recipe["method"], recipe["config"], operator)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{recipe['method']}: its code has changed and no longer takes these weights ({reason})"
        ) from None
    return model.eval(), operator, operator.white or "noise" in recipe


def _timed(model: nn.Module, y: Tensor, operator: Physics) -> tuple[Tensor, float]:
    """Reconstruct, and measure the milliseconds per image after a first call as warm-up."""
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
