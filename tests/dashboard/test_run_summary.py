"""The summary of a run says what its tables say, until they change."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from synthetic_run import make_run

from bench import report, summary, tables
from bench.statistics import estimate
from bench.store import Store
from dashboard import reader, run

METHODS = ("degraded", "tv", "unet")
TASKS = ("template-gaussian_noise-0.1", "template-gaussian_noise-0.5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = make_run(tmp_path / "run", size=16, methods=METHODS)
    report.write(Store(made))
    return made


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tables that the dashboard opens."""
    names: list[str] = []
    table = reader.Reader._table

    def noted(self: reader.Reader, file: str) -> object:
        names.append(file)
        return table(self, file)

    monkeypatch.setattr(reader.Reader, "_table", noted)
    return names


def without_summary(folder: Path) -> run.Run:
    other = folder.parent / "bare"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("report"))
    return run.read(other)


def test_a_run_with_a_summary_is_read_without_opening_its_tables(
    folder: Path, opened: list[str]
) -> None:
    found = run.read(folder)
    assert opened == []
    bare = without_summary(folder)
    assert len(opened) == len(summary.files(folder)) > 0
    assert bare.lines.empty
    assert found.scored == bare.scored
    for name in ("trials", "gains"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(bare, name))
    apart = ["replay"]  # which names the folder
    pd.testing.assert_frame_equal(
        found.cells.drop(columns=apart), bare.cells.drop(columns=apart), check_dtype=False
    )
    for task in TASKS:
        rows = run.rows(bare, task)
        computed = run.scores(bare, task, {name: estimate(rows, name) for name in ("psnr", "ssim")})
        reported = run.reported(found, task, ("psnr", "ssim"))
        assert reported is not None
        pd.testing.assert_frame_equal(
            reported.drop(columns=apart), computed.drop(columns=apart)[[
                name for name in reported if name not in apart
            ]], check_dtype=False,
        )  # fmt: skip
        assert run.reported(found, task, ("ssim",)) is None  # it does not rank
        assert run.reported(bare, task, ("psnr",)) is None


def test_a_copied_run_keeps_its_summary(folder: Path, tmp_path: Path, opened: list[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    assert set(summary.files(copy).values()).isdisjoint(summary.files(folder).values())
    assert len(run.read(copy).lines) == len(run.read(folder).lines) > 0
    assert opened == []


@pytest.mark.parametrize("before", [True, False])
def test_changed_rows_take_their_task_out_of_the_summary(
    folder: Path, opened: list[str], before: bool
) -> None:
    if before:  # or else the change came while no dashboard was looking
        run.read(folder)
    cell = f"{TASKS[0]}-n25-unet"
    file = folder / "rows" / cell / "0.parquet"
    rows = pd.read_parquet(file)
    rows.loc[rows.image == "image 3", "parameters"] += 24
    file.write_bytes(tables.to_bytes(rows))
    now = run.read(folder)
    assert opened == [f"rows/{cell}/0.parquet"]
    assert set(now.lines.task) == {TASKS[1]}
    # One image of 24 under one seed of three has 24 parameters more.
    parameters = now.cells.set_index("cell").parameters
    assert parameters[cell] - parameters[f"{TASKS[1]}-n25-unet"] == pytest.approx(1 / 3)
    file.unlink()
    now = run.read(folder)
    assert dict(zip(now.cells.cell, now.cells.seeds, strict=True))[cell] == 2
    assert set(now.lines.task) == {TASKS[1]}


def test_a_damaged_table_costs_its_cell_and_a_damaged_summary_nothing(folder: Path) -> None:
    (folder / summary.SOURCES.replace("sources", "lines")).write_bytes(b"PAR1")
    now = run.read(folder)
    assert now.lines.empty
    assert len(now.cells) == 8
    report.write(Store(folder))
    file = next(folder.glob("rows/*unet/0.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    assert run.read(folder).damaged == [str(file.relative_to(folder))]
    assert len(run.read(folder).lines) == 4
