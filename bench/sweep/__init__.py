"""One Tune experiment over all cells of a benchmark."""

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from rich.console import Console

from bench import cluster, places, private
from bench.cells import resources_of, workers_of
from bench.data import Split
from bench.errors import UserError
from bench.spec import Benchmark, Cell
from bench.store import Store
from bench.sweep import loggers
from bench.sweep.events import EventLog
from bench.sweep.progress import SweepProgress
from bench.sweep.scheduler import FinishedTrialCleanup, PendingTrialScheduler
from bench.sweep.searcher import SweepSearcher
from bench.sweep.studies import Studies
from bench.sweep.trial import CellTrial, Shared, share_of

__all__ = ["Outcome", "check_room", "run"]

# What kills one worker often kills others too, and the next try may be given to one of these.
RETRIES = 4


@dataclass
class Outcome:
    """The outcome of a sweep.

    Attributes:
        complete: whether nothing is left to run; False after Ctrl-C, which stops Tune.
        failed: cells without a result, and why.
    """

    complete: bool
    failed: dict[str, str]


def check_room(chosen: list[Cell]) -> list[str]:
    """Refuse cells whose trials do not fit on any machine of the cluster.

    Returns:
        notices: trials for which a cluster that grows has to add nodes.

    Raises:
        UserError: with the method, what a trial of it needs, and what the cluster has.
    """
    nodes = cluster.machines()
    gpus = any(node.get("GPU") for node in nodes)
    notices = []
    for cell in {cell.method.label: cell for cell in chosen}.values():
        share, workers = resources_of(cell, gpus), workers_of(cell)
        room = sum(
            min(int(node.get(name, 0) / amount) for name, amount in share.items()) for node in nodes
        )
        if room >= workers:
            continue
        needs = " and ".join(f"{amount:g} {name}s" for name, amount in share.items())
        available = "; ".join(
            " and ".join(f"{node.get(name, 0):g} {name}s" for name in share) for node in nodes
        )
        line = (
            f"{cell.method.label}: a trial needs {needs} on one machine"
            f"{f', {workers} times' if workers > 1 else ''}; the cluster has {available}"
        )
        if not cluster.may_grow():
            raise UserError(f"methods: {line}; lower its cpus, gpus or workers")
        notices.append(f"{line}; waiting for more nodes")
    return notices


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
    """Run what is missing: search each cell, refit its best configuration, score on test images.

    Args:
        spec: the benchmark.
        chosen: the cells to run.
        split: its images, which are copied to Ray's object store.
        store: the run folder, begun and claimed.
        console: for progress.
        events: a file to which one JSON line is added for each event.
        log_to: experiment trackers, names of `loggers.LOGGERS`.
        nodes: number of nodes of the cluster to wait for before anything is run.
        wait: seconds to wait for them at most.
        trainable: runs the jobs; another one is used only to measure the sweep itself.
        record: entries of the manifest, written once it is known that the run can start or resume.

    Raises:
        UserError: a cell has trials of another search space or code, no cluster answers, it has
            too few nodes, or the run folder can no longer be written.
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
        for notice in check_room(chosen):
            console.print(notice, markup=False, highlight=False)
        shared = Shared(
            spec=spec,
            cells={cell.id: cell for cell in chosen},
            folder=str(store.folder.resolve()),
            images=ray.put((split.train, split.val)),
            test=ray.put(split.test),
            claim=store.claim,
        )
        del split  # the last reference to the driver's own copy, unless the caller keeps one
        with SweepProgress(spec, searcher, console) as progress, EventLog(events) as log:
            searcher.observers = [progress, log]
            _tune(shared, store, searcher, log_to, trainable)
        for notice in private.notices():
            console.print(notice, markup=False, highlight=False)
        if searcher.fatal:
            raise searcher.fatal
        searcher.save_tables()
    studies.close()
    if searcher.finished:
        places.remove_tree(store.folder / "checkpoints")
    return Outcome(searcher.finished, searcher.failed)


def _tune(
    shared: Shared,
    store: Store,
    searcher: SweepSearcher,
    log_to: Sequence[str],
    trainable: type[CellTrial],
) -> None:
    name = shared.spec.name
    with_data = tune.with_resources(
        tune.with_parameters(trainable, shared=shared),
        lambda job: tune.PlacementGroupFactory(_bundles(shared.cells[job["cell"]])),
    )
    private.keep_warm_workers()
    with contextlib.ExitStack() as stack:
        stack.enter_context(cluster.several_pending_trials())
        if "tensorboard" in log_to:  # Tune writes its files to the folder of the trial
            trials = str(store.folder.resolve() / "tensorboard")
        else:
            trials = stack.enter_context(tempfile.TemporaryDirectory(prefix="reconbench-"))
        tune.Tuner(
            stack.enter_context(private.registered("job", with_data)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=PendingTrialScheduler(ray.cluster_resources().get("CPU", 1.0)),
                num_samples=-1,
                reuse_actors=True,
                trial_dirname_creator=loggers.folder_name,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=trials,
                callbacks=[*loggers.callbacks(log_to, name, store.folder), FinishedTrialCleanup()],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


def _bundles(cell: Cell) -> list[dict[str, float]]:
    """Return the resource bundles of a trial: its CPUs, and for a network its share of a GPU."""
    if workers_of(cell) > 1:
        from bench.sweep import distributed  # it loads Ray Train, which most runs do without

        return distributed.reservation(share_of(cell), workers_of(cell))
    return [share_of(cell)]


def _write_truth(chosen: list[Cell], split: Split, store: Store, count: int) -> None:
    """Store the ground truth of the test images whose pictures every cell stores."""
    for task in {cell.task.id for cell in chosen} if count else ():
        if not (store.folder / "images" / task / "truth.npz").exists():
            ids = np.array(split.test.ids[:count])
            store.write_pictures(task, x=split.test.images[:count], ids=ids)
