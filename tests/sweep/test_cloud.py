"""Run folders in an object store: a real S3 server, moto's, in a separate process."""

import contextlib
import io
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from small_sweep import (
    ONE_CPU,
    Undisturbed,
    end,
    kill_all,
    prepare,
    slow_validations,
    start,
    wait_for,
)

from bench import claim, cluster, physics, places, spec, training
from bench.cli import DEFAULT_SPEC
from bench.data import ImageSet
from bench.errors import UnwritableError, UserError
from bench.replay import replay
from bench.spec import Budget
from bench.store import ROW_KEYS, Store
from bench.sweep import journal
from bench.sweep.journal import Journal

boto3, *_ = (
    pytest.importorskip(package, reason="needs moto's S3 server: pip install -e '.[dev]'")
    for package in ("boto3", "moto", "flask", "flask_cors")
)

SECRET = "never-to-be-written-3f9a"
BENCHMARK = spec.load(DEFAULT_SPEC)
LARGE = 12_000_000  # uploaded in parts


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path_factory.mktemp("server") / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("s3_server.py"), str(port)],
            stdout=log,
            stderr=log,
        )
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket, and the credentials of its user."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reconbench")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    name = uuid4().hex
    client(server).create_bucket(Bucket=name)
    yield name
    places._filesystem.cache_clear()


def client(server: str) -> Any:
    return boto3.client("s3", endpoint_url=server)


def contents(server: str, bucket: str) -> dict[str, bytes]:
    """Read all objects with Amazon's library, except the markers of empty folders."""
    found = client(server).list_objects_v2(Bucket=bucket).get("Contents", [])
    keys = [one["Key"] for one in found if not one["Key"].endswith("/")]
    return {key: client(server).get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


class Line:
    """A network between us and the server, which may break.

    Attributes:
        limit: bytes of a connection's requests that come through.
        cut: whether the connection is closed then; else the rest is lost until our side leaves.
        full: whether one has reached the limit.
        gone: whether our side has left such a one.
    """

    def __init__(self, server: str):
        self.target = ("127.0.0.1", int(server.rpartition(":")[2]))
        self.limit, self.cut = sys.maxsize, True
        self.full, self.gone = threading.Event(), threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # raised once it is closed
            while True:
                connection, _ = self.socket.accept()
                threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        sent = 0
        with client, socket.create_connection(self.target) as server, contextlib.suppress(OSError):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    part = ready.recv(4096)
                    if not part:
                        return
                    if ready is server:
                        client.sendall(part)
                        continue
                    sent += len(part)
                    if sent > self.limit:
                        self.full.set()
                        if self.cut:
                            return
                        with contextlib.suppress(OSError):
                            while client.recv(4096):
                                pass
                        self.gone.set()
                        return
                    server.sendall(part)


@pytest.fixture
def line(server: str) -> Iterator[Line]:
    line = Line(server)
    yield line
    line.socket.close()


@pytest.fixture
def store(bucket: str) -> Store:
    store = Store(f"s3://{bucket}/runs/x/")
    store.begin(BENCHMARK, {"val": "data"})
    return store


def some_rows(psnr: float = 20.0) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(ROW_KEYS, 1) | {"psnr": psnr}])


