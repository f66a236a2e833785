"""What reconstruction and training take, measured with nothing beside them.

In a run, cells are trained beside one another, and their times depend on what ran beside them.
Here one is measured after another, in this process: medians of calls after the first.
"""

import itertools
import math
import os
import platform
import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench import data, methods, scoring, training
from bench.cells import cells_of, finished
from bench.data import ImageSet
from bench.methods.compressed_sensing import solved_anew
from bench.physics import Physics
from bench.seeds import derive_seed
from bench.spec import Benchmark, Cell
from bench.store import Store
from bench.timing_table import COLUMNS
from bench.training.job import split_config
from bench.training.optimisation import Trainer

BATCHES = (1, 16)  # images at a time
FEWEST, MOST, ENOUGH = 5, 50, 1.0  # calls that are timed: at least, at most, and for how long (s)
QUIET = 0.25  # cores that others may keep busy
LISTEN = 0.5  # seconds


def measure(store: Store, levels: Sequence[float] = ()) -> Iterator[tuple[pd.DataFrame, float]]:
    """Measure the first refit of each cell of a run that has finished.

    Args:
        store: the run.
        levels: the tasks that are measured; default: all.

    Yields:
        a line, `timing_table.COLUMNS`, and how many cores other processes kept busy; beyond
        `QUIET` its times are NaN.

    Raises:
        UserError: no such level, or no cell has finished.
    """
    spec = store.spec()
    cells = finished(cells_of(spec), set(store.rows()["cell"]), levels)
    loaded = data.load(spec.dataset)
    split = data.split(loaded, max(spec.n_train), spec.dataset.n_val, spec.dataset.n_test)
    on_gpu = torch.cuda.is_available()
    for cell in cells:
        device = torch.device("cuda" if on_gpu else "cpu")
        recipe, weights = store.read_model(cell.id, 0)
        model, operator, _ = scoring.rebuild(recipe, weights)
        model, operator = model.to(device), operator.to(device)
        busy = busy_elsewhere()
        found = _inference(model, operator.of(split.test), split.test, device)
        if methods.find(cell.method.name).learned:
            train = split.train.first(cell.n_train)
            found |= _training(cell, spec, recipe["config"], model, operator, train, device)
        busy = max(busy, busy_elsewhere())
        if busy > QUIET:
            found |= dict.fromkeys(("ms_1", "ms_16", "step_ms"), math.nan)
        named = {"cell": cell.id, "device": _name(device), "threads": torch.get_num_threads()}
        yield pd.DataFrame([{**dict.fromkeys(COLUMNS, math.nan), **named, **found}]), busy


def busy_elsewhere() -> float:
    """Return how many cores other processes keep busy; NaN where the system is not Linux."""
    before = _busy_seconds()
    time.sleep(LISTEN)
    return (_busy_seconds() - before) / LISTEN


def _busy_seconds() -> float:
    """Return the seconds that all cores together were busy with other processes."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return math.nan
    idle, waiting = 3, 4
    ticks = sum(int(one) for k, one in enumerate(fields) if k not in (idle, waiting))
    return ticks / os.sysconf("SC_CLK_TCK") - time.process_time()


@solved_anew()
def _inference(
    model: nn.Module, operator: Physics, test: ImageSet, device: torch.device
) -> dict[str, float]:
    """Time the reconstruction of one image, and of several at once."""
    found = {}
    for count in BATCHES:
        if count > len(test):
            continue
        few = operator.part(slice(count))
        y = few.measure(training.as_tensor(test.first(count)).to(device), test.ids[:count])

        def call(few: Physics = few, y: torch.Tensor = y) -> None:
            training.reconstruct(model, y, few)

        found[f"ms_{count}"] = 1e3 * median_seconds(call, device) / count
    return found


def _training(
    cell: Cell,
    spec: Benchmark,
    config: Mapping[str, Any],
    model: nn.Module,
    operator: Physics,
    train: ImageSet,
    device: torch.device,
) -> dict[str, float]:
    """Time an optimiser step as the run takes it, and measure its memory.

    Where measurements are kept (`Recipe.draws`), it is a step on kept ones: all trainings of a cell
    share them.
    """
    operator = methods.training_physics(model, operator).to(device)
    recipe, _ = split_config(methods.find(cell.method.name), config)
    trainer = Trainer(model, recipe, spec.budget, 1, device, spec.precision)
    size = spec.budget.batch_size
    drawn = training.batches(
        train.first(size), operator, recipe, size, derive_seed("timing", cell.id), device,
        network=model, drawn={},
    )  # fmt: skip
    steps = itertools.count(trainer.pretrained + 1)

    def step() -> None:
        trainer.step(next(steps), next(drawn))

    for _ in range(recipe.draws):
        step()
    return {
        "step_ms": 1e3 * median_seconds(step, device),
        "step_mb": step_bytes(step, trainer, device) / 1e6,
    }


def median_seconds(call: Callable[[], None], device: torch.device) -> float:
    """Time a call: the median of several, after the first two."""
    for _ in range(2):
        call()
    took: list[float] = []
    while len(took) < FEWEST or (len(took) < MOST and sum(took) < ENOUGH):
        took.append(_seconds(call, device))
    return statistics.median(took)


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def step_bytes(step: Callable[[], None], trainer: Trainer, device: torch.device) -> float:
    """Return the most bytes that a step holds at once: weights, moments, activations, gradients.

    On a GPU, by PyTorch's own account, which includes what operations need within themselves.

    Args:
        step: takes a step; others have been taken before.
        trainer: of the step.
        device: of the network.
    """
    for optimiser in trainer.optimisers:
        optimiser.zero_grad(set_to_none=True)
    kept = sum(
        one.untyped_storage().nbytes()
        for one in tree_leaves(trainer.state_dict())
        if isinstance(one, torch.Tensor)
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return kept + torch.cuda.max_memory_allocated(device) - before
    with Allocations() as allocations:
        step()
    return kept + allocations.most


class Allocations(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is entered, until they are freed.

    Attributes:
        most: the most bytes at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call an operation, and note the memory of its results."""
        given = {id(one) for one in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            key = id(storage)
            if key not in given and key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self._now += storage.nbytes()
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._free, key)
        return result

    def _free(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    tensors = (one for one in tree_leaves(tree) if isinstance(one, torch.Tensor))
    return (part.untyped_storage() for one in tensors for part in _parts(one))


def _parts(tensor: Tensor) -> list[Tensor]:
    """Return the tensors that hold a tensor: several if it is a sparse matrix, by rows or not."""
    if tensor.layout is torch.sparse_csr:
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    return [tensor]


def _name(device: torch.device) -> str:
    """Name a kind of device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        models = []
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"
