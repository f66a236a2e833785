"""Every page in every state that a run can be in shows its title and no error."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest
from synthetic_run import make_run

from bench import claim, tables
from dashboard import run
from dashboard.app import PAGES

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
FEW = ("degraded", "tv", "unet")


def running(results: Path) -> None:
    claim.take(make_run(results / "run", methods=FEW, finished=False, unstarted=2, size=16))


def stopped(results: Path) -> None:
    make_run(results / "run", methods=FEW, finished=False, unstarted=2, size=16)


def failed(results: Path) -> None:
    """Every trial of one method failed, so that it has no rows, and another has no finite score."""
    folder = make_run(results / "run", methods=FEW, size=16)
    for file in folder.glob("trials/*-unet.parquet"):
        trials = pd.read_parquet(file).assign(state="failed", psnr=float("nan"), error="NaN loss")
        file.write_bytes(tables.to_bytes(trials))
    for file in folder.glob("rows/*-unet/*.parquet"):
        file.unlink()
    for file in folder.glob("rows/*-degraded/*.parquet"):
        file.write_bytes(tables.to_bytes(pd.read_parquet(file).assign(psnr=float("nan"))))


def of_wrong_types(results: Path) -> None:
    folder = make_run(results / "run", methods=FEW, size=16)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"audit": [], "cells": "many", "spaces": [1], "metrics": 3, "starts": {}, "data": 1}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "simulated": 5, "started": {}}))
    (folder / "spec.yaml").write_text("name: [1]\nmethods: {a: b}\nn_train: few\nseeds: x\n")


def corrupt(results: Path) -> None:
    folder = make_run(results / "run", methods=FEW, size=16)
    for kind in ("rows/*-tv", "trials", "images/*-unet"):
        for file in folder.glob(f"{kind}/*.*"):
            file.write_bytes(file.read_bytes()[:50])
    (folder / "studies").mkdir(exist_ok=True)
    (folder / "studies" / "journal.log").write_bytes(b'{"op_code":0,\n\xff\n{"op_code":7,"x":1}\n')


def one_cell(results: Path) -> None:
    folder = make_run(results / "run", methods=("tv",), size=16)
    for kind in ("rows", "trials"):
        for file in folder.glob(f"{kind}/*0.1-n0-tv*"):
            [inner.unlink() for inner in file.glob("*")] if file.is_dir() else file.unlink()


def of_25_methods(results: Path) -> None:
    methods = [{"name": "unet", "label": f"network{k:02}"} for k in range(25)]
    make_run(results / "run", methods=["tv", *methods], size=16)


def hostile(results: Path) -> None:
    evil = "<img src=x onerror=alert(1)>|**[x](http://x)**$a$ :red[b]"
    make_run(results / "run", methods=FEW, rename={"unet": evil}, size=16)


@pytest.mark.parametrize(
    "state",
    [running, stopped, failed, of_wrong_types, corrupt, one_cell, of_25_methods, hostile],
    ids=lambda state: state.__name__,
)
def test_every_page(results: Path, state: Callable[[Path], None]) -> None:
    state(results)
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        assert not app.exception, (page, app.exception[0].value)
        assert len(app.title) == 1, page
        assert [error.value for error in app.error] == [], page


def test_values_of_wrong_types_are_named(results: Path) -> None:
    of_wrong_types(results)
    damaged = run.read(results / "run").damaged
    wrong = ["audit", "cells", "data", "metrics", "simulated", "spaces", "started", "starts"]
    assert damaged == [
        *(f"manifest.json ({key})" for key in wrong),
        *(f"spec.yaml ({key})" for key in ("methods", "n_train", "name", "seeds")),
    ]