def test_everything_comes_back(store: Store, server: str, bucket: str) -> None:
    assert store.rows().empty
    assert store.count_trials("a") == 0
    assert not store.is_finished("a", 0, {}, pictures=False)
    for cell, psnr in (("a-b", 2.0), ("a", 1.0)):
        store.write_rows(cell, 0, some_rows(psnr))
        store.write_trials(cell, some_rows(psnr))
    store.write_model("a", 0, {"config": {}}, {})
    assert store.is_finished("a", 0, {}, pictures=False)
    assert store.count_trials("a") == 1
    assert list(store.rows()["psnr"]) == [1.0, 2.0]  # in the order of paths, as on a disk
    assert sorted(store.trials()["psnr"]) == [1.0, 2.0]
    store.write_rows("a", 0, some_rows(3.0))
    assert list(store.rows()["psnr"]) == [3.0, 2.0]
    weights = {"a.b": torch.arange(6.0).view(2, 3)}
    store.write_model("a", 0, {"method": "unet"}, weights)
    store.write_model("a", 1, {"method": "tv"}, {})
    assert torch.equal(store.read_model("a", 0)[1]["a.b"], weights["a.b"])
    assert store.read_model("a", 1) == ({"method": "tv"}, {})
    with pytest.raises(UserError, match="no model"):
        store.read_model("a", 2)
    store.write_pictures("task", x=np.ones((2, 1, 4, 4)), ids=np.array(["a", "b"]))
    store.write_manifest(more=1)
    assert store.manifest() == {"data": {"val": "data"}, "more": 1}
    assert str(store.write_report("audit.md", "fine")) == f"s3://{bucket}/runs/x/report/audit.md"
    found = contents(server, bucket)
    assert found["runs/x/report/audit.md"] == b"fine"
    with np.load(io.BytesIO(found["runs/x/images/task/truth.npz"])) as archive:
        assert archive["x"].sum() == 32


def test_the_same_folder_as_on_a_disk(
    store: Store, server: str, bucket: str, tmp_path: Path
) -> None:
    local = Store(tmp_path / "run")
    local.begin(BENCHMARK, {"val": "data"})
    for one in (store, local):
        one.write_rows("a", 0, some_rows())
        one.write_model("a", 0, {}, {"w": torch.ones(2)})
        one.write_pictures("task", x=np.ones((2, 1, 4, 4)), ids=np.array(["a", "b"]))
        one.write_report("audit.md", "fine")
    files = [path for path in local.folder.rglob("*") if path.is_file()]
    there = {f"runs/x/{path.relative_to(local.folder)}": path.read_bytes() for path in files}
    assert contents(server, bucket) == there


def test_a_run_is_taken_up_again_by_the_same_benchmark_alone(store: Store, bucket: str) -> None:
    Store(store.folder).begin(BENCHMARK, {"val": "data"})
    with pytest.raises(UserError, match=r"another benchmark file \(it differs in seeds"):
        store.begin(BENCHMARK.model_copy(update={"seeds": 1}), {"val": "data"})
    with pytest.raises(UserError, match="not empty"):
        Store(f"s3://{bucket}/runs").begin(BENCHMARK, {"val": "data"})
    with pytest.raises(UserError, match="holds no run"):
        Store(f"s3://{bucket}/elsewhere").spec()


def test_no_such_bucket(bucket: str) -> None:
    with pytest.raises(UserError, match=r"cannot be reached .*bucket does not exist"):
        Store("s3://bucket-of-nobody/x").begin(BENCHMARK, {"val": "data"})


@pytest.mark.parametrize("conditional", [False, True])
def test_only_one_run_is_at_work_in_a_folder(
    store: Store, server: str, bucket: str, monkeypatch: pytest.MonkeyPatch, conditional: bool
) -> None:
    if not conditional:
        monkeypatch.setattr(places, "find_spec", lambda name: None)
    with (
        store.claimed(),
        pytest.raises(UserError, match=f"process {os.getpid()} on"),
        Store(store.folder).claimed(),
    ):
        pass
    assert not any("running" in key for key in contents(server, bucket))
    with store.claimed():
        pass


def test_of_several_that_begin_together_one_creates_the_claim(bucket: str) -> None:
    for number in range(10):
        file = places.place(f"s3://{bucket}/{number}/running.1.json")
        together = threading.Barrier(4)

        def create(who: int, file: places.Place = file, meet: threading.Barrier = together) -> bool:
            meet.wait()
            return places.create(file, str(who).encode())

        with ThreadPoolExecutor(4) as threads:
            created = list(threads.map(create, range(4)))
        assert created.count(True) == 1
        assert file.read_text() == str(created.index(True))


