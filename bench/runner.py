"""A run from its benchmark file to its report: what `reconbench run` and `bench.run` do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import cells, methods, metrics, provenance, rules, score_columns
from bench.cells import trials_of
from bench.display import show_notices
from bench.errors import UserError
from bench.report import Leaderboard
from bench.rules import Prepared, Shrinkable
from bench.spec import Benchmark, Cell
from bench.store import Store


@dataclass(frozen=True)
class RunResult:
    """The outcome of a run.

    Attributes:
        benchmark: as it was run, every default written out.
        store: its run folder.
        chosen: the cells that were to be run.
        complete: whether all of them were run; False after Ctrl-C.
        failed: cells without a result, and why.
        board: the leaderboard of everything in the folder.
    """

    benchmark: Benchmark
    store: Store
    chosen: list[Cell]
    complete: bool
    failed: dict[str, str]
    board: Leaderboard


def run(
    benchmark: Benchmark,
    folder: str | Path | None = None,
    *,
    only: Mapping[str, Sequence[str]] | None = None,
    may_shrink: Shrinkable | None = None,
    events: Path | None = None,
    log_to: Sequence[str] = (),
    nodes: int = 1,
    wait: float = 900.0,
    console: Console | None = None,
) -> RunResult:
    """Run a benchmark, or finish one that was interrupted, and write its report.

    Args:
        benchmark: what to run.
        folder: the run folder, a path or an address (`s3://`, `gs://`); default:
            `results/<name>`.
        only: the cells to run, see `bench.cells.matching`; the others are left for another run.
        may_shrink: which sizes of image sets shrink where images are few; default: those that the
            benchmark leaves open.
        events: a file to which one JSON line is added for each event.
        log_to: experiment trackers, names of `bench.sweep.loggers.LOGGERS`.
        nodes: number of nodes of the Ray cluster to wait for before anything is run.
        wait: seconds to wait for them at most.
        console: for progress and notices; default: standard output.

    Raises:
        UserError: a mistake in the input, in one line; finished results are kept.
    """
    console = console or Console()
    may_shrink = may_shrink or rules.shrinkable(benchmark)
    show_notices(console, rules.foreign_code(benchmark))
    benchmark, notices = rules.check(benchmark)
    show_notices(console, notices)
    _check_events(events)
    from bench import cluster

    cluster.connect()
    from bench import report, sweep  # while Ray's workers start
    from bench.sweep import loggers

    store = Store(folder or Path("results") / benchmark.name)
    loggers.check(log_to, store.folder)
    prepared = rules.prepare(benchmark, may_shrink)
    benchmark = prepared.benchmark
    show_notices(console, prepared.notices)
    every = cells.cells_of(benchmark)
    chosen = cells.matching(every, only or {})
    with store.claimed():
        show_notices(console, store.set_aside_damaged())
        store.begin(benchmark, rules.digests(prepared.split, benchmark.n_train))
        record = _record(benchmark, every, prepared, store, console)
        record |= {"notices": notices, "simulated": rules.simulated(benchmark)}
        count = f"{len(chosen)} of {len(every)}" if len(chosen) < len(every) else f"{len(every)}"
        show_notices(console, [f"{benchmark.name}: {count} cells -> {store.folder}"])
        outcome = sweep.run(
            benchmark, chosen, prepared.release(), store, console, events, log_to, nodes, wait,
            record=record,
        )  # fmt: skip
        board = report.write(store)
        finished = outcome.complete and not outcome.failed and len(chosen) == len(every)
        if finished and not store.manifest().get("finished"):
            store.write_manifest(finished=provenance.now())
    return RunResult(benchmark, store, chosen, outcome.complete, outcome.failed, board)


def _record(
    benchmark: Benchmark, every: list[Cell], prepared: Prepared, store: Store, console: Console
) -> dict[str, Any]:
    """Collect the manifest's entries for a run that begins or resumes."""
    before, here = store.manifest(), provenance.environment()
    starts = before.get("starts", [])
    if changed := provenance.changes(starts, here):
        notice = (
            f"warning: resumed with other versions ({', '.join(changed)}); earlier results "
            "are kept, and the report shows a badge"
        )
        show_notices(console, [notice])
    return {
        "started": before.get("started", provenance.now()),
        "cells": len(every),
        "trials": sum(trials_of(cell, benchmark.budget) for cell in every),
        "audit": prepared.audit,
        "metric_code": rules.metric_code(benchmark, before.get("metric_code") or {}),
        "metrics": score_columns.declare(metrics.describe(benchmark.metrics)),
        "levels": rules.levels(benchmark),
        "spaces": {m.label: methods.find(m.name).space(m.fixed) for m in benchmark.methods},
        **here,
        "starts": [*starts, {"at": provenance.now(), **here}],
    }


def _check_events(events: Path | None) -> None:
    """Refuse, before the run begins, a file for events that cannot be written."""
    try:
        if events is not None:
            events.parent.mkdir(parents=True, exist_ok=True)
            events.open("a").close()
    except OSError as error:
        raise UserError(f"{events}: events cannot be written there ({error.strerror})") from None
