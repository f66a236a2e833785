import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench import spec
from bench.errors import DamagedError, UserError
from bench.store import ROW_KEYS, Store

SPEC = spec.load(Path(spec.__file__).parent / "specs" / "small_data.yaml")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "run")
    store.begin(SPEC, {"val": "data"})
    return store


def some_rows() -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(ROW_KEYS, 1) | {"psnr": 20.0}])


def test_a_run_is_taken_up_again_by_the_same_benchmark_alone(store: Store) -> None:
    Store(store.folder).begin(SPEC, {"val": "data"})
    with pytest.raises(UserError, match=r"another benchmark file \(it differs in seeds"):
        store.begin(SPEC.model_copy(update={"seeds": 1}), {"val": "data"})
    with pytest.raises(UserError, match="images are not the ones"):
        store.begin(SPEC, {"val": "other data"})
    more = {"val": "data", "train 500": "more data"}
    store.begin(SPEC, more)
    assert store.manifest() == {"data": more}


def test_the_report_knows_of_changed_versions(store: Store) -> None:
    def start(torch: str) -> dict:
        return {"at": "now", "versions": {"torch": torch}, "git": "abc"}

    for starts, mixed in (
        ([], False),
        (["2.6"], False),
        (["2.6"] * 2, False),
        (["2.6", "2.7"], True),
    ):
        store.extend(SPEC, starts=[start(one) for one in starts])
        assert store.mixed == mixed


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        Store(tmp_path).begin(SPEC, {"val": "data"})


def test_rows_come_back(store: Store) -> None:
    assert store.rows().empty
    assert not store.is_finished("cell", 0, {}, pictures=False)
    store.write_model("cell", 0, {"config": {}}, {})
    store.write_rows("cell", 0, some_rows())
    assert not store.is_finished("cell", 0, {"lr": 1e-5}, pictures=False)
    assert store.is_finished("cell", 0, {}, pictures=False)
    assert not store.is_finished("cell", 0, {}, pictures=True)
    pd.testing.assert_frame_equal(store.rows(), some_rows())


def test_a_failed_write_leaves_the_earlier_file_and_no_litter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write_rows("cell", 0, some_rows())
    before = {path: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}

    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
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


def test_what_is_written_reaches_the_disk_before_it_gets_its_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss of power between the two would leave a name without its content."""
    happened = []
    replace, fsync = Path.replace, os.fsync
    monkeypatch.setattr(
        Path, "replace", lambda self, to: happened.append(Path(to).name) or replace(self, to)
    )
    monkeypatch.setattr(os, "fsync", lambda number: happened.append("flushed") or fsync(number))
    fill(store)
    names = happened[1::2]
    assert happened[::2] == ["flushed"] * len(names)
    assert {Path(name).suffix for name in names} == {".parquet", ".npz", ".safetensors", ".json"}


def fill(store: Store) -> None:
    """Leave what a refit leaves."""
    images = np.random.default_rng(0).random((2, 1, 8, 8))
    store.write_trials("cell", some_rows())
    store.write_model("cell", 0, {"config": {}}, {"w": torch.arange(600.0)})
    store.write_pictures("cell", x_hat=images, error=images, ids=np.array(["a", "b"]))
    store.write_pictures("task", x=images, ids=np.array(["a", "b"]))
    store.write_rows("cell", 0, some_rows())


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGED = {
    "rows/cell/0.parquet": "rows/cell/0.parquet",
    "trials/cell.parquet": "trials/cell.parquet",
    "models/cell/0/recipe.json": "models/cell/0/recipe.json",
    "models/cell/0/weights.safetensors": "models/cell/0/recipe.json",
    "images/cell/pictures.npz": "images/cell/pictures.npz",
    "images/task/truth.npz": "images/task/truth.npz",
    "manifest.json": "manifest.json",
    "spec.yaml": "spec.yaml",
}


@pytest.mark.parametrize("damage", [cut, lambda content: b""], ids=["cut", "empty"])
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_and_set_aside_and_missed(
    store: Store, name: str, damage: Callable[[bytes], bytes]
) -> None:
    fill(store)
    assert list(store.set_aside_damaged()) == []
    path = store.folder / name
    path.write_bytes(damage(path.read_bytes()))
    (line,) = store.set_aside_damaged()
    file = store.folder / DAMAGED[name]
    assert line.startswith(f"{file}: is damaged (")
    assert not file.exists()
    assert file.with_name(f"{file.name}.damaged").exists()
    assert list(store.set_aside_damaged()) == []
    finished = store.is_finished("cell", 0, {}, pictures=True)
    assert finished == (name.partition("/")[0] not in ("rows", "models") and "cell/p" not in name)
    Store(store.folder).begin(SPEC, {"val": "data"})  # goes on, whatever it was
    assert Store(store.folder).spec() == SPEC
    assert Store(store.folder).manifest() == {"data": {"val": "data"}}


def test_whoever_reads_leaves_damaged_files_out_and_names_them(store: Store) -> None:
    fill(store)
    store.write_rows("other", 0, some_rows())
    for name in ("rows/cell/0.parquet", "images/cell/pictures.npz", "manifest.json"):
        (store.folder / name).write_bytes(b"")
    assert len(store.rows()) == 1
    assert store.read_pictures("cell") == {}
    assert store.manifest() == {}
    assert [line.partition(": is damaged")[0] for line in store.damaged] == [
        str(store.folder / name)
        for name in ("rows/cell/0.parquet", "images/cell/pictures.npz", "manifest.json")
    ]
    (store.folder / "models/cell/0/weights.safetensors").unlink()
    with pytest.raises(DamagedError, match=r"recipe\.json: is damaged"):
        store.read_model("cell", 0)


@pytest.mark.parametrize("kind", ["rows", "model", "pictures"])
def test_no_flipped_bit_is_read_as_another_number(store: Store, kind: str) -> None:
    fill(store)
    name, read, same = {
        "rows": ("rows/cell/0.parquet", lambda: store.rows(), pd.DataFrame.equals),
        "model": (
            "models/cell/0/weights.safetensors",
            lambda: store.read_model("cell", 0)[1]["w"],
            torch.equal,
        ),
        "pictures": (
            "images/cell/pictures.npz",
            lambda: store.read_pictures("cell").get("x_hat", images),
            np.array_equal,
        ),
    }[kind]
    images = store.read_pictures("cell")["x_hat"]
    expected, path = read(), store.folder / name
    whole = path.read_bytes()
    noticed = 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 100):
        path.write_bytes(flipped(whole, int(bit)))
        store.damaged.clear()
        with contextlib.suppress(DamagedError):
            found = read()
            assert store.damaged or same(found, expected)
            noticed -= not store.damaged
        noticed += 1
    assert noticed > 50


def test_a_kill_in_the_first_moment_leaves_a_folder_that_can_be_begun(tmp_path: Path) -> None:
    for name in ("spec.yaml", "manifest.json"):
        store = Store(tmp_path / name)
        store.begin(SPEC, {"val": "data"})
        (store.folder / name).unlink()
        Store(store.folder).begin(SPEC, {"val": "data"})
        assert store.spec() == SPEC
        assert store.manifest() == {"data": {"val": "data"}}


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
