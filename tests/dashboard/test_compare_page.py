"""Runs beside each other and on one board; runs in object stores, which are only read."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from pyarrow.fs import LocalFileSystem, SubTreeFileSystem
from streamlit.testing.v1 import AppTest
from synthetic_run import make_run

from bench import listing, places, report
from bench.errors import UserError
from bench.store import Store
from dashboard import merged, mirror, run

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
TASK = "template-gaussian_noise-0.5"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that stands for all buckets, through pyarrow's interface of file systems."""
    root = tmp_path / "store"
    root.mkdir()
    monkeypatch.setattr(
        places, "_filesystem", lambda *_: SubTreeFileSystem(str(root), LocalFileSystem())
    )
    monkeypatch.setattr(mirror, "FRESH_SECONDS", -1.0)
    mirror._mirrors.clear()
    yield root
    mirror._mirrors.clear()


def words(app: AppTest) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return " ".join(element.value for kind in kinds for element in kind)


def open_compare(**query: str) -> AppTest:
    app = AppTest.from_file(str(APP), default_timeout=60)
    app.query_params.update(query)
    app.run()
    app.switch_page("views/compare.py").run()
    assert not app.exception
    return app


def test_a_run_in_an_object_store_is_read_like_one_in_a_folder(
    bucket: Path, tmp_path: Path
) -> None:
    whole = make_run(bucket / "lab" / "runs" / "first", size=16, methods=("tv", "unet"))
    report.write(Store(whole))
    before = listing.files(whole)
    remote = places.place("s3://lab/runs/first")
    assert run.find(places.place("s3://lab/runs")) == [remote]
    copy = mirror.local(remote)
    there, here = run.read(copy), run.read(whole)
    assert len(there.lines) == len(here.lines) > 0  # the summary holds for the copy
    pd.testing.assert_frame_equal(
        there.cells.drop(columns="replay"), here.cells.drop(columns="replay")
    )
    assert set(there.cells.replay.str.split().str[2]) == {"s3://lab/runs/first"}
    assert not (copy / "models").exists()
    cell = f"{TASK}-n25-unet"
    (whole / "rows" / cell / "2.parquet").unlink()
    now = run.read(mirror.local(remote))
    assert now.cells.set_index("cell").seeds[cell] == 2
    before.pop(f"rows/{cell}/2.parquet")
    assert listing.files(whole) == before  # nothing was written


def test_only_what_has_changed_is_fetched_again(
    bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bucket / "lab" / "run"
    folder.mkdir(parents=True)
    for name in ("spec.yaml", "manifest.json"):
        (folder / name).write_text("{}")
    fetched: list[str] = []
    fetch = mirror.Mirror._fetch

    def noted(self: mirror.Mirror, name: str, modified: int) -> None:
        fetched.append(name)
        fetch(self, name, modified)

    monkeypatch.setattr(mirror.Mirror, "_fetch", noted)
    copy = mirror.local(places.place("gs://lab/run"))
    os.utime(folder / "manifest.json", (1, 1))
    mirror.renew(copy)
    assert sorted(fetched) == ["manifest.json", "manifest.json", "spec.yaml"]
    assert (copy / "manifest.json").stat().st_mtime == 1
    assert mirror.address(copy) == "gs://lab/run"


def test_runs_beside_each_other(results: Path) -> None:
    make_run(results / "first", size=16, methods=("tv", "unet"))
    make_run(results / "second", size=16, methods=("tv", "nlm"))
    app = open_compare(run="results/first", task=TASK, others="results/second")
    table = app.dataframe[0].value.set_index("method")
    assert list(table.columns) == ["results/first", "results/second"]
    for name in table:
        rows = pd.concat(map(pd.read_parquet, Path(name).glob(f"rows/{TASK}-*tv/*.parquet")))
        assert table[name]["tv"] == pytest.approx(rows.psnr.mean())
    assert pd.isna(table["results/second"]["unet · 25"])
    assert "has other test images" in words(app)  # neither run says which it has


def test_a_single_run_has_nothing_to_be_compared_with(run_folder: Path) -> None:
    assert "There is no other run" in words(open_compare())


@pytest.mark.slow
def test_runs_are_merged_as_the_command_does(results: Path) -> None:
    names = [make_run(results / name, size=16, methods=("tv", "unet")) for name in ("a", "b")]
    with pytest.raises(UserError, match="has other test images than"):
        merged.board([str(name) for name in names])
    for name in names:
        Store(name).write_manifest(data={"test": "digest", "val": "digest"})
    board = merged.board([str(name) for name in names])
    methods = {line["method"] for line in board["lines"]}
    assert methods == {"tv", "unet", "tv (b)", "unet (b)"}
