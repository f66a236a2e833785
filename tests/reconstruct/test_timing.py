"""Times and memory of a finished run's methods."""

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bench import timing, timing_table
from bench.opened import Run
from bench.report import leaderboard
from bench.store import Store


@pytest.mark.parametrize("busy", [0.0, 1.5])
def test_times_are_shown_if_nothing_ran_beside(
    busy: float,
    made_run: Run,
    tmp_path: Path,
    reconbench: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "busy_elsewhere", lambda: busy)
    monkeypatch.setattr(timing, "ENOUGH", 0.0)
    folder = tmp_path / "run"
    shutil.copytree(made_run.folder, folder)
    status, printed, errors = reconbench("timing", folder, "--level", 0.01)
    assert status == 0, errors
    assert ("1.5 cores busy" in printed) == (busy > 0)
    table = timing_table.read(Store(folder).folder).set_index("cell")
    method = table.index.str.split("-").str[-1]
    assert sorted(method) == ["degraded", "gaussian", "srcnn", "tv", "unet"]
    learned = method.isin(["srcnn", "unet"])
    assert (table["ms_1"].notna() == (busy == 0)).all()
    assert (table["step_ms"].notna() == learned & (busy == 0)).all()
    assert (table["step_mb"].notna() == learned).all()
    assert table["ms_16"].isna().all()  # of 9 test images
    advice = str(Run(folder).recommend(0.01, degradation="gaussian_noise", max_ms=1e9))
    assert ("are those of `reconbench timing`" in advice) == (busy == 0)
    assert ("Times of images are rough" in advice) == (busy > 0)
    page = (folder / "report" / "leaderboard.md").read_text()
    html = (folder / "report" / "leaderboard.html").read_text()
    (device,) = table["device"].unique()
    for text in (page, html):
        assert "What does it cost?" in text
        assert device.split(",")[0] in text.replace("\\", "")
    lines = json.loads((folder / "report" / "report.json").read_text())["lines"]
    shown = {line["method"]: line for line in lines if line["degradation"] == "gaussian_noise"}
    assert (shown["tv"]["ms_1"] is None) == (busy > 0)
    measured = dict(zip(method, table["step_mb"], strict=True))
    assert shown["unet"]["step_mb"] == pytest.approx(measured["unet"])
    assert shown["unet"]["train_cpu_seconds"] > 0


def test_steps_are_timed_on_measurements_that_are_kept(
    made_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the method keeps them: all trainings of a cell share them."""
    made, steps = [], []

    def made_anew(*given: object) -> object:
        made.append(given)
        return estimate(*given)

    def taken_once(call: Callable[[], None], device: torch.device) -> float:
        before = len(made)
        call()
        steps.append(len(made) - before)
        return 0.0

    batches = importlib.import_module("bench.training.batches")  # a function has its name
    estimate = batches.estimate
    monkeypatch.setattr(batches, "estimate", made_anew)
    monkeypatch.setattr(timing, "median_seconds", taken_once)
    anew = {}
    for line, _ in timing.measure(Store(made_run.folder), [0.01]):
        anew[line["cell"].iloc[0].rsplit("-")[-1]] = steps[-1]
    assert (anew["unet"], anew["srcnn"]) == (0, 1)


def test_the_memory_of_a_pass_is_that_of_its_tensors() -> None:
    """Of y = relu(x) and z = relu(y), and the gradients on the way back to x."""
    x = torch.ones(1000, requires_grad=True)
    with timing.Allocations() as forward:
        kept = torch.relu(torch.relu(x)).sum()
    assert forward.most == 2 * 4000 + 4
    with timing.Allocations() as backward:
        kept.backward()
    assert 4000 <= backward.most <= 2 * 4000 + 4
    with timing.Allocations() as freed:
        for _ in range(5):
            torch.ones(1000).add_(1)
    assert freed.most == 4000


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_matrix_holds_its_numbers_and_their_indices() -> None:
    """Of which there are two for each number by coordinates, and one and those of rows by rows."""
    matrix = torch.eye(100)
    with timing.Allocations() as by_coordinates:
        kept = [matrix.to_sparse()]
    assert by_coordinates.most >= 100 * (4 + 2 * 8)
    with timing.Allocations() as by_rows:
        kept.append(matrix.to_sparse_csr())
    assert by_rows.most >= 100 * (4 + 8) + 101 * 8
    with timing.Allocations() as product:
        kept.append(kept[1] @ torch.ones(100, 3))
    assert 100 * 3 * 4 <= product.most < 100 * 100 * 4


def test_deeper_networks_hold_more() -> None:
    x = torch.rand(2, 1, 16, 16)
    held = []
    for depth in (2, 4):
        layers = [nn.Conv2d(4 if k else 1, 4, 3, padding=1) for k in range(depth)]
        network = nn.Sequential(*[part for one in layers for part in (one, nn.Sigmoid())])
        with timing.Allocations() as allocations:
            network(x).sum().backward()
        held.append(allocations.most)
    # Sigmoid and the next convolution share the map that backward needs: one map a layer.
    assert held[1] - held[0] == pytest.approx(2 * 2 * 4 * 16 * 16 * 4, rel=0.1)


def test_lines_of_another_device_are_kept_and_those_of_this_one_replaced() -> None:
    line = dict.fromkeys(timing_table.COLUMNS, 1.0)
    old = pd.DataFrame([{**line, "cell": c, "device": d} for c, d in (("a", "x"), ("a", "y"))])
    new = pd.DataFrame([{**line, "cell": c, "device": "x", "ms_1": 2.0} for c in ("a", "b")])
    unknown = new.assign(ms_1=np.nan)
    table = timing_table.merged(timing_table.merged(old, new), unknown)
    assert list(table.columns) == timing_table.COLUMNS
    assert table.set_index(["cell", "device"])["ms_1"].to_dict() == {
        ("a", "x"): 2.0, ("a", "y"): 1.0, ("b", "x"): 2.0,
    }  # fmt: skip
    device, costs = timing_table.of_one_device(table)
    assert (device, list(costs.index)) == ("x", ["a", "b"])


def test_a_damaged_table_is_as_none(made_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made_run.folder, folder)
    store = Store(folder)
    store.write_report(timing_table.FILE, "cell,device\n1,2\n")
    board = leaderboard.of_store(store, store.rows(), store.trials())
    assert board.device == ""
