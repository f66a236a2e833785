import html
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from bench import curves, report, spec
from bench.cli import DEFAULT_SPEC
from bench.markdown import as_text
from bench.report import tex, texts
from bench.report.leaderboard import COLUMNS, build
from bench.store import Store


def make_rows(methods: dict[tuple[str, str, int], float], n: int = 30) -> pd.DataFrame:
    """Make rows of one task: (method, kind, n_train) -> mean PSNR."""
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 2, n)
    tables = [
        pd.DataFrame(
            {
                "cell": f"d-noise-0.1-n{n_train}-{method}",
                "dataset": "d",
                "degradation": "noise",
                "level": 0.1,
                "n_train": n_train,
                "method": method,
                "kind": kind,
                "seed": 0,
                "image": [f"i{i}" for i in range(n)],
                "subject": [f"s{i}" for i in range(n)],
                "measurement_hash": "h",
                "psnr": psnr + difficulty + rng.normal(0, 0.1, n),
                "ssim": psnr / 40,
                "train_seconds": 1.0,
                "infer_ms": 1.0,
                "parameters": 10,
            }
        )
        for (method, kind, n_train), psnr in methods.items()
    ]
    return pd.concat(tables, ignore_index=True)


TRIALS = pd.DataFrame({"cell": ["d-noise-0.1-n0-tv"] * 8, "trial": range(8)})


def test_one_line_per_cell_with_the_designs_columns() -> None:
    rows = make_rows({("tv", "classical", 0): 22, ("unet", "learned", 25): 24})
    table = build(rows, TRIALS, ["template-derived"], "results/x").table
    assert list(table.columns) == COLUMNS
    assert list(table["method"]) == ["unet", "tv"]
    assert list(table["rank"]) == [1, 2]
    assert list(table["trials"]) == [0, 8]
    assert list(table["tied_with_best"]) == [True, False]
    assert set(table["badges"]) == {"template-derived"}
    assert table["replay"][0] == "reconbench replay results/x d-noise-0.1-n25-unet"
    means = rows.groupby("method")["psnr"].mean()
    assert table["psnr"].tolist() == pytest.approx([means["unet"], means["tv"]])
    assert (table["psnr_low"] < table["psnr"]).all()
    assert (table["psnr"] < table["psnr_high"]).all()


def test_an_interval_that_is_not_known_is_not_shown() -> None:
    """As with the images of a single subject."""
    rows = make_rows({("tv", "classical", 0): 22, ("unet", "learned", 25): 24})
    board = build(rows.assign(subject="one"), TRIALS, [], "results/x")
    task = texts.tasks(board)[0]
    words = " ".join([*board.findings, *(str(one) for one in task.values()), tex.page(board)])
    assert "unet" in words
    assert not re.search(r"\bnan\b", words)


@pytest.mark.parametrize(("psnr", "verdict"), [(24, "beats"), (22, "ties with"), (20, "loses to")])
def test_findings_say_honestly_how_networks_compare(psnr: float, verdict: str) -> None:
    rows = make_rows(
        {("tv", "classical", 0): 22, ("nlm", "classical", 0): 21, ("unet", "learned", 25): psnr}
    )
    (finding,) = build(rows, TRIALS, [], "r").findings
    assert f"{verdict} tv" in finding


def test_every_network_is_told_how_it_stands_against_the_best_classical_method() -> None:
    rows = make_rows(
        {
            ("tv", "classical", 0): 22, ("nlm", "classical", 0): 21, ("good", "learned", 9): 23,
            ("even", "learned", 9): 22, ("bad", "learned", 9): 21.5,
        }
    )  # fmt: skip
    table = build(rows, TRIALS, [], "r").table.set_index("method")
    assert dict(table["against_classical"]) == {
        "good": "beats tv", "even": "ties with tv", "bad": "loses to tv", "tv": "", "nlm": "",
    }  # fmt: skip


