"""Runs on one board, by the rules of `reconbench compare`, in a process of its own.

The report needs PyTorch, which the dashboard does not import.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
MOST_SECONDS = 300


def board(runs: Sequence[str]) -> dict[str, Any]:
    """Merge runs.

    Args:
        runs: their folders or addresses, at least two.

    Returns:
        the content of report.json: `lines`, `findings` and more.

    Raises:
        UserError: they cannot be compared; says why.
    """
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with tempfile.TemporaryDirectory(prefix="reconbench-") as folder:
        command = [sys.executable, "-m", "bench", "compare", "--out", folder, "--", *runs]
        try:
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": path, "COLUMNS": "2000"},
                capture_output=True, text=True, timeout=MOST_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UserError(
                f"compare: it took more than {MOST_SECONDS} seconds; call `reconbench compare`"
            ) from None
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["reconbench compare failed"])[-1]
            raise UserError(last.removeprefix("error: "))
        return dict(json.loads((Path(folder) / "report.json").read_text(encoding="utf-8")))
