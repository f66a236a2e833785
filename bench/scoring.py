"""A cell's physics and seeds, and the score of its refit on the test images, without Ray."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from bench import data, methods, metrics, physics, training, trust
from bench.data import ImageSet
from bench.data.measurement import Kind
from bench.errors import UserError
from bench.flops import count_flops
from bench.methods.compressed_sensing import solved_anew
from bench.metrics import Metric
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.spec import Benchmark, Cell, DatasetSpec, DegradationSpec
from bench.store import Store

WORST = 5  # test images of each cell that are kept because they came out worst
OBSERVED = 16  # validation images on which a physics observes noise that depends on the image


def physics_of(cell: Cell, spec: Benchmark, val: ImageSet) -> Physics:
    """Build the physics of a cell's task; its noise is observed on validation images."""
    operator = operator_of(cell.task.degradation, cell.task.level, spec.dataset)
    observe(operator, val)
    return operator


def operator_of(degradation: DegradationSpec, level: float, dataset: DatasetSpec) -> Physics:
    """Build the physics of a degradation at a level, for what the dataset brings.

    Raises:
        UserError: see `bench.physics.create`.
    """
    operator = physics.create(degradation.name, level, dataset.image_size, **degradation.options)
    return operator.adopt(data.brings(dataset))


def kind_of(operator: Physics, images: ImageSet) -> Kind | None:
    """Return the kind of what was measured of images, if the physics takes it."""
    measured = operator.of(images).measured
    return None if measured is None else measured.kind


def observe(operator: Physics, val: ImageSet) -> None:
    """Let a physics observe its noise on validation images, if it depends on the image."""
    few = val.first(OBSERVED)
    bound = operator.of(few)
    bound.observe(training.as_tensor(few), few.ids)
    operator.restore_noise(bound.observed_noise())


def training_seed(cell: Cell, refit: int | None) -> int:
    """Derive the seed of a run: the same for all trials of a cell, one for each refit."""
    return derive_seed(cell.id, "search" if refit is None else f"refit {refit}")


@dataclass(frozen=True)
class Scored:
    """Reconstructed test images and their scores.

    Attributes:
        columns: metrics by the name of their column in rows, each of shape (n,).
        hashes: one of each measurement.
        y: the first measurements, as many as are to be kept, on the CPU.
        start: `A_dagger` of these.
        x_hat: the reconstructions, magnitudes, on the CPU.
        milliseconds: time to reconstruct one image.
        flops: floating-point operations of convolutions and products of matrices for one image, see
            `bench.flops`; NaN for a method without weights.
    """

    columns: dict[str, np.ndarray]
    hashes: list[str]
    y: Tensor
    start: Tensor
    x_hat: Tensor
    milliseconds: float
    flops: float