def test_a_method_fitted_in_closed_form_is_neither_the_yardstick_nor_taken_for_a_network() -> None:
    rows = make_rows(
        {("tv", "classical", 0): 22, ("stack", "fitted", 9): 25, ("net", "learned", 9): 23}
    )
    board = build(rows, TRIALS, [], "r", refit_steps=100)
    (finding,) = board.findings
    assert "stack (24.77 dB, fitted in closed form) beats tv (21.78 dB), the best class" in finding
    table = board.table.set_index("method")
    assert dict(table["against_classical"]) == {
        "stack": "beats tv", "net": "beats tv", "tv": "",
    }  # fmt: skip
    assert table["steps"]["stack"] == 0


def test_a_line_says_what_its_search_and_its_refits_have_spent() -> None:
    rows = make_rows({("tv", "classical", 0): 22, ("unet", "learned", 25): 24})
    cell = "d-noise-0.1-n25-unet"
    trials = pd.DataFrame({"cell": [cell] * 3, "trial": range(3), "step": [100, 30, 30]})
    table = build(rows, trials, [], "r", refit_steps=100).table.set_index("method")
    assert dict(table["steps"]) == {"unet": 260, "tv": 0}


def test_an_undertrained_network_is_not_read_as_a_bad_one() -> None:
    """Neither in the table, nor in words."""
    rows = make_rows(
        {("tv", "classical", 0): 22, ("slow", "learned", 9): 21, ("net", "learned", 9): 23}
    )
    seen = pd.concat(
        pd.DataFrame(
            {"cell": f"d-noise-0.1-n9-{name}", "seed": 0, "step": range(1, 9), "psnr": psnr}
        )
        for name, psnr in (("slow", 14 + np.arange(8)), ("net", np.full(8, 23.0)))
    )
    board = build(rows, TRIALS, [], "r", gains=curves.gains(seen))
    table = board.table.set_index("method")
    assert table["badges"]["slow"] == "still improving when its steps ended"
    assert table["badges"]["net"] == table["badges"]["tv"] == ""
    assert table["gain_last_quarter"]["slow"] == pytest.approx(2)
    assert table["gain_last_quarter"].isna().to_dict() == {"net": False, "tv": True, "slow": False}
    assert "too small for 1 of 2 networks" in board.findings[1]
    assert "slow (9 training images) by 2.00 dB" in board.findings[1]


def test_of_many_undertrained_networks_those_that_rose_most_are_named() -> None:
    rows = make_rows(
        {("tv", "classical", 0): 22} | {("net", "learned", n): 21 for n in range(1, 6)}
    )
    seen = pd.concat(
        pd.DataFrame(
            {
                "cell": f"d-noise-0.1-n{n}-net",
                "seed": 0,
                "step": range(1, 9),
                "psnr": 14 + n * np.arange(8.0),
            }
        )
        for n in range(1, 6)
    )
    (said,) = [
        line
        for line in build(rows, TRIALS, [], "r", gains=curves.gains(seen)).findings
        if "too small" in line
    ]
    assert "too small for 5 of 5 networks" in said
    named = [f"net ({n} training images) by {2 * n:.2f} dB" for n in range(1, 6)]
    starts = [said.find(name) for name in reversed(named)]
    assert 0 < starts[0] < starts[1] < starts[2] and starts[3:] == [-1, -1]
    assert said.endswith("; and 2 more by less.")


def test_ranks_are_within_a_task() -> None:
    easy = make_rows({("tv", "classical", 0): 30, ("unet", "learned", 25): 31})
    hard = easy.assign(level=0.5, cell=easy["cell"] + "-hard", psnr=easy["psnr"] - 10)
    table = build(pd.concat([easy, hard]), TRIALS, [], "r").table
    assert list(table["rank"]) == [1, 2, 1, 2]


def test_nothing_finished_yet() -> None:
    empty = pd.DataFrame(columns=make_rows({("tv", "classical", 0): 1}).columns)
    assert build(empty, TRIALS, [], "r").table.empty


