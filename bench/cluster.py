"""Joins a running Ray cluster, or starts one.

Separate from `bench.sweep`, so that Ray can start while PyTorch is still being imported.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path

import ray
from rich.console import Console

from bench import private
from bench.errors import UserError

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune's own tables, which it prints whatever its verbosity.
    "RAY_AIR_NEW_OUTPUT": "0",
    # The run folder holds every result: Tune's own per-trial files would only cost time.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # A job that fails at once has no PSNR to report, and must not end the sweep.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Tune would save its own experiment state for a resume; ours uses the journal instead.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
CPUS_PER_START = 8
PENDING_TRIALS = "TUNE_MAX_PENDING_TRIALS_PG"
JOIN_SECONDS = 45.0
LONGEST = 300  # of a reason, in characters
ADDRESS_HINT = (
    "is RAY_ADDRESS right? To start a cluster here, unset it, or clean up a dead one by `ray stop`"
)
REMEDIES = {
    "AF_UNIX path": "set RAY_TMPDIR to a folder with a short path",
    "Not a directory": "set RAY_TMPDIR to a folder that exists",
    "No such file": "set RAY_TMPDIR to a folder that exists",
    "Permission denied": "set RAY_TMPDIR to a folder that you can write to",
    "Version mismatch": "install the cluster's versions of Ray and Python, or unset RAY_ADDRESS",
    "timed out": "this machine is slow or busy; the same command tries again",
    "Invalid address": "write RAY_ADDRESS as HOST:PORT",
}
WARM_SECONDS = 5.0  # within which the first workers of a cluster start


def connect() -> None:
    """Join the running cluster if there is one, else start a local one.

    Raises:
        UserError: no cluster answers.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # SweepProgress prints every failure
    if ray.is_initialized():
        return
    threading.Thread(target=import_module, args=("torch",), daemon=True).start()
    try:
        address = private.cluster_address()
        if address is None:
            _start()
        else:
            _join(address)
    except UserError:
        raise
    except Exception as error:  # Ray raises many kinds, bare ones too
        reason = " ".join(str(error).split())[:LONGEST]
        raise UserError(f"Ray: {reason} ({_remedy(reason)})") from None
    # Slurm, systemd and Docker end a job by SIGTERM, on which Ray would print a stack trace.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _start() -> None:
    """Start a cluster on this machine; try again once if that times out."""
    private.listen_on_loopback()
    _let_workers_find_us()
    os.environ["RAY_preload_python_modules"] = "bench.warm"  # noqa: SIM112
    for last in (False, True):
        os.environ["RECONBENCH_WARM_UNTIL"] = str(time.time() + WARM_SECONDS)
        try:
            _init()
            return
        except Exception as error:
            if last or "timed out" not in str(error):
                raise
            ray.shutdown()


def _let_workers_find_us() -> None:
    """Put our packages first on the workers' path if another `bench` on it would hide ours."""
    ours = Path(__file__).parent
    found = PathFinder.find_spec("bench")
    if found is None or found.origin == str(ours / "__init__.py"):
        return
    rest = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ours.parent), rest]))


def _join(address: str) -> None:
    """Join the cluster at an address.

    Raises:
        UserError: nothing listens there, or it does not answer as a cluster.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), JOIN_SECONDS).close()
    except OSError as error:
        raise UserError(f"Ray: nothing answers at {address} ({error}); {ADDRESS_HINT}") from None
    # Ray itself would wait for minutes, and could not be interrupted.
    timeout = threading.Timer(JOIN_SECONDS, _give_up, [address])
    timeout.daemon = True
    timeout.start()
    try:
        _init()
    finally:
        timeout.cancel()


def _give_up(address: str) -> None:
    print(f"error: Ray: no cluster answers at {address}; {ADDRESS_HINT}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)


def _init() -> None:
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def _remedy(reason: str) -> str:
    """Return a hint on how to fix a failure of Ray."""
    for words, remedy in REMEDIES.items():
        if words in reason:
            return remedy
    return f"{ADDRESS_HINT}; does the cluster need a token (RAY_AUTH_MODE=token)?"


def ready(nodes: int, wait: float, console: Console) -> None:
    """Wait for nodes of the cluster that are still being set up; then print its resources.

    Args:
        nodes: number of nodes to wait for.
        wait: seconds to wait at most.
        console: for messages.

    Raises:
        UserError: fewer nodes have joined by then.
    """
    alive = _wait_for(nodes, wait, console)
    total = ray.cluster_resources()
    address = ray.get_runtime_context().gcs_address
    own = private.is_own_cluster()
    console.print(
        f"Ray: {'started a cluster' if own else f'joined the cluster at {address}'}: "
        f"{alive} node{'s' * (alive > 1)}, {total.get('CPU', 0):g} CPUs, "
        f"{total.get('GPU', 0):g} GPUs",
        highlight=False,
    )


@contextlib.contextmanager
def several_pending_trials() -> Iterator[None]:
    """Let Tune start several actors at the same time, unless the user has set how many.

    By default it starts those of a searcher's trials one at a time, which takes minutes on many
    machines. But a trial suggested before there is a CPU for it is based on fewer results.
    """
    if PENDING_TRIALS in os.environ:
        yield
        return
    cpus = int(ray.cluster_resources().get("CPU", 1))
    nodes = sum(node["Alive"] for node in ray.nodes())
    os.environ[PENDING_TRIALS] = str(max(nodes, cpus // CPUS_PER_START, min(cpus, 2)))
    try:
        yield
    finally:
        del os.environ[PENDING_TRIALS]


def machines() -> list[dict[str, float]]:
    """List the resources of the cluster's nodes, or of this machine where `run` would start one."""
    if not ray.is_initialized() and private.cluster_address() is None:
        return [{"CPU": private.cpus_here(), "GPU": float(_gpus_here())}]
    connect()
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def may_grow() -> bool:
    """Return whether the cluster starts more nodes on demand."""
    if not ray.is_initialized() or private.is_own_cluster():
        return False
    return private.may_grow()


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


def _wait_for(nodes: int, wait: float, console: Console) -> int:
    """Wait until the cluster has that many nodes; return how many it has."""
    ends = time.monotonic() + wait
    shown = 0
    while (alive := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if time.monotonic() > ends:
            raise UserError(
                f"{alive} of {nodes} nodes joined within {wait:g} s; see `ray status` on the head, "
                "then rerun the same command, and wait longer or for fewer nodes"
            )
        if alive != shown:
            console.print(f"Ray: {alive} of {nodes} nodes, waiting for the others", highlight=False)
            shown = alive
        time.sleep(1)
    return alive
