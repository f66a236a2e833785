"""The benchmark file, validated; cells and their ids.

The lowest layer: of ReconBench it imports only `errors` and `markup`. The options of a reader, a
degradation or a method are checked where these are resolved.
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
