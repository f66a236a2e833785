"""The page of all tasks, and what the pages of trade-offs and sizes add to their charts."""

from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy.stats import rankdata
from streamlit.testing.v1 import AppTest
from synthetic_run import METHODS, make_run

from bench import charts, rules, task_charts, timing_table
from bench.efficiency import sample_efficiency
from bench.palette import palette
from bench.report.leaderboard import of_store
from bench.score_columns import STANDARD
from bench.spec import parse
from bench.statistics import estimate
from bench.store import Store
from dashboard import over_tasks, run, theme

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
TASK = "template-gaussian_noise-0.5"


def open_page(page: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params.update(query)
    app.run()
    app.switch_page(f"views/{page}.py").run()
    assert not app.exception, app.exception[0].value
    return app


def lines_of(folder: Path) -> pd.DataFrame:
    now = run.read(folder)
    found = []
    for task in sorted(now.cells.task.unique()):
        rows = run.rows(now, str(task))
        scored = run.scores(now, str(task), {"psnr": estimate(rows, "psnr")})
        own = over_tasks.of_task(scored, "psnr", 1)
        found.append(own.assign(title=task, n=rows.image.nunique()))
    return pd.concat(found, ignore_index=True)


def test_gains_and_ranks_are_those_of_the_rows(run_folder: Path) -> None:
    lines = over_tasks.ranked(lines_of(run_folder), 1)
    rows = pd.concat(map(pd.read_parquet, run_folder.glob("rows/*/*.parquet")))
    mean = rows.groupby("cell").psnr.mean()
    for _, own in lines.groupby("task"):
        means = mean[own.cell].to_numpy()
        best = means[own.kind == "classical"].max()
        np.testing.assert_allclose(own.gain, means - best, atol=1e-9)
        assert own["rank"].tolist() == rankdata(-means, "min").tolist()
    assert (lines.low <= lines.gain).all()
    assert set(lines.n) == {24}
    assert lines.groupby("label")["rank"].mean().idxmin() == lines.label.iloc[0]


def test_gains_of_a_metric_of_errors_are_positive_where_it_is_lower(run_folder: Path) -> None:
    now = run.read(run_folder)
    rows = run.rows(now, TASK).assign(error=lambda rows: -rows.psnr)
    by = {"error": estimate(rows, "error", -1)}
    mirrored = over_tasks.of_task(run.scores(now, TASK, by), "error", -1)
    lines = lines_of(run_folder)
    expected = lines[lines.task == TASK].set_index("cell").loc[mirrored.cell]
    for name in ("gain", "low", "high"):
        np.testing.assert_allclose(mirrored[name], expected[name], atol=1e-9)


def test_mean_ranks_are_those_of_the_report(run_folder: Path) -> None:
    app = open_page("overview")
    app.toggle(key="every size").set_value(True).run()
    app.toggle(key="floor").set_value(True).run()
    board = of_store(Store(run_folder), Store(run_folder).rows(), Store(run_folder).trials())
    assert board.ranks is not None
    assert theme.markdown(board.ranks.sentence()) in [one.value for one in app.markdown]
    assert board.record is not None
    pd.testing.assert_frame_equal(app.dataframe[0].value, board.record, check_dtype=False)


def test_each_method_has_the_most_images_that_are_available(run_folder: Path) -> None:
    kept = over_tasks.largest(lines_of(run_folder), 25)
    assert set(kept.label) == set(METHODS) - {"constant"}  # which has cells at 100 alone
    assert set(kept.n_train[kept.kind == "learned"]) == {25}
    assert not kept.duplicated(["task", "method"]).any()


def test_a_run_of_one_task_is_told_from_one_of_many(results: Path) -> None:
    folder = make_run(results / "one", methods=METHODS[:3], size=16)
    for path in folder.glob("rows/*-0.1-*/*.parquet"):
        path.unlink()
    assert "one task so far" in open_page("overview").info[0].value


def test_a_heat_map_keeps_each_number_with_its_method_and_task(run_folder: Path) -> None:
    lines = over_tasks.ranked(lines_of(run_folder), 1)
    drawn = task_charts.gains(lines, STANDARD["psnr"]).data[0]
    found = {
        (label, title): drawn.z[i][j]
        for i, label in enumerate(drawn.y)
        for j, title in enumerate(drawn.x)
    }
    expected = lines.set_index(["label", "title"]).gain.to_dict()
    assert found == expected


def test_crossings_are_marked_with_their_intervals(run_folder: Path) -> None:
    now = run.read(run_folder)
    by = estimate(run.rows(now, TASK), "psnr", 1)
    fits = sample_efficiency(now.cells[now.cells.task == TASK], by)
    colours = palette(METHODS)
    figure = charts.add_crossings(go.Figure(), fits, colours)
    inside = [one for one in fits if np.isfinite(one.overtakes[0])]
    assert [one.x[0] for one in figure.data] == [one.overtakes[0] for one in inside]
    for mark, one in zip(figure.data, inside, strict=True):
        ends = mark.x[0] - mark.error_x.arrayminus[0], mark.x[0] + mark.error_x.array[0]
        assert one.sizes[0] <= ends[0] <= ends[1] <= one.sizes[-1]


@pytest.mark.parametrize(
    ("name", "harder"), [("gaussian_noise", "greater"), ("ct_sparse_view", "smaller")]
)
def test_axes_of_levels_have_unit_and_direction(run_folder: Path, name: str, harder: str) -> None:
    level = 0.1 if harder == "greater" else 30
    spec = parse(
        {"degradations": [{"name": name, "levels": [level]}], "methods": ["tv"], "n_train": [4]}
    )
    Store(run_folder).write_manifest(levels=rules.levels(spec))
    now = run.read(run_folder)
    title = theme.level_axis(now, name)
    assert title.endswith(f"; {harder} is harder")
    assert theme.level_axis(now, "another") == "Level"
    Store(run_folder).write_manifest(levels=[1])
    assert theme.level_axis(run.read(run_folder), name) == "Level"


def test_measured_times_are_costs_too(run_folder: Path) -> None:
    cells = run.read(run_folder).cells
    ours = cells[cells.task == TASK]
    times = pd.DataFrame({"cell": ours.cell, "device": "a CPU", "threads": 1, "ms_1": 3.0})
    (run_folder / "report").mkdir(exist_ok=True)
    file = run_folder / "report" / timing_table.FILE
    times.reindex(columns=timing_table.COLUMNS).to_csv(file, index=False)
    app = open_page("tradeoff", task=TASK, against="ms_1")
    said = " ".join(one.value for one in [*app.caption, *app.markdown])
    assert "on: a CPU" in said
    assert "from the cheapest to the best" in said
    assert "have none" not in said
