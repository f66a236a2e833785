"""Methods that run elsewhere, and several runs on one board."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench import data, external, report, rules, spec
from bench.data import Split
from bench.errors import UserError
from bench.report import notes
from bench.report.combine import combine
from bench.scoring import physics_of
from bench.store import Store

CONTENT = {
    "name": "tiny",
    "dataset": {"source": "template", "image_size": 32, "subjects": 24, "n_val": 4, "n_test": 9},
    "degradations": [{"name": "gaussian_noise", "levels": [0.01, 0.1]}],
    "n_train": [4],
    "methods": ["degraded", "tv"],
    "pictures": 2,
}
TASKS = ["template-gaussian_noise-0.01", "template-gaussian_noise-0.1"]


@pytest.fixture(scope="module")
def split() -> Split:
    asked = spec.parse(CONTENT)
    return data.split(data.load(asked.dataset), 4, 4, 9)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, split: Split) -> Path:
    """Begin a run, write its measurements, and score their copies under the name `copy`."""
    folder = tmp_path_factory.mktemp("external")
    asked = spec.parse(CONTENT)
    store = Store(folder / "run")
    store.begin(asked, rules.digests(split, asked.n_train))
    written = list(external.write_measurements(store, folder / "y"))
    assert [path.name for path in written] == TASKS
    for task in TASKS:
        (folder / "x" / task).mkdir(parents=True)
        with h5py.File(folder / "y" / task / "measurements.h5") as file:
            for number, image in enumerate(file["start"][:]):
                np.save(folder / "x" / task / f"{number:04}.npy", image[0])
    external.score(store, folder / "x", "copy")
    return folder


def test_measurements_are_those_of_the_run_and_do_not_hold_the_truth(
    begun: Path, split: Split
) -> None:
    asked = spec.parse(CONTENT)
    cell = external.cells_of(asked)[0]
    assert cell.task.id == TASKS[0]
    operator = physics_of(cell, asked, split.val)
    expected = operator.measure(external.training.as_tensor(split.test), split.test.ids)
    with h5py.File(begun / "y" / TASKS[0] / "measurements.h5") as file:
        np.testing.assert_array_equal(file["y"][:], expected.numpy())
        assert set(file) == {"y", "start"}
    table = pd.read_csv(begun / "y" / TASKS[0] / "images.csv")
    assert table["image"].tolist() == split.test.ids
    about = json.loads((begun / "y" / TASKS[0] / "task.json").read_text())
    assert about["level"] == 0.01
    assert about["noise_std"] == pytest.approx(0.1)


def test_scores_are_scikit_images(begun: Path, split: Split) -> None:
    rows = Store(begun / "run").rows()
    assert len(rows) == 2 * 9
    assert set(rows["kind"]) == {"external"}
    for number, line in enumerate(rows[rows["task"] == TASKS[1]].itertuples()):
        x, x_hat = split.test.images[number, 0], np.load(begun / f"x/{TASKS[1]}/{number:04}.npy")
        assert line.image == split.test.ids[number]
        assert line.psnr == pytest.approx(peak_signal_noise_ratio(x, x_hat, data_range=1), abs=1e-4)
        assert line.ssim == pytest.approx(structural_similarity(x, x_hat, data_range=1), abs=1e-5)
        assert line.data_residual == pytest.approx(0, abs=1e-6)
    pictures = Store(begun / "run").read_pictures(f"{TASKS[1]}-n0-copy")
    assert pictures["x_hat"].shape == (2, 1, 32, 32)


def test_an_array_for_each_task_scores_alike_and_the_board_says_external(begun: Path) -> None:
    with h5py.File(begun / "x.h5", "w") as file:
        for task in TASKS:
            images = [np.load(path) for path in sorted((begun / "x" / task).iterdir())]
            file[task] = np.stack(images)
    store = Store(begun / "run")
    assert external.score(store, begun / "x.h5", "again", n_train=4) == [
        f"{task}-n4-again" for task in TASKS
    ]
    rows = store.rows().pivot_table(index=["task", "image"], columns="method", values="psnr")
    np.testing.assert_array_equal(rows["again"], rows["copy"])
    board = report.write(store)
    assert board.table["badges"].str.endswith("external").all()
    assert board.table["replay"].eq("").all()
    assert "best, external |" in (begun / "run/report/leaderboard.md").read_text()


def test_bad_predictions_are_answered_in_a_line(begun: Path, tmp_path: Path) -> None:
    store = Store(begun / "run")

    def refused(match: str, place: str = "x", name: str = "mine", **options: object) -> None:
        with pytest.raises(UserError, match=match) as found:
            external.score(store, tmp_path / place, name, **options)
        assert "\n" not in str(found.value)

    shutil.copytree(begun / "x", tmp_path / "x")
    folder = tmp_path / "x" / TASKS[0]
    (folder / "0003.npy").rename(folder / "0099.npy")
    refused(r"0\.01: lacks 1 of 9 images \(0003\.npy\)")
    shutil.copy(folder / "0099.npy", folder / "0003.npy")
    refused(r"0\.01: holds files of no test image \(0099\.npy\)")
    (folder / "0099.npy").unlink()
    np.save(folder / "0003.npy", np.zeros((16, 32)))
    refused(r"0003\.npy: is 16x32 pixels; the test images are 32x32")
    (folder / "0003.npy").write_bytes(b"nothing")
    refused(r"0003\.npy: cannot be read")
    shutil.rmtree(folder)
    refused(r"0\.01: lacks the images of this task")
    refused(r"nowhere: no such file", "nowhere")
    refused(r"the run has the levels 0\.01, 0\.1", levels=[0.5])
    refused(r"--name tv: a method of the run", name="tv")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file[TASKS[0]] = np.zeros((8, 32, 32))
    refused(r"holds 8 images, not 9", "x.h5", levels=[0.01])
    refused(r"lacks the array", "x.h5", levels=[0.1])
    assert "mine" not in set(store.rows()["method"])
    assert external.score(store, tmp_path / "x" / TASKS[1], "flat", [0.1]) == [
        f"{TASKS[1]}-n0-flat"
    ]
    shutil.rmtree(begun / "run" / "rows" / f"{TASKS[1]}-n0-flat")


def test_runs_are_compared_on_one_board_or_refused_with_the_reason(
    begun: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(begun / "run", other, ignore=shutil.ignore_patterns("report", "images"))
    here = Store(begun / "run")
    curve = pd.DataFrame({"step": range(6), "psnr": np.arange(20.0, 26.0), "ssim": 0.5})
    for store in (here, Store(other)):  # a cell that has not finished in either of them
        store.write_curve("pending", 0, curve)
    board, rows, _ = combine([here, Store(other)])
    assert {"copy", "copy (other)"} <= set(board.table["method"])
    assert board.lines["cell"].is_unique
    assert len(rows) == 2 * len(here.rows())
    assert not any("unequal chances" in line for line in board.findings)
    specs = [here.spec(), here.spec().model_copy(update={"seeds": 7})]
    words = " ".join(notes.notes(specs, {}, True, board.objective))
    assert f"over {specs[0].seeds} or 7 seeds of every method" in words
    store = Store(other)
    mine = store.rows().query("method == 'copy' and level == 0.1")
    store.write_rows(mine["cell"].iloc[0], 0, mine.assign(measurement_hash="other"))
    with pytest.raises(UserError, match=r"measurements of gaussian_noise 0\.1 differ"):
        combine([here, store])
    store.write_manifest(data={**store.manifest()["data"], "test": "other"})
    with pytest.raises(UserError, match="other test images than"):
        combine([here, store])
    with pytest.raises(UserError, match="at least two"):
        combine([here])