def test_a_report_says_that_the_run_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.begin(spec.load(DEFAULT_SPEC), {"val": "digest"})
    store.write_manifest(cells=2)
    for method in ("tv", "nlm"):
        rows = make_rows({(method, "classical", 0): 22})
        store.write_rows(rows["cell"][0], 0, rows)
        trial = rows[["cell"]][:1].assign(trial=0, state="complete", psnr=22.0, config="{}")
        store.write_trials(rows["cell"][0], trial)
        board = report.write(store)
        unfinished = board.findings[0] == "Unfinished: 1 of 2 cells have results."
        assert unfinished == (method == "tv")
        for kind in ("md", "html"):
            page = (tmp_path / f"run/report/leaderboard.{kind}").read_text()
            assert ("Unfinished" in page) == unfinished


TRIAL = {"trial": 0, "state": "complete", "psnr": 22.0, "config": "{}"}


def test_a_report_goes_without_damaged_files_and_names_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.begin(spec.load(DEFAULT_SPEC), {"val": "digest"})
    for method in ("tv", "nlm"):
        rows = make_rows({(method, "classical", 0): 22})
        cell = rows["cell"][0]
        store.write_rows(cell, 0, rows)
        store.write_trials(cell, rows[["cell"]][:1].assign(**TRIAL))
        store.write_pictures(cell, x_hat=np.zeros((1, 1, 8, 8)), ids=np.array(["a"]))
    damaged = [
        tmp_path / f"run/rows/{cell}/0.parquet",
        tmp_path / f"run/trials/{cell}.parquet",
        tmp_path / f"run/images/{cell.replace('nlm', 'tv')}/pictures.npz",
    ]
    for path in damaged:
        path.write_bytes(b"")
    board = report.write(store)
    assert list(board.table["method"]) == ["tv"]
    for path, finding in zip(damaged, board.findings, strict=False):
        assert finding.startswith(f"{path}: is damaged")
        assert finding.endswith("left out; rerun the run's command to compute it again")


def test_a_report_imports_nothing_that_the_run_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "run")
    method = {"name": "planted:Net", "label": "net"}
    store.begin(spec.load(DEFAULT_SPEC, {"methods": [method]}), {"val": "digest"})
    store.write_manifest(spaces={"net": {"lr": {"low": 1.0, "high": 2.0, "default": 1.5}}})
    rows = make_rows({("net", "learned", 25): 22})
    store.write_rows(rows["cell"][0], 0, rows)
    trial = rows[["cell"]][:1].assign(trial=0, state="complete", psnr=22.0, config='{"lr": 2.0}')
    store.write_trials(rows["cell"][0], trial)
    report.write(store)
    assert "lr = 2 of 1 to 2" in (tmp_path / "run/report/leaderboard.md").read_text()
    assert "planted" not in sys.modules


@pytest.mark.parametrize("width", [80, 100, 120, 190])
def test_a_narrow_terminal_shows_fewer_columns_but_no_number_cut_off(
    width: int, capsys: pytest.CaptureFixture
) -> None:
    rows = make_rows(
        {
            ("wavelet_cs", "classical", 0): 22,
            ("attention_residual_unet", "learned", 25): 24,
            ("attention_residual_unet", "learned", 100): 24,
        }
    )
    board = build(rows, TRIALS, [], "results/x")
    report.show(board, spec.load(DEFAULT_SPEC), Console(width=width))
    table = capsys.readouterr().out.partition("\nnoise 0.1")[0]  # without the findings
    assert "…" not in table
    assert max(map(len, table.splitlines())) <= width
    for name, *psnr in board.table[["method", "psnr", "psnr_low", "psnr_high"]].itertuples(
        index=False
    ):
        mean, low, high = (f"{value:.2f}" for value in psnr)
        assert f"{mean} [{low}, {high}]" in table
        assert name in table
    assert "(1-2)" in table
    assert "wavelet_cs" in table
    assert ("GFLOP/image" in table) == (width == 190)


