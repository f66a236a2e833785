"""What a pointer shows at a point of a figure: value, unit, interval, and how many it is over.

Imports neither PyTorch, Ray nor Streamlit.
"""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.score_columns import ScoreColumn


def of_cells(
    cells: pd.DataFrame, metrics: Mapping[str, ScoreColumn], further: Sequence[str] = ()
) -> list[str]:
    """Describe cells.

    Args:
        cells: one line per cell: `label` or else `method`, and for each metric its mean and 95 %
            interval (`psnr, psnr_low, psnr_high`); `images` and `seeds`, how many the means are
            over, if known.
        metrics: by column.
        further: another line for each cell, such as its level.

    Returns:
        HTML as Plotly reads it, for each cell.
    """
    lines = further or [""] * len(cells)
    records = cells.to_dict("records")
    return [_cell(cell, metrics, line) for cell, line in zip(records, lines, strict=True)]


def score(metric: ScoreColumn, value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Write a metric with its unit, and with its 95 % interval if there is one."""
    return html.escape(f"{metric.label} {metric.text(value)}{metric.interval(low, high)}")


def counted(count: float, what: str) -> str:
    """Write a number of things; empty if it is not known."""
    if not count > 0:
        return ""
    return f"{count:,.0f} {what}" + ("s" if count > 1 else "")


def _cell(cell: Mapping[Any, Any], metrics: Mapping[str, ScoreColumn], further: str) -> str:
    bounds = {
        name: [float(cell.get(f"{name}{end}", math.nan)) for end in ("", "_low", "_high")]
        for name in metrics
    }
    numbers = (
        counted(cell.get("images", math.nan), "test image"),
        counted(cell.get("seeds", math.nan), "seed"),
    )
    lines = [
        f"<b>{html.escape(str(cell['label' if 'label' in cell else 'method']))}</b>",
        html.escape(further),
        *(score(metric, *bounds[name]) for name, metric in metrics.items()),
        ", ".join(filter(None, numbers)),
    ]
    return "<br>".join(filter(None, lines))
