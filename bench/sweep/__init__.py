"""All of Ray lives here: one Tune experiment over all cells of a benchmark."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from ray import tune
from rich.console import Console

from bench import methods
from bench.data import Split
from bench.errors import UserError, unknown
from bench.spec import Benchmark, Cell, cells
from bench.store import Store
from bench.sweep.events import EventLog
from bench.sweep.progress import SweepProgress
from bench.sweep.scheduler import PerCellPruner
from bench.sweep.searcher import SweepSearcher, seeds_of
from bench.sweep.studies import open_journal, trials_of
from bench.sweep.trial import CellTrial, Shared, share_of, workers_of

__all__ = ["Outcome", "cells_of", "matching", "run", "seeds_of", "trials_of"]

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune's own tables, which it prints whatever its verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The run folder holds every result: Tune's own per-trial files would only cost time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A job that fails at once has no PSNR to report, and must not end the sweep.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Tune saves its experiment state for a resume of its own kind; ours is the journal.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
RETRIES = 1


@dataclass
class Outcome:
    """What a sweep leaves to say.

    Attributes:
        complete: whether nothing was left to run; not so after Ctrl-C, on which Tune stops.
        failed: cells without a result, and why.
    """

    complete: bool
    failed: dict[str, str]


def cells_of(spec: Benchmark) -> list[Cell]:
    """List a benchmark's cells in the order in which they are run.

    A method has none for a degradation that it does not serve.
    """
    return [
        cell
        for cell in cells(spec, methods.sizes_of)
        if methods.serves(cell.method.name, cell.task.degradation.name)
    ]


def matching(cells: list[Cell], wanted: Mapping[str, list[str]]) -> list[Cell]:
    """Choose cells.

    Args:
        cells: to choose from.
        wanted: the values that pass, by key: `method` and `degradation` (labels), `level`,
            `n_train` (methods without training images pass at any size).

    Raises:
        UserError: a value that no cell has, or nothing left.
    """
    traits = {
        "method": lambda cell: cell.method.label,
        "degradation": lambda cell: cell.task.degradation.label,
        "level": lambda cell: f"{cell.task.level:g}",
        "n_train": lambda cell: f"{cell.n_train}",
    }
    left = cells
    for key, values in wanted.items():
        known = sorted({traits[key](cell) for cell in cells})
        for value in values:
            if value not in known:
                raise unknown(f"{key} of --only:", value, known)
        always = ["0"] if key == "n_train" else []
        left = [cell for cell in left if traits[key](cell) in values + always]
    if not left:
        raise UserError("--only: no cell is left")
    return left


def run(
    spec: Benchmark,
    chosen: list[Cell],
    split: Split,
    store: Store,
    console: Console,
    events: Path | None = None,
    nodes: int = 1,
    wait: float = 0.0,
) -> Outcome:
    """Finish what the run folder lacks: search every cell, refit its best, score on test images.

    Args:
        spec: the benchmark.
        chosen: the cells to run.
        split: its images.
        store: the run folder, begun and claimed.
        console: for progress.
        events: a file to which one JSON line is added for each event.
        nodes: how many the cluster shall have before anything is run.
        wait: seconds to wait for these.

    Raises:
        UserError: no cluster answers, it lacks nodes, or the run folder cannot be written any more.
    """
    searcher = SweepSearcher(spec, chosen, store, open_journal(store.journal))
    _write_truth(chosen, split, store, spec.pictures)
    if not searcher.finished:
        _connect(console, nodes, wait)
        with SweepProgress(spec, searcher, console) as progress, EventLog(events) as log:
            searcher.observers = [progress, log]
            _tune(spec, chosen, split, store, searcher)
        if searcher.fatal:
            raise searcher.fatal
    if searcher.finished:
        shutil.rmtree(store.folder / "checkpoints", ignore_errors=True)
    return Outcome(searcher.finished, searcher.failed)


def _connect(console: Console, nodes: int, wait: float) -> None:
    """Join the running cluster where there is one, else start a local one; say which.

    Then wait for its nodes: those that are still being set up are none of it yet.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the progress names every failure
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise UserError(
                f"Ray: {error}; is RAY_ADDRESS right, and does a cluster with tokens find its own "
                "(RAY_AUTH_MODE=token)?"
            ) from None
    # Ray says nowhere else whether init began a cluster or found one.
    begun = ray._private.worker._global_node.is_head()
    address = ray.get_runtime_context().gcs_address
    came = _wait_for(nodes, wait, console)
    # Tune starts actors one after another, unless told to start some on every node at once.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(came)
    total = ray.cluster_resources()
    console.print(
        f"Ray: {'a cluster of its own' if begun else f'joined the cluster at {address}'}: "
        f"{came} node{'s' * (came > 1)}, {total.get('CPU', 0):g} CPUs, "
        f"{total.get('GPU', 0):g} GPUs",
        highlight=False,
    )


def _wait_for(nodes: int, wait: float, console: Console) -> int:
    """Wait until a cluster has that many nodes, and give the number of those it has.

    Raises:
        UserError: the time is over.
    """
    ends = time.monotonic() + wait
    said = 0
    while (came := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if time.monotonic() > ends:
            raise UserError(
                f"--nodes {nodes}: {came} came within {wait:g} s; see `ray status` on the head, "
                "then run the same command again, with a longer --wait or fewer --nodes"
            )
        if came != said:
            console.print(f"Ray: {came} of {nodes} nodes, waiting for the others", highlight=False)
            said = came
        time.sleep(1)
    return came


def _tune(
    spec: Benchmark, chosen: list[Cell], split: Split, store: Store, searcher: SweepSearcher
) -> None:
    shared = Shared(
        spec=spec,
        cells={cell.id: cell for cell in chosen},
        folder=str(store.folder.resolve()),
        images=ray.put((split.train, split.val)),
        test=ray.put(split.test),
    )
    trainable = tune.with_resources(
        tune.with_parameters(CellTrial, shared=shared),
        lambda job: tune.PlacementGroupFactory([_resources(shared.cells[job["cell"]])]),
    )
    with tempfile.TemporaryDirectory(prefix="reconbench-") as scratch:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=PerCellPruner(searcher.validations(), spec.budget, spec.search.pruner),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


def _resources(cell: Cell) -> dict[str, float]:
    """A trial's CPUs, and its share of a GPU if it is a network's and the cluster has any.

    A trial that only drives workers takes a sliver of the head node, since Tune runs nothing for
    nothing.
    """
    if workers_of(cell) > 1:
        return {"node:__internal_head__": 0.01}
    return share_of(cell)


def _write_truth(chosen: list[Cell], split: Split, store: Store, count: int) -> None:
    """Keep the ground truth of the test images whose pictures every cell keeps."""
    for task in {cell.task.id for cell in chosen} if count else ():
        if not (store.folder / "images" / task / "truth.npz").exists():
            ids = np.array(split.test.ids[:count])
            store.write_pictures(task, x=split.test.images[:count], ids=ids)
