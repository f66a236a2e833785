"""The dashboard through Streamlit's own AppTest, without a browser."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.color import rgb2lab
from streamlit.testing.v1 import AppTest
from synthetic_run import METHODS, make_run

from bench import charts, claim, tables
from bench.palette import PALETTE, palette
from bench.report.leaderboard import build
from bench.score_columns import STANDARD
from bench.spec import parse
from bench.statistics import estimate
from bench.store import Store
from dashboard import pictures, run, theme

ROOT = Path(__file__).resolve().parents[2]
APP = ROOT / "dashboard" / "app.py"
PAGES = (
    "leaderboard", "tradeoff", "overview", "levels", "trust", "viewer", "search", "compare",
    "progress",
)  # fmt: skip
TASK = "template-gaussian_noise-0.5"
TASKS = {
    "degradations": [{"name": "noise", "levels": [float(level) for level in range(1, 25)]}],
    "n_train": [9],
    "methods": ["tv", "nlm", "unet", "srcnn"],
}
REFITS = pd.DataFrame(
    [("tv", "classical", 0, 0), ("nlm", "classical", 0, 0)]
    + [(name, "learned", 9, seed) for name in ("unet", "srcnn") for seed in range(2)],
    columns=["method", "kind", "n_train", "seed"],
)


def open_page(page: str = "leaderboard", **query: str) -> AppTest:
    return next(open_pages([page], **query))


def open_pages(pages: Iterable[str], **query: str) -> Iterator[AppTest]:
    """Open pages one after another in one session."""
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params.update(query)
    app.run()
    for page in pages:
        if page != "leaderboard":
            app.switch_page(f"views/{page}.py").run()
        assert not app.exception, app.exception[0].value
        yield app


def start_with(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "argv", [str(APP), str(folder)])


def means(folder: Path, column: str) -> pd.Series:
    rows = pd.concat(pd.read_parquet(path) for path in folder.glob("rows/*/*.parquet"))
    return rows[rows.level == 0.5].groupby(["method", "n_train"])[column].mean()


def words(app: AppTest) -> str:
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.info, app.error)
    return " ".join(element.value for kind in kinds for element in kind)


def test_no_run_gives_a_page_that_says_what_to_do(results: Path) -> None:
    app = open_page()
    assert "no run to show yet" in words(app)
    assert app.code[0].value == "make bench"


@pytest.mark.parametrize("name", ["results", "nowhere"])
def test_a_folder_without_a_run_is_said_to_be_none(
    results: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    start_with(monkeypatch, results.parent / name)
    app = open_page()
    assert len(app.error) == 1
    assert name in app.error[0].value
    assert not app.dataframe


@pytest.mark.parametrize("convention", ["image", "roi"])
def test_leaderboard_shows_the_means_of_the_rows(run_folder: Path, convention: str) -> None:
    app = open_page(task=TASK, convention=convention)
    table = app.dataframe[0].value
    for metric in ("psnr", "ssim"):
        expected = means(run_folder, STANDARD[metric].column(convention))
        shown = table.set_index(["method", "n_train"])[metric]
        pd.testing.assert_series_equal(shown.sort_index(), expected.sort_index(), check_names=False)
    assert table.psnr.is_monotonic_decreasing


def test_report_and_dashboard_agree_on_random_tables(tmp_path: Path) -> None:
    """Ranks, intervals, ties and verdicts of 60 tasks of 6 subjects; some scores are missing, and
    some rows are of before there was a column `task`.
    """
    rng = np.random.default_rng(0)
    levels = pd.DataFrame({"level": np.arange(1.0, 25)})
    images = pd.DataFrame({"image": [f"i{i:02}" for i in range(14)]})
    images["subject"] = np.arange(14) * 10 // 14
    rows = levels.merge(REFITS, how="cross").merge(images, how="cross")
    rows["task"] = [f"d-noise-{level:g}" for level in rows.level]
    names = zip(rows.task, rows.n_train, rows.method, strict=True)
    rows["cell"] = [f"{task}-n{n_train}-{method}" for task, n_train, method in names]
    rows.loc[rows.level % 2 == 0, "task"] = None
    rows["psnr"] = 25.0
    for keys, spread in (
        (["level", "image"], 2.0), (["cell"], 0.4), (["cell", "seed", "subject"], 0.6),
    ):  # fmt: skip
        group = rows.groupby(keys).ngroup()
        rows["psnr"] += rng.normal(0, spread, group.max() + 1)[group]
    rows.loc[rng.random(len(rows)) < 0.003, "psnr"] = np.nan
    rows = rows.assign(
        ssim=rows.psnr / 40, dataset="d", degradation="noise", measurement_hash="h",
        parameters=1, train_seconds=1.0, infer_ms=1.0,
    )  # fmt: skip
    folder = tmp_path / "run"
    store = Store(folder)
    store.begin(parse(TASKS), {"val": "digest"})
    store.write_rows("all", 0, rows)
    trials = pd.DataFrame({"cell": [], "step": []})
    board = build(store.rows(), trials, [], str(folder)).table
    now = run.read(folder)
    shown = []
    for task in now.cells.task.unique():
        own = run.rows(now, task)
        estimates = {metric: estimate(own, metric) for metric in ("psnr", "ssim")}
        shown.append(run.scores(now, task, estimates))
    # What the dashboard does not show.
    apart = ("trials", "steps", "train_seconds", "train_cpu_seconds", "infer_ms")
    columns = [name for name in board if name not in apart]
    ours, theirs = (
        table[columns].sort_values(["level", "method", "n_train"], ignore_index=True)
        for table in (pd.concat(shown).assign(steps=0), board)
    )
    assert len(ours) == 24 * 4
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False, check_exact=True)
    words = ours.against_classical.str.rsplit(" ", n=1).str[0]
    assert {"beats", "ties with", "loses to", ""} == set(words.unique())
    assert ours["rank"].isna().any()


def test_headline_names_the_best_and_its_gain_over_classical(run_folder: Path) -> None:
    app = open_page(task=TASK, n_train="25")
    psnr = means(run_folder, "psnr")
    gain = psnr["attention_residual_unet", 25] - psnr["tv", 0]
    assert "With 25 training images, use attention\\_residual\\_unet" in words(app)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Gain over tv"] == f"{gain:.2f} dB"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_cell_with_a_missing_score_has_a_mean_but_no_rank(results: Path, bad: float) -> None:
    folder = make_run(results / "holes", size=16)
    cell = "template-gaussian_noise-0.5-n100-attention_residual_unet"  # which is the best
    place = folder / "rows" / cell / "1.parquet"
    rows = pd.read_parquet(place)
    rows.loc[rows.image == "image 3", ["psnr", "ssim"]] = bad
    Store(folder).write_rows(cell, 1, rows)
    now = run.read(folder)
    lines = run.scores(now, TASK, {"psnr": estimate(run.rows(now, TASK), "psnr")})
    line = lines.set_index("cell").loc[cell]
    every = pd.concat(map(pd.read_parquet, place.parent.glob("*.parquet")))
    assert line["unscored"] == 1
    assert line["psnr"] == pytest.approx(every.psnr[every.image != "image 3"].mean())
    assert np.isfinite([line["psnr_low"], line["psnr_high"]]).all()
    assert pd.isna(line["rank"])
    assert line["badges"] == "template, not scored on every image"
    app = open_page(task=TASK, n_train="100")
    assert app.dataframe[0].value.iloc[-1]["rank"] == ""
    assert "no score on 1 of the test images, so no rank" in words(app)
    assert "use unet" in words(app)


@pytest.mark.parametrize(
    ("pages", "convention"), [(PAGES, "image"), (["tradeoff"], "volume"), (["levels"], "roi")]
)
def test_every_page_of_a_finished_run(
    run_folder: Path, pages: Sequence[str], convention: str
) -> None:
    for app in open_pages(pages, convention=convention):
        assert len(app.title) == 1
        assert not app.error


def test_psnr_against_what_it_costs_on_any_machine(run_folder: Path) -> None:
    app = open_page("tradeoff", against="flops", n_train="100")
    front = next(text.value for text in app.markdown if "Pareto front" in text.value)
    assert "from the cheapest to the best: unet" in front
    assert "Not on this axis, because they have none:" in words(app)
    assert "tv" in words(app)
    app = open_page()
    assert "GFLOP per image" in words(app)
    (table,) = app.dataframe
    assert not {"train_seconds", "infer_ms"} & set(table.value)


def test_trust_shows_the_parts_of_errors_and_the_lesions_of_the_task(results: Path) -> None:
    folder = make_run(results / "trusted", size=16)
    app = open_page("trust", task=TASK)
    assert "reconbench lesions results/trusted" in [code.value for code in app.code]
    assert "Not known" in words(app)
    cells = run.read(folder).cells
    (folder / "report").mkdir(exist_ok=True)
    lines = cells[["cell", "degradation", "level", "n_train", "method"]].merge(
        pd.DataFrame({"radius": [2, 4], "recovered": [0.5, 0.9]}), how="cross"
    )
    lines = lines.assign(image="i", subject="s", contrast=0.2, false_lesions=1)
    lines.to_csv(folder / "report" / "lesions.csv", index=False)
    for file in (folder / "rows").rglob("*.parquet"):
        rows = pd.read_parquet(file)
        parts = {"error_seen": 0.03, "error_unseen": 0.07, "residual_to_noise": 1.1}
        file.write_bytes(tables.to_bytes(rows.assign(**parts)))
    app = open_page("trust", task=TASK)
    errors, lesions = (table.value for table in app.dataframe)
    assert set(errors["Unseen %"].round(6)) == {7.0}
    assert len(lesions) == 2 * (cells.task == TASK).sum()
    assert set(lesions["Contrast shown"]) == {50, 90}


def test_a_run_that_recorded_no_flops_shows_none(results: Path) -> None:
    folder = make_run(results / "old", size=16)
    for file in (folder / "rows").rglob("*.parquet"):
        file.write_bytes(tables.to_bytes(pd.read_parquet(file).drop(columns="flops")))
    app = open_page("tradeoff")
    (against,) = [one for one in app.get("button_group") if "SSIM" in str(one.proto)]
    assert "Parameters" in str(against.proto)
    assert "FLOPs per image" not in str(against.proto)
    app = open_page()
    assert not app.exception
    assert "GFLOP per image" not in words(app)


def test_every_page_of_a_run_that_is_still_going(results: Path) -> None:
    folder = make_run(results / "going", finished=False, unstarted=3, size=16)
    with claim.held(folder):
        for app in open_pages(PAGES):
            assert "In progress" in words(app)
            assert not app.error
    assert "This may change: 14 of 18 cells" in words(open_page())


def test_a_run_whose_process_was_killed_is_stopped(results: Path) -> None:
    """Whenever its last result came; and one that is quiet, but lives, is in progress."""
    folder = make_run(results / "going", finished=False, unstarted=3, size=16)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    named = {"host": socket.gethostname(), "pid": dead.pid, "born": ""}
    (folder / "running.1.json").write_text(json.dumps(named))
    assert "**Stopped**" in words(open_page())
    (folder / "running.1.json").write_text(json.dumps({**named, "pid": os.getpid()}))
    long_ago = time.time() - 30
    os.utime(folder / "running.1.json", (long_ago, long_ago))
    assert "**In progress**" in words(open_page())
    (folder / "running.1.json").unlink()
    (folder / "manifest.json").unlink()
    assert "**Not running**" in words(open_page())


@pytest.mark.parametrize(
    ("key", "says"), [("run", "asks for run"), ("task", "asks for task"), ("n_train", "images 7")]
)
def test_a_link_to_what_is_not_there_says_so(run_folder: Path, key: str, says: str) -> None:
    app = open_page(**{key: "7"})
    assert len(app.warning) == 1
    assert says in app.warning[0].value
    assert not app.run().warning


def test_the_headline_names_those_that_the_best_one_ties_with(results: Path) -> None:
    folder = make_run(results / "tied", size=16)
    for path in folder.glob("rows/*-n*-attention_residual_unet/*.parquet"):
        other = Path(str(path).replace("attention_residual_unet", "unet"))
        same = pd.read_parquet(path).assign(psnr=pd.read_parquet(other).psnr)
        path.write_bytes(tables.to_bytes(same))
    head = next(one.value for one in open_page(task=TASK).markdown if one.value.startswith("####"))
    assert "ties with" in head
    assert "unet" in head.partition("ties with")[2]


def test_methods_without_training_images_are_lines_at_a_single_size() -> None:
    cells = pd.DataFrame(
        {"method": ["tv", "unet"], "n_train": [0, 25], "psnr": [20.0, 21.0], "psnr_low": 19.0,
         "psnr_high": 22.0, "kind": ["classical", "learned"]}
    )  # fmt: skip
    figure = charts.against_size(cells, STANDARD["psnr"], "psnr", palette(["tv", "unet"]))
    tv = next(trace for trace in figure.data if trace.name == "tv")
    assert min(tv.x) < 25 < max(tv.x)
    assert set(tv.y) == {20.0}


def test_progress_counts_finished_cells_only(results: Path) -> None:
    folder = make_run(results / "going", finished=False, unstarted=3, size=16)
    now = run.read(folder)
    assert (now.cells_done, len(now.cells), now.planned_cells) == (14, 15, 18)
    assert now.in_progress


def test_run_without_a_row_waits_for_one(results: Path) -> None:
    make_run(results / "begun", finished=False, unstarted=18, size=16)
    app = open_page()
    assert "No test image is scored yet" in words(app)


def test_new_results_show_up(results: Path) -> None:
    folder = make_run(results / "going", finished=False, unstarted=3, size=16)
    app = open_page("progress")
    assert app.metric[0].value == "14 / 18"
    for place in folder.rglob("*.parquet"):
        place.unlink()
    make_run(folder, size=16)
    assert app.run().metric[0].value == "18 / 18"


def test_names_from_files_are_text(results: Path) -> None:
    evil = "<script>alert(1)</script>**[x](http://x)**"
    make_run(results / "evil", rename={"unet": evil}, size=16)
    for page, app in zip(PAGES, open_pages(PAGES), strict=True):
        for element in app.markdown:
            assert not element.allow_html
            assert "<script>" not in element.value.replace("\\<", "")
        if page == "leaderboard":
            assert evil in set(app.dataframe[0].value.method)


def test_charts_quote_names() -> None:
    assert charts.escape("<b>x</b>") == "&lt;b&gt;x&lt;/b&gt;"
    assert theme.markdown("<b>*x*") == r"\<b\>\*x\*"


def test_newest_run_comes_first_and_the_url_may_choose_another(results: Path) -> None:
    make_run(results / "older", methods=METHODS[:3], size=16)
    time.sleep(0.02)
    make_run(results / "newer", methods=METHODS[:4], size=16)
    assert open_page().session_state["run"] == "results/newer"
    app = open_page(run="results/older")
    assert app.session_state["run"] == "results/older"
    assert "tv" in set(app.dataframe[0].value.method)


def test_url_opens_no_folder_that_was_not_found(results: Path, tmp_path: Path) -> None:
    make_run(results / "found", methods=METHODS[:3], size=16)
    make_run(tmp_path / "elsewhere", methods=METHODS[:3], size=16)
    assert open_page(run=str(tmp_path / "elsewhere")).session_state["run"] == "results/found"


def test_choices_are_kept_in_the_url_and_across_pages(run_folder: Path) -> None:
    app = open_page(task=TASK, n_train="25")
    app.selectbox(key="convention").set_value("roi").run()
    app.switch_page("views/viewer.py").run()
    app.multiselect(key="show").set_value(["nlm"]).run()
    app.switch_page("views/leaderboard.py").run()
    app.switch_page("views/viewer.py").run()
    assert app.multiselect(key="show").value == ["nlm"]
    expected = {"task": TASK, "n_train": "25", "convention": "roi", "show": "nlm"}
    assert {key: app.query_params[key] for key in expected} == expected


def test_nonsense_in_the_url_gives_the_defaults(run_folder: Path) -> None:
    app = open_page(task="no such task", n_train="-1", convention="x")
    assert app.session_state["task"] == "template-gaussian_noise-0.1"
    assert app.session_state["n_train"] == "100"


def test_damaged_files_are_named_and_the_rest_is_shown(run_folder: Path) -> None:
    rows, others, *_ = sorted(run_folder.glob("rows/*/*.parquet"))
    rows.write_bytes(rows.read_bytes()[:100])
    content = bytearray(others.read_bytes())
    content[len(content) // 3] ^= 1
    others.write_bytes(content)
    trials = next(run_folder.glob("trials/*.parquet"))
    trials.write_bytes(b"")
    (run_folder / "manifest.json").write_text("{")
    picture = run_folder / "images" / f"{TASK}-n0-tv" / "pictures.npz"
    picture.write_bytes(b"")
    damaged = [rows, others, trials, run_folder / "manifest.json"]
    now = run.read(run_folder)
    assert {run_folder / name for name in now.damaged} >= set(damaged)
    assert len(now.cells) == 16
    for page in PAGES:
        app = open_page(page, task=TASK, n_train="25")
        assert "Damaged and left out" in app.warning[0].value
        assert len(app.title) == 1
        assert not app.error
    app = open_page("viewer", task=TASK, show="tv")
    assert any("pictures" in warning.value for warning in app.warning)


def test_a_spec_that_aliases_make_endless_is_damage(run_folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 20)]
    (run_folder / "spec.yaml").write_text("\n".join([*lines, "name: *a19"]))
    assert run.read(run_folder).damaged == ["spec.yaml"]


def test_run_in_a_folder_with_an_odd_name(results: Path) -> None:
    folder = make_run(results / "plain", size=16).rename(results / "o[d]d* 'run'?")
    assert len(run.read(folder).cells) == 18


def test_front_traces_what_nothing_beats() -> None:
    xs, ys = charts.staircase([0.6, 0.8], [30.0, 28.0], 0.5, 20.0)
    assert list(zip(xs, ys, strict=True)) == [
        (0.5, 30), (0.6, 30), (0.6, 28), (0.8, 28), (0.8, 20),
    ]  # fmt: skip


@pytest.mark.parametrize("owner", ["../../secret", "a/b", ".."])
def test_cell_id_leads_nowhere_else(tmp_path: Path, owner: str) -> None:
    folder = tmp_path / "run"
    place = folder / "images" / owner
    place.mkdir(parents=True, exist_ok=True)
    np.savez(place / "truth.npz", x=np.zeros((1, 1, 2, 2)), ids=np.array(["a"]))
    assert pictures.truth(folder, owner) == {}


def test_only_an_image_is_shown_as_a_measurement() -> None:
    like = np.zeros((8, 8))
    assert pictures.as_image(np.zeros((1, 8, 8)), like) is not None
    assert pictures.as_image(np.zeros((1, 4, 4)), like) is None
    assert pictures.as_image(np.zeros((1, 8, 8), complex), like) is None


@pytest.mark.slow
def test_dashboard_imports_neither_torch_nor_ray(run_folder: Path) -> None:
    script = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from skimage.color import rgb2lab
from streamlit.testing.v1 import AppTest
app = AppTest.from_file({str(APP)!r}, default_timeout=60).run()
for page in {PAGES!r}:
    app.switch_page(f"views/{{page}}.py").run()
    assert not app.exception and app.title
print(sorted({{"torch", "ray"}} & set(sys.modules)), "bench.statistics" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[] True", done.stderr


# Linear RGB to what the eye's cones respond, and what those without green, or without red, cones
# see: Vienot, Brettel and Mollon, Color Research and Application 24, 1999.
CONES = np.array(
    [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
)
MISSING = {
    "none": np.eye(3),
    "green": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
    "red": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
}


@pytest.mark.parametrize("missing", MISSING)
def test_all_colours_can_be_told_apart_by_everybody(missing: str) -> None:
    """A difference of 2.3 in CIELAB is just noticeable."""
    values = np.array([[int(name[k : k + 2], 16) for k in (1, 3, 5)] for name in PALETTE])
    linear = np.where(
        values <= 10.31, values / 255 / 12.92, ((values / 255 + 0.055) / 1.055) ** 2.4
    )
    seen = linear @ (np.linalg.inv(CONES) @ MISSING[missing] @ CONES).T
    seen = np.clip(seen, 0, 1)
    shown = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = rgb2lab(shown)
    distances = np.linalg.norm(lab[:, None] - lab, axis=-1)[np.triu_indices(len(lab), 1)]
    assert distances.min() > 15


def test_25_methods_look_different() -> None:
    names = [f"method {k:02}" for k in range(25)]
    cells = pd.DataFrame({"method": names, "n_train": 25, "psnr": 20.0, "kind": "learned"})
    cells = cells.assign(psnr_low=19.0, psnr_high=21.0)
    for kind, size in (("learned", 25), ("classical", 0)):
        own = cells.assign(kind=kind, n_train=size)
        figure = charts.against_size(own, STANDARD["psnr"], "psnr", palette(names))
        assert len({(one.line.color, one.line.dash) for one in figure.data}) == 25
