import contextlib
import json
import os
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench import spec
from bench.errors import UserError
from bench.store import ROW_KEYS, Store

SPEC = spec.load(Path(spec.__file__).parent / "specs" / "small_data.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "run")
    store.begin(SPEC, "data")
    return store


def some_rows() -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(ROW_KEYS, 1) | {"psnr": 20.0}])


def test_a_run_is_taken_up_again_by_the_same_benchmark_alone(store: Store) -> None:
    Store(store.folder).begin(SPEC, "data")
    with pytest.raises(UserError, match=r"another benchmark file \(it differs in seeds\)"):
        store.begin(SPEC.model_copy(update={"seeds": 1}), "data")
    with pytest.raises(UserError, match="images are not the ones"):
        store.begin(SPEC, "other data")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        Store(tmp_path).begin(SPEC, "data")


def test_rows_come_back(store: Store) -> None:
    assert store.rows().empty
    assert not store.has_rows("cell", 0)
    store.write_rows("cell", 0, some_rows())
    assert store.has_rows("cell", 0)
    pd.testing.assert_frame_equal(store.rows(), some_rows())


def test_a_failed_write_leaves_the_earlier_file_and_no_litter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_rows("cell", 0, some_rows())
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full_disk)
    with pytest.raises(UserError, match=r"0\.parquet: cannot be written \(No space left"):
        store.write_rows("cell", 0, some_rows())
    after = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}
    assert before == after


def test_models_come_back(store: Store) -> None:
    weights = {"a.b": torch.arange(6.0).view(2, 3)}
    store.write_model("cell", 0, {"method": "unet", "config": {"width": 8}}, weights)
    recipe, read = store.read_model("cell", 0)
    assert recipe["config"] == {"width": 8}
    assert torch.equal(read["a.b"], weights["a.b"])
    with pytest.raises(UserError, match="no model"):
        store.read_model("cell", 1)


def test_pictures_need_no_pickle(store: Store) -> None:
    store.write_pictures("task", x=np.zeros((2, 1, 4, 4)), ids=np.array(["a", "b"]))
    with np.load(store.folder / "images/task/truth.npz", allow_pickle=False) as archive:
        assert list(archive["ids"]) == ["a", "b"]


def test_no_run_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        Store(tmp_path).spec()
    for address in ("ftp://host/run", "s3://", "s3://key:secret@bucket/run", "s3://bucket/x?y=z"):
        with pytest.raises(UserError, match="s3://BUCKET/FOLDER") as caught:
            Store(address)
        assert "secret" not in str(caught.value)


def test_only_one_run_is_at_work_in_a_folder(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    with first.claimed(), pytest.raises(UserError, match=f"process {os.getpid()} on"):
        second._refuse_second(tmp_path / "running.json")
    assert not (tmp_path / "running.json").exists()
    with second.claimed():
        pass


@pytest.mark.parametrize(
    ("host", "pid", "age", "refused"),
    [
        ("here", "alive", 0, True),
        ("here", "dead", 0, False),
        ("here", "alive", 100, False),  # a number that another process bears by now
        ("elsewhere", "dead", 0, True),
        ("elsewhere", "alive", 100, False),
    ],
)
def test_what_a_dead_run_left_is_taken_over(
    tmp_path: Path, host: str, pid: str, age: int, refused: bool
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    content = {
        "host": socket.gethostname() if host == "here" else host,
        "pid": os.getpid() if pid == "alive" else ended.pid,
    }
    claim = tmp_path / "running.json"
    claim.write_text(json.dumps(content))
    os.utime(claim, (time.time() - age,) * 2)
    with (
        pytest.raises(UserError) if refused else contextlib.nullcontext(),
        Store(tmp_path).claimed(),
    ):
        pass
