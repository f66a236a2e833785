"""Every private or developer API of Ray that is used, each with a fallback.

Such a name may be missing in another release. Its caller then falls back to what is public: a sweep
becomes slower or reports less, and `notices` says so once.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

# Where each name is, and what happens without it.
NAMES = {
    "ray._private.services:canonicalize_bootstrap_address": "a running cluster is found by "
    "RAY_ADDRESS alone",
    "ray._private.utils:get_num_cpus": "a container's limit of CPUs is not seen before Ray starts",
    "ray._private.ray_constants:ENABLE_RAY_CLUSTERS_ENV_VAR": "Ray listens on every address of "
    "this machine, behind its token",
    "ray._private.worker:_global_node": "a cluster that was started here is reported as joined",
    "ray.experimental.internal_kv:_internal_kv_get": "any cluster is assumed to add nodes",
    "ray.tune.execution.class_cache:DEFAULT_ENV_VARS": "each sweep starts new workers",
    "ray.tune.registry:_global_registry": "the driver spends more time on each trial",
    "ray.train.v2._internal.exceptions:UserExceptionWithTraceback": "a method that fails on one of "
    "several workers is tried again",
}
KEPT = "ray.tune.experiment:Trial"  # attributes of its instances
UNDROPPED = "the driver's memory grows with the number of trials"
_missing: dict[str, str] = {}
_reported: set[str] = set()


def notices() -> list[str]:
    """List what this version of Ray lacks, of the names used so far; each is listed once."""
    new = {name: without for name, without in _missing.items() if name not in _reported}
    _reported.update(new)
    return [
        f"Ray {ray.__version__} lacks {name.rpartition(':')[2]}: {without}"
        for name, without in new.items()
    ]


def _find(name: str) -> Any:
    """Return the object that a name of `NAMES` refers to, or None."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError):
        _missing[name] = NAMES[name]
        return None


# --- the cluster -------------------------------------------------------------------------------


def cluster_address() -> str | None:
    """Return the address of the running cluster that `ray.init` would join; None without one.

    Raises:
        ValueError: RAY_ADDRESS is not a valid address.
    """
    find = _find("ray._private.services:canonicalize_bootstrap_address")
    if find is not None:
        return find(None)
    given = os.environ.get("RAY_ADDRESS", "")
    return given if given not in ("", "auto", "local") else None


def cpus_here() -> float:
    """Return the number of CPUs that Ray would find on this machine."""
    count = _find("ray._private.utils:get_num_cpus")
    return float(os.cpu_count() or 1) if count is None else float(count())


def listen_on_loopback() -> None:
    """Make a cluster that is started here listen on the loopback interface only.

    Ray does so by itself on macOS and Windows, but listens on every address on Linux. Its processes
    read the environment variable; this one has already read it, so the constant is set too.
    """
    variable = _find("ray._private.ray_constants:ENABLE_RAY_CLUSTERS_ENV_VAR")
    if variable is not None:
        os.environ[variable] = "0"
        vars(import_module("ray._private.ray_constants"))["ENABLE_RAY_CLUSTER"] = False


def is_own_cluster() -> bool:
    """Return whether the cluster was started by this process."""
    node = _find("ray._private.worker:_global_node")
    return node is not None and bool(node.is_head())


def may_grow() -> bool:
    """Return whether the cluster's autoscaler has several types of nodes; True if unknown."""
    read = _find("ray.experimental.internal_kv:_internal_kv_get")
    if read is None:
        return True
    status = json.loads(read("__autoscaling_status") or "{}")
    kinds = status.get("autoscaler_report", {}).get("node_type_mapping") or {}
    # Without an autoscaler each node has its own type; without any report the cluster may grow.
    return not kinds or any(kind != f"node_{node}" for node, kind in kinds.items())


# --- the sweep ---------------------------------------------------------------------------------


def keep_warm_workers() -> None:
    """Let Tune use the first workers of a cluster, whose imports are done (`bench.warm`).

    Otherwise it starts new ones, to set an environment variable for PyTorch Lightning.
    """
    variables = _find("ray.tune.execution.class_cache:DEFAULT_ENV_VARS")
    if variables is not None:
        variables.clear()


@contextlib.contextmanager
def registered(name: str, trainable: Any) -> Iterator[str]:
    """Register a trainable under a name, and cache it in the driver for the length of a sweep.

    Otherwise Tune fetches it from the head node and unpickles it several times for each trial: a
    quarter of the driver's time for a trial.

    Yields:
        the name.
    """
    tune.register_trainable(name, trainable)
    known = _find("ray.tune.registry:_global_registry")
    if known is None:
        yield name
        return
    key = (tune.registry.TRAINABLE_CLASS, name)
    mine, get, contains = known.get(*key), known.get, known.contains
    vars(known).update(
        get=lambda *asked: mine if asked == key else get(*asked),
        contains=lambda *asked: asked == key or contains(*asked),
    )
    try:
        yield name
    finally:
        del known.get, known.contains


def drop_history(trial: Trial) -> None:
    """Drop what Tune keeps of a trial that has ended: its last result, its statistics, and its part
    of the experiment state, which Tune builds in memory at the end.
    """
    data = trial.run_metadata
    try:
        data.last_result = {"trial_id": trial.trial_id}
        trial._default_result_or_future  # noqa: B018 - does the name still exist?
        trial._default_result_or_future = None  # or it would be fetched in place of the last one
        data.metric_analysis.clear()
        data.metric_n_steps.clear()
        trial.get_json_state  # noqa: B018
        vars(trial)["get_json_state"] = _no_state
    except AttributeError as error:
        _missing[f"{KEPT}.{error.name}"] = UNDROPPED


def _no_state() -> tuple[str, str]:
    return "{}", "{}"


def ends_worker(error: BaseException) -> bool:
    """Return whether an exception is how Ray itself ends a worker."""
    return hasattr(error, "ray_terminate_msg")


def raised_by_code(cause: BaseException) -> bool:
    """Return whether a worker of Ray Train failed because the code that it ran raised."""
    kind = _find("ray.train.v2._internal.exceptions:UserExceptionWithTraceback")
    return kind is not None and isinstance(cause, kind)
