"""How names, numbers and methods look on every page."""

import html
import math
import re
from typing import Any

from bench.score_columns import ScoreColumn
from dashboard.run import Run

# Muted colours first: most benchmark files list reference methods before networks.
PALETTE = (
    "#8b949c",
    "#c0a36e",
    "#2a9d8f",
    "#7a5195",
    "#4c78c8",
    "#e4572e",
    "#c2417c",
    "#5b8c3e",
    "#d99a00",
    "#1d3557",
)
INK, FAINT, FRONT = "#1d2b33", "#8b98a0", "#0f6e84"
CONVENTIONS = {
    "image": "Image: data range 1",
    "volume": "Volume: its maximum (fastMRI)",
    "roi": "ROI: foreground only",
}


def colours(run: Run) -> dict[str, str]:
    """Assign a colour to every method of the run, in the order of the benchmark file."""
    planned = [_label(method) for method in run.spec.get("methods") or []]
    names = dict.fromkeys([*planned, *sorted(run.cells.method.unique())])
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def _label(method: Any) -> str:
    if isinstance(method, dict):
        return str(method.get("label") or method.get("name"))
    return str(method)


def markdown(text: object) -> str:
    """Quote text from a file, so that Markdown shows it literally."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text).replace("\n", " "))


def plotly(text: object) -> str:
    """Quote text from a file, so that Plotly shows it literally."""
    return html.escape(str(text))


def number(value: float, metric: ScoreColumn) -> str:
    """Write a metric's value with its unit."""
    return "n/a" if value is None or math.isnan(value) else metric.text(value)


def interval(low: float, high: float, metric: ScoreColumn) -> str:
    """Write a 95 % interval."""
    if any(value is None or math.isnan(value) for value in (low, high)):
        return ""
    return f"{metric.number(low)} to {metric.number(high)}"
