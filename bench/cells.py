"""The cells of a benchmark: how to list and filter them, and what each of them needs."""

from collections.abc import Collection, Mapping, Sequence

import search_spaces
from bench import data, methods
from bench.errors import UserError, unknown
from bench.spec import Benchmark, Budget, Cell, cells


def cells_of(spec: Benchmark) -> list[Cell]:
    """List a benchmark's cells in the order in which they are run.

    A method has no cells for a degradation that it does not support.
    """
    return [
        cell
        for cell in cells(spec, lambda name, sizes: methods.find(name).sizes(sizes))
        if methods.find(cell.method.name).supports(
            cell.task.degradation.name, cell.task.degradation.options, data.brings(spec.dataset)
        )
    ]


def matching(cells: Sequence[Cell], wanted: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Choose cells.

    Args:
        cells: to choose from.
        wanted: the values that pass, by key: `method` and `degradation` (labels), `level`,
            `n_train` (methods without training images pass at any size).

    Raises:
        UserError: an unknown key, a value that no cell has, or no cell is left.
    """
    traits = {
        "method": lambda cell: cell.method.label,
        "degradation": lambda cell: cell.task.degradation.label,
        "level": lambda cell: f"{cell.task.level:g}",
        "n_train": lambda cell: f"{cell.n_train}",
    }
    left = list(cells)
    for key, values in wanted.items():
        if key not in traits:
            raise unknown("key of a cell:", key, traits)
        known = sorted({traits[key](cell) for cell in cells})
        for value in values:
            if value not in known:
                raise unknown(f"{key} of a cell:", value, known)
        always = ["0"] if key == "n_train" else []
        left = [cell for cell in left if traits[key](cell) in [*values, *always]]
    if not left:
        chosen = " and ".join(f"{key} {' or '.join(values)}" for key, values in wanted.items())
        raise UserError(f"no cell has {chosen}")
    return left


def finished(cells: Sequence[Cell], done: Collection[str], levels: Sequence[float]) -> list[Cell]:
    """Choose the cells that have results.

    Args:
        cells: to choose from.
        done: ids of cells with results.
        levels: of the degradations; none: all.

    Raises:
        UserError: no such level, or none has results.
    """
    wanted = [cell for cell in cells if not levels or cell.task.level in levels]
    if not wanted:
        known = sorted({f"{cell.task.level:g}" for cell in cells})
        raise UserError(f"--level: the run has the levels {', '.join(known)}")
    left = [cell for cell in wanted if cell.id in done]
    if not left:
        raise UserError("no cell of these has finished yet")
    return left


def trials_of(cell: Cell, budget: Budget) -> int:
    """Return the number of a cell's trials: no more than there are configurations to try."""
    configurations = search_spaces.size(methods.find(cell.method.name).space(cell.method.fixed))
    return int(min(cell.method.trials or budget.trials, configurations))


def seeds_of(cell: Cell, spec: Benchmark) -> int:
    """Return the number of a cell's refits: one where every seed would give the same images."""
    return 1 if methods.find(cell.method.name).deterministic else spec.seeds


def workers_of(cell: Cell) -> int:
    """Return the number of workers that train a cell's method together."""
    return cell.method.workers if methods.find(cell.method.name).learned else 1


def resources_of(cell: Cell, on_gpus: bool) -> dict[str, float]:
    """Return the CPUs and GPUs of a cell's trial, or of each of its workers.

    Args:
        cell: its method states what it needs.
        on_gpus: whether the cluster has GPUs.
    """
    gpus = cell.method.gpus if on_gpus and methods.find(cell.method.name).learned else 0.0
    return {"CPU": float(cell.method.cpus), **({"GPU": gpus} if gpus else {})}
