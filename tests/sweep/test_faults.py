"""Faults in a real sweep in separate processes: afterwards the same command ends as if nothing
had been.
"""

import contextlib
import shutil
import signal
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster
from small_sweep import (
    ONE_CPU,
    Undisturbed,
    end,
    events,
    kill_all,
    prepare,
    results,
    run,
    slow_validations,
    start,
    wait_for,
)
from tensorboardX.proto import event_pb2

from bench.store import Store

pytestmark = pytest.mark.usefixtures("ray_cluster")


def scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """Read step, name and value from a file of TensorBoard: length, checksum, event, checksum."""
    content = path.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + length])
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value
        content = content[16 + length :]


def test_tensorboard_shows_every_job(undisturbed: Undisturbed) -> None:
    _, trials, run = undisturbed
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for path in run.glob("tensorboard/**/events.*"):  # a promoted trial has several
        curve = {step: value for step, tag, value in scalars(path) if tag == "ray/tune/best"}
        curves[path.parent.name.split("-until")[0]].update(curve)
    shown = {name: curve[max(curve)] for name, curve in curves.items()}
    table = {f"{row.cell}-trial{row.trial}": row.psnr for row in trials.itertuples()}
    assert {name: shown[name] for name in table} == pytest.approx(table, abs=1e-4)
    assert len(shown) == len(table) + 2 * (1 + 2)


def test_the_events_tell_who_paused_from_who_ended(undisturbed: Undisturbed) -> None:
    _, trials, run = undisturbed
    told = [event for event in events(run.parent) if "trial" in event]
    last = {(event["cell"], event["trial"]): event["event"] for event in told}
    states = {"complete": "ended", "pruned": "paused"}
    assert last == {(row.cell, row.trial): states[row.state] for row in trials.itertuples()}
    ended = [(event["cell"], event["trial"]) for event in told if event["event"] == "ended"]
    assert len(ended) == len(set(ended)) == (trials["state"] == "complete").sum() < len(trials)


def test_damaged_files_are_computed_again(undisturbed: Undisturbed, tmp_path: Path) -> None:
    prepare(tmp_path)
    folder = shutil.copytree(undisturbed.run, tmp_path / "run")
    slow = "template-gaussian_noise-0.1-n4-Slow"
    (folder / "spec.yaml").unlink()
    (folder / "manifest.json").write_text("{")
    (folder / f"rows/{slow}/0.parquet").write_bytes(b"PAR1")
    (folder / f"models/{slow}/1/weights.safetensors").unlink()
    (folder / f"images/{slow.replace('0.1', '0.5')}/pictures.npz").write_bytes(b"")
    (folder / f"trials/{slow}.parquet").write_bytes(b"")
    journal = folder / "studies" / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-20], *lines[-19:]]))
    text = run(tmp_path)
    undisturbed.compare(folder)
    assert {path.name for path in folder.rglob("*.damaged")} == {
        "0.parquet.damaged", f"{slow}.parquet.damaged", "journal.log.damaged",
        "manifest.json.damaged", "pictures.npz.damaged", "recipe.json.damaged",
    }  # fmt: skip
    for path in folder.rglob("*.damaged"):
        name = str(path.relative_to(tmp_path)).removesuffix(".damaged")
        assert f"{name}: is damaged" in text
    for seed in range(2):
        recipe, _ = Store(folder).read_model(slow, seed)
        assert Store(folder).is_finished(slow, seed, recipe["config"], pictures=not seed)


def family(driver: subprocess.Popen) -> list[psutil.Process]:
    return psutil.Process(driver.pid).children(recursive=True)


def actors(driver: subprocess.Popen) -> list[psutil.Process]:
    """Find the workers that run trials; a process may end meanwhile."""
    found = []
    for process in family(driver):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "Trainable" in " ".join([process.name(), *process.cmdline()]):
                found.append(process)
    return found


def listening(driver: subprocess.Popen) -> set[str]:
    """Find the addresses on which a run can be reached."""
    found = set()
    for process in family(driver):
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def count(folder: Path) -> int:
    return slow_validations(events(folder))


def goes_on(folder: Path, driver: subprocess.Popen) -> None:
    """Wait until a trial of a network has been validated again."""
    before = count(folder)
    wait_for(folder, driver, lambda seen: slow_validations(seen) > before)


def pause(folder: Path, seconds: float) -> None:
    """Set how long a network pauses in every step, from now on."""
    (folder / "pause").write_text(str(seconds))


