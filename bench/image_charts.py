"""The figures of single test images: their pictures, and their scores.

Imports neither PyTorch, Ray nor Streamlit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Shaped
from plotly.subplots import make_subplots

from bench.charts import FAINT, FRONT, GRID, HEAT, escape
from bench.score_columns import ScoreColumn

FAMILY = '"Source Sans", sans-serif'
# Of signed errors: too dark is blue, too bright red.
SIGNED: list[tuple[float, str]] = [
    (0.0, "#1f5fa8"), (0.25, "#8fb6dc"), (0.5, "#f4f4f4"), (0.75, "#e09b86"), (1.0, "#a8201f"),
]  # fmt: skip
STEPS = 33  # of a grey scale with a gamma
MOST_POINTS = 3000  # in one figure


@dataclass(frozen=True)
class Picture:
    """A column of the viewer: its heading, an image, and its difference from the truth."""

    heading: tuple[str, ...]
    image: Shaped[np.ndarray, "h w"] | None
    error: Shaped[np.ndarray, "h w"] | None = None


@dataclass(frozen=True)
class Display:
    """How pictures are shown.

    Attributes:
        window: the values that are black and white.
        gamma: above 1, dark parts become brighter.
        limit: the error at the end of the error scale.
        signed: whether errors are shown with their sign.
        ink: the colour of text.
    """

    window: tuple[float, float] = (0.0, 1.0)
    gamma: float = 1.0
    limit: float = 1.0
    signed: bool = False
    ink: str = "#1d2b33"

    @property
    def greys(self) -> list[tuple[float, str]]:
        """The grey scale: values stay as they are, so that a pointer shows them."""
        steps = np.linspace(0, 1, 2 if self.gamma == 1 else STEPS)
        levels = (255 * steps ** (1 / self.gamma)).round().astype(int)
        scale = zip(steps, levels, strict=True)
        return [(float(step), f"rgb({grey},{grey},{grey})") for step, grey in scale]


def pictures(shown: Sequence[Picture], width: int, display: Display) -> go.Figure:
    """Draw images above their errors: one grey scale, one error scale, linked zoom.

    Args:
        shown: the columns, from left to right.
        width: width of the figure in pixels, from which its height is computed.
        display: how they are shown.
    """
    figure = make_subplots(
        rows=2, cols=len(shown), horizontal_spacing=0.012, vertical_spacing=0.035,
        shared_xaxes="all", shared_yaxes="all",
    )  # fmt: skip
    size = 14 if len(shown) < 6 else 12
    for column, picture in enumerate(shown, 1):
        error = picture.error
        if error is not None and not display.signed:
            error = np.abs(error)
        for row, pixels in ((1, picture.image), (2, error)):
            if pixels is not None:
                figure.add_heatmap(
                    z=pixels, coloraxis=f"coloraxis{row if row > 1 else ''}", zsmooth=False,
                    hovertemplate="x %{x}, y %{y}: %{z:.3f}<extra></extra>", row=row, col=column,
                )  # fmt: skip
        axis = figure.get_subplot(1, column).xaxis
        lines = [escape(line) for line in picture.heading]
        figure.add_annotation(
            x=sum(axis.domain) / 2, y=1.0, xref="paper", yref="paper", showarrow=False,
            xanchor="center", yanchor="bottom", yshift=4, font={"size": size},
            text="<br>".join([f"<b>{lines[0]}</b>", *lines[1:]]),
        )  # fmt: skip
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, constrain="domain", autorange="reversed")
    # The axes of one panel, which all others follow: they may have no anchor of their own.
    last = figure.get_subplot(2, 1)
    last.yaxis.scaleanchor = last.yaxis.anchor
    bar = {"thickness": 12, "len": 0.48, "x": 1.01, "outlinewidth": 0}
    low, high = display.window
    least, colours, title = (
        (-display.limit, SIGNED, "error") if display.signed else (0, HEAT, "|error|")
    )
    panel = min(360, width // len(shown))
    return figure.update_layout(
        coloraxis={"colorscale": display.greys, "cmin": low, "cmax": high,
                   "colorbar": {**bar, "y": 0.76, "title": {"text": "image"}}},
        coloraxis2={"colorscale": colours, "cmin": least, "cmax": display.limit,
                    "colorbar": {**bar, "y": 0.24, "title": {"text": title}}},
        height=2 * panel + 96, margin={"t": 76, "l": 0, "b": 0, "r": 70}, dragmode="zoom",
        font={"family": FAMILY, "size": 13, "color": display.ink},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": FAINT, "activecolor": FRONT},
    )  # fmt: skip


def halves(left: Picture, right: Picture, share: float) -> Picture:
    """Join two pictures at a vertical line.

    Args:
        left: shown to the left of the line.
        right: shown to its right; of the same size.
        share: the part of the width that the left one takes.
    """
    heading = ("Split", f"left: {left.heading[0]}", f"right: {right.heading[0]}")
    image, error = _joined(left.image, right.image, share), _joined(left.error, right.error, share)
    return Picture(heading, image, error)


def _joined(left: np.ndarray | None, right: np.ndarray | None, share: float) -> np.ndarray | None:
    if left is None or right is None or left.shape != right.shape:
        return None
    column = round(share * left.shape[1])
    return np.concatenate([left[:, :column], right[:, column:]], axis=1)


def thinned(scores: pd.DataFrame, most: int) -> pd.DataFrame:
    """Keep the ends of a sorted table, and evenly chosen lines between them.

    Args:
        scores: of any length.
        most: number of lines to keep.
    """
    if len(scores) <= most:
        return scores
    return scores.iloc[np.unique(np.linspace(0, len(scores) - 1, most).round().astype(int))]


def distribution(
    scores: Mapping[str, Float[np.ndarray, " images"]], metric: ScoreColumn, colours: Sequence[str]
) -> go.Figure:
    """Draw the scores of the test images for each cell, with the quartiles; the first on top.

    Args:
        scores: by the label of the cell; a missing score is NaN.
        metric: what they are.
        colours: of the cells.
    """
    figure = go.Figure()
    every = sum(map(len, scores.values())) <= MOST_POINTS
    for (label, values), colour in zip(scores.items(), colours, strict=True):
        finite = values[np.isfinite(values)]
        figure.add_box(
            x=finite, y0=escape(label), name=f"{escape(label)}, {len(finite)} images",
            line={"color": colour, "width": 1.6},
            fillcolor="rgba(0,0,0,0)", boxpoints="all" if every else False, jitter=0.6,
            pointpos=0, marker={"size": 4, "opacity": 0.45, "color": colour}, showlegend=False,
            hoverinfo="x+name", hoverlabel={"namelength": -1},
        )  # fmt: skip
    figure.update_xaxes(
        title=escape(metric.title), gridcolor=GRID, zeroline=False, hoverformat=_format(metric)
    )
    figure.update_yaxes(type="category", automargin=True, autorange="reversed")
    return figure.update_layout(
        height=90 + 44 * len(scores), margin={"t": 16, "r": 16, "b": 48, "l": 16}
    )


def against(
    scores: pd.DataFrame, metric: ScoreColumn, labels: tuple[str, str], marked: str
) -> go.Figure:
    """Draw the scores of two cells against each other, one point for each test image.

    Args:
        scores: by image: the score of the first cell, and of the second.
        metric: what they are.
        labels: of the two cells; the first is drawn across, the second upwards.
        marked: the image to be marked.
    """
    scores = scores.dropna()
    x, y = scores.iloc[:, 0], scores.iloc[:, 1]
    values = scores.to_numpy()
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or 1.0
    ends = [low - room, high + room]
    form, unit = _format(metric), escape(f" {metric.unit}".rstrip())
    text = "%{customdata[1]}" + "".join(
        f"<br>{escape(label)}: %{{{axis}:{form}}}{unit}"
        for label, axis in zip(labels, "xy", strict=True)
    )
    is_marked = scores.index == marked
    figure = go.Figure()
    figure.add_scatter(
        x=ends, y=ends, mode="lines", line={"color": FAINT, "dash": "dot"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=x, y=y, mode="markers", customdata=[[name, escape(name)] for name in scores.index],
        hovertemplate=f"{text}<extra></extra>",
        marker={"size": np.where(is_marked, 13, 8), "color": np.where(is_marked, "#a70f49", FRONT),
                "opacity": np.where(is_marked, 1.0, 0.7)},
    )  # fmt: skip
    for update, label in zip((figure.update_xaxes, figure.update_yaxes), labels, strict=True):
        title = escape(f"{label}: {metric.title}")
        update(title=title, range=ends, gridcolor=GRID, zeroline=False)
    figure.update_layout(
        height=460, margin={"t": 16, "r": 16, "b": 48, "l": 16}, showlegend=False,
        clickmode="event+select",
    )  # fmt: skip
    return figure


def _format(metric: ScoreColumn) -> str:
    return f".{metric.decimals}f"
