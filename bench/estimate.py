"""What a benchmark will take, measured on a few steps of every method."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import search_spaces
from bench import methods, physics, training
from bench.data import ImageSet
from bench.errors import DivergedError, UserError
from bench.physics import Physics
from bench.spec import Benchmark, Budget, Cell, MethodSpec

STEPS = 3  # measured


@dataclass(frozen=True)
class Price:
    """Seconds on one core.

    Attributes:
        step: of one optimiser step; 0 of a method without any.
        image: of the reconstruction of one image.
    """

    step: float
    image: float


def prices(benchmark: Benchmark, cells: Sequence[Cell]) -> dict[tuple[str, str], Price]:
    """Measure each method's defaults on each degradation at its first level, on random images.

    Returns:
        prices by (method label, degradation label).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[tuple[str, str], Price] = {}
    for cell in cells:
        key = (cell.method.label, cell.task.degradation.label)
        if key not in found:
            operator = physics.create(
                cell.task.degradation.name, cell.task.level, benchmark.dataset.image_size,
                **cell.task.degradation.options,
            )  # fmt: skip
            try:
                found[key] = _price(cell.method, operator, benchmark)
            except (Exception, SystemExit) as error:
                if isinstance(error, UserError) or methods.is_built_in(cell.method.name):
                    raise
                raise UserError(
                    f"methods: {cell.method.label} ends in {type(error).__name__}: {error}"
                ) from None
    torch.set_num_threads(threads)
    return found


def seconds_of(cell: Cell, price: Price, benchmark: Benchmark, trials: int, refits: int) -> float:
    """Return what a cell takes on one core if no trial is stopped early."""
    budget = benchmark.budget
    steps = budget.steps if price.step else 0
    validations = budget.reports if price.step else 1
    judged = benchmark.dataset.n_val + (training.SETTLING * budget.batch_size if steps else 0)
    run = steps * price.step + validations * judged * price.image
    return (trials + refits) * run + refits * benchmark.dataset.n_test * price.image


def _price(method: MethodSpec, operator: Physics, benchmark: Benchmark) -> Price:
    size = benchmark.dataset.image_size
    images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    few = ImageSet(images.numpy(), ["0", "1"], ["0", "1"])
    space = methods.space_of(method.name, method.fixed)
    config = {**search_spaces.defaults(space), **method.fixed}
    model = training.build(method.name, config, operator)
    y = operator.measure(images, few.ids)
    start = time.perf_counter()
    training.reconstruct(model, y, operator)
    image = (time.perf_counter() - start) / len(images)
    if not methods.is_learned(method.name):
        return Price(0.0, image)

    def seconds(steps: int) -> float:
        budget = Budget(steps=steps, batch_size=benchmark.budget.batch_size, reports=1)
        start = time.perf_counter()
        with contextlib.suppress(DivergedError):  # random images are no image; the time counts
            training.fit(
                method.name, config, few, few, operator, budget, 0, precision=benchmark.precision
            )
        return time.perf_counter() - start

    seconds(1)  # the first run warms up
    return Price(max((seconds(1 + STEPS) - seconds(1)) / STEPS, 1e-6), image)
