"""How names, numbers and methods look on every page."""

import math
import re
from typing import Any

import streamlit as st

from bench.palette import on_dark, palette
from bench.score_columns import ScoreColumn
from dashboard.run import Run

CONVENTIONS = {
    "image": "Image: data range 1",
    "volume": "Volume: its maximum (fastMRI)",
    "roi": "ROI: foreground only",
}
WIDE = "wide"  # the key of a container that a narrow window scrolls
# Text on the dark page's accent is dark as well: white would have a contrast of 2.9.
STYLE = """<style>
.st-key-wide {overflow-x: auto}
.st-key-wide > * {min-width: 56rem}
[data-tag] * {color: light-dark(#ffffff, #0a1115)}
</style>"""


def apply() -> None:
    """Set what Streamlit's themes cannot."""
    st.html(STYLE)


def _dark() -> bool:
    return st.context.theme.type == "dark"


def ink() -> str:
    """Return the colour of text on the page, which follows the system or the user's choice."""
    return "#e8edef" if _dark() else "#1d2b33"


def colours(run: Run) -> dict[str, str]:
    """Assign a colour to every method of the run, in the order of the benchmark file."""
    planned = [_label(method) for method in run.spec.get("methods") or []]
    found = palette([*planned, *sorted(run.cells.method.unique())])
    return {name: on_dark(colour) for name, colour in found.items()} if _dark() else found


def _label(method: Any) -> str:
    if isinstance(method, dict):
        return str(method.get("label") or method.get("name"))
    return str(method)


def level_axis(run: Run, degradation: str) -> str:
    """Title an axis of levels with their unit and direction, if the run has recorded them."""
    known = run.manifest.get("levels")
    described = known.get(degradation) if isinstance(known, dict) else None
    if not isinstance(described, dict) or not {"unit", "harder"} <= set(described):
        return "Level"
    unit = str(described["unit"])
    return f"{unit[:1].upper()}{unit[1:]}; {described['harder']} is harder"


def markdown(text: object) -> str:
    """Quote text from a file, so that Markdown shows it literally."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", str(text).replace("\n", " "))


def number(value: float, metric: ScoreColumn) -> str:
    """Write a metric's value with its unit."""
    return "n/a" if value is None or math.isnan(value) else metric.text(value)


def interval(low: float, high: float, metric: ScoreColumn) -> str:
    """Write a 95 % interval."""
    if any(value is None or math.isnan(value) for value in (low, high)):
        return ""
    return f"{metric.number(low)} to {metric.number(high)}"
