"""The benchmark file, validated; cells and their ids.

This is the bottom of the house: it imports nothing else of ReconBench but errors and `markup`. What
only a reader, a degradation or a method can judge (its own options) is judged there.
"""

from bench.spec.benchmark import STANDARD_METRICS, Benchmark
from bench.spec.changes import conflicts, differing
from bench.spec.grid import FILTERS, Cell, Task, cells, tasks
from bench.spec.parts import (
    BUDGETS,
    LONGEST_NAME,
    Budget,
    DatasetSpec,
    DegradationSpec,
    MethodSpec,
    Search,
    column_of,
    slug,
)
from bench.spec.reading import load, parse

__all__ = [
    "BUDGETS",
    "FILTERS",
    "LONGEST_NAME",
    "STANDARD_METRICS",
    "Benchmark",
    "Budget",
    "Cell",
    "DatasetSpec",
    "DegradationSpec",
    "MethodSpec",
    "Search",
    "Task",
    "cells",
    "column_of",
    "conflicts",
    "differing",
    "load",
    "parse",
    "slug",
    "tasks",
]
