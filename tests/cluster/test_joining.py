"""What a run prints about the cluster that it joins or starts."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import ray

from bench import cluster
from bench.errors import UnwritableError
from bench.spec import Benchmark
from bench.sweep.trial import Job, Shared, run_job


@pytest.fixture
def own_cluster(ray_cluster: None) -> Iterator[None]:
    with patch.dict(os.environ):
        cluster.connect()
        yield
        ray.shutdown()


def test_too_few_nodes_end_in_one_line_and_leave_the_folder_to_the_next(
    own_cluster: None, reconbench: Callable, tmp_path: Path
) -> None:
    words = ["run", "--smoke", "--out", tmp_path / "run", "--only", "method=degraded"]
    words += ["--set", "dataset.image_size=32"]
    status, _, errors = reconbench(*words, "--nodes", "2", "--wait", "0")
    assert status == 2
    (line,) = errors.splitlines()
    assert line.startswith("error: 1 of 2 nodes joined within 0 s; ")
    status, printed, errors = reconbench(*words, "--nodes", "1")
    assert status == 0, errors
    assert cluster.PENDING_TRIALS not in os.environ  # or the next run, or a child, would keep it
    assert "Ray: started a cluster: 1 node, " in printed


def test_a_node_that_does_not_see_the_run_folder_says_so(tmp_path: Path) -> None:
    shared = Shared(Benchmark.model_construct(), {}, str(tmp_path / "elsewhere"), None, None)
    with pytest.raises(UnwritableError, match="does not see this folder; choose a run folder"):
        next(run_job(shared, Job("cell", {}, trial=0)))
