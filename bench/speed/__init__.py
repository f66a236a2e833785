"""Speed measurements, side by side with other programs: `make speed`."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def events_of(benchmark: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Run a benchmark by the command line, into `run` of a folder, and return its events.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    (folder / "spec.yaml").write_text(json.dumps(benchmark))
    subprocess.run(
        [sys.executable, "-m", "bench", "run", "spec.yaml", "--out", "run",
         "--events", "events.jsonl"],
        cwd=folder, check=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
