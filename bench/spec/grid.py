"""The tasks and cells of a benchmark, and their ids."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.spec.benchmark import Benchmark
from bench.spec.parts import DegradationSpec, MethodSpec

FILTERS = ("method", "degradation", "level", "n_train")  # by which cells are chosen


@dataclass(frozen=True)
class Task:
    """dataset x degradation x level."""

    dataset: str
    degradation: DegradationSpec
    level: float

    @property
    def id(self) -> str:
        """Folder-safe name, unique in a benchmark."""
        return f"{self.dataset}-{self.degradation.label}-{self.level:g}"


@dataclass(frozen=True)
class Cell:
    """task x n_train x method; `n_train` is 0 where a method uses no training images."""

    task: Task
    n_train: int
    method: MethodSpec

    @property
    def id(self) -> str:
        """Folder-safe name, unique in a benchmark."""
        return f"{self.task.id}-n{self.n_train}-{self.method.label}"


def tasks(spec: Benchmark) -> list[Task]:
    """List the benchmark's tasks in the order of its file."""
    return [
        Task(spec.dataset.label, degradation, level)
        for degradation in spec.degradations
        for level in degradation.levels
    ]


def cells(spec: Benchmark, sizes_of: Callable[[str, list[int]], list[int]]) -> list[Cell]:
    """List the benchmark's cells by priority, then small sizes before large ones.

    Args:
        spec: the benchmark.
        sizes_of: returns, for a method's name and the benchmark's training-set sizes, those at
            which the method is run ([0] for one that uses no training images).
    """
    found = [
        Cell(task, n_train, method)
        for method in spec.methods
        for n_train in sizes_of(method.name, spec.n_train)
        for task in tasks(spec)
    ]
    # stable: the file's order within a size
    return sorted(found, key=lambda cell: (-cell.method.priority, cell.n_train))
