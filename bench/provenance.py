"""What the results of a run depend on besides its benchmark file: versions, hardware, code."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import __version__

RECORDED = ("ray", "torch", "optuna", "numpy", "scikit-image", "nilearn", "scipy")


def environment() -> dict[str, Any]:
    """Record versions, hardware and the git revision of the code."""
    import torch  # not needed for anything else here

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "versions": {
            "reconbench": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in RECORDED},
        },
        "hardware": {
            "machine": platform.machine(),
            "system": platform.system(),
            "cpus": os.cpu_count(),
            "gpus": gpus,
        },
        "git": revision(),
    }


def changes(before: Sequence[Mapping[str, Any]], now: Mapping[str, Any]) -> list[str]:
    """List the versions in which a start of a run differs from the last one before it.

    Args:
        before: earlier starts, each with its `environment`.
        now: the environment of this start.
    """
    if not before:
        return []
    then, here = ({"code": one["git"], **one["versions"]} for one in (before[-1], now))
    return [
        f"{name} {then.get(name)} -> {here[name]}" for name in here if then.get(name) != here[name]
    ]


def revision() -> str | None:
    """Return the git revision of the checkout that this code runs from; None outside one."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return answer.stdout.strip()


def now() -> str:
    """Return the time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
