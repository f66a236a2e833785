"""`ray submit cluster.yaml bench/run.py` on a lab of workstations, each a network namespace here.

A worker dies and another is added meanwhile.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from subprocess import Popen

import pytest
import yaml
from workstations import ROOT, Lab, finish, lab, missing_tools

from bench.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing_tools()), reason=missing_tools())]

SPEC = {
    "name": "lab",
    "dataset": {"image_size": 32, "n_val": 4, "n_test": 6, "subjects": 18},
    "degradations": [{"name": "gaussian_noise", "levels": [0.1, 0.5]}],
    "n_train": [4],
    "methods": ["mine:Patient", "tv"],
    "budget": {"trials": 4, "steps": 30, "batch_size": 2, "reports": 6},
    "search": {"pruner": "none"},
    "seeds": 1,
    "pictures": 1,
    "checkpoint_seconds": 0,
}
# Trials wait for each other in mid-training, or the first node to be ready would take them all.
METHOD = """
import time
from pathlib import Path

from torch import nn

HOLD = Path(__file__).with_name("hold")


class Patient(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.calls = 0

    def forward(self, x):
        self.calls += self.training
        patience = time.monotonic() + 240
        while self.calls > 8 and HOLD.exists() and time.monotonic() < patience:
            time.sleep(0.1)
        return self.layer(x)
"""
NODES = """
import json

import ray

ray.init(logging_level='ERROR')
alive = {node['NodeManagerAddress']: node['NodeID'] for node in ray.nodes() if node['Alive']}
print('nodes', json.dumps(alive))
"""


class Cluster:
    """A cluster file at the desk of a lab, and Ray commands with it."""

    def __init__(self, place: Lab):
        self.lab = place
        self.path = place.desk / "cluster.yaml"
        place.run("ray", "get-auth-token", "--generate")
        (place.shared / "nodes.py").write_text(NODES)
        (place.shared / "mine.py").write_text(METHOD)
        (place.shared / "spec.yaml").write_text(yaml.safe_dump(SPEC))

    def write(self, head: str, workers: list[str]) -> None:
        """Write the repository's cluster file for these workstations."""
        config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
        config["cluster_name"] = self.lab.name
        config["provider"] |= {"head_ip": head, "worker_ips": workers}
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(self.lab.key)}
        # This environment stands for the one that the set-up would install; it never installs here.
        there = f"ln -sfn {sys.prefix} ~/reconbench/.venv && touch ~/reconbench/.installed"
        config["setup_commands"] = [
            there,
            *(word.replace("bash", "PYTHON=false bash") for word in config["setup_commands"]),
        ]
        for kind in ("head", "worker"):
            key = f"{kind}_start_ray_commands"
            small = " --num-cpus=1 --object-store-memory=200000000"
            config[key] = [word + small * ("ray start" in word) for word in config[key]]
        self.path.write_text(yaml.safe_dump(config))

    def nodes(self) -> dict[str, str]:
        """Return the living nodes: address -> id."""
        text = self.lab.run("ray", "exec", str(self.path), f"python {self.lab.shared}/nodes.py")
        line = next(line for line in text.splitlines() if line.startswith("nodes "))
        return json.loads(line.removeprefix("nodes "))

    def submit(self, *more: str) -> Popen[str]:
        """Start the run at the desk, as a user would."""
        shared = self.lab.shared
        (shared / "hold").touch()
        return self.lab.start(
            "ray", "submit", str(self.path), "bench/run.py", "--", f"{shared}/spec.yaml",
            "--out", f"{shared}/run", "--events", f"{shared}/events.jsonl", *more,
        )  # fmt: skip

    def release(self) -> None:
        """Let the trials continue that wait for each other."""
        (self.lab.shared / "hold").unlink()

    def at_work(self, level: str) -> set[str]:
        """Return the nodes on which a trial of that level has been validated."""
        path = self.lab.shared / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {
            event["node"]
            for event in map(json.loads, lines)
            if event["event"] == "validated" and f"-{level}-n4" in event["cell"]
        }


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with lab() as place:
        yield Cluster(place)


def wait_for(ready: Callable[[], object], what: str, job: Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 200
    while not ready():
        if job is not None and job.poll() is not None:
            raise AssertionError(f"ended before {what}:\n{job.communicate()[0]}")
        if time.monotonic() > deadline:
            if job is not None:
                job.kill()
            raise AssertionError(f"not {what}:\n{job.communicate()[0] if job else ''}")
        time.sleep(0.5)


def raylets(place: Lab, address: str) -> list:
    return [process for process in place.processes(address) if process.name() == "raylet"]


def test_a_lab_loses_a_worker_and_gets_another(cluster: Cluster) -> None:
    place = cluster.lab
    head, *workers = (place.add(number) for number in range(3))
    cluster.write(head, workers)
    place.run("ray", "up", "-y", str(cluster.path))

    token = place.home(head) / ".ray" / "auth_token"
    assert token.read_text() == (place.desk / ".ray" / "auth_token").read_text()
    assert token.stat().st_mode & 0o077 == 0
    stranger = place.start(
        "env", "RAY_AUTH_MODE=disabled", "ray", "status", "--address", f"{head}:6379"
    )
    assert "token is missing or incorrect" in stranger.communicate()[0]
    assert stranger.returncode

    job = cluster.submit("--nodes", "3", "--only", "level=0.1")
    wait_for(lambda: len(cluster.at_work("0.1")) == 3, "trials on three nodes", job)
    ids = cluster.nodes()
    assert set(ids.values()) == cluster.at_work("0.1")
    for process in raylets(place, workers[0]):
        process.kill()
    added = place.add(3)
    cluster.write(head, [*workers, added])
    place.run("ray", "up", "-y", "--no-restart", str(cluster.path))
    cluster.release()
    printed = finish(job)
    assert f"Ray: joined the cluster at {head}:6379: 3 nodes, 3 CPUs" in printed
    assert "gaussian_noise, level 0.1" in printed

    job = cluster.submit("--nodes", "4")
    wait_for(lambda: len(cluster.at_work("0.5")) == 4, "trials on four nodes", job)
    now = cluster.nodes()
    cluster.release()
    assert "gaussian_noise, level 0.5" in finish(job)
    store = Store(place.shared / "run")
    trials, rows = store.trials(), store.rows()
    assert dict(trials.groupby("cell").size()) == dict.fromkeys(trials["cell"].unique(), 4)
    assert len(trials) == 2 * (4 + 4)
    assert set(trials["state"]) == {"complete"}
    assert len(rows) == 6 * 2 * (1 + 1)
    assert not rows.duplicated(["cell", "seed", "image"]).any()
    assert "finished" in store.manifest()
    assert {ids[head], ids[workers[1]], now[added]} <= set(trials["node"])
    assert set(now) == {head, *workers, added}
    assert now[workers[0]] != ids[workers[0]], "the autoscaler has started it again"

    place.run("ray", "down", "-y", str(cluster.path))
    assert not raylets(place, head)
    for address in (*workers, added):
        wait_for(lambda address=address: not raylets(place, address), "workers gone")
