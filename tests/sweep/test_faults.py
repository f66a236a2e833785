"""Faults in a real sweep, in processes of its own: afterwards the same command ends as if nothing
had been.
"""

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster
from tensorboardX.proto import event_pb2

from bench.store import Store

pytestmark = pytest.mark.usefixtures("ray_cluster")

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
            time.sleep(float(os.environ.get("PAUSE", 0.03)))
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
PASSING = ["train_seconds", "infer_ms", "seconds", "node"]


STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while STARTED:
        if (process := STARTED.pop()).poll() is None:
            kill_all(process)


def start(folder: Path, *more: str, **environment: str) -> subprocess.Popen:
    words = [str(ROOT / "bench/run.py"), "spec.yaml", "--out", "run", *more]
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=folder, stdout=log, stderr=log,
            env={**os.environ, **environment},
        )  # fmt: skip
    STARTED.append(process)
    return process


def end(process: subprocess.Popen, folder: Path, status: int = 0) -> None:
    assert process.wait(300) == status, (folder / "log").read_text()


def prepare(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump({**SPEC, **changes}))
    (folder / "mine.py").write_text(METHODS)
    return folder


def results(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and trials, but for what passes."""
    store = Store(folder / "run")
    rows = store.rows().sort_values(["cell", "seed", "image"], ignore_index=True)
    trials = store.trials().sort_values(["cell", "trial"], ignore_index=True)
    return rows.drop(columns=PASSING[:2]), trials.drop(columns=PASSING[2:])


class Undisturbed(NamedTuple):
    rows: pd.DataFrame
    trials: pd.DataFrame
    run: Path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    end(start(folder, "--log", "tensorboard", "--events", "events.jsonl"), folder)
    rows, trials = results(folder)
    assert len(rows) == 6 * 2 * (1 + 2)
    assert len(trials) == 2 * (3 + 3)
    assert not (folder / "run" / "checkpoints").exists()
    return Undisturbed(rows, trials, folder / "run")


def scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Read step, name and value from a file of TensorBoard: length, checksum, event, checksum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value
        content = content[16 + length :]


def test_tensorboard_shows_every_job(undisturbed: Undisturbed) -> None:
    _, trials, run = undisturbed
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for path in run.glob("tensorboard/**/events.*"):  # a trial that was sent on has several
        curve = {step: value for step, tag, value in scalars(path) if tag == "ray/tune/best"}
        curves[path.parent.name.split("-until")[0]].update(curve)
    shown = {name: curve[max(curve)] for name, curve in curves.items()}
    table = {f"{row.cell}-trial{row.trial}": row.psnr for row in trials.itertuples()}
    assert {name: shown[name] for name in table} == pytest.approx(table, abs=1e-4)
    assert len(shown) == len(table) + 2 * (1 + 2)


def test_the_events_tell_who_waits_from_who_ended(undisturbed: Undisturbed) -> None:
    _, trials, run = undisturbed
    told = [event for event in events(run.parent) if "trial" in event]
    last = {(event["cell"], event["trial"]): event["event"] for event in told}
    states = {"complete": "ended", "pruned": "waits"}
    assert last == {(row.cell, row.trial): states[row.state] for row in trials.itertuples()}
    ended = [(event["cell"], event["trial"]) for event in told if event["event"] == "ended"]
    assert len(ended) == len(set(ended)) == (trials["state"] == "complete").sum() < len(trials)


@pytest.fixture
def check(undisturbed: Undisturbed, tmp_path: Path) -> Callable[[], None]:
    """Run the command to its end, and compare with the undisturbed run to the last bit."""

    def same() -> None:
        end(start(tmp_path), tmp_path)
        for found, expected in zip(results(tmp_path), undisturbed[:2], strict=True):
            pd.testing.assert_frame_equal(found, expected, check_exact=True)

    return same


def test_damaged_files_are_computed_again(
    undisturbed: Undisturbed, check: Callable[[], None], tmp_path: Path
) -> None:
    prepare(tmp_path)
    run = shutil.copytree(undisturbed.run, tmp_path / "run")
    slow = "template-gaussian_noise-0.1-n4-Slow"
    (run / "spec.yaml").unlink()
    (run / "manifest.json").write_text("{")
    (run / f"rows/{slow}/0.parquet").write_bytes(b"PAR1")
    (run / f"models/{slow}/1/weights.safetensors").unlink()
    (run / f"images/{slow.replace('0.1', '0.5')}/pictures.npz").write_bytes(b"")
    (run / f"trials/{slow}.parquet").write_bytes(b"")
    journal = run / "studies" / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-20], *lines[-19:]]))
    check()
    assert {path.name for path in run.rglob("*.damaged")} == {
        "0.parquet.damaged", f"{slow}.parquet.damaged", "journal.log.damaged",
        "manifest.json.damaged", "pictures.npz.damaged", "recipe.json.damaged",
    }  # fmt: skip
    text = (tmp_path / "log").read_text()
    for path in run.rglob("*.damaged"):
        name = str(path.relative_to(tmp_path)).removesuffix(".damaged")
        assert f"{name}: is damaged" in text
    for seed in range(2):
        recipe, _ = Store(run).read_model(slow, seed)
        assert Store(run).is_finished(slow, seed, recipe["config"], pictures=not seed)


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


def begun(folder: Path, **environment: str) -> subprocess.Popen:
    return start(folder, "--events", "events.jsonl", **environment)


def kill_all(driver: subprocess.Popen) -> None:
    """Kill the driver with its whole cluster at once."""
    family = [*psutil.Process(driver.pid).children(recursive=True), psutil.Process(driver.pid)]
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()


def actors(driver: subprocess.Popen) -> list[psutil.Process]:
    """Find the workers that run trials; a process may end while one looks."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "Trainable" in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
    return found


def listening(driver: subprocess.Popen) -> set[str]:
    """Find the addresses on which a run can be reached."""
    found = set()
    for process in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def slow_validations(seen: list[dict], refit: bool = False) -> int:
    key = "seed" if refit else "trial"
    return sum(e["event"] == "validated" and "Slow" in e["cell"] and key in e for e in seen)


def test_a_worker_killed_in_mid_trial(check: Callable, tmp_path: Path) -> None:
    driver = begun(prepare(tmp_path))
    wait_for(tmp_path, driver, slow_validations)
    wait_for(tmp_path, driver, lambda seen: actors(driver))
    assert listening(driver) == {"127.0.0.1"}
    for process in actors(driver):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    end(driver, tmp_path)
    check()


def test_the_raylet_killed_in_mid_run(check: Callable, tmp_path: Path) -> None:
    driver = begun(prepare(tmp_path))
    wait_for(tmp_path, driver, slow_validations)
    (raylet,) = [
        process
        for process in psutil.Process(driver.pid).children(recursive=True)
        if process.name() == "raylet"
    ]
    raylet.kill()
    assert driver.wait(300) != 0, (tmp_path / "log").read_text()
    check()


def test_driver_and_cluster_killed_again_and_again(check: Callable, tmp_path: Path) -> None:
    """The driver alone in the search, everything at once twice in a row, the driver in a refit.

    The run begins with less, and goes on with the whole benchmark.
    """
    less = {"levels": [0.1], "name": "gaussian_noise"}
    prepare(tmp_path, degradations=[less], seeds=1, methods=["mine:Slow"], description="less")
    driver = begun(tmp_path)
    wait_for(tmp_path, driver, slow_validations)
    driver.kill()
    driver.wait()
    prepare(tmp_path)
    for more in (2, 4):
        driver = begun(tmp_path)
        wait_for(tmp_path, driver, lambda seen, more=more: slow_validations(seen) >= more)
        kill_all(driver)
    driver = begun(tmp_path)
    wait_for(tmp_path, driver, lambda seen: slow_validations(seen, refit=True))
    driver.kill()
    driver.wait()
    check()


def test_a_second_run_is_refused_and_ctrl_c_ends_the_first(check: Callable, tmp_path: Path) -> None:
    driver = begun(prepare(tmp_path), PAUSE="2")  # else it may end before the signal
    wait_for(tmp_path, driver, len)
    second = subprocess.run(
        [sys.executable, str(ROOT / "bench/run.py"), "spec.yaml", "--out", "run"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"another run is at work there (process {driver.pid}" in second.stderr
    driver.send_signal(signal.SIGINT)
    end(driver, tmp_path, status=130)
    assert "rerun the same command to resume" in (tmp_path / "log").read_text()
    assert not list((tmp_path / "run").glob("running.*"))
    check()


def test_sigterm_ends_a_run_like_ctrl_c(tmp_path: Path) -> None:
    driver = begun(prepare(tmp_path), PAUSE="2")
    wait_for(tmp_path, driver, len)
    driver.send_signal(signal.SIGTERM)
    end(driver, tmp_path, status=130)
    log = (tmp_path / "log").read_text()
    assert "rerun the same command to resume" in log
    assert "SIGTERM" not in log  # Ray's own answer, with its stack
    assert "Traceback" not in log
    assert not (tmp_path / "run" / "running.json").exists()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    found = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield found
    found.shutdown()


def test_a_node_leaves_and_another_comes(check: Callable, cluster: Cluster, tmp_path: Path) -> None:
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    prepare(tmp_path)
    driver = start(tmp_path, "--events", "events.jsonl", RAY_ADDRESS=cluster.address)
    wait_for(tmp_path, driver, lambda seen: slow_validations(seen) >= 3)
    cluster.remove_node(nodes[0], allow_graceful=False)
    before = slow_validations(events(tmp_path))
    wait_for(tmp_path, driver, lambda seen: slow_validations(seen) > before)
    cluster.add_node(num_cpus=1)
    end(driver, tmp_path)
    assert (
        f"joined the cluster at {cluster.address}: 3 nodes, 3 CPUs"
        in (tmp_path / "log").read_text()
    )
    check()


BAD = ["Hangs", "Raises", "Diverges", "Insatiable", "Dies"]


def test_bad_methods_fail_alone_and_are_named(tmp_path: Path) -> None:
    names = [*BAD, "Hungry", "Slow"]
    fixed = {"width": 4, "lr": 1e-2}
    prepare(
        tmp_path,
        degradations=[{"name": "gaussian_noise", "levels": [0.1]}],
        methods=["tv", *({"name": f"mine:{name}", "fixed": fixed} for name in names)],
        time_limit=8,
    )
    end(start(tmp_path), tmp_path, status=2)
    text = (tmp_path / "log").read_text()
    for reason in (
        "longer than the time limit of 8 s", "ValueError: of no use", "DivergedError",
        "MemoryError: never enough", "the worker process died",
    ):  # fmt: skip
        assert reason in text, text
    rows, trials = results(tmp_path)
    assert set(rows["method"]) == {"tv", "Hungry", "Slow"}
    states = trials[trials["trial"] == 0].set_index("cell")["state"]
    assert not any("Dies" in cell for cell in states.index)  # it may not be to blame
    for cell, state in states.items():
        assert state == ("failed" if any(bad in str(cell) for bad in BAD) else "complete")
    assert dict(rows.groupby("method").size()) == {"tv": 6, "Hungry": 12, "Slow": 12}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_and_then_a_greater_one(
    undisturbed: Undisturbed, small_disk: Path, tmp_path: Path
) -> None:
    prepare(tmp_path)
    (tmp_path / "run").symlink_to(small_disk)
    end(start(tmp_path), tmp_path, status=2)
    assert "cannot be written" in (tmp_path / "log").read_text().splitlines()[-1]
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    end(start(tmp_path), tmp_path)
    for found, expected in zip(results(tmp_path), undisturbed[:2], strict=True):
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_read_only_run_folder(small_disk: Path, tmp_path: Path) -> None:
    prepare(tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (tmp_path / "run").symlink_to(small_disk)
    end(start(tmp_path), tmp_path, status=2)
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("error: run")
    assert "cannot be written" in last
