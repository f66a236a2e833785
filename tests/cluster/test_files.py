"""The cluster files against Ray's own schema and scheduler, and the Kubernetes ones against ours.

No cloud is reached: what only a cloud can refuse, it will refuse there.
"""

import re
import shlex
import tomllib
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ResourceRequestByCount

from bench.cli import run_script

ROOT = Path(__file__).parents[2]
FILES = ["cluster.yaml", "cluster/on_premise.yaml", "cluster/aws.yaml", "cluster/gcp.yaml"]
CLOUDS = ["cluster/aws.yaml", "cluster/gcp.yaml"]
KUBERAY = "cluster/kuberay.yaml"
SECRET = re.compile(r"AKIA|BEGIN [A-Z ]*PRIVATE KEY|[0-9a-f]{40}|RAY_AUTH_TOKEN|password", re.I)


@cache
def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(prepare_config(read(name)))


@pytest.mark.parametrize("name", FILES)
def test_ray_would_refuse_a_slip(name: str) -> None:
    """The schema refuses unknown keys."""
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**read(name), "setup_comands": []}))


@pytest.mark.parametrize("name", FILES)
def test_every_mounted_path_exists_and_makes_the_package(name: str) -> None:
    mounts = read(name)["file_mounts"]
    here = {Path(local) for local in mounts.values() if not local.startswith("~")}
    for path in here:
        assert (ROOT / path).exists(), path
        assert not any(found.is_symlink() for found in (ROOT / path).rglob("*")), "Ray stumbles"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    inside = {"reconbench*"}  # bench/alias
    assert {Path(package.rstrip("*")) for package in {*packages} - inside} < here
    assert "cluster" in project["project"]["optional-dependencies"]
    assert mounts["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in read(name)["setup_commands"]


@pytest.mark.parametrize("name", FILES)
def test_the_start_commands_name_no_node_and_open_no_dashboard(name: str) -> None:
    config = read(name)
    for command in config["worker_start_ray_commands"]:
        assert not re.search(r"\d+\.\d+\.\d+\.\d+", command)
        assert "--node-ip-address" not in command
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert config["head_start_ray_commands"][0] == "ray stop"


@pytest.mark.parametrize("name", [*FILES, KUBERAY, "cluster/Dockerfile", "cluster/node/env.sh"])
def test_no_secret_stands_in_a_file(name: str) -> None:
    assert not SECRET.search((ROOT / name).read_text())


def test_every_node_demands_the_token() -> None:
    assert "export RAY_AUTH_MODE=token\n" in (ROOT / "cluster/node/env.sh").read_text()
    assert read(KUBERAY)["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("name", CLOUDS)
@pytest.mark.parametrize("scarce, chosen", [({}, "gpu_spot"), ({"gpu_spot": 0.0}, "gpu_on_demand")])
def test_spot_comes_first_and_falls_back(name: str, scarce: dict, chosen: str) -> None:
    """Asks Ray's scheduler which machine it would start for one more trial on a GPU."""
    config = read(name)
    for kind in config["available_node_types"].values():
        kind.pop("min_workers", None)
    autoscaling = AutoscalingConfig(config, skip_content_hash=True)
    request = ResourceRequestUtil.make({"GPU": 1, "CPU": 1})
    reply = ResourceDemandScheduler(event_logger=None).schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=autoscaling.get_node_type_configs(),
            max_num_nodes=autoscaling.get_max_num_nodes(),
            resource_requests=[ResourceRequestByCount(request=request, count=1)],
            recoverable_resource_availabilities=scarce,
        )
    )
    assert [launch.instance_type for launch in reply.to_launch if launch.count] == [chosen]


# Of KubeRay's and Kubernetes' fields, those that the file uses; an unknown one is a mistake.
def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "additionalProperties": False, "properties": properties,
        "required": required.split(),
    }  # fmt: skip


