"""What the dashboard of a large run costs: its first page, its other pages, and choices."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import report
from bench.speed.report import IMAGES, METHODS, SIZES, TASKS, fill
from bench.store import Store

ROOT = Path(__file__).resolve().parents[2]


def page() -> str:
    """Measure, and return the page as Markdown."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "results" / "large")
        rows = fill(store)
        without = _measured(folder)
        report.write(store)
        reported = _measured(folder)
        parts = Path(folder, "results/large/report/summary").iterdir()
        size = sum(part.stat().st_size for part in parts)
    lines = [f"| {what} | {cost} |" for what, cost in reported.items()]
    first = next(iter(without))
    return (
        "# What the dashboard of a large run costs\n\n"
        "Measured by `make speed PART=dashboard`: the dashboard of a finished run with a report, "
        f"in Streamlit's test runner, without a browser, for {rows:,} rows of "
        f"{TASKS * METHODS * len(SIZES):,} cells in {TASKS} tasks, {IMAGES} test images each.\n\n"
        "| what | measured |\n|---|---|\n"
        + "\n".join(lines)
        + f"\n| {first}, without a report | {without[first]} |\n"
        f"| the report's summary of the tables | {size / 1e6:.1f} MB |\n"
    )


def _measured(folder: str) -> dict[str, str]:
    """Measure in a process of its own, whose memory is that of the dashboard alone."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.speed._dashboard_walk"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