@pytest.mark.parametrize("silent", [False, True])
def test_a_claim_from_elsewhere_holds_as_long_as_it_is_renewed(
    store: Store, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(claim, "FRESH_SECONDS", 0.0)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
        other = claim.take(store.folder)
    if silent:
        monkeypatch.setattr(claim, "STALE_AFTER_SECONDS", 1.0)
        deadline = time.monotonic() + 60
        while places.age(other.file) <= 1.0:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    else:
        other.renew()
    with (
        contextlib.nullcontext() if silent else pytest.raises(UserError, match="on elsewhere"),
        store.claimed(),
    ):
        for write in (other.check, other.renew):
            with pytest.raises(UnwritableError, match="has taken this folder over"):
                write()


@pytest.mark.parametrize("size", [100_000, LARGE])
def test_an_upload_that_breaks_off_leaves_what_was_there(
    size: int, bucket: str, server: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    file = places.place(f"s3://{bucket}/x/weights.pt")
    file.write_bytes(b"earlier")
    line.limit = 20_000
    content = os.urandom(size)

    def write() -> None:
        with places.atomic_write(file) as path:
            path.write_bytes(content)

    with pytest.raises(UnwritableError, match=r"x/weights\.pt: cannot be "):
        write()
    assert line.full.is_set()
    assert contents(server, bucket) == {"x/weights.pt": b"earlier"}
    line.limit = sys.maxsize
    write()
    assert contents(server, bucket) == {"x/weights.pt": content}


@pytest.mark.parametrize("size", [100_000, LARGE])
def test_a_process_killed_in_mid_upload_leaves_nothing(
    size: int, bucket: str, server: str, line: Line
) -> None:
    line.limit, line.cut = size // 2 if size < LARGE else 6_000_000, False
    code = f"from bench import places; places.place('s3://{bucket}/a').write_bytes(bytes({size}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "AWS_ENDPOINT_URL": line.address}
    ) as process:
        assert line.full.wait(60)
        process.kill()
    assert line.gone.wait(60)
    time.sleep(0.5)  # until the server notices that no more data comes
    assert contents(server, bucket) == {}


def test_without_a_network_nothing_is_taken_for_absent(
    bucket: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    store = Store(f"s3://{bucket}/x")
    store.write_model("a", 0, {"config": {}}, {})
    store.write_rows("a", 0, some_rows())
    line.limit = 0
    with pytest.raises(UnwritableError, match="cannot be reached"):
        store.is_finished("a", 0, {}, pictures=False)
    line.limit = sys.maxsize
    assert store.is_finished("a", 0, {}, pictures=False)


def logged(place: places.Place) -> list[int]:
    return [log["n"] for log in Journal(place).read_logs(0)]


def test_the_journal_grows_by_segments_and_ends_as_one_file(
    store: Store, server: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 30)
    for first in (0, 10):  # a run that was killed, and another
        log = Journal(store.journal)
        for number in range(first, first + 10):
            log.append_logs([{"n": number}])
            log.flush()
            assert logged(store.journal) == list(range(number + 1))
    segments = {key: text for key, text in contents(server, bucket).items() if "journal" in key}
    assert len(segments) > 5
    log.close()
    whole = {key: text for key, text in contents(server, bucket).items() if "journal" in key}
    assert list(whole) == ["runs/x/studies/journal.log"]
    lines = [json.loads(line) for line in whole["runs/x/studies/journal.log"].splitlines()]
    assert [line["n"] for line in lines] == list(range(20))
    # Killed between the joining and the last deletion:
    for key, text in segments.items():
        places.place(f"s3://{bucket}/{key}").write_bytes(text)
    assert logged(store.journal) == list(range(20))
    places.place(f"s3://{bucket}/{sorted(segments)[2]}").unlink()
    places.place(f"s3://{bucket}/runs/x/studies/journal.log").unlink()
    log = Journal(store.journal)
    assert "line 5, or one before it is missing" in log.damage
    assert logged(store.journal) == [0, 1, 2, 3]
    log.append_logs([{"n": 4}])
    log.close()
    assert logged(store.journal) == [0, 1, 2, 3, 4]


def test_a_journal_entry_that_did_not_get_through_is_written_later(
    bucket: str, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.address)
    place = places.place(f"s3://{bucket}/journal.log")
    log = Journal(place)
    log.append_logs([{"n": 0}])
    log.flush()
    log.append_logs([{"n": 1}])
    line.limit = 0
    with pytest.raises(UnwritableError):
        log.flush()
    line.limit = sys.maxsize
    assert logged(place) == [0]
    log.append_logs([{"n": 2}])
    log.flush()
    assert logged(place) == [0, 1, 2]


def test_training_goes_on_from_a_checkpoint(bucket: str) -> None:
    images = np.random.default_rng(0).random((6, 1, 16, 16), dtype=np.float32)
    names = [str(number) for number in range(6)]
    sets = [ImageSet(images[part], names[part], names[part]) for part in (slice(4), slice(4, 6))]
    operator = physics.create("gaussian_noise", 0.05, 16)
    budget = Budget(steps=4, batch_size=2, reports=4)
    common = ("srcnn", {}, *sets, operator, budget)
    whole = training.fit(*common, 0, precision="fp32")
    place = f"s3://{bucket}/run/trial0.pt"
    job = training.TrainingJob("srcnn", {}, budget, 0, precision="fp32", checkpoint=place)
    run = training.steps(job, *sets, operator)
    for _ in range(2):
        next(run)
    run.close()
    with pytest.raises(UserError, match="the checkpoint of another run"):
        training.fit(*common, 1, precision="fp32", checkpoint=place)
    again = training.fit(*common, 0, precision="fp32", checkpoint=place)
    assert again.history == whole.history


def test_loggers_that_keep_files_are_refused(
    bucket: str, reconbench: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "connect", lambda: None)
    words = ["run", "--smoke", "--log", "tensorboard", "--out", f"s3://{bucket}/run"]
    status, _, errors = reconbench(*words)
    assert status == 2
    assert errors.splitlines()[-1].startswith("error: tensorboard: appends to files")


@pytest.mark.usefixtures("ray_cluster")
def test_a_killed_run_ends_as_one_on_a_disk(
    undisturbed: Undisturbed,
    bucket: str,
    server: str,
    reconbench: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = f"s3://{bucket}/runs/x"
    cloud = prepare(tmp_path / "cloud")
    options = ("--out", address)
    driver = start(cloud, *options, **ONE_CPU)
    wait_for(cloud, driver, lambda seen: slow_validations(seen) >= 5)  # in mid-trial
    kill_all(driver)
    left = contents(server, bucket)
    assert any(key.startswith("runs/x/checkpoints/") for key in left)
    assert not any(key.startswith("runs/x/rows/") and "Slow" in key for key in left)
    end(start(cloud, *options, **ONE_CPU), cloud)

    undisturbed.compare(address)
    objects = contents(server, bucket)
    files = {
        path.relative_to(undisturbed.run) for path in undisturbed.run.rglob("*.*") if path.is_file()
    }
    assert {key.removeprefix("runs/x/") for key in objects} == {
        str(path) for path in files if path.parts[0] != "tensorboard"
    }
    (tmp_path / "journal.log").write_bytes(objects["runs/x/studies/journal.log"])
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    for study in optuna.get_all_study_names(storage):
        told = optuna.load_study(study_name=study, storage=storage).trials
        kept = [trial.user_attrs for trial in told if "lost" not in trial.user_attrs]
        assert {one["index"] for one in kept} == {0, 1, 2}
        # Only a promoted trial is reported again, with more steps.
        assert len({(one["index"], one["step"]) for one in kept}) == len(kept)

    readable = [*objects.values(), *(path.read_bytes() for path in cloud.iterdir())]
    for table in (Store(address).rows(), Store(address).trials()):
        readable.append(table.to_csv().encode())
    assert not any(SECRET.encode() in content for content in readable)

    monkeypatch.syspath_prepend(str(cloud))
    status, shown, _ = reconbench("report", address)
    assert status == 0
    assert f"Report:    {address}/report/leaderboard.html" in shown
    assert "Dashboard" not in shown
    cell = min(cell for cell in Store(address).rows()["cell"] if cell.endswith("tv"))
    for refit in replay(Store(address), [cell]):
        assert refit.now == pytest.approx(refit.before, abs=1e-6)
