"""What happens when Ray cannot be started or joined."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cluster
from bench.errors import UserError

CONNECT = "from bench import cli, cluster; cli._guarded(lambda **_: cluster.connect())"
ROOT = Path(__file__).parents[2]


def connect(**variables: str) -> subprocess.CompletedProcess[str]:
    """Connect in a process of its own, as `run` does."""
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
        ("RAY_TMPDIR", "/dev/null/x", "set RAY_TMPDIR to a folder that is there"),
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
    monkeypatch.setattr(cluster, "canonicalize_bootstrap_address", lambda _: None)
    with pytest.raises(UserError, match="this machine is slow or busy"):
        cluster.connect()
    assert len(tries) == 2