def kill(processes: list[psutil.Process]) -> None:
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_run_stopped_and_killed_in_every_way_ends_as_if_nothing_had_been(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """Five starts of one run, which begins with less than the whole benchmark."""
    less = {"levels": [0.1], "name": "gaussian_noise"}
    prepare(tmp_path, degradations=[less], seeds=1, methods=["mine:Slow"], description="less")
    pause(tmp_path, 1)  # or it may end before the signal
    driver = start(tmp_path, **ONE_CPU)
    goes_on(tmp_path, driver)
    refusal = run(tmp_path, status=2)
    assert f"another run is using it (process {driver.pid}" in refusal
    driver.send_signal(signal.SIGTERM)  # which becomes an interrupt, as of Ctrl-C
    end(driver, tmp_path, status=130)
    log = (tmp_path / "log").read_text()
    assert "rerun the same command to resume" in log
    assert "SIGTERM" not in log  # which Ray would print, with its stack trace
    assert "Traceback" not in log
    assert not list((tmp_path / "run").glob("running.*"))

    prepare(tmp_path)
    pause(tmp_path, 0.3)
    driver = start(tmp_path)
    goes_on(tmp_path, driver)
    assert listening(driver) == {"127.0.0.1"}
    kill(actors(driver))
    goes_on(tmp_path, driver)
    driver.kill()  # without its cluster
    driver.wait()

    driver = start(tmp_path, **ONE_CPU)
    goes_on(tmp_path, driver)
    kill([one for one in family(driver) if one.name() == "raylet"])
    assert driver.wait(300) != 0, (tmp_path / "log").read_text()

    driver = start(tmp_path, **ONE_CPU)
    wait_for(tmp_path, driver, lambda seen: slow_validations(seen, refit=True))
    kill_all(driver)

    run(tmp_path)
    undisturbed.compare(tmp_path / "run")


def test_a_node_leaves_and_another_comes(
    undisturbed: Undisturbed, cluster: Cluster, tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    prepare(tmp_path)
    pause(tmp_path, 2)  # else the first nodes may do all before the last one is ready
    driver = start(tmp_path, RAY_ADDRESS=cluster.address)
    wait_for(
        tmp_path, driver,
        lambda seen: len({one["node"] for one in seen if one["event"] == "validated"}) == 3,
    )  # fmt: skip
    cluster.remove_node(node, allow_graceful=False)
    pause(tmp_path, 0.03)
    other = cluster.add_node(num_cpus=1)
    end(driver, tmp_path)
    cluster.remove_node(other)
    assert (
        f"joined the cluster at {cluster.address}: 3 nodes, 3 CPUs"
        in (tmp_path / "log").read_text()
    )
    undisturbed.compare(tmp_path / "run")


BAD = ["Hangs", "Raises", "Diverges", "Insatiable", "Dies"]


def test_bad_methods_fail_alone_and_are_named(joined: None, tmp_path: Path) -> None:
    names = [*BAD, "Hungry", "Slow"]
    fixed = {"width": 4, "lr": 1e-2}
    prepare(
        tmp_path,
        degradations=[{"name": "gaussian_noise", "levels": [0.1]}],
        methods=["tv", *({"name": f"mine:{name}", "fixed": fixed} for name in names)],
        seeds=1,
        time_limit=20,
    )
    text = run(tmp_path, status=2)
    for reason in (
        "longer than the time limit of 20 s", "ValueError: of no use", "DivergedError",
        "MemoryError: never enough", "the worker process died",
    ):  # fmt: skip
        assert reason in text, text
    rows, trials = results(tmp_path / "run")
    assert set(rows["method"]) == {"tv", "Hungry", "Slow"}, text
    states = trials[trials["trial"] == 0].set_index("cell")["state"]
    assert not any("Dies" in cell for cell in states.index)  # a cell that may not be to blame
    for cell, state in states.items():
        assert state == ("failed" if any(bad in str(cell) for bad in BAD) else "complete")
    assert dict(rows.groupby("method").size()) == {"tv": 6, "Hungry": 6, "Slow": 6}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_folder_then_a_full_disk_then_a_greater_one(
    undisturbed: Undisturbed, small_disk: Path, tmp_path: Path
) -> None:
    prepare(tmp_path)
    (tmp_path / "run").symlink_to(small_disk)

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(small_disk)], check=True)

    for options in ("ro", "rw"):
        remount(options)
        last = run(tmp_path, status=2).splitlines()[-1]
        assert last.startswith("error: ")
        assert "cannot be written" in last
    assert "No space left" in last
    remount("size=20m")
    run(tmp_path)
    undisturbed.compare(tmp_path / "run")
