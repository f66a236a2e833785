"""The figures of a search: validation curves, course, parameters.

Imports neither PyTorch, Ray nor Streamlit.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench.charts import FAINT, FRONT, GRID, escape
from bench.score_columns import ScoreColumn

MOST = 60  # curves of trials in a figure
STATES = {"complete": "circle", "pruned": "x", "failed": "cross"}


def curves(validations: pd.DataFrame, trials: pd.DataFrame, metric: ScoreColumn) -> go.Figure:
    """Draw the objective on validation images against the steps of each trial.

    Args:
        validations: of one cell: `trial, step, value`.
        trials: of the cell; the best `MOST` are drawn.
        metric: the objective.
    """
    order = trials.sort_values(metric.name, ascending=metric.sign < 0)
    best = _best(trials, metric)
    figure = go.Figure()
    for trial, state in zip(order.trial[:MOST][::-1], order.state[:MOST][::-1], strict=True):
        own = validations[validations.trial == trial].sort_values("step")
        if own.empty:
            continue
        colour = FRONT if trial == best else FAINT
        symbols = ["circle"] * (len(own) - 1) + [STATES.get(str(state), "diamond")]
        figure.add_scatter(
            x=own.step.tolist(), y=own.value.tolist(), mode="lines+markers", showlegend=False,
            line={"color": colour, "width": 3 if trial == best else 1.2},
            marker={"symbol": symbols, "size": 9 if trial == best else 6, "color": colour},
            opacity=1.0 if trial == best else 0.6,
            hovertemplate=f"<b>trial {trial}</b>, {escape(state)}<br>step %{{x:,}}: "
            f"%{{y:.{metric.decimals}f}} {escape(metric.unit)}<extra></extra>",
        )  # fmt: skip
    return _validated(figure, "Optimiser step", metric)


def refits(curves: pd.DataFrame, metric: ScoreColumn) -> go.Figure:
    """Draw the validations of a cell's refits, a line for each seed.

    Args:
        curves: of one cell: `seed, step` and the metric.
        metric: to draw.
    """
    figure = go.Figure()
    for number, (seed, own) in enumerate(curves.sort_values("step").groupby("seed")):
        figure.add_scatter(
            x=own.step.tolist(), y=own[metric.name].tolist(), mode="lines+markers",
            name=f"seed {seed}", marker={"size": 6, "color": FRONT},
            line={"color": FRONT, "width": 2, "dash": ("solid", "dot", "dashdot")[number % 3]},
            hovertemplate=f"<b>seed {seed}</b><br>step %{{x:,}}: "
            f"%{{y:.{metric.decimals}f}} {escape(metric.unit)}<extra></extra>",
        )  # fmt: skip
    return _validated(figure, "Optimiser step", metric)


def course(trials: pd.DataFrame, metric: ScoreColumn) -> go.Figure:
    """Draw each trial's result in the order of the trials, and the best complete one so far.

    Args:
        trials: of one cell: `trial, state` and the metric.
        metric: the objective.
    """
    figure = go.Figure()
    ordered = trials.sort_values("trial")
    complete = ordered[ordered.state == "complete"].dropna(subset=[metric.name])
    values = complete[metric.name]
    reached = values.cummax() if metric.sign > 0 else values.cummin()
    figure.add_scatter(
        x=complete.trial.tolist(), y=reached.tolist(), mode="lines", name="best so far",
        line={"color": FRONT, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    for state, own in ordered.groupby("state", sort=False):
        figure.add_scatter(
            x=own.trial.tolist(), y=own[metric.name].tolist(), mode="markers", name=escape(state),
            marker={"symbol": STATES.get(str(state), "diamond"), "size": 8,
                    "color": FRONT if state == "complete" else FAINT},
            hovertemplate=f"<b>trial %{{x}}</b>, {escape(state)}<br>"
            f"%{{y:.{metric.decimals}f}} {escape(metric.unit)}<extra></extra>",
        )  # fmt: skip
    dtick = 1 if len(trials) <= 20 else None  # no trial has half a number
    return _validated(figure, "Trial", metric).update_xaxes(dtick=dtick)


def importances(values: Mapping[str, float]) -> go.Figure:
    """Draw the importance of parameters, the greatest on top."""
    names = [escape(name) for name in values]
    figure = go.Figure(
        go.Bar(
            x=[100 * value for value in values.values()],
            y=names,
            orientation="h",
            marker={"color": FRONT},
            hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
        )
    )
    figure.update_xaxes(title="Explained variation (%)", gridcolor=GRID, zeroline=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)
    return _sized(figure, 110 + 30 * len(names))


def parallel(
    trials: pd.DataFrame, space: Mapping[str, Mapping[str, Any]], metric: ScoreColumn
) -> go.Figure | None:
    """Draw each complete trial as a line through its parameters and its result.

    Args:
        trials: of one cell: `state, config` (JSON) and the metric.
        space: its search space: for each parameter `low`, `high` and `log`, or `choices`.
        metric: the objective.

    Returns:
        None with fewer than two complete trials, or without parameters.
    """
    complete = trials[trials.state == "complete"].dropna(subset=[metric.name])
    configs = [json.loads(str(config)) for config in complete.config]
    names = [name for name in space if all(name in config for config in configs)]
    if len(complete) < 2 or not names:
        return None
    axes = [_axis(name, space[name], [config[name] for config in configs]) for name in names]
    values = complete[metric.name].tolist()
    axes.append({"label": escape(metric.label), "values": values})
    better = [[0.0, "#d5dbdf"], [1.0, FRONT]]
    colours = better if metric.sign > 0 else [[0.0, FRONT], [1.0, "#d5dbdf"]]
    line = {"color": values, "colorscale": colours, "showscale": False}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line))
    return _sized(figure).update_layout(margin={"t": 60, "b": 30, "l": 60, "r": 60})


def _axis(name: str, entry: Mapping[str, Any], values: list[Any]) -> dict[str, Any]:
    """Make an axis: categories in order, or a range, in powers of ten where it is logarithmic."""
    label = escape(name)
    if "choices" in entry:
        texts = list(dict.fromkeys(str(one) for one in [*entry["choices"], *values]))
        positions = [texts.index(str(value)) for value in values]
        shown = [escape(text) for text in texts]
        return {"label": label, "values": positions, "tickvals": [*range(len(texts))],
                "ticktext": shown, "range": [-0.3, len(texts) - 0.7]}  # fmt: skip
    low, high = min(entry["low"], *values), max(entry["high"], *values)
    if not entry.get("log"):
        return {"label": label, "values": values, "range": [low, high]}
    ticks = np.geomspace(low, high, 5)
    return {
        "label": label,
        "values": np.log10(values).tolist(),
        "range": np.log10([low, high]).tolist(),
        "tickvals": np.log10(ticks).tolist(),
        "ticktext": [f"{tick:.2g}" for tick in ticks],
    }


def _best(trials: pd.DataFrame, metric: ScoreColumn) -> int | None:
    complete = trials[trials.state == "complete"].dropna(subset=[metric.name])
    if complete.empty:
        return None
    index = int(np.argmax(metric.sign * complete[metric.name].to_numpy(dtype=float)))
    return int(complete["trial"].iloc[index])


def _validated(figure: go.Figure, across: str, metric: ScoreColumn) -> go.Figure:
    """Label the axes of a figure of a metric on validation images."""
    figure.update_xaxes(title=across, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title=escape(f"Validation {metric.title}"), gridcolor=GRID, zeroline=False)
    return _sized(figure)


def _sized(figure: go.Figure, height: int = 380) -> go.Figure:
    return figure.update_layout(
        height=height, margin={"t": 16, "r": 16, "b": 48, "l": 16}, hoverlabel={"align": "left"},
        legend={"orientation": "h", "y": -0.2, "x": 0},
    )  # fmt: skip