@solved_anew()  # as it would be for images of one's own
def score_images(
    model: nn.Module,
    operator: Physics,
    test: ImageSet,
    further: Sequence[str | type[Metric]] = (),
    kept: int = 0,
) -> Scored:
    """Measure test images, reconstruct and score them, a few at a time.

    Args:
        model: the reconstructor.
        operator: the task's physics.
        test: the images.
        further: metrics beside the standard ones.
        kept: number of measurements that are returned.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    every = training.as_tensor(test)
    whole = operator.of(test)
    x_hats, trusted, hashes, seconds, flops = [], [], [], 0.0, 0.0
    first: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, len(test), training.CHUNK):
        part = slice(begin, begin + training.CHUNK)
        bound = whole.part(part)
        y = bound.measure(every[part].to(device), test.ids[part])
        if not begin:
            flops = _flops_of_one(model, y, bound)  # which also warms up
        x_hat, took = _timed(model, y, bound)
        seconds += took
        trusted.append(trust.columns(x_hat, every[part].to(device), y, bound))
        x_hats.append(x_hat.cpu())
        hashes += [digest(one) for one in y]
        if begin < kept:
            first.append((y.cpu(), bound.A_dagger(y).cpu()))
    found = torch.cat(x_hats)
    scores = metrics.columns(found.to(device), every.to(device), test.subjects, further)
    scores |= {name: torch.cat([one[name] for one in trusted]) for name in trust.COLUMNS}
    if whole.measured is not None:
        scores["noise_std"] = torch.from_numpy(whole.measured.noise[whole.measured.index])
    columns = {name: value.cpu().numpy() for name, value in scores.items()}
    y, start = (
        torch.cat(some)[:kept] if first else found[:0]
        for some in ([y for y, _ in first], [start for _, start in first])
    )
    return Scored(columns, hashes, y, start, found, 1e3 * seconds / len(test), flops)


def score_refit(
    cell: Cell,
    seed: int,
    fit: training.Fit,
    operator: Physics,
    test: ImageSet,
    further: Sequence[str] = (),
    kept: int = 0,
) -> tuple[pd.DataFrame, Scored]:
    """Score a refit on the test images, and build its rows; see `score_images`."""
    found = score_images(fit.reconstructor, operator, test, further, kept)
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
            "measurement_hash": found.hashes,
            **found.columns,
            "train_seconds": 0.0 if kind == "classical" else fit.spent.seconds,
            "train_cpu_seconds": 0.0 if kind == "classical" else fit.spent.cpu_seconds,
            "infer_ms": found.milliseconds,
            "flops": found.flops,
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
    count = spec.pictures if seed == 0 else 0
    rows, found = score_refit(cell, seed, fit, operator, test, spec.metrics, count)
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
        "measured": kind_of(operator, test),
        "coils": test.measured.values.shape[1] if test.measured is not None else None,
    }
    store.write_model(cell.id, seed, recipe, fit.reconstructor.state_dict())
    if methods.find(cell.method.name).learned:
        curve = pd.DataFrame([vars(one) for one in fit.history])
        store.write_curve(cell.id, seed, curve)
    if count:
        x_hat = found.x_hat[:count].numpy()
        error = np.abs(x_hat - test.images[:count])
        store.write_pictures(
            cell.id, y=found.y.numpy(), x_hat=x_hat, error=error,
            ids=np.array(test.ids[:count]), start=found.start.numpy(),
        )  # fmt: skip
        psnr = found.columns["psnr"]
        worst = np.argsort(np.nan_to_num(psnr, nan=-np.inf), kind="stable")[:WORST]
        images = (test.images[worst], found.x_hat.numpy()[worst])
        x, x_hat = (one.astype(np.float16) for one in images)
        ids = np.array([test.ids[k] for k in worst])
        store.write_worst(cell.id, x=x, x_hat=x_hat, ids=ids, psnr=psnr[worst])
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
    operator = physics_from(recipe)
    model = training.build(recipe["method"], recipe["config"], operator)
    try:
        model.load_state_dict(dict(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{recipe['method']}: its code has changed and no longer takes these weights ({reason})"
        ) from None
    return model.eval(), operator, operator.white or "noise" in recipe


def physics_from(recipe: Mapping[str, Any]) -> Physics:
    """Build a refit's physics; see `write_refit`. `image_size` may be (height, width)."""
    options = {k: v for k, v in recipe["degradation"].items() if k not in ("name", "label")}
    operator = physics.create(
        recipe["degradation"]["name"], recipe["level"], recipe["image_size"], **options
    ).adopt(recipe.get("measured"))
    if recipe.get("measured") == "kspace" and isinstance(operator, physics.MRI):
        operator.coils = recipe["coils"]
    if "noise" in recipe:
        operator.restore_noise(recipe["noise"])
    return operator


def _flops_of_one(model: nn.Module, y: Tensor, operator: Physics) -> float:
    """Count the operations for one image, if weights make it."""
    one = partial(training.reconstruct, model, y[:1], operator.part(slice(1)))
    if not any(True for _ in model.parameters()):
        one()
        return math.nan
    return count_flops(one)


def _timed(model: nn.Module, y: Tensor, operator: Physics) -> tuple[Tensor, float]:
    """Reconstruct magnitudes, and measure the seconds."""
    _synchronise(y)
    start = time.perf_counter()
    x_hat = training.reconstruct(model, y, operator)
    _synchronise(x_hat)
    return training.magnitude(x_hat), time.perf_counter() - start


def _synchronise(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def digest(measurement: Tensor) -> str:
    """Hash a measurement."""
    return hashlib.sha256(measurement.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]
