"""The figures: functions from tables to Plotly figures, independent of Streamlit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bench.score_columns import ScoreColumn
from dashboard import theme

CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}
GREYS = [[0.0, "#000000"], [1.0, "#ffffff"]]
# Close to Inferno, whose first colours Streamlit would replace by those of its theme.
HEAT = [[0.0, "#08051d"], [0.25, "#56106e"], [0.5, "#bb3754"], [0.75, "#f98c0a"], [1.0, "#fcffa4"]]
FONT = {"family": '"Source Sans", sans-serif', "size": 13, "color": theme.INK}
LOG_RATIO = 8  # an axis that spans at least this ratio is logarithmic
SYMBOLS = {"learned": "circle", "fitted": "square"}  # of a method; else: diamond
LEGEND = "Circles are trained on images, squares fitted to them in closed form, diamonds need none"
GRID = "#e8edef"


@dataclass(frozen=True)
class Picture:
    """A column of the viewer: its heading, an image, and its error against the truth."""

    heading: tuple[str, ...]
    image: np.ndarray | None
    error: np.ndarray | None = None


def ranking(
    cells: pd.DataFrame, metric: ScoreColumn, column: str, colours: dict[str, str]
) -> go.Figure:
    """Draw each cell's metric with its 95 % interval, the best on top."""
    cells = cells.sort_values(column, ascending=metric.direction == "higher")
    names = cells.label.map(theme.plotly)
    figure = go.Figure(
        go.Scatter(
            x=cells[column],
            y=names,
            mode="markers",
            marker={"size": 11, "color": cells.method.map(colours), "symbol": _symbols(cells)},
            error_x=_bars(cells, column, width=5),
            hovertemplate="%{y}: %{x:.3f}<extra></extra>",
        )
    )
    figure.update_yaxes(type="category", gridcolor=GRID, automargin=True)
    figure.update_xaxes(title=theme.plotly(metric.title), gridcolor=GRID, zeroline=False)
    return _finish(figure, height=90 + 30 * len(cells))


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
            fillcolor="rgba(15,110,132,0.06)", line={"color": theme.FRONT, "dash": "dot"},
        )  # fmt: skip
    for method, own in _by_method(cells, colours):
        label = own.label.map(theme.plotly)
        figure.add_scatter(
            x=own[ssim],
            y=own[psnr],
            mode="markers",
            name=theme.plotly(method),
            customdata=label,
            error_x=_bars(own, ssim),
            error_y=_bars(own, psnr),
            marker={"size": _sizes(own, cells), "color": colours[method], "symbol": _symbols(own),
                    "line": {"color": "white", "width": 1}},
            hovertemplate="<b>%{customdata}</b><br>PSNR %{y:.2f} dB<br>SSIM %{x:.3f}"
            "<extra></extra>",
        )  # fmt: skip
    # No cell lies above and to the right of the front; staggered labels do not overlap.
    steps = range(len(front) - 1, -1, -1)
    for step, label, x, y in zip(steps, front.label, front[ssim], front[psnr], strict=True):
        figure.add_annotation(
            x=x, y=y, ax=18, ay=-20 - 22 * step, xanchor="left", arrowwidth=1, arrowhead=0,
            arrowcolor=theme.FRONT, standoff=8, font={"color": theme.INK, "size": 14},
            text=f"<b>{theme.plotly(label)}</b>",
        )  # fmt: skip
    figure.update_xaxes(title="SSIM", range=low, gridcolor=GRID, zeroline=False)
    figure.update_yaxes(title="PSNR (dB)", range=high, gridcolor=GRID, zeroline=False)
    return _finish(figure, height=560).update_layout(margin={"t": 40, "r": 150})


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
    cells: pd.DataFrame, metric: ScoreColumn, column: str, colours: dict[str, str]
) -> go.Figure:
    """Draw a metric against the degradation's level, one line per method."""
    figure = go.Figure()
    for method, own in _by_method(cells.sort_values("level"), colours):
        _line(figure, own, "level", column, method, colours[method])
    _set_ticks(figure, cells.level, "Level")
    figure.update_yaxes(title=theme.plotly(metric.title), gridcolor=GRID, zeroline=False)
    return _finish(figure, height=460)


def against_size(
    cells: pd.DataFrame, metric: ScoreColumn, column: str, colours: dict[str, str]
) -> go.Figure:
    """Draw a metric against the training-set size; a method that uses none is a horizontal line."""
    figure = go.Figure()
    sizes = sorted(cells.n_train[cells.n_train > 0].unique()) or [1, 10]
    for method, own in _by_method(cells.sort_values("n_train"), colours):
        if own.n_train.iloc[0]:
            _line(figure, own, "n_train", column, method, colours[method])
        else:
            _reference(figure, sizes, own[column].iloc[0], method, colours[method])
    _set_ticks(figure, pd.Series(sizes), "Training images")
    figure.update_yaxes(title=theme.plotly(metric.title), gridcolor=GRID, zeroline=False)
    return _finish(figure, height=460)


