"""All of Ray lives here: one Tune experiment over all cells of a benchmark."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.execution import class_cache
from rich.console import Console

from bench import cluster, methods, places
from bench.data import Split
from bench.errors import UserError, unknown
from bench.spec import Benchmark, Cell, cells
from bench.store import Store
from bench.sweep import distributed, loggers
from bench.sweep.events import EventLog
from bench.sweep.progress import SweepProgress
from bench.sweep.registry import registered
from bench.sweep.scheduler import FirstFree, Forget
from bench.sweep.searcher import SweepSearcher, seeds_of
from bench.sweep.studies import Studies, trials_of
from bench.sweep.trial import CellTrial, Shared, share_of, workers_of

__all__ = ["Outcome", "cells_of", "check_room", "matching", "run", "seeds_of", "trials_of"]

# What kills one worker often kills others, and the next try may be handed to one of these.
RETRIES = 4


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


def check_room(chosen: list[Cell], console: Console) -> None:
    """Refuse cells whose trials no machine can hold; of a cluster that grows, say what is awaited.

    Raises:
        UserError: names the method, what a trial of it needs, and what there is.
    """
    nodes = cluster.machines()
    gpus = any(node.get("GPU") for node in nodes)
    for cell in {cell.method.label: cell for cell in chosen}.values():
        share, workers = share_of(cell, gpus), workers_of(cell)
        held = sum(
            min(int(node.get(name, 0) / amount) for name, amount in share.items()) for node in nodes
        )
        if held >= workers:
            continue
        needs = " and ".join(f"{amount:g} {name}s" for name, amount in share.items())
        there = "; ".join(
            " and ".join(f"{node.get(name, 0):g} {name}s" for name in share) for node in nodes
        )
        line = (
            f"{cell.method.label}: a trial needs {needs} on one machine"
            f"{f', {workers} times' if workers > 1 else ''}; the cluster has {there}"
        )
        if not cluster.may_grow():
            raise UserError(f"methods: {line}; lower its cpus, gpus or workers")
        console.print(f"{line}; waiting for more nodes", markup=False, highlight=False)


def run(
    spec: Benchmark,
    chosen: list[Cell],
    split: Split,
    store: Store,
    console: Console,
    events: Path | None = None,
    log_to: Sequence[str] = (),
    nodes: int = 1,
    wait: float = 0.0,
    trainable: type[CellTrial] = CellTrial,
    record: Mapping[str, Any] | None = None,
) -> Outcome:
    """Finish what the run folder lacks: search every cell, refit its best, score on test images.

    Args:
        spec: the benchmark.
        chosen: the cells to run.
        split: its images, which move to Ray's object store: the sets are left empty here.
        store: the run folder, begun and claimed.
        console: for progress.
        events: a file to which one JSON line is added for each event.
        log_to: trackers of experiments that are told too, of `loggers.LOGGERS`.
        nodes: how many the cluster shall have before anything is run.
        wait: seconds to wait for these.
        trainable: runs the jobs; another only where the sweep itself is measured.
        record: entries of the manifest, written once it is known that the run can go on.

    Raises:
        UserError: what determines a cell's trials has changed since its first, no cluster answers,
            it lacks nodes, or the run folder cannot be written any more.
    """
    studies = Studies(store.journal, store.check_claim)
    if studies.damage:
        console.print(studies.damage, markup=False, highlight=False, soft_wrap=True)
    searcher = SweepSearcher(spec, chosen, store, studies)
    store.extend(spec, **(record or {}))
    _write_truth(chosen, split, store, spec.pictures)
    if not searcher.finished:
        cluster.connect()
        cluster.ready(nodes, wait, console)
        check_room(chosen, console)
        with SweepProgress(spec, searcher, console) as progress, EventLog(events) as log:
            searcher.observers = [progress, log]
            _tune(spec, chosen, split, store, searcher, log_to, trainable)
        if searcher.fatal:
            raise searcher.fatal
        searcher.save_tables()
    studies.close()
    if searcher.finished:
        places.remove_tree(store.folder / "checkpoints")
    return Outcome(searcher.finished, searcher.failed)


def _tune(
    spec: Benchmark,
    chosen: list[Cell],
    split: Split,
    store: Store,
    searcher: SweepSearcher,
    log_to: Sequence[str],
    trainable: type[CellTrial],
) -> None:
    shared = Shared(
        spec=spec,
        cells={cell.id: cell for cell in chosen},
        folder=str(store.folder.resolve()),
        images=ray.put((split.train, split.val)),
        test=ray.put(split.test),
        claim=store.claim,
    )
    split.train, split.val, split.test = (part.take([]) for part in vars(split).values())
    able = tune.with_resources(
        tune.with_parameters(trainable, shared=shared),
        lambda job: tune.PlacementGroupFactory(_bundles(shared.cells[job["cell"]])),
    )
    # Tune would have workers started anew, to give them a variable for PyTorch Lightning, while
    # those that a cluster begins with stand idle, their imports done (`bench.warm`).
    class_cache.DEFAULT_ENV_VARS.clear()
    with contextlib.ExitStack() as stack:
        if "tensorboard" in log_to:  # Tune keeps its files in the folder of the trial
            trials = str(store.folder.resolve() / "tensorboard")
        else:
            trials = stack.enter_context(tempfile.TemporaryDirectory(prefix="reconbench-"))
        tune.Tuner(
            stack.enter_context(registered("job", able)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=FirstFree(ray.cluster_resources().get("CPU", 1.0)),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=loggers.place,
            ),
            run_config=tune.RunConfig(
                name=spec.name,
                storage_path=trials,
                callbacks=[*loggers.callbacks(log_to, spec.name, store.folder), Forget()],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


def _bundles(cell: Cell) -> list[dict[str, float]]:
    """A trial's CPUs, and its share of a GPU if it is a network's and the cluster has any."""
    if workers_of(cell) > 1:
        return distributed.reservation(share_of(cell), workers_of(cell))
    return [share_of(cell)]


def _share_here(cell: Cell) -> dict[str, float]:
    return share_of(cell, bool(ray.cluster_resources().get("GPU", 0)))


def _write_truth(chosen: list[Cell], split: Split, store: Store, count: int) -> None:
    """Keep the ground truth of the test images whose pictures every cell keeps."""
    for task in {cell.task.id for cell in chosen} if count else ():
        if not (store.folder / "images" / task / "truth.npz").exists():
            ids = np.array(split.test.ids[:count])
            store.write_pictures(task, x=split.test.images[:count], ids=ids)
