"""Joins the Ray cluster that there is, or starts one.

It is separate from `bench.sweep` because Ray starts while PyTorch is still being imported.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
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
    # Tune saves its experiment state for a resume of its own kind; ours is the journal.
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
CPUS_PER_START = 8
JOIN_SECONDS = 45.0
LONGEST = 300  # of a reason, in characters
ADDRESS_HINT = (
    "is RAY_ADDRESS right? Unset it, or end a cluster that is gone by `ray stop`, to start one here"
)
REMEDIES = {
    "AF_UNIX path": "set RAY_TMPDIR to a folder with a short path",
    "Not a directory": "set RAY_TMPDIR to a folder that is there",
    "No such file": "set RAY_TMPDIR to a folder that is there",
    "Permission denied": "set RAY_TMPDIR to a folder of your own",
    "Version mismatch": "install the cluster's versions of Ray and Python, or unset RAY_ADDRESS",
    "timed out": "this machine is slow or busy; the same command tries again",
    "Invalid address": "write RAY_ADDRESS as HOST:PORT",
}
WARM_SECONDS = 5.0  # in which the workers start that a cluster begins with


def connect() -> None:
    """Join the running cluster where there is one, else start a local one.

    Raises:
        UserError: no cluster answers.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if ray.is_initialized():
        return
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the progress names every failure
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
    # So Slurm, systemd and Docker end a job; Ray would print a stack of its own code.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def _start() -> None:
    """Start a cluster on this machine; a slow one gets a second try."""
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
    # Ray itself would wait for minutes, and cannot be interrupted there.
    silence = threading.Timer(JOIN_SECONDS, _give_up, [address])
    silence.daemon = True
    silence.start()
    try:
        _init()
    finally:
        silence.cancel()


def _give_up(address: str) -> None:
    print(f"error: Ray: no cluster answers at {address}; {ADDRESS_HINT}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(2)


def _init() -> None:
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


def _remedy(reason: str) -> str:
    """Return what to do about a failure of Ray."""
    for words, remedy in REMEDIES.items():
        if words in reason:
            return remedy
    return f"{ADDRESS_HINT}; does a cluster with tokens find its own (RAY_AUTH_MODE=token)?"


def ready(nodes: int, wait: float, console: Console) -> None:
    """Wait for a cluster's nodes, those that are still being set up; then say what it has.

    Args:
        nodes: to wait for.
        wait: seconds.
        console: for what there is to say.

    Raises:
        UserError: the time is over.
    """
    came = _wait_for(nodes, wait, console)
    total = ray.cluster_resources()
    # Of a searcher's trials Tune starts one actor after another, which on many machines takes
    # minutes; what is begun ahead of the CPUs, on the other hand, is chosen knowing less.
    cpus = int(total.get("CPU", 1))
    ahead = max(came, cpus // CPUS_PER_START, min(cpus, 2))
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", str(ahead))
    address = ray.get_runtime_context().gcs_address
    own = private.is_own_cluster()
    console.print(
        f"Ray: {'a cluster of its own' if own else f'joined the cluster at {address}'}: "
        f"{came} node{'s' * (came > 1)}, {total.get('CPU', 0):g} CPUs, "
        f"{total.get('GPU', 0):g} GPUs",
        highlight=False,
    )


def machines() -> list[dict[str, float]]:
    """List the resources of the cluster's nodes, or of this machine where `run` would start one."""
    if not ray.is_initialized() and private.cluster_address() is None:
        return [{"CPU": private.cpus_here(), "GPU": float(_gpus_here())}]
    connect()
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def may_grow() -> bool:
    """Return whether the cluster starts further nodes when they are asked for."""
    if not ray.is_initialized() or private.is_own_cluster():
        return False
    return private.may_grow()


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


def _wait_for(nodes: int, wait: float, console: Console) -> int:
    """Wait until a cluster has that many nodes, and return the number of those it has."""
    ends = time.monotonic() + wait
    said = 0
    while (came := sum(node["Alive"] for node in ray.nodes())) < nodes:
        if time.monotonic() > ends:
            raise UserError(
                f"{came} of {nodes} nodes came within {wait:g} s; see `ray status` on the head, "
                "then run the same command again, and wait longer or for fewer nodes"
            )
        if came != said:
            console.print(f"Ray: {came} of {nodes} nodes, waiting for the others", highlight=False)
            said = came
        time.sleep(1)
    return came
