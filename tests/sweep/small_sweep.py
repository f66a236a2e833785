"""A small sweep in separate processes, for tests that disturb it."""

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest
import yaml

from bench.cli import main
from bench.store import Store

ROOT = Path(__file__).parents[2]
SPEC = {
    "name": "faults",
    "dataset": {"image_size": 32, "n_val": 4, "n_test": 6, "subjects": 18},
    "degradations": [{"name": "gaussian_noise", "levels": [0.1, 0.5]}],
    "n_train": [4],
    "methods": ["tv", "mine:Slow"],
    "budget": {"trials": 3, "steps": 9, "batch_size": 2, "reports": 3},
    "deterministic": True,
    "precision": "fp32",
    "seeds": 2,
    "pictures": 1,
    "checkpoint_seconds": 0,
}
METHODS = """
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

PAUSE = Path(__file__).with_name("pause")


class Slow(nn.Module):
    search_space = {
        "width": {"choices": [2, 4, 8], "default": 4},
        "lr": {"low": 1e-3, "high": 1e-1, "log": True, "default": 1e-2},
    }

    def __init__(self, width: int = 4):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1)
        )

    def forward(self, x):
        if self.training:
            time.sleep(float(PAUSE.read_text()) if PAUSE.exists() else 0.03)
        return self.layers(x)


class Hangs(Slow):
    def forward(self, x):
        if self.training:
            time.sleep(1000)
        return self.layers(x)


class Raises(Slow):
    def forward(self, x):
        raise ValueError("of no use")


class Diverges(Slow):
    def forward(self, x):
        return self.layers(x) * float("nan")


class Hungry(Slow):
    def forward(self, x):
        if len(x) > 1 and self.training:
            raise torch.OutOfMemoryError("tried to allocate 1 TiB")
        return self.layers(x)


class Insatiable(Slow):
    def forward(self, x):
        raise MemoryError("never enough")


class Dies(Slow):
    def forward(self, x):
        os._exit(1)
"""
# What differs from run to run: times, and the name that Ray gives to a node.
PASSING_ROWS = ["train_seconds", "train_cpu_seconds", "infer_ms"]
PASSING_TRIALS = ["seconds", "node"]
# Of a cluster that is started for a test: each worker takes seconds of imports.
ONE_CPU = {"RAY_OVERRIDE_RESOURCES": '{"CPU": 1}'}
STARTED: list[subprocess.Popen] = []


def start(folder: Path, *more: str, **environment: str) -> subprocess.Popen:
    words = [str(ROOT / "bench/run.py"), "spec.yaml", "--out", "run"]
    words += ["--events", "events.jsonl", *more]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, stdout=log, stderr=log,
            env={**os.environ, "RAY_ADDRESS": "local", **environment},
        )  # fmt: skip
    STARTED.append(process)
    return process


def run(folder: Path, *more: str, status: int = 0) -> str:
    """Run the sweep in this process, on the cluster that it has joined; return what it prints.

    Its workers know `mine` from elsewhere: see `joined`.
    """
    words = ["run", "spec.yaml", "--out", "run", "--events", "events.jsonl", *more]
    printed = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as ended,
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["reconbench", *words])
        main()
    assert (ended.value.code or 0) == status, printed.getvalue()
    return printed.getvalue()


def end(process: subprocess.Popen, folder: Path, status: int = 0) -> None:
    assert process.wait(300) == status, (folder / "log").read_text()


def prepare(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    (folder / "mine.py").write_text(METHODS)
    return folder


def results(run: Path | str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and trials of a run folder, without the columns that differ between runs."""
    store = Store(run)
    rows = store.rows().sort_values(["cell", "seed", "image"], ignore_index=True)
    trials = store.trials().sort_values(["cell", "trial"], ignore_index=True)
    return rows.drop(columns=PASSING_ROWS), trials.drop(columns=PASSING_TRIALS)


class Undisturbed(NamedTuple):
    rows: pd.DataFrame
    trials: pd.DataFrame
    run: Path

    def compare(self, run: Path | str) -> None:
        """Check that another run has the same results, to the last bit."""
        for found, expected in zip(results(run), self[:2], strict=True):
            pd.testing.assert_frame_equal(found, expected, check_exact=True)


def wait_for(folder: Path, driver: subprocess.Popen, ready: Callable[[list[dict]], object]) -> None:
    deadline = time.monotonic() + 200
    while not ready(events(folder)):
        assert driver.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)


def events(folder: Path) -> list[dict]:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def kill_all(driver: subprocess.Popen) -> None:
    """Kill the driver with its whole cluster at once."""
    family = [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()


def slow_validations(seen: list[dict], refit: bool = False) -> int:
    key = "seed" if refit else "trial"
    return sum(e["event"] == "validated" and "Slow" in e["cell"] and key in e for e in seen)
