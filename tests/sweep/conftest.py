"""One cluster and one undisturbed sweep, shared by the tests."""

import contextlib
from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from small_sweep import METHODS, STARTED, Undisturbed, kill_all, prepare, results, run

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    while STARTED:
        if (process := STARTED.pop()).poll() is None:
            kill_all(process)


@pytest.fixture(scope="session")
def cluster() -> "Iterator[Cluster]":
    """Start a cluster for sweeps to join, which saves them the time to start one.

    It has a separate folder; in Ray's default folder every other run here would find it.
    """
    from ray.cluster_utils import Cluster

    with (
        TemporaryDirectory(prefix="ray", dir="/tmp") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_TMPDIR", folder)
        head = {"num_cpus": 1, "include_dashboard": False}
        found = Cluster(initialize_head=True, head_node_args=head)
        found.add_node(num_cpus=1)
        found.wait_for_nodes()
        yield found
        found.shutdown()


@pytest.fixture(scope="session")
def joined(cluster: "Cluster", tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Join the cluster in this process: its sweeps share workers, which take seconds to import."""
    import ray

    from bench.cluster import connect

    folder = tmp_path_factory.mktemp("methods")
    (folder / "mine.py").write_text(METHODS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        patch.syspath_prepend(str(folder))
        with contextlib.chdir(folder):  # workers find modules where their driver has begun
            connect()
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def undisturbed(joined: None, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = prepare(tmp_path_factory.mktemp("undisturbed"))
    run(folder, "--log", "tensorboard")
    rows, trials = results(folder / "run")
    assert len(rows) == 6 * 2 * (1 + 2)
    assert len(trials) == 2 * (3 + 3)
    assert not (folder / "run" / "checkpoints").exists()
    return Undisturbed(rows, trials, folder / "run")