def test_a_cell_with_a_missing_score_is_not_ranked_and_says_so(tmp_path: Path) -> None:
    rows = make_rows(
        {("tv", "classical", 0): 22, ("nlm", "classical", 0): 25, ("unet", "learned", 25): 24}
    )
    lost = (rows["method"] == "nlm") & (rows["image"] == "i3")
    rows.loc[lost, ["psnr", "ssim"]] = np.nan
    board = build(rows, TRIALS, ["template-derived"], "r")
    table = board.table.set_index("method")
    assert list(table.index) == ["unet", "tv", "nlm"]
    assert table["rank"].tolist()[:2] == [1, 2]
    assert table["rank"].isna().tolist() == [False, False, True]
    assert table["tied_with_best"].tolist() == [True, False, False]
    expected = rows[(rows["method"] == "nlm") & ~lost]["psnr"].mean()
    assert table.loc["nlm", "psnr"] == pytest.approx(expected)
    assert table.loc["nlm", "badges"] == "template-derived, not scored on every image"
    assert table.loc["tv", "badges"] == "template-derived"
    comparison, lacking = board.findings
    assert "unet (23.76 dB) beats tv" in comparison
    assert lacking.startswith("noise 0.1: nlm has no score on 1 of 30 test images (i3), ")
    (task,) = texts.tasks(board)
    shown = dict(zip(texts.shown(board), task["lines"][2], strict=True))
    assert (shown["rank"], shown["method"], shown["to_best"]) == ("-", "nlm", "-")
    assert shown["tied_with_best"] == "not scored on every image"


def test_a_task_whose_only_cell_lacks_scores_has_no_best() -> None:
    rows = make_rows({("tv", "classical", 0): 22})
    rows["psnr"] = np.nan
    board = build(rows, TRIALS, [], "r")
    assert board.table["rank"].isna().all()
    assert len(board.findings) == 1
    assert "30 of 30" in board.findings[0]


GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])
HOSTILE = "<img src=x onerror=alert(1)> [a](http://x) ![b](y) *c* `d` | e & _f_ \\ \x1b[31m\n# g"


@pytest.mark.parametrize(
    "value",
    ["1. x", "1) x", "12.", "- x", "-", "+ x", "---", "# h", "+1.25 dB", "-0.5 dB", "32.14"],
)
def test_a_value_starts_no_list_or_heading(value: str) -> None:
    assert f"<li>{value}</li>" in GFM.render(f"- {as_text(value)}\n")


def test_numbers_are_not_escaped() -> None:
    assert [as_text(value) for value in ("32.14", "+1.25 dB", "-.5")] == [
        "32.14",
        "+1.25 dB",
        "-.5",
    ]


def test_markdown_shows_what_comes_from_files_as_text() -> None:
    rendered = GFM.render(f"- {as_text(HOSTILE)}\n- {as_text('# h')}\n")
    tags = set(re.findall(r"<(\w+)", rendered)) - {"ul", "li"}
    assert tags == set()
    shown = html.unescape(re.sub(r"</?\w+>", "", rendered)).strip().splitlines()
    assert shown == [HOSTILE.replace("\x1b", "\\x1b").replace("\n", "\\n"), "# h"]
    assert as_text("attention_residual_unet: 22.60 [22.10, 23.10]") == (
        "attention_residual_unet: 22.60 [22.10, 23.10]"
    )


def test_pages_are_made_with_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.begin(spec.load(DEFAULT_SPEC, {"description": HOSTILE}), {"val": "digest"})
    store.write_manifest(cells=1, audit={"notes": [HOSTILE], "skipped": {HOSTILE: HOSTILE}})
    rows = make_rows({("tv", "classical", 0): 22})
    store.write_rows(rows["cell"][0], 0, rows)
    trial = rows[["cell"]][:1].assign(trial=0, state="complete", psnr=22.0, config="{}")
    store.write_trials(rows["cell"][0], trial)
    report.write(store)
    for page in ("leaderboard.md", "audit.md"):
        text = (tmp_path / "run" / "report" / page).read_text()
        assert "onerror" in text
        assert "\x1b" not in text
        assert "<img" not in GFM.render(text)
    board = GFM.render((tmp_path / "run/report/leaderboard.md").read_text())
    assert board.count("<tr>") == 2
    assert (
        board.count("<th>") == board.count("<td>") == len(texts.LEADING) + 2 + len(texts.TRAILING)
    )
