"""The Python interface for one task at a time: images, a degradation, a method, its scores.

These functions do for one cell what a benchmark does for many, with the same parts, measurements
and metrics; `run` runs a whole benchmark. `bench` exports them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import search_spaces
from bench import data, methods, scoring, spec, training
from bench import physics as degradations
from bench.data import ImageSet
from bench.errors import UserError
from bench.metrics import Metric
from bench.model import Model
from bench.opened import Run
from bench.physics import Physics
from bench.spec import Benchmark, Budget
from bench.training import Validation

# Keys that a benchmark file must have, and that reading images does not use.
UNUSED = {"degradations": [{"name": "any", "levels": [1]}], "n_train": [1], "methods": ["any"]}
HELD_OUT = 24, 60  # validation and test images; fewer where images are few


@dataclass(frozen=True)
class Task:
    """Images, and the degradation from which they are to be reconstructed.

    Attributes:
        physics: the degradation at its level, for images of this size.
        train: training images.
        val: validation images, for tuning and for the choice of weights.
        test: test images, used by `evaluate` only.
    """

    physics: Physics
    train: ImageSet
    val: ImageSet
    test: ImageSet

    def __repr__(self) -> str:
        sizes = f"{len(self.train)} / {len(self.val)} / {len(self.test)} images"
        return f"Task({self.physics.name} {self.physics.level:g}, {sizes})"


def load(
    images: str | Path | np.ndarray | None = None,
    *,
    image_size: int = 64,
    subjects: Sequence[str] | None = None,
    **options: Any,
) -> ImageSet:
    """Read images from files, or take them from an array.

    Args:
        images: a file or folder; an array of shape (n, h, w) or (n, 1, h, w) with magnitudes in
            [0, 1]; default: synthetic slices derived from a brain template.
        image_size: pixels along each side to which files are resized; arrays stay as they are.
        subjects: of an array, the subject of each image; default: a different one for each.
        options: keys of a benchmark file's `dataset`, such as `window` or `source`.

    Returns:
        images with ids and subjects; from files a `Dataset`, which also has an `audit`.

    Raises:
        UserError: no usable image, an unknown option, or an array of a wrong shape or range.

    >>> import numpy as np
    >>> images = load(np.zeros((3, 32, 32)), subjects=["anna", "anna", "ben"])
    >>> images.images.shape, images.subjects
    ((3, 1, 32, 32), ['anna', 'anna', 'ben'])
    """
    if isinstance(images, np.ndarray):
        if options:
            raise UserError(f"images: options of files, not of an array: {', '.join(options)}")
        return _of_array(images, subjects)
    path = None if images is None else str(images)
    given = {"path": path, "image_size": image_size, **options}
    return data.load(spec.parse({**UNUSED, "dataset": given}, "load").dataset)


def _of_array(images: np.ndarray, subjects: Sequence[str] | None) -> ImageSet:
    if images.ndim == 3:
        images = images[:, None]
    if np.iscomplexobj(images) or not np.isfinite(images).all():
        raise UserError("images: complex, NaN or infinite values; give magnitudes in [0, 1]")
    if images.size and not 0 <= images.min() <= images.max() <= 1:
        raise UserError(
            f"images: values from {images.min():g} to {images.max():g}; scale them to [0, 1]"
        )
    ids = [f"{number:06}" for number in range(len(images))]
    return ImageSet(images.astype(np.float32), ids, list(subjects or ids))


def task(
    images: ImageSet,
    degradation: str | type[Physics],
    level: float,
    *,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    **options: Any,
) -> Task:
    """Split images by subject, and degrade them.

    Args:
        images: as `load` returns them.
        degradation: its name, dotted path or class; `bench.physics.names()` lists ours.
        level: its strength (noise variance, acceleration, scale factor, number of views, ...).
        n_train: training images; default: all that are not held out.
        n_val: validation images; default: 24, fewer where images are few.
        n_test: test images; default: 60, fewer where images are few.
        options: of the degradation, such as `coils=4`.

    Raises:
        UserError: an unknown degradation or option, a level out of range, or too few images.

    >>> images = load(np.random.default_rng(0).random((40, 32, 32)))
    >>> task(images, "mri_cartesian", 4, coils=2)
    Task(mri_cartesian 4, 25 / 5 / 10 images)
    """
    if n_val is None and n_test is None:
        (n_train,), n_val, n_test = data.fitting(
            images, [n_train or len(images)], *HELD_OUT, shrink_training=n_train is None
        )
    n_val, n_test = n_val or HELD_OUT[0], n_test or HELD_OUT[1]
    split = data.split(images, n_train or len(images) - n_val - n_test, n_val, n_test)
    height, width = images.images.shape[-2:]
    physics = degradations.create(degradation, level, (height, width), **options)
    physics = physics.adopt(None if images.measured is None else images.measured.kind)
    scoring.observe(physics, split.val)
    return Task(physics, split.train, split.val, split.test)


def fit(
    method: Any,
    task: Task,
    *,
    steps: int = 200,
    batch_size: int = 8,
    reports: int = 6,
    seed: int = 0,
    report: Callable[[Validation], None] | None = None,
    device: str | None = None,
    objective: str | type[Metric] = "psnr",
    **config: Any,
) -> Model:
    """Train a network, or build a classical method, with its default or a given configuration.

    To tune a method, run a benchmark (`run`).

    Args:
        method: its name (`bench.methods.names()` lists ours), dotted path, class, or a network
            that is built already, of which a copy is trained.
        task: what it is trained for.
        steps: optimiser steps of a network.
        batch_size: images in each.
        reports: number of validations; the weights of the best one are kept.
        seed: of the initial weights, the order of the images and the training noise.
        report: called with each validation's `step`, `psnr` and `ssim`.
        device: default: the GPU if there is one.
        objective: the metric that decides which validation is the best.
        config: keywords of the method and of its training (`bench.training.Recipe`); the others
            take their defaults in the method's search space.

    Raises:
        UserError: an unknown method or keyword, an invalid value, or a method that does not
            support the task's degradation.
        DivergedError: the loss or a reconstruction is no longer finite.

    >>> images = load(np.random.default_rng(0).random((40, 32, 32)))
    >>> denoising = task(images, "gaussian_noise", 0.1)
    >>> model = fit("tv", denoising, weight=0.3)
    >>> model(model.measure(denoising.test.images)).shape
    (10, 1, 32, 32)
    """
    found = methods.find(method)
    if not found.supports(task.physics):
        raise UserError(f"{found.name} supports {found.supported} only, not {task.physics.name}")
    space = found.space(config)
    budget = Budget(steps=steps, batch_size=batch_size, reports=reports, trials=1)
    fitted = training.fit(
        method, {**search_spaces.defaults(space), **config}, task.train, task.val, task.physics,
        budget, seed, report=report, device=device, objective=objective,
    )  # fmt: skip
    return Model(fitted.reconstructor, task.physics, fitted)


def evaluate(model: Model, task: Task, metrics: Sequence[str | type[Metric]] = ()) -> pd.DataFrame:
    """Score a model on the test images of a task.

    Args:
        model: as `fit` returns it.
        task: the task whose test images are used.
        metrics: further ones beside PSNR, SSIM and NMSE: names, dotted paths or classes.

    Returns:
        one row for each image: `image`, `subject`, and its metrics under every convention, as in
        the rows of a run (`bench.metrics`).

    >>> images = load(np.random.default_rng(0).random((40, 32, 32)))
    >>> denoising = task(images, "gaussian_noise", 0.1)
    >>> scores = evaluate(fit("degraded", denoising), denoising)
    >>> round(scores.psnr.mean())  # of noise of variance 0.1
    10
    """
    scored = scoring.score_images(model.reconstructor, model.physics, task.test, metrics)
    names = {"image": task.test.ids, "subject": task.test.subjects}
    return pd.DataFrame({**names, **scored.columns})


def run(
    benchmark: str | Path | Mapping[str, Any] | Benchmark,
    folder: str | Path | None = None,
    **options: Any,
) -> Run:
    """Run a benchmark, or resume it where it was interrupted.

    It obeys the same rules as `reconbench run`, and prints the same progress.

    Args:
        benchmark: a benchmark file, or its content.
        folder: the run folder; default: `results/<name>`.
        options: see `bench.runner.run`.

    Raises:
        UserError: a mistake in the input; or cells that failed, once all others have ended.

    >>> noise = {"name": "gaussian_noise", "levels": [0.1]}
    >>> run({"degradations": [noise], "n_train": [25], "methods": ["tv", "unte"]})
    Traceback (most recent call last):
    bench.errors.UserError: unknown method 'unte'; did you mean 'unet'? (known: ...
    """
    from bench import runner  # imports Ray

    if not isinstance(benchmark, Benchmark):
        content = spec.load(benchmark) if isinstance(benchmark, str | Path) else None
        benchmark = content or spec.parse(dict(benchmark))  # type: ignore[arg-type]
    result = runner.run(benchmark, folder, **options)
    if not result.complete:
        raise KeyboardInterrupt
    if result.failed:
        failures = "; ".join(f"{cell}: {reason}" for cell, reason in result.failed.items())
        raise UserError(
            f"{len(result.failed)} of {len(result.chosen)} cells failed ({failures}); run it again "
            f"to try them again, or open_run({str(result.store.folder)!r}) for the others"
        )
    return Run(str(result.store.folder))
