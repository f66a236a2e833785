"""The page of the search: the journal as Optuna writes it, and what it tells."""

import json
import logging
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from streamlit.testing.v1 import AppTest
from synthetic_run import make_run

from bench import search_charts
from bench.importance import importances
from bench.score_columns import STANDARD
from bench.store import Store
from dashboard import journal

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
TASK = "template-gaussian_noise-0.5"
CELL = f"{TASK}-n100-unet"
SPACE = {
    "lr": {"low": 1e-4, "high": 1e-2, "log": True, "default": 1e-3},
    "width": {"choices": [8, 16], "default": 8},
    "<b>": {"low": 1, "high": 4, "default": 2},
}


def searched(folder: Path, count: int = 12) -> pd.DataFrame:
    """Store a search of a cell whose result rests on `lr` alone, in Optuna's own journal."""
    rng = np.random.default_rng(0)
    optuna.logging.set_verbosity(logging.ERROR)
    (folder / "studies").mkdir(exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "studies" / "journal.log")))
    optuna.create_study(study_name="another", storage=storage).ask().report(99.0, 1)
    study = optuna.create_study(study_name=CELL, storage=storage, direction="maximize")
    lines = []
    for index in range(count):
        config = {"lr": float(10 ** rng.uniform(-4, -2)), "width": [8, 16][index % 2],
                  "<b>": int(rng.integers(1, 5))}  # fmt: skip
        pruned = index % 4 == 3
        trial = study.ask()
        trial.set_user_attr("index", index)
        for step in (20, 40) if pruned else (20, 40, 60):
            trial.report(30 + 5 * np.log10(config["lr"]) + step / 100, step)
        value = 30.6 + 5 * np.log10(config["lr"]) - 0.2 * pruned
        lines.append((CELL, index, "pruned" if pruned else "complete", value, 40 if pruned else 60,
                      1.0, "", json.dumps(config)))  # fmt: skip
    names = ["cell", "trial", "state", "psnr", "step", "seconds", "error", "config"]
    trials = pd.DataFrame(lines, columns=names)
    store = Store(folder)
    store.write_trials(CELL, trials)
    store.write_manifest(spaces={"unet": SPACE})
    return trials


@pytest.fixture
def folder(results: Path) -> Path:
    return make_run(results / "searched", size=16, methods=("tv", "unet"))


def test_the_journal_is_read_as_optuna_reads_it(folder: Path) -> None:
    searched(folder)
    file = folder / "studies" / "journal.log"
    study = optuna.load_study(
        study_name=CELL, storage=JournalStorage(JournalFileBackend(str(file)))
    )
    expected = {
        (trial.user_attrs["index"], step): value
        for trial in study.trials
        for step, value in trial.intermediate_values.items()
    }
    with file.open("ab") as stream:
        stream.write(b'{"op_code":7,"trial_id":1,"st')  # being written
    found = journal.validations(folder)
    own = found[found.cell == CELL]
    assert dict(zip(zip(own.trial, own.step, strict=True), own.value, strict=True)) == expected
    assert len(expected) == 9 * 3 + 3 * 2


def test_a_trial_that_was_resumed_is_one_curve(folder: Path) -> None:
    (folder / "studies").mkdir(exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "studies" / "journal.log")))
    study = optuna.create_study(study_name=CELL, storage=storage)
    for steps in ((10, 20), (20, 30)):
        trial = study.ask()
        trial.set_user_attr("index", 0)
        for step in steps:
            trial.report(step / 10, step)
    own = journal.validations(folder)
    assert list(own.sort_values("step").step) == [10, 20, 30]
    assert set(own.trial) == {0}


def test_importance_finds_the_parameter_that_decides(folder: Path) -> None:
    trials = searched(folder, count=40)
    found = importances(trials, SPACE, STANDARD["psnr"])
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.9
    assert sum(found.values()) == pytest.approx(1)
    assert importances(trials[:6], SPACE, STANDARD["psnr"]) == {}
    assert importances(trials.assign(psnr=1.0), SPACE, STANDARD["psnr"]) == {}


def test_parallel_coordinates_hold_every_complete_trial(folder: Path) -> None:
    trials = searched(folder)
    figure = search_charts.parallel(trials, SPACE, STANDARD["psnr"])
    assert figure is not None
    axes = {axis.label: axis for axis in figure.data[0].dimensions}
    assert set(axes) == {"lr", "width", "&lt;b&gt;", "PSNR"}
    complete = trials[trials.state == "complete"]
    rates = [json.loads(config)["lr"] for config in complete.config]
    np.testing.assert_allclose(10 ** np.array(axes["lr"].values), rates)
    np.testing.assert_allclose(axes["PSNR"].values, complete.psnr)


def test_the_page_shows_a_search(folder: Path) -> None:
    trials = searched(folder)
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params.update({"task": TASK, "searched": "unet · 100"})
    app.run()
    app.switch_page("views/search.py").run()
    assert not app.exception
    line = app.dataframe[0].value.set_index("method").loc["unet · 100"]
    assert (line.complete, line.pruned, line.step) == (9, 3, 9 * 60 + 3 * 40)
    planned = Store(folder).spec().budget
    assert line.budget == pytest.approx(100 * line.step / (planned.trials * planned.steps))
    nothing_varied = app.dataframe[0].value.set_index("method").loc["tv"]
    assert pd.isna(nothing_varied.budget)
    best = trials[trials.state == "complete"].set_index("psnr").config
    (shown,) = (one.value for one in app.code if one.value.startswith("{"))
    assert json.loads(shown) == json.loads(best[max(best.index)])
    captions = " ".join(one.value for one in app.caption)
    assert "3 after 40 steps" in captions
    assert "functional ANOVA" in captions
    assert len(app.get("plotly_chart")) == 4
    app.selectbox(key="searched").set_value("tv").run()
    assert not app.exception
    assert "no parameters that were varied" in " ".join(one.value for one in app.caption)
