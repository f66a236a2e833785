"""The figures of report and dashboard: functions from tables to Plotly figures.

Imports neither PyTorch, Ray nor Streamlit.
"""

import html
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from bench import hover
from bench.efficiency import Efficiency
from bench.palette import LINES, MARKERS, REFERENCE_LINES, variant
from bench.score_columns import STANDARD, ScoreColumn

# Methods far below all others, which would flatten curves.
FLOOR = ("degraded", "constant", "pseudo_inverse")
FAINT, FRONT = "#8b98a0", "#0f6e84"
CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},  # the camera saves it for a paper
}
# Close to Inferno, whose first colours Streamlit would replace by those of its theme.
HEAT: list[tuple[float, str]] = [
    (0.0, "#08051d"), (0.25, "#56106e"), (0.5, "#bb3754"), (0.75, "#f98c0a"), (1.0, "#fcffa4"),
]  # fmt: skip
LOG_RATIO = 8  # an axis that spans at least this ratio is logarithmic
SYMBOLS = {"learned": "circle", "fitted": "square"}  # of a method; else: diamond
LEGEND = "Circles are trained on images, squares fitted to them in closed form, diamonds need none"
GRID = "rgba(128,140,148,0.22)"  # on a light or a dark page


def escape(text: object) -> str:
    """Quote text from a file, so that Plotly shows it literally."""
    return html.escape(str(text))


def pareto(cells: pd.DataFrame, y: str, x: str, ascending: bool = False) -> pd.DataFrame:
    """Keep the cells that no other beats in one column without losing in the other.

    Args:
        cells: one line per cell.
        y: the column in which more is better.
        x: the other column.
        ascending: whether less is better in `x`.
    """
    ordered = cells.sort_values([x, y], ascending=[ascending, False])
    best_before = ordered[y].cummax().shift(fill_value=float("-inf"))
    return ordered[ordered[y] > best_before].iloc[::-1]


def ranking(
    cells: pd.DataFrame, metric: ScoreColumn, column: str, colours: dict[str, str]
) -> go.Figure:
    """Draw each cell's metric with its 95 % interval, the best on top."""
    cells = cells.sort_values(column, ascending=metric.direction == "higher")
    names = cells.label.map(escape)
    figure = go.Figure(
        go.Scatter(
            x=cells[column],
            y=names,
            mode="markers",
            marker={
                "size": 11,
                "color": cells.method.map(colours),
                "symbol": _symbols(cells, colours),
            },
            error_x={**_bars(cells, column, width=5), "color": FAINT},
            hovertext=hover.of_cells(cells, {column: metric}),
            hoverinfo="text",
        )
    )
    figure.update_yaxes(type="category", gridcolor=GRID, automargin=True)
    figure.update_xaxes(title=escape(metric.title), gridcolor=GRID, zeroline=False)
    return finish(figure, height=90 + 30 * len(cells))


def tradeoff(
    cells: pd.DataFrame, front: pd.DataFrame, psnr: str, ssim: str, colours: dict[str, str]
) -> go.Figure:
    """Draw PSNR against SSIM, with the Pareto front."""
    figure = go.Figure()
    low, high = _padded(cells[ssim]), _padded(cells[psnr])
    if len(front):
        xs, ys = staircase(front[ssim].tolist(), front[psnr].tolist(), low[0], high[0])
        figure.add_scatter(
            x=xs, y=ys, mode="lines", name="Pareto front", hoverinfo="skip", fill="tozeroy",
            fillcolor="rgba(15,110,132,0.06)", line={"color": FRONT, "dash": "dot"},
        )  # fmt: skip
    for method, own in _by_method(cells, colours):
        label = own.label.map(escape)
        figure.add_scatter(
            x=own[ssim],
            y=own[psnr],
            mode="markers",
            name=escape(method),
            customdata=label,
            error_x=_bars(own, ssim),
            error_y=_bars(own, psnr),
            marker=_marker(own, cells, colours),
            hovertext=hover.of_cells(own, {psnr: STANDARD["psnr"], ssim: STANDARD["ssim"]}),
            hoverinfo="text",
        )  # fmt: skip
    # No cell lies above and to the right of the front; staggered labels do not overlap.
    steps = range(len(front) - 1, -1, -1)
    for step, label, x, y in zip(steps, front.label, front[ssim], front[psnr], strict=True):
        figure.add_annotation(
            x=x, y=y, ax=18, ay=-20 - 22 * step, xanchor="left", arrowwidth=1, arrowhead=0,
            arrowcolor=FRONT, standoff=8, font={"size": 14},
            text=f"<b>{escape(label)}</b>",
        )  # fmt: skip
    figure.update_xaxes(title="SSIM", range=low, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title="PSNR (dB)", range=high, gridcolor=GRID, zeroline=False)
    return finish(figure, height=560).update_layout(margin={"t": 40, "r": 150})


def staircase(
    x: list[float], y: list[float], left: float, bottom: float
) -> tuple[list[float], list[float]]:
    """Trace the edge of the region that a front dominates; its points go from left to right."""
    xs, ys = [left], [y[0]]
    for here, above, below in zip(x, y, [*y[1:], bottom], strict=True):
        xs += [here, here]
        ys += [above, below]
    return xs, ys


