"""The overhead of a sweep beyond its training, side by side with plain Tune and with Optuna.

Twenty trials of a network of ten weights. A trial's overhead is the time for which it occupied a
slot of the machine, less its training time.
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import ray
import torch
from jaxtyping import Float
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from ray import tune
from torch import Tensor, nn

from bench import data, physics, spec, training
from bench.data import Split
from bench.spec import Benchmark
from bench.speed import events_of

TRIALS, STEPS, VARIANCE = 20, 20, 0.1
RUNS = 3  # of the command; the one with the median start counts
FILE = {
    "name": "overhead",
    "dataset": {"source": "template", "image_size": 32, "n_val": 4, "n_test": 6},
    "degradations": [{"name": "gaussian_noise", "levels": [VARIANCE]}],
    "n_train": [8],
    "methods": ["bench.speed.sweep:Trivial"],
    "budget": {"trials": TRIALS, "steps": STEPS, "batch_size": 4, "reports": 1},
    "search": {"pruner": "none"},
    "seeds": 1,
    "pictures": 0,
}


class Trivial(nn.Module):
    """One 3x3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
        """Filter."""
        return self.layer(x)


@dataclass(frozen=True)
class Line:
    """The times of one program.

    Attributes:
        who: the program that ran the trials.
        first: seconds until the first trial began.
        wall: seconds from then to the end of the last.
        training: mean training time of a trial, in seconds.
        slots: number of trials at once.
    """

    who: str
    first: float
    wall: float
    training: float
    slots: int

    @property
    def overhead(self) -> float:
        """Seconds for which a trial occupies a slot beyond its training."""
        return self.wall * self.slots / TRIALS - self.training


def page() -> str:
    """Measure, and return the table as Markdown."""
    benchmark = spec.parse(FILE)
    split = data.split(data.load(benchmark.dataset), 8, 4, 6)
    ours = sorted((_ours() for _ in range(RUNS)), key=lambda line: line.first)[RUNS // 2]
    lines = [ours, _plain_tune(split, benchmark), _optuna(split, benchmark)]
    text = [
        "# Overhead of the sweep",
        "",
        f"Measured by `make speed` on {os.cpu_count()} CPUs: {TRIALS} trials of a network of ten "
        f"weights, {STEPS} optimiser steps each. First trial: seconds from the start of the "
        "command (ReconBench) or of Ray until its training began. Overhead: the time for which a "
        "trial occupied its slot, from then to the end of the last trial, minus its training.",
        "",
        "| program | trials at once | first trial (s) | training (s) | overhead per trial (s) |",
        "|---|---|---|---|---|",
    ]
    text += [
        f"| {line.who} | {line.slots} | {line.first:.1f} | {line.training:.2f} | "
        f"{line.overhead:.2f} |"
        for line in lines
    ]
    return "\n".join(text) + "\n"


def _ours() -> Line:
    """Time the command, by its events."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        events = events_of(FILE, Path(folder))
    ended = [event for event in events if event["event"] == "ended" and "trial" in event]
    seconds = sum(event["seconds"] for event in ended) / len(ended)
    first = min(event["time"] - event["seconds"] for event in ended)
    last = max(event["time"] for event in ended)
    return Line("ReconBench", first - start, last - first, seconds, os.cpu_count() or 1)


def _plain_tune(split: Split, benchmark: Benchmark) -> Line:
    """Run the same trainings as a Tune function, as in the first steps of its manual."""

    def trial(config: dict[str, float]) -> None:
        begun = time.time()
        tune.report({"psnr": _fit(split, benchmark, config["lr"]), "begun": begun})

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    storage = tempfile.mkdtemp()
    start = time.time()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    results = tune.Tuner(
        tune.with_resources(trial, {"CPU": 1}),
        param_space={"lr": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune.TuneConfig(num_samples=TRIALS, metric="psnr", mode="max"),
        run_config=tune.RunConfig(storage_path=storage, verbose=0),
    ).fit()
    end = time.time()
    ray.shutdown()
    shutil.rmtree(storage, ignore_errors=True)
    metrics = [result.metrics or {} for result in results]
    begun = min(one["begun"] for one in metrics)
    seconds = sum(one["timestamp"] - one["begun"] for one in metrics) / TRIALS
    return Line("Tune, a function", begun - start, end - begun, seconds, os.cpu_count() or 1)


def _optuna(split: Split, benchmark: Benchmark) -> Line:
    """Run the same trainings in one process, one after another."""
    spent = 0.0

    def objective(trial: optuna.Trial) -> float:
        nonlocal spent
        begun = time.perf_counter()
        psnr = _fit(split, benchmark, trial.suggest_float("lr", 1e-4, 1e-2, log=True))
        spent += time.perf_counter() - begun
        return psnr

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(f"{folder}/journal.log")),
            direction="maximize",
        )
        study.optimize(objective, n_trials=TRIALS)
        wall = time.perf_counter() - start
    return Line("Optuna, one process", 0.0, wall, spent / TRIALS, 1)


def _fit(split: Split, benchmark: Benchmark, lr: float) -> float:
    torch.set_num_threads(1)
    operator = physics.create("gaussian_noise", VARIANCE, 32)
    return training.fit(
        "bench.speed.sweep:Trivial", {"lr": lr}, split.train, split.val, operator,
        benchmark.budget, 0,
    ).psnr  # fmt: skip