TEXT, COUNT, FLAG = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = _object(
    "name image resources volumeMounts",
    name=TEXT,
    image=TEXT,
    resources=_object("requests limits", requests=TEXTS, limits=TEXTS),
    volumeMounts={"type": "array", "items": _object("name mountPath", name=TEXT, mountPath=TEXT)},
)
VOLUME = _object(
    "name",
    name=TEXT,
    persistentVolumeClaim=_object("claimName", claimName=TEXT),
    emptyDir=_object("", medium={"enum": ["Memory"]}, sizeLimit=TEXT),
)
POD = _object(
    "spec",
    spec=_object(
        "restartPolicy containers volumes",
        restartPolicy={"const": "Never"},
        automountServiceAccountToken=FLAG,
        securityContext=_object("fsGroup", fsGroup=COUNT),
        containers={"type": "array", "minItems": 1, "items": CONTAINER},
        volumes={"type": "array", "items": VOLUME},
    ),
)
WORKERS = _object(
    "groupName replicas minReplicas maxReplicas rayStartParams template",
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=POD,
)
RAY_JOB = _object(
    "apiVersion kind metadata spec",
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=_object("name", name=TEXT),
    spec=_object(
        "entrypoint rayClusterSpec",
        entrypoint=TEXT,
        shutdownAfterJobFinishes=FLAG,
        ttlSecondsAfterFinished=COUNT,
        backoffLimit=COUNT,
        rayClusterSpec=_object(
            "rayVersion headGroupSpec workerGroupSpecs authOptions",
            rayVersion=TEXT,
            authOptions=_object("mode", mode={"enum": ["token"]}),
            enableInTreeAutoscaling=FLAG,
            autoscalerOptions=_object("", version=TEXT, idleTimeoutSeconds=COUNT),
            headGroupSpec=_object("rayStartParams template", rayStartParams=TEXTS, template=POD),
            workerGroupSpecs={"type": "array", "minItems": 1, "items": WORKERS},
        ),
    ),
)


def pods() -> list[dict[str, Any]]:
    cluster = read(KUBERAY)["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_the_rayjob_has_the_fields_that_kuberay_knows() -> None:
    jsonschema.validate(read(KUBERAY), RAY_JOB)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**read(KUBERAY), "metdata": {}}, RAY_JOB)


def test_the_pods_agree_with_each_other_and_with_the_image() -> None:
    dockerfile = (ROOT / "cluster/Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    image = f"reconbench:{project['version']}"
    assert f"-t {image} ." in dockerfile
    user = re.search(r"--uid (\d+) ray", dockerfile)
    assert user
    for pod in pods():
        (container,) = pod["containers"]
        assert container["image"] == image
        assert container["resources"]["requests"] == container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
        assert pod["securityContext"]["fsGroup"] == int(user[1])
    assert read(KUBERAY)["spec"]["rayClusterSpec"]["rayVersion"] == version("ray")
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"ray=={version('ray')}\n" in constraints


def test_what_the_image_copies_exists_and_its_python_is_the_tested_one() -> None:
    dockerfile = (ROOT / "cluster/Dockerfile").read_text()
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (.+)$", dockerfile, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore
    python = re.search(r"^FROM python:(\d+\.\d+)-", dockerfile, re.M)
    assert python
    assert f"Python {python[1]}" in (ROOT / "constraints.txt").read_text()
    assert f"python{python[1]}" in (ROOT / "cluster/node/setup.sh").read_text()


def test_the_entrypoint_is_a_command_that_we_have(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = read(KUBERAY)["spec"]
    python, script, *words = shlex.split(spec["entrypoint"])
    assert python == "python"
    workdir = re.search(r"^WORKDIR (\S+)", (ROOT / "cluster/Dockerfile").read_text(), re.M)
    assert workdir
    assert (ROOT / Path(script).relative_to(workdir[1])).exists()
    options = dict(zip(words[::2], words[1::2], strict=True))
    (workers,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert int(options["--nodes"]) == 1 + workers["minReplicas"]
    (shared,) = (m for m in pods()[0]["containers"][0]["volumeMounts"] if m["name"] == "shared")
    assert Path(options["--out"]).is_relative_to(shared["mountPath"])
    monkeypatch.setattr("sys.argv", ["run.py", *words, "--help"])
    with pytest.raises(SystemExit) as end:
        run_script()
    assert end.value.code == 0
