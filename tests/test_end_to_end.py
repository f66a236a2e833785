"""The real command on a real Ray, in processes of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import cluster
from bench.spec import cells
from bench.store import Store

pytestmark = pytest.mark.usefixtures("ray_cluster")

ROOT = Path(__file__).parents[1]
SPEC = """
name: tiny
dataset: {image_size: 32, subjects: 24, n_val: 6, n_test: 10}
degradations:
  - {name: gaussian_noise, levels: [0.1, 0.5]}
n_train: [4, 12]
methods: [degraded, constant, tv, unet, "ours:Half"]
metrics: [mae, "ours:Worst"]
objective: mae
budget: {trials: 3, steps: 30, batch_size: 4, reports: 3}
seeds: 2
pictures: 2
"""
OWN_PARTS = """
from bench.methods.base import Classical
from bench.metrics import Metric

class Half(Classical):
    search_space = {"factor": {"low": 0.1, "high": 1.0, "default": 0.5}}

    def __init__(self, factor: float = 0.5):
        super().__init__()
        self.factor = factor

    def forward(self, y, physics):
        return self.factor * physics.A_dagger(y)

class Worst(Metric):
    label, unit, direction = "Worst pixel", "%", "lower"

    def image(self, x_hat, x):
        return 100 * (x_hat - x).abs().amax((1, 2, 3))
"""


NOTEBOOK = """
import json
import numpy as np
import torch

class MyNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        return self.layer(x)

