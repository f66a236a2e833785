"""What happens when Ray cannot be started or joined."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ray.experimental import internal_kv

from bench import cluster, private, spec, sweep
from bench.cells import cells_of
from bench.errors import UserError

CONNECT = "from bench import cli, cluster; cli._guarded(lambda **_: cluster.connect())"
ROOT = Path(__file__).parents[2]


def connect(**variables: str) -> subprocess.CompletedProcess[str]:
    """Connect in a separate process, as `run` does."""
    return subprocess.run(
        [sys.executable, "-c", CONNECT], env={**os.environ, **variables},
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RAY_ADDRESS", "127.0.0.1:1", "nothing answers at "),
        ("RAY_ADDRESS", "somewhere", "write RAY_ADDRESS as HOST:PORT"),
        ("TMPDIR", "long", "set RAY_TMPDIR to a folder with a short path"),
        ("RAY_TMPDIR", "/dev/null/x", "set RAY_TMPDIR to a folder that exists"),
    ],
)
def test_a_cluster_that_cannot_be_had_is_one_line_with_the_remedy(
    tmp_path: Path, variable: str, value: str, says: str
) -> None:
    if value == "long":
        folder = tmp_path / ("l" * 120)
        folder.mkdir()
        value = str(folder)
    ended = connect(**{variable: value})
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: Ray: ")
    assert says in line


def test_something_else_at_the_address_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[str] = []
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 0.05)
    monkeypatch.setattr(cluster, "_give_up", gone.append)
    monkeypatch.setattr(cluster, "_init", lambda: cluster.time.sleep(1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        cluster._join(address)
    assert gone == [address]


def test_a_slow_machine_gets_a_second_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def slow() -> None:
        tries.append("")
        raise Exception("The current node timed out during startup. This could happen")

    monkeypatch.setattr(cluster, "_init", slow)
    monkeypatch.setattr(private, "cluster_address", lambda: None)
    with pytest.raises(UserError, match="this machine is slow or busy"):
        cluster.connect()
    assert len(tries) == 2


def cells(**asked: float) -> list[spec.Cell]:
    """The cells of a benchmark of one network that asks for resources."""
    return cells_of(
        spec.parse(
            {
                "degradations": [{"name": "gaussian_noise", "levels": [0.1]}],
                "n_train": [2],
                "methods": ["tv", {"name": "unet", **asked}],
            }
        )
    )


TWO = {"CPU": 2.0}
GPU = {"CPU": 8.0, "GPU": 1.0}


@pytest.mark.parametrize(
    ("nodes", "asked", "fits"),
    [
        ([TWO], {"cpus": 2}, True),
        ([TWO], {"cpus": 64}, False),
        ([TWO, TWO], {"cpus": 4}, False),  # no trial is spread over machines
        ([TWO, TWO], {"cpus": 2, "workers": 2}, True),
        ([TWO, TWO], {"workers": 8}, False),
        ([TWO, GPU], {"gpus": 0.5, "workers": 2}, True),
        ([TWO, GPU], {"gpus": 2}, False),
        ([TWO], {"gpus": 2}, True),  # without any GPU, on the processor
    ],
)
def test_what_no_machine_holds_is_refused(
    nodes: list, asked: dict, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "machines", lambda: nodes)
    if fits:
        sweep.check_room(cells(**asked))
        return
    with pytest.raises(
        UserError, match=r"unet: a trial needs .* the cluster has .*; lower its cpus"
    ):
        sweep.check_room(cells(**asked))


def test_on_a_cluster_that_grows_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "machines", lambda: [TWO])
    monkeypatch.setattr(cluster, "may_grow", lambda: True)
    (notice,) = sweep.check_room(cells(cpus=64))
    assert notice.startswith("unet: a trial needs 64 CPUs on one machine; the cluster has 2 CPUs")
    assert notice.endswith("waiting for more nodes")


@pytest.mark.parametrize(
    ("kinds", "grows"),
    [({"a1": "node_a1"}, False), ({"a1": "head", "b2": "worker"}, True), ({}, True)],
)
def test_a_cluster_that_grows_has_types_of_nodes(
    kinds: dict, grows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = json.dumps({"autoscaler_report": {"node_type_mapping": kinds}})
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(private, "is_own_cluster", lambda: False)
    monkeypatch.setattr(internal_kv, "_internal_kv_get", lambda _: status.encode())
    assert cluster.may_grow() is grows
