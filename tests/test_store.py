import contextlib
import errno
import gc
import json
import os
import pickle
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from bench import badges, claim, run_files, spec, tables
from bench.cli import DEFAULT_SPEC
from bench.errors import DamagedError, UnwritableError, UserError
from bench.store import ROW_KEYS, Store
from bench.sweep.journal import Journal
from bench.sweep.studies import Studies

SPEC = spec.load(DEFAULT_SPEC)


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
    with pytest.raises(UserError, match="images differ from those"):
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
        assert badges.of_run(store.manifest()) == ["versions changed"] * mixed


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
    pd.testing.assert_frame_equal(store.rows().drop(columns="task"), some_rows())


@pytest.mark.parametrize("odd", [[], [pd.DataFrame({"b": [7]})]])
def test_tables_of_several_versions_are_joined_as_pandas_joins_them(
    odd: list[pd.DataFrame],
) -> None:
    """Of the last one, column `b` has a type that has none in common with the others'."""
    frames = [
        pd.DataFrame({"a": [1, 2]}),
        pd.DataFrame({"b": ["x", None], "a": [3, 4]}),
        pd.DataFrame({"a": [0.5], "c": [1.5]}),
        *odd,
    ]
    expected = pd.concat(frames, ignore_index=True)
    parts = [pa.Table.from_pandas(one, preserve_index=False) for one in frames]
    for some in (parts, [*tables.compact(parts[:2]), *tables.compact(parts[2:])]):
        pd.testing.assert_frame_equal(tables.joined(some), expected, check_dtype=False)


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
    """Cut a file about in half: in spec.yaml, which has no checksum, behind a key."""
    half = len(content) // 2
    return content[: max(content.rfind(b":", 0, half), half // 2)]


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


def test_many_threads_read_intact_pictures_as_intact(tmp_path: Path) -> None:
    """Python's parser fails, before 3.11.8, if another thread parses while it collects garbage."""
    file = tmp_path / "pictures.npz"
    np.savez(file, **{f"a{k}": np.zeros((2, 1, 8, 8)) for k in range(6)})
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()

    def yield_to_others(*_: object) -> None:
        time.sleep(0)

    gc.callbacks.append(yield_to_others)
    gc.set_threshold(5)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as threads:
            read = partial(run_files.damage_of, read=run_files.arrays)
            found = [*threads.map(read, [file] * 500)]
    finally:
        gc.callbacks.remove(yield_to_others)
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
    assert found == [None] * 500


@pytest.mark.parametrize("kind", ["rows/*/*.parquet", "images/*/*.npz", "models/*/*/recipe.json"])
def test_a_file_that_cannot_be_reached_is_not_taken_for_damaged(
    store: Store, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    (path, *_) = sorted(store.folder.glob(kind))
    content = {"read_bytes": Path.read_bytes, "read_text": Path.read_text}

    def out_of_reach(name: str) -> Callable[..., Any]:
        def read(self: Path, *args: Any, **options: Any) -> Any:
            if self == path:
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(self))
            return content[name](self, *args, **options)

        return read

    for name in content:
        monkeypatch.setattr(Path, name, out_of_reach(name))
    with pytest.raises(UserError, match="cannot be read"):
        list(store.set_aside_damaged())
    monkeypatch.undo()
    assert path.exists()
    assert list(store.set_aside_damaged()) == []


def test_a_recipe_that_is_no_json_is_computed_again(store: Store) -> None:
    """As in an object store, whose models are not looked at as a run begins."""
    fill(store)
    (store.folder / "models" / "cell" / "0" / "recipe.json").write_text("{")
    assert not store.is_finished("cell", 0, {}, pictures=True)


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


def test_only_one_run_is_at_work_in_a_folder(store: Store) -> None:
    with store.claimed():
        with (
            pytest.raises(UserError, match=f"process {os.getpid()} on"),
            Store(store.folder).claimed(),
        ):
            pass
        store.write_report("audit.md", "fine")
    assert not list(store.folder.glob("running.*"))
    with Store(store.folder).claimed():
        pass


def test_workers_in_another_folder_find_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "FRESH_SECONDS", 0.0)
    monkeypatch.chdir(tmp_path)
    store = Store("run")
    with store.claimed():
        monkeypatch.chdir("/")
        store.check_claim()


def test_a_run_that_was_taken_for_dead_writes_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A laptop sleeps for an hour; another machine, which sees no heartbeat, continues."""
    monkeypatch.setattr(claim, "FRESH_SECONDS", 0.0)
    first, second = Store(store.folder), Store(store.folder)
    with first.claimed():
        worker = Store(store.folder, pickle.loads(pickle.dumps(first.claim)))
        worker.write_rows("cell", 0, some_rows())
        log = Journal(store.journal, first.check_claim)
        log.append_logs([{"n": 0}])
        (mark,) = store.folder.glob("running.*")
        os.utime(mark, (0, 0))
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with second.claimed():
            second.write_rows("cell", 1, some_rows())
            before = {path: path.read_bytes() for path in store.folder.rglob("*.*")}
            for write in (
                lambda: worker.write_rows("cell", 0, some_rows() * 2),
                lambda: first.write_manifest(finished="now"),
                log.flush,
                first.claim.renew,
            ):
                with pytest.raises(UnwritableError, match="another run has taken this folder over"):
                    write()
            assert {path: path.read_bytes() for path in store.folder.rglob("*.*")} == before
            assert len(store.rows()) == 2
    with pytest.raises(UnwritableError):  # nor when the other has ended
        worker.write_rows("cell", 0, some_rows())


@pytest.mark.parametrize(
    ("host", "process", "age", "refused"),
    [
        ("here", "alive", 0, True),
        ("here", "alive", 100, True),  # stopped, by Ctrl-Z
        ("here", "dead", 0, False),
        ("here", "dead, without /proc", 0, False),
        ("here", "alive, without /proc", 0, True),
        ("here", "another", 0, False),  # the number is that of another process by now
        ("elsewhere", "dead", 0, True),
        ("elsewhere", "alive", 100, False),
    ],
)
def test_what_a_dead_run_left_is_taken_over(
    tmp_path: Path, host: str, process: str, age: int, refused: bool
) -> None:
    stopped = subprocess.Popen(["sleep", "100"])
    stopped.send_signal(signal.SIGSTOP)
    content = {
        "host": socket.gethostname() if host == "here" else host,
        "pid": stopped.pid,
        "born": claim._start_time(os.getpid() if process == "another" else stopped.pid),
    }
    if "without" in process:
        content["born"] = ""
    if process.startswith("dead"):
        stopped.kill()
        stopped.wait()
    mark = tmp_path / "running.7.json"
    mark.write_text(json.dumps(content))
    os.utime(mark, (time.time() - age,) * 2)
    with pytest.raises(UserError) if refused else contextlib.nullcontext(), claim.held(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["running.8.json"]
    stopped.kill()
    stopped.wait()


STARTERS = """
import sys
from pathlib import Path
from bench import claim
from bench.errors import UserError

me, other, place = sys.argv[1], sys.argv[2], Path(sys.argv[3])

def meet(what):
    (place / f"{what}.{me}").touch()
    while not (place / f"{what}.{other}").exists():
        pass

for number in range(50):
    folder = place / str(number)
    folder.mkdir(exist_ok=True)
    if number % 2:  # what a dead run left is there to be taken over
        (folder / "running.1.json").write_text("{}")
        import os; os.utime(folder / "running.1.json", (0, 0))
    meet(f"start.{number}")
    try:
        mine = claim.take(folder)
        mine.check()
        print(number, flush=True)
    except UserError:
        mine = None
    meet(f"end.{number}")
    if mine:
        claim.release(mine)
"""


def test_of_two_processes_that_start_together_one_gets_the_folder(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTERS, me, other, str(tmp_path)],
            stdout=subprocess.PIPE, text=True,
        )
        for me, other in (("a", "b"), ("b", "a"))
    ]  # fmt: skip
    won = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(map(int, won[0] + won[1])) == list(range(50))


def test_a_run_folder_is_as_open_as_it_was_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "shared").mkdir(mode=0o755)
    for name, folder_mode, file_mode in (("own", 0o700, 0o600), ("shared", 0o755, 0o644)):
        store = Store(tmp_path / "new" / name if name == "own" else tmp_path / name)
        store.begin(SPEC, {"val": "digest"})
        store.write_report("a.md", "")
        studies = Studies(store.journal)
        studies.begin("study", ["maximize"])
        studies.close()
        made = [store.folder, *store.folder.rglob("*")]
        assert {path.name for path in made} >= {"manifest.json", "journal.log", "report", "a.md"}
        for path in made:
            wanted = folder_mode if path.is_dir() else file_mode
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o755


def test_a_file_of_a_run_that_multiplies_its_aliases_is_damaged(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 20)]
    (tmp_path / "spec.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError, match="values once its aliases are expanded"):
        Store(tmp_path).spec()