def search(trials: pd.DataFrame, metric: ScoreColumn, colours: dict[str, str]) -> go.Figure:
    """Draw every trial's metric on validation images, one row per cell."""
    figure = go.Figure()
    symbols = {"complete": "circle", "pruned": "x-thin", "failed": "cross"}
    for state, own in trials.groupby("state", sort=False):
        colour = own.method.map(colours).fillna(theme.FAINT)
        figure.add_scatter(
            x=own[metric.name],
            y=own.cell.map(theme.plotly),
            mode="markers",
            name=theme.plotly(state),
            marker={"symbol": symbols.get(str(state), "diamond"), "size": 9, "color": colour,
                    "opacity": 0.75, "line": {"color": colour, "width": 1.5}},
            hovertemplate=f"%{{x:.{metric.decimals}f}} {theme.plotly(metric.unit)}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(
        title=theme.plotly(f"Validation {metric.title}"), gridcolor=GRID, zeroline=False
    )
    figure.update_yaxes(type="category", gridcolor=GRID, automargin=True, autorange="reversed")
    return _finish(figure, height=140 + 26 * trials.cell.nunique())


def pictures(shown: Sequence[Picture], width: int, worst: float) -> go.Figure:
    """Draw images above their errors: one grey scale [0, 1], one error scale, linked zoom.

    Args:
        shown: the columns, from left to right.
        width: width of the figure in pixels, from which its height is computed.
        worst: the error at the end of the error scale.
    """
    figure = make_subplots(
        rows=2, cols=len(shown), horizontal_spacing=0.012, vertical_spacing=0.035,
        shared_xaxes="all", shared_yaxes="all",
    )  # fmt: skip
    size = 14 if len(shown) < 6 else 12
    for column, picture in enumerate(shown, 1):
        for row, pixels in ((1, picture.image), (2, picture.error)):
            if pixels is not None:
                figure.add_heatmap(
                    z=pixels, coloraxis=f"coloraxis{row if row > 1 else ''}", zsmooth=False,
                    hovertemplate="x %{x}, y %{y}: %{z:.3f}<extra></extra>", row=row, col=column,
                )  # fmt: skip
        axis = figure.get_subplot(1, column).xaxis
        lines = [theme.plotly(line) for line in picture.heading]
        figure.add_annotation(
            x=sum(axis.domain) / 2, y=1.0, xref="paper", yref="paper", showarrow=False,
            xanchor="center", yanchor="bottom", yshift=4, font={"size": size},
            text="<br>".join([f"<b>{lines[0]}</b>", *lines[1:]]),
        )  # fmt: skip
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, constrain="domain", autorange="reversed", scaleanchor="x")
    bar = {"thickness": 12, "len": 0.48, "x": 1.01, "outlinewidth": 0}
    figure.update_layout(
        coloraxis={"colorscale": GREYS, "cmin": 0, "cmax": 1,
                   "colorbar": {**bar, "y": 0.76, "title": {"text": "image"}}},
        coloraxis2={"colorscale": HEAT, "cmin": 0, "cmax": worst,
                    "colorbar": {**bar, "y": 0.24, "title": {"text": "|error|"}}},
    )  # fmt: skip
    panel = min(360, width // len(shown))
    return _finish(figure, height=2 * panel + 96).update_layout(
        margin={"t": 76, "l": 0, "b": 0, "r": 70}, dragmode="zoom", font=FONT
    )


def _line(
    figure: go.Figure, own: pd.DataFrame, x: str, column: str, method: str, colour: str
) -> None:
    figure.add_scatter(
        x=own[x],
        y=own[column],
        mode="lines+markers",
        name=theme.plotly(method),
        error_y=_bars(own, column, width=4),
        line={"color": colour, "width": 2.2},
        marker={"size": 9, "symbol": _symbols(own)},
        hovertemplate=f"<b>{theme.plotly(method)}</b>, %{{x}}: %{{y:.3f}}<extra></extra>",
    )


def _reference(figure: go.Figure, sizes: list[int], value: float, method: str, colour: str) -> None:
    figure.add_scatter(
        x=sizes,
        y=[value] * len(sizes),
        mode="lines",
        name=theme.plotly(method),
        line={"color": colour, "dash": "dash", "width": 1.8},
        hovertemplate=f"<b>{theme.plotly(method)}</b>, no training images: "
        "%{y:.3f}<extra></extra>",
    )


def _by_method(cells: pd.DataFrame, colours: dict[str, str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split by method, in the order of colours and legends."""
    for method in colours:
        own = cells[cells.method == method]
        if len(own):
            yield method, own


def _bars(cells: pd.DataFrame, column: str, width: int = 0) -> dict[str, object]:
    """Return the error bars of a 95 % interval, which need not be symmetric."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (cells[f"{column}_high"] - cells[column]).clip(lower=0),
        "arrayminus": (cells[column] - cells[f"{column}_low"]).clip(lower=0),
        "thickness": 1.4,
        "width": width,
    }


def _symbols(cells: pd.DataFrame) -> list[str]:
    return [SYMBOLS.get(kind, "diamond") for kind in cells.kind]


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


def _finish(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        height=height, margin={"t": 16, "r": 16, "b": 48, "l": 16}, showlegend=None,
        legend={"orientation": "h", "y": -0.18, "x": 0}, hoverlabel={"align": "left"},
    )  # fmt: skip
