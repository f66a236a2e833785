"""The figures of all tasks at once: methods by tasks, mean ranks.

Imports neither PyTorch, Ray nor Streamlit.
"""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.charts import FAINT, FRONT, GRID, escape, finish
from bench.mean_ranks import MeanRanks
from bench.score_columns import ScoreColumn

GAINS: list[tuple[float, str]] = [
    (0.0, "#b4552d"), (0.25, "#e3b497"), (0.5, "#f4f6f6"), (0.75, "#8cc0ca"), (1.0, "#0f6e84"),
]  # fmt: skip
RANKS: list[tuple[float, str]] = [(0.0, "#0f6e84"), (0.5, "#a9cfd6"), (1.0, "#f4f6f6")]
NARROW = 14  # tasks up to which each square has its number
FURTHER = ("low", "high", "value", "n", "n_train")
GAP = 2  # pixels between squares


def gains(lines: pd.DataFrame, metric: ScoreColumn) -> go.Figure:
    """Draw each cell's gain over the best classical one of its task.

    Args:
        lines: one line per cell, the best method first: `label, title` (of the task), `gain, low,
            high` (positive where the cell is better; its 95 % interval), `value`, `n` (number of
            test images) and `n_train`.
        metric: of which the gains are.
    """
    ends = np.nanquantile(lines["gain"].abs(), 0.95) if lines["gain"].notna().any() else 1.0
    limit = float(ends) or 1.0
    form = f"+.{metric.decimals}f"
    hover = (
        "<b>%{y}</b>, %{x}, %{customdata[4]} training images<br>"
        f"gain %{{z:{form}}} {escape(metric.unit)} "
        f"[%{{customdata[0]:{form}}}, %{{customdata[1]:{form}}}]<br>"
        f"{escape(metric.label)} %{{customdata[2]:.{metric.decimals}f}} {escape(metric.unit)}, "
        "%{customdata[3]} test images<extra></extra>"
    )
    title = escape(f"gain ({metric.unit})" if metric.unit else "gain")
    scale = {"colorscale": GAINS, "zmin": -limit, "zmax": limit}
    return _squares(lines, "gain", form, hover, title, scale)


def ranks(lines: pd.DataFrame, metric: ScoreColumn) -> go.Figure:
    """Draw each cell's rank in its task; see `gains`, and `rank` among these lines."""
    form = f".{metric.decimals}f"
    hover = (
        "<b>%{y}</b>, %{x}, %{customdata[4]} training images<br>rank %{z} of these<br>"
        f"{escape(metric.label)} %{{customdata[2]:{form}}} {escape(metric.unit)}, "
        "%{customdata[3]} test images<extra></extra>"
    )
    scale = {"colorscale": RANKS, "zmin": 1, "zmax": max(2.0, float(lines["rank"].max()))}
    return _squares(lines, "rank", ".0f", hover, "rank", scale)


def critical_difference(found: MeanRanks) -> go.Figure:
    """Draw mean ranks, the best on top; bars join those that do not differ."""
    names = [escape(name) for name in found.ranks.index]
    figure = go.Figure(
        go.Scatter(
            x=found.ranks,
            y=list(range(len(names))),
            mode="markers+text",
            text=names,
            textposition="middle right",
            marker={"size": 9, "color": FRONT},
            showlegend=False,
            hovertemplate=f"%{{text}}: mean rank %{{x:.2f}} over {found.tasks} tasks"
            "<extra></extra>",
        )
    )
    last = float(found.ranks.max())
    for k, (first, end) in enumerate(found.groups):
        x = 0.8 - 0.12 * k
        figure.add_scatter(
            x=[x, x], y=[first, end], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": FAINT, "width": 5},
        )  # fmt: skip
    figure.add_scatter(
        x=[1, 1 + found.critical], y=[-1, -1], mode="lines+text", hoverinfo="skip",
        showlegend=False, line={"color": FAINT, "width": 3},
        text=["", f"critical difference {found.critical:.2f}"], textposition="middle right",
    )  # fmt: skip
    room = 0.35 * max(last, 1 + found.critical)
    figure.update_xaxes(
        title="mean rank over tasks (1 is best)", gridcolor=GRID, zeroline=False,
        range=[0.7 - 0.12 * len(found.groups), max(last, 1 + found.critical) + room],
    )  # fmt: skip
    figure.update_yaxes(visible=False, autorange="reversed")
    return finish(figure, height=110 + 26 * (len(names) + 1))


def _squares(
    lines: pd.DataFrame, column: str, form: str, hover: str, title: str, scale: dict[str, object]
) -> go.Figure:
    labels, titles = (list(dict.fromkeys(lines[name])) for name in ("label", "title"))
    wide = {
        name: lines.pivot(index="label", columns="title", values=name).loc[labels, titles]
        for name in (column, *FURTHER)
    }
    further = np.stack([wide[name].to_numpy(float) for name in FURTHER], -1)
    figure = go.Figure(
        go.Heatmap(
            z=wide[column].to_numpy(float),
            x=list(map(escape, titles)),
            y=list(map(escape, labels)),
            customdata=further,
            hovertemplate=hover,
            xgap=GAP,
            ygap=GAP,
            texttemplate=f"%{{z:{form}}}" if len(titles) <= NARROW else None,
            showscale=len(titles) > NARROW,
            colorbar={"title": {"text": title}, "thickness": 12, "outlinewidth": 0},
            **scale,
        )
    )
    figure.update_xaxes(type="category", side="top", showgrid=False, tickangle=-30, automargin=True)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True)
    height = 130 + 30 * len(labels)
    return figure.update_layout(height=height, margin={"t": 24, "r": 16, "b": 16, "l": 16})