def against_level(
    cells: pd.DataFrame,
    metric: ScoreColumn,
    column: str,
    colours: dict[str, str],
    title: str = "Level",
) -> go.Figure:
    """Draw a metric against the degradation's level, one line per method.

    Args:
        cells: one line per cell.
        metric: what is drawn.
        column: its column.
        colours: by method.
        title: of the axis of levels.
    """
    figure = go.Figure()
    for _, own in _by_method(cells.sort_values("level"), colours):
        _line(figure, own, "level", metric, column, colours)
    _set_ticks(figure, cells.level, escape(title))
    figure.update_yaxes(title=escape(metric.title), gridcolor=GRID, zeroline=False)
    return finish(figure, height=460)


def against_size(
    cells: pd.DataFrame, metric: ScoreColumn, column: str, colours: dict[str, str]
) -> go.Figure:
    """Draw a metric against the training-set size; a method that uses none is a horizontal line."""
    figure = go.Figure()
    sizes = sorted(cells.n_train[cells.n_train > 0].unique()) or [1, 10]
    for _, own in _by_method(cells.sort_values("n_train"), colours):
        if own.n_train.iloc[0]:
            _line(figure, own, "n_train", metric, column, colours)
        else:
            _reference(figure, sizes, own, metric, column, colours)
    _set_ticks(figure, pd.Series(sizes), "Training images")
    figure.update_yaxes(title=escape(metric.title), gridcolor=GRID, zeroline=False)
    return finish(figure, height=460)


def add_fits(figure: go.Figure, fits: Iterable[Efficiency], colours: dict[str, str]) -> go.Figure:
    """Add to `against_size` each method's fitted course with its 95 % band."""
    for one in fits:
        colour, curve = colours[one.method], one.curve
        figure.add_scatter(
            x=[*curve.n_train, *curve.n_train[::-1]], y=[*curve.low, *curve.high[::-1]],
            fill="toself", fillcolor=colour, opacity=0.12, mode="none", hoverinfo="skip",
            showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=curve.n_train, y=curve.fit, mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": colour, "width": 1, "dash": "dot"},
        )  # fmt: skip
    return figure


