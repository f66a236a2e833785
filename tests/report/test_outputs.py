"""The files of a report: what comes from files is text in each of them."""

import csv
import html.parser
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_leaderboard import HOSTILE, TRIAL, make_rows

from bench import report, spec
from bench.cli import DEFAULT_SPEC
from bench.report import pictures, tex, texts
from bench.report.leaderboard import build
from bench.store import Store

NAME = r"<script>x()</script> $a_1^2$ & 50% #{} ~ \input{x} | [b](c)"


class Reader(html.parser.HTMLParser):
    """Collects the tags of a page, and its text outside scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.inside = tag

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a report in which everything that a file may name has an awkward name."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    store = Store(folder)
    store.begin(spec.load(DEFAULT_SPEC, {"description": HOSTILE}), {"val": "digest"})
    store.write_manifest(cells=3, audit={"notes": [NAME], "badges": [NAME]})
    rows = make_rows(
        {("tv", "classical", 0): 22, ("u", "learned", 9): 23, ("u", "learned", 99): 24}
    )
    for cell, own in rows.groupby("cell"):
        named = own.assign(method=own["method"].replace({"u": NAME}), degradation=NAME)
        store.write_rows(str(cell), 0, named.assign(task="t"))
        config = json.dumps({"loss": NAME})
        store.write_trials(str(cell), own[["cell"]][:1].assign(**{**TRIAL, "config": config}))
        image = np.zeros((1, 1, 8, 8), np.float32)
        store.write_pictures(str(cell), x_hat=image, error=image, start=image, ids=np.array(["a"]))
    report.write(store)
    return folder / "report"


def test_html_shows_awkward_names_as_text(hostile: Path) -> None:
    page = (hostile / "leaderboard.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert "x()" not in re.findall(r"<script>(.*?)</script>", page)
    # The library, what unpacks it, and one script of data for each figure.
    figures = page.count('class="chart"')
    assert figures >= 2
    assert reader.tags.count("script") == figures + 2
    assert NAME in "".join(reader.text)
    assert reader.tags.count("img") == 7
    for content in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page):
        names = [trace.get("name") for trace in json.loads(content)["data"]]
        assert "<" not in "".join(filter(None, names))
    assert (hostile / "leaderboard.html").stat().st_size < 5_000_000


def test_html_names_no_other_host(hostile: Path) -> None:
    page = (hostile / "leaderboard.html").read_text()
    own = re.sub(r'<script type="text/plain".*?</script>', "", page, flags=re.DOTALL)
    assert set(re.findall(r"(?:src|href)=\"?([a-z]+:)", own)) <= {"data:"}


def test_json_and_csv_hold_awkward_names_unchanged(hostile: Path) -> None:
    content = json.loads((hostile / "report.json").read_text())
    assert {line["method"] for line in content["lines"]} == {NAME, "tv"}
    assert content["sample_efficiency"][0]["method"] == NAME
    assert content["settings"]["d-noise-0.1-n9-u"] == {"loss": NAME}
    assert NAME in content["conclusion"][0]
    lines = list(csv.DictReader(io.StringIO((hostile / "leaderboard.csv").read_text())))
    assert {line["method"] for line in lines} == {NAME, "tv"}


def test_latex_shows_awkward_names_as_text(hostile: Path) -> None:
    """Every special character of the name is escaped: undoing the escapes gives it back."""
    page = (hostile / "leaderboard.tex").read_text()
    escaped = tex.escape(NAME)
    assert page.count(escaped) == 3  # two lines, and the title
    bare = re.sub(r"\\text\w+\{\}|\\[$&#%_{}]|\{[\[\]]\}", "", escaped)
    assert not set(bare) & set('\\${}&#%_^~<>|"[]')
    back = escaped
    for character, code in tex.SPECIAL.items():
        back = back.replace(code, {"\\": "\0"}.get(character, character))
    assert back.replace("\0", "\\") == NAME
    body = [line for line in page.splitlines() if line.endswith(r"\\") and "multicol" not in line]
    heads = body[0].count("&")
    assert all(len(re.findall(r"(?<!\\)&", line)) == heads for line in body)


@pytest.mark.parametrize(("gap", "bold"), [(1.0, 1), (0.0, 0)])
def test_latex_prints_ties_never_bold(gap: float, bold: int) -> None:
    rows = make_rows({("tv", "classical", 0): 22, ("nlm", "classical", 0): 22 + gap})
    trials = pd.DataFrame({"cell": [], "step": []})
    page = tex.page(build(rows, trials, [], "r"))
    assert page.count(r"\textbf{") == bold
    assert page.count(r"\begin{tabular}") == page.count(r"\end{tabular}") == 1


def test_the_summary_states_conclusion_and_limits(hostile: Path) -> None:
    content = json.loads((hostile / "report.json").read_text())
    (sentence,) = content["conclusion"]
    assert "99 images is best with 23.76 dB, and beats tv" in sentence
    assert any("steps" in line or "budgets" in line for line in content["limits"])
    assert any("seed" in line for line in content["limits"]) == (spec.load(DEFAULT_SPEC).seeds == 1)


def test_a_page_of_several_tasks_sums_them_up() -> None:
    """A table of all tasks, with a star at the best of each, and the record of what learns."""
    means = {("tv", "classical", 0): 22, ("u", "learned", 9): 23}
    first = make_rows(means)
    second = make_rows({**means, ("u", "learned", 9): 21}).assign(
        level=0.5, cell=lambda rows: rows["cell"] + "b"
    )
    board = build(pd.concat([first, second]), pd.DataFrame({"cell": [], "step": []}), [], "r")
    headings, (tv, network) = texts.overview(board)
    assert headings == ["method", "images", "noise 0.1", "noise 0.5"]
    by_level = board.table.set_index(["method", "level"])["psnr"]
    assert tv == ["tv", "-", f"{by_level['tv', 0.1]:.2f}", f"{by_level['tv', 0.5]:.2f}*"]
    assert network == ["u", "9", f"{by_level['u', 0.1]:.2f}*", f"{by_level['u', 0.5]:.2f}"]
    assert [line[:5] for line in texts.record(board)] == [["u", "2", "1", "0", "1"]]
    alone = build(first, pd.DataFrame({"cell": [], "step": []}), [], "r")
    assert texts.overview(alone) == ([], [])
    assert texts.record(alone) == []


def test_errors_share_one_scale_that_the_floor_does_not_set(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    store.begin(spec.load(DEFAULT_SPEC), {"val": "digest"})
    rows = make_rows({("degraded", "classical", 0): 10, ("tv", "classical", 0): 22})
    for cell, own in rows.groupby("cell"):
        store.write_rows(str(cell), 0, own)
        error = np.full((1, 1, 8, 8), 0.9 if "degraded" in str(cell) else 0.2, np.float32)
        store.write_pictures(str(cell), x_hat=error, error=error, ids=np.array(["a"]))
        store.write_worst(
            str(cell), x=error, x_hat=error, ids=np.array(["<b>"]), psnr=np.array([9.876])
        )
    board = build(store.rows(), pd.DataFrame({"cell": [], "step": []}), [], "r")
    (task,) = pictures.gallery(store, board)
    assert task["worst"] == pytest.approx(0.2)
    assert [one["name"] for one in task["spoilt"]] == ["tv: 9.88 dB on <b>"]
    report.write(store)
    assert "&lt;b&gt;" in (tmp_path / "run/report/leaderboard.html").read_text()