LINES
kept = run.pictures("unet", level=0.1, n_train=12)
found = {
    "lines": len(run.leaderboard), "best": len(best), "shape": x_hat.shape, "scores": scores,
    "apart": float(np.abs(unet(kept["y"]) - kept["x_hat"]).max()),
}
print(json.dumps(found))
"""


def command(folder: Path) -> list[str]:
    return [sys.executable, str(ROOT / "bench/run.py"), "spec.yaml", "--out", str(folder / "run")]


def run(folder: Path) -> subprocess.CompletedProcess:
    done = subprocess.run(
        command(folder), cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "spec.yaml").write_text(SPEC)
    (folder / "ours.py").write_text(OWN_PARTS)
    return folder


@pytest.fixture(scope="module")
def killed(folder: Path) -> Iterator[int]:
    """Start the benchmark, kill its driver half-way, and give the number of finished trials."""
    with (folder / "killed.log").open("w") as log:
        driver = subprocess.Popen(command(folder), cwd=folder, stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while len(list((folder / "run/rows").glob("*/*"))) < 5:
            assert driver.poll() is None, (folder / "killed.log").read_text()
            assert time.monotonic() < deadline, "the benchmark never got half-way"
            time.sleep(0.2)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    yield len(Store(folder / "run").trials())


@pytest.fixture(scope="module")
def finished(folder: Path, killed: int) -> tuple[Store, str]:
    """The same command again, to the end."""
    return Store(folder / "run"), run(folder).stdout


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in the benchmark's folder, and find its modules there."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))


def sizes_of(name: str, sizes: list[int]) -> list[int]:
    return sizes if "unet" in name else [max(sizes)] if name == "constant" else [0]


def test_after_a_kill_every_cell_is_there_once(finished: tuple[Store, str], killed: int) -> None:
    store, _ = finished
    rows, trials = store.rows(), store.trials()
    expected = {cell.id for cell in cells(store.spec(), sizes_of)}
    assert len(expected) == 2 * (4 + 2)
    assert set(rows["cell"]) == expected
    assert not rows.duplicated(["cell", "seed", "image"]).any()
    assert (rows.groupby(["cell", "seed"]).size() == 10).all()
    assert not trials.duplicated(["cell", "trial"]).any()
    assert 0 < killed < len(trials)
    searched = trials.groupby("cell").size()
    for cell in expected:
        assert searched[cell] == (1 if cell.endswith(("degraded", "constant")) else 3)


def test_the_notebook_of_the_readme_repeats_nothing_of_the_run(
    finished: tuple[Store, str], folder: Path
) -> None:
    """It is the Python interface in ten lines; its `run` is the same benchmark, which has ended."""
    before = {
        path: path.stat().st_mtime_ns
        for part in ("rows", "trials", "models", "images", "studies")
        for path in (folder / "run" / part).rglob("*")
        if path.is_file()
    }
    (folder / "scans").mkdir()
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(folder / f"scans/{number}.png")
    readme = (ROOT / "README.md").read_text()
    (lines,) = [
        text for text in re.findall(r"```python\n(.*?)```", readme, re.S) if "rb.run" in text
    ]
    assert sum(bool(line.strip()) for line in lines.splitlines()) == 10
    (folder / "notebook.py").write_text(NOTEBOOK.replace("LINES", lines))
    done = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=folder, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert "Ray" not in done.stdout  # it started no cluster
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["lines"] == 12
    assert said["best"] == 2
    assert said["shape"] == [6, 1, 32, 32]
    assert said["apart"] < 1e-5  # what the run has kept of the same model
    assert said["scores"][0] > 12


def test_progress_is_readable_in_a_log(finished: tuple[Store, str]) -> None:
    lines = [line for line in finished[1].splitlines() if line.startswith("cells ")]
    assert lines
    assert lines[-1].startswith("cells 12/12")
    assert "\x1b" not in finished[1]


def test_all_methods_got_the_same_measurements(finished: tuple[Store, str]) -> None:
    rows = finished[0].rows()
    hashes = rows.groupby(["degradation", "level", "image"])["measurement_hash"].nunique()
    assert (hashes == 1).all()
    assert rows["measurement_hash"].nunique() == 2 * 10


def test_noise_has_the_asked_for_power(finished: tuple[Store, str]) -> None:
    rows = finished[0].rows()
    for level, part in rows[rows["method"] == "degraded"].groupby("level"):
        mse = (10 ** (-part["psnr"] / 10)).mean()
        assert -10 * np.log10(mse) == pytest.approx(-10 * np.log10(level), abs=0.1)


def test_no_search_saw_a_test_image(finished: tuple[Store, str]) -> None:
    """Rows, the only place of test scores, come from refits of the best complete trial alone."""
    store = finished[0]
    trials = store.trials()
    for cell in trials["cell"].unique():
        done = trials[(trials["cell"] == cell) & (trials["state"] == "complete")]
        best = done.sort_values(["mae", "trial"]).iloc[0]
        recipe, _ = store.read_model(cell, 0)
        assert recipe["config"] == json.loads(best["config"])


def test_the_run_folder_is_laid_out_as_the_design_says(finished: tuple[Store, str]) -> None:
    store = finished[0]
    for name in ("spec.yaml", "manifest.json", "studies/journal.log"):
        assert (store.folder / name).is_file()
    for kind in ("csv", "md", "html"):
        assert (store.folder / f"report/leaderboard.{kind}").stat().st_size > 500
    manifest = store.manifest()
    assert manifest["finished"] >= manifest["started"]
    assert manifest["versions"]["ray"]
    learned = "template-gaussian_noise-0.1-n4-unet"
    assert (store.folder / "models" / learned / "0" / "weights.safetensors").is_file()
    curve = store.curves().query("cell == @learned and seed == 0")
    assert curve["step"].tolist() == [10, 20, 30]
    assert store.read_model(learned, 0)[0]["validation_psnr"] in curve["psnr"].tolist()
    worst, rows = store.read_worst(learned), store.rows().query("cell == @learned and seed == 0")
    expected = rows.sort_values("psnr", kind="stable").head(5)
    assert worst["ids"].tolist() == expected["image"].tolist()
    np.testing.assert_allclose(worst["psnr"], expected["psnr"])
    with np.load(store.folder / "images" / learned / "pictures.npz") as pictures:
        assert pictures["x_hat"].shape == (2, 1, 32, 32)
        with np.load(store.folder / "images/template-gaussian_noise-0.1/truth.npz") as truth:
            error = np.abs(truth["x"] - pictures["x_hat"])
        np.testing.assert_allclose(error, pictures["error"], atol=1e-6)


def test_the_leaderboard_agrees_with_the_rows(finished: tuple[Store, str]) -> None:
    store = finished[0]
    board = pd.read_csv(store.folder / "report/leaderboard.csv")
    rows = store.rows()
    assert len(board) == 12
    keys = ["method", "level", "n_train"]
    means = rows.groupby(keys)[["psnr", "mae", "Worst"]].mean()
    for _, line in board.iterrows():
        for metric, mean in means.loc[tuple(line[key] for key in keys)].items():
            assert line[metric] == pytest.approx(mean)
            assert line[f"{metric}_low"] <= mean <= line[f"{metric}_high"]
        assert line["rank_low"] <= line["rank"] <= line["rank_high"]
    assert set(board["badges"]) == {"template-derived"}
    text = (store.folder / "report/leaderboard.md").read_text()
    assert "not scans of patients" in text
    assert "| PSNR (dB) | SSIM | MAE | Worst pixel (%) |" in text
    assert "ranks use MAE (lower is better)" in text
    for _, part in board.groupby("level"):
        assert part.sort_values("rank")["mae"].is_monotonic_increasing


def test_replay_gives_the_line_again(
    finished: tuple[Store, str], in_folder: None, reconbench: Callable
) -> None:
    board = pd.read_csv(finished[0].folder / "report/leaderboard.csv")
    line = board[(board["method"] == "unet") & (board["n_train"] == 4)].iloc[0]
    program, *words = line["replay"].split()
    assert program == "reconbench"
    status, printed, _ = reconbench(*words)
    assert status == 0
    replayed = [float(text.split()[2]) for text in printed.splitlines() if text[:5] == "seed "]
    assert len(replayed) == 2
    assert np.mean(replayed) == pytest.approx(line["psnr"], abs=1e-4)
    status, _, errors = reconbench(*words, "--seed", "7")
    assert status == 2 and "no refit with such a seed" in errors


def test_one_seed_of_every_cell_replays(
    finished: tuple[Store, str], in_folder: None, reconbench: Callable
) -> None:
    status, printed, _ = reconbench("replay", "run", "--seed", "0")
    assert status == 0
    _, *lines, last = printed.splitlines()  # without the notice that code of ours is run
    assert lines[::2] == sorted(finished[0].rows()["cell"].unique())
    assert all(line.startswith("seed 0: ") for line in lines[1::2])
    assert last == "greatest difference 0.0000 dB"
    status, printed, errors = reconbench("replay", "run", lines[0], "no_such_cell")
    assert status == 2 and "no_such_cell" in errors
    assert " dB now" not in printed  # refused before the first refit


def test_another_benchmark_file_is_refused_and_nothing_is_lost(
    finished: tuple[Store, str],
    in_folder: None,
    reconbench: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "connect", lambda: None)  # which the refusal does not need
    before = sorted(finished[0].folder.rglob("*"))
    status, _, errors = reconbench("run", "spec.yaml", "--out", "run", "--set", "seeds=1")
    assert status == 2
    assert "another benchmark file (it differs in seeds" in errors
    assert sorted(finished[0].folder.rglob("*")) == before