def add_bands(
    figure: go.Figure, cells: pd.DataFrame, x: str, column: str, colours: dict[str, str]
) -> go.Figure:
    """Add to lines of methods the bands of their 95 % intervals.

    Args:
        figure: see `against_level`.
        cells: those drawn.
        x: the column across.
        column: the column upwards, whose bounds are `<column>_low` and `<column>_high`.
        colours: by method.
    """
    for method, own in _by_method(cells.sort_values(x), colours):
        if len(own) > 1:
            low, high = own[f"{column}_low"], own[f"{column}_high"]
            figure.add_scatter(
                x=[*own[x], *own[x][::-1]], y=[*low, *high[::-1]], fill="toself", mode="none",
                fillcolor=colours[method], opacity=0.12, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
    return figure


def add_crossings(
    figure: go.Figure, fits: Iterable[Efficiency], colours: dict[str, str]
) -> go.Figure:
    """Mark in `against_size` where each method overtakes the best classical one, with the 95 %
    interval; an end beyond the sizes that were run is drawn at the last of them.
    """
    for one in fits:
        at, low, high = one.overtakes
        if not np.isfinite(at):
            continue
        low, high = max(low, one.sizes[0]), min(high, one.sizes[-1])
        level = float(np.interp(at, one.curve.n_train, one.curve.fit))
        figure.add_scatter(
            x=[at], y=[level], mode="markers", showlegend=False,
            marker={"symbol": "star", "size": 15, "color": colours[one.method],
                    "line": {"color": "white", "width": 1}},
            error_x={"type": "data", "symmetric": False, "array": [high - at],
                     "arrayminus": [at - low], "thickness": 2.5, "width": 7,
                     "color": colours[one.method]},
            hovertemplate=f"<b>{escape(one.method)}</b> overtakes {escape(one.reference)} at "
            f"{at:.0f} images [{low:.0f}, {high:.0f}]<extra></extra>",
        )  # fmt: skip
    return figure


def highlight(figure: go.Figure, n_train: int) -> go.Figure:
    """Mark a training-set size in `against_size`."""
    return figure.add_vline(
        x=n_train, line={"color": FAINT, "width": 14}, opacity=0.18, layer="below"
    )


def cost(
    cells: pd.DataFrame, metric: ScoreColumn, cost: str, title: str, colours: dict[str, str]
) -> go.Figure:
    """Draw a metric against what a cell costs, on a logarithmic axis, with the Pareto front."""
    front = pareto(cells.assign(gain=metric.sign * cells[metric.name]), "gain", cost, True)
    figure = go.Figure()
    figure.add_scatter(
        x=front[cost], y=front[metric.name], mode="lines", name="Pareto front", hoverinfo="skip",
        line={"color": FRONT, "dash": "dot", "shape": "vh"},
    )  # fmt: skip
    for method, own in _by_method(cells, colours):
        figure.add_scatter(
            x=own[cost], y=own[metric.name], mode="markers", name=escape(method),
            customdata=own.label.map(escape), error_y=_bars(own, metric.name),
            marker=_marker(own, cells, colours),
            hovertext=hover.of_cells(
                own, {metric.name: metric}, [f"{title}: {value:,.6g}" for value in own[cost]]
            ),
            hoverinfo="text",
        )  # fmt: skip
    wide = cells[cost].max() >= 10 * cells[cost].min()  # then only powers of 10 are labelled
    figure.update_xaxes(
        title=escape(title), type="log", dtick=1 if wide else None, gridcolor=GRID, zeroline=False
    )
    figure.update_yaxes(title=escape(metric.title), gridcolor=GRID, zeroline=False)
    return finish(figure, height=460)


def _line(
    figure: go.Figure, own: pd.DataFrame, x: str, metric: ScoreColumn, column: str,
    colours: dict[str, str],
) -> None:  # fmt: skip
    method = own.method.iloc[0]
    dash = LINES[variant(method, colours)]
    figure.add_scatter(
        x=own[x],
        y=own[column],
        mode="lines+markers",
        name=escape(method),
        error_y=_bars(own, column, width=4),
        line={"color": colours[method], "width": 2.2, "dash": dash},
        marker={"size": 9, "symbol": _symbols(own, colours)},
        hovertext=hover.of_cells(
            own,
            {column: metric},
            [f"level {level:g}" for level in own.level] if "level" in own else (),
        ),
        hoverinfo="text",
    )


def _reference(
    figure: go.Figure, sizes: list[int], own: pd.DataFrame, metric: ScoreColumn, column: str,
    colours: dict[str, str],
) -> None:  # fmt: skip
    method = own.method.iloc[0]
    dash = REFERENCE_LINES[variant(method, colours)]
    ends = sizes if len(sizes) > 1 else [sizes[0] / 1.2, sizes[0] * 1.2]
    figure.add_scatter(
        x=ends,
        y=[own[column].iloc[0]] * len(ends),
        mode="lines",
        name=escape(method),
        line={"color": colours[method], "dash": dash, "width": 1.8},
        hovertext=hover.of_cells(own.iloc[:1], {column: metric}, ["no training images"])
        * len(ends),
        hoverinfo="text",
    )


def _by_method(cells: pd.DataFrame, colours: dict[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split by method, in the order of colours and legends."""
    for method in colours:
        own = cells[cells.method == method]
        if len(own):
            yield method, own


def _bars(cells: pd.DataFrame, column: str, width: int = 0) -> dict[str, object]:
    """Return the error bars of a 95 % interval, which need not be symmetric."""
    names = column, f"{column}_low", f"{column}_high"
    mean, low, high = (cells[name].to_numpy(dtype=float) for name in names)
    return {
        "type": "data",
        "symmetric": False,
        "array": np.maximum(high - mean, 0),
        "arrayminus": np.maximum(mean - low, 0),
        "thickness": 1.4,
        "width": width,
    }


def _symbols(cells: pd.DataFrame, colours: dict[str, str]) -> list[str]:
    return [
        SYMBOLS.get(kind, "diamond") + MARKERS[variant(method, colours)]
        for kind, method in zip(cells.kind, cells.method, strict=True)
    ]


def _marker(own: pd.DataFrame, cells: pd.DataFrame, colours: dict[str, str]) -> dict[str, object]:
    """Mark one method's cells among all."""
    return {
        "size": _sizes(own, cells), "color": colours[own.method.iloc[0]],
        "symbol": _symbols(own, colours), "line": {"color": "white", "width": 1},
    }  # fmt: skip


def _sizes(own: pd.DataFrame, cells: pd.DataFrame) -> list[int]:
    """Grow the markers with the training-set size."""
    order = sorted(cells.n_train.unique())
    return [11 + 4 * order.index(size) for size in own.n_train]


def _set_ticks(figure: go.Figure, values: pd.Series, title: str) -> None:
    """Put ticks at the values that were run; the axis is logarithmic if their range is wide."""
    ticks = sorted(values.unique())
    wide = len(ticks) > 1 and ticks[0] > 0 and ticks[-1] / ticks[0] >= LOG_RATIO
    figure.update_xaxes(
        title=title, type="log" if wide else "linear", tickvals=ticks, gridcolor=GRID,
        ticktext=[f"{tick:g}" for tick in ticks], zeroline=False,
    )  # fmt: skip


def _padded(values: pd.Series) -> list[float]:
    finite = values[np.isfinite(values)]
    if finite.empty:
        return [0.0, 1.0]
    margin = 0.12 * (finite.max() - finite.min()) or 0.05 * abs(finite.max()) or 1.0
    return [finite.min() - margin, finite.max() + margin]


def finish(figure: go.Figure, height: int) -> go.Figure:
    """Set what is the same in every figure, and its height in pixels."""
    return figure.update_layout(
        height=height, margin={"t": 16, "r": 16, "b": 48, "l": 16}, showlegend=None,
        legend={"orientation": "h", "y": -0.18, "x": 0}, hoverlabel={"align": "left"},
    )  # fmt: skip
