"""What a run says of the cluster that it joins or begins."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import UnwritableError
from bench.spec import Benchmark
from bench.sweep.trial import Job, Shared, run_job

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("ray_cluster")
def test_too_few_nodes_end_in_one_line_and_leave_the_folder_to_the_next(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "bench/run.py"), "--smoke", "--out", "run"]
    words += ["--only", "method=degraded", "--set", "dataset.image_size=32"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*words, *more], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )

    alone = run("--nodes", "2", "--wait", "0")
    assert alone.returncode == 2
    (line,) = alone.stderr.splitlines()
    assert line.startswith("error: 1 of 2 nodes came within 0 s; ")
    enough = run("--nodes", "1")
    assert enough.returncode == 0, enough.stderr
    assert "Ray: a cluster of its own: 1 node, " in enough.stdout


def test_a_node_that_does_not_see_the_run_folder_says_so(tmp_path: Path) -> None:
    shared = Shared(Benchmark.model_construct(), {}, str(tmp_path / "elsewhere"), None, None)
    with pytest.raises(UnwritableError, match="does not see this folder; choose a run folder"):
        next(run_job(shared, Job("cell", {}, trial=0)))
