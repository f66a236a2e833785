"""Estimates how long a benchmark takes, from a few measured steps of every method."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

import search_spaces
from bench import data, methods, training
from bench.cells import seeds_of, trials_of
from bench.data import ImageSet
from bench.errors import DivergedError, UserError
from bench.methods.compressed_sensing import TUNED_ON
from bench.physics import Physics
from bench.scoring import operator_of
from bench.spec import Benchmark, Budget, Cell, MethodSpec

STEPS = 3  # that are measured


@dataclass(frozen=True)
class Cost:
    """Seconds on one core.

    Attributes:
        step: of one optimiser step; 0 for a method without optimiser steps.
        image: of the reconstruction of one image.
        prepare: of all that a method does with one training image before its first step.
    """

    step: float
    image: float
    prepare: float = 0.0


@dataclass(frozen=True)
class Line:
    """The greatest cost of one method's cells.

    Attributes:
        method: its label.
        kind: "classical", "learned" or "fitted".
        cells: number of cells.
        trials: of all cells.
        refits: of all cells.
        steps: optimiser steps of all trials and refits.
        hours: core-hours; 0 if nothing was measured.
    """

    method: str
    kind: str
    cells: int
    trials: int
    refits: int
    steps: int
    hours: float


def lines(benchmark: Benchmark, chosen: Sequence[Cell], measure: bool = True) -> list[Line]:
    """Estimate the cost of each method in a run of these cells.

    Args:
        benchmark: the benchmark.
        chosen: the cells to be run.
        measure: whether to measure; see `measure_costs`.
    """
    costs = measure_costs(benchmark, chosen) if measure else {}
    found = []
    for method in benchmark.methods:
        mine = [cell for cell in chosen if cell.method == method]
        if not mine:
            continue
        each, seeds = trials_of(mine[0], benchmark.budget), seeds_of(mine[0], benchmark)
        trials, refits = len(mine) * each, len(mine) * seeds
        chosen_method = methods.find(method.name)
        seconds = 0.0
        for cell in mine if measure else []:
            cost = costs[method.label, cell.task.degradation.label]
            seconds += seconds_of(cell, cost, benchmark, each, seeds)
        found.append(
            Line(
                method.label,
                chosen_method.kind,
                len(mine),
                trials,
                refits,
                (trials + refits) * benchmark.budget.steps if chosen_method.learned else 0,
                seconds / 3600,
            )
        )
    return found


def measure_costs(benchmark: Benchmark, cells: Sequence[Cell]) -> dict[tuple[str, str], Cost]:
    """Time each method with its defaults on each degradation at its first level, on random images.

    Returns:
        costs by (method label, degradation label).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[tuple[str, str], Cost] = {}
    for cell in cells:
        key = (cell.method.label, cell.task.degradation.label)
        if key not in found:
            operator = operator_of(cell.task.degradation, cell.task.level, benchmark.dataset)
            try:
                found[key] = _cost(cell.method, operator, benchmark)
            except (Exception, SystemExit) as error:
                if isinstance(error, UserError) or methods.find(cell.method.name).built_in:
                    raise
                raise UserError(
                    f"methods: {cell.method.label} ends in {type(error).__name__}: {error}"
                ) from None
    torch.set_num_threads(threads)
    return found


def seconds_of(cell: Cell, cost: Cost, benchmark: Benchmark, trials: int, refits: int) -> float:
    """Return the seconds that a cell takes on one core if no trial is stopped early."""
    budget = benchmark.budget
    steps = budget.steps if cost.step else 0
    validations = budget.reports if cost.step else 1
    reconstructed = benchmark.dataset.n_val + (
        training.RECALIBRATION_BATCHES * budget.batch_size if steps else 0
    )
    # A network is prepared by tuning what it starts from, on a few of its images.
    shown = min(cell.n_train, TUNED_ON) if steps else cell.n_train
    run = steps * cost.step + validations * reconstructed * cost.image + shown * cost.prepare
    return (trials + refits) * run + refits * benchmark.dataset.n_test * cost.image


def seconds_used() -> float:
    """Read this process's clock, which other programs don't disturb; with a GPU, the wall's."""
    return time.perf_counter() if torch.cuda.is_available() else time.process_time()


def _cost(method: MethodSpec, operator: Physics, benchmark: Benchmark) -> Cost:
    size = benchmark.dataset.image_size
    images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    few = ImageSet(
        images.numpy(), ["0", "1"], ["0", "1"], measured=data.stand_in(benchmark.dataset, 2)
    )
    space = methods.find(method.name).space(method.fixed)
    config = {**search_spaces.defaults(space), **method.fixed}
    model = training.build(method.name, config, operator)
    bound = operator.of(few)
    y = bound.measure(images, few.ids)
    start = seconds_used()
    methods.prepare(model, images, bound, few.ids)
    prepared = seconds_used()
    training.reconstruct(model, y, bound)
    image = (seconds_used() - prepared) / len(images)
    prepare = (prepared - start) / len(images)
    if not methods.find(method.name).learned:
        return Cost(0.0, image, prepare)

    def seconds(steps: int) -> float:
        budget = Budget(steps=steps, batch_size=benchmark.budget.batch_size, reports=1)
        start = seconds_used()
        with contextlib.suppress(DivergedError):  # on random images; only the time counts
            training.fit(
                method.name, config, few, few, operator, budget, 0, precision=benchmark.precision
            )
        return seconds_used() - start

    seconds(1)  # the first run warms up
    return Cost(max((seconds(1 + STEPS) - seconds(1)) / STEPS, 1e-6), image, prepare)
