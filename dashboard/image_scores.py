"""The scores of single test images: which are hard, and for whom?"""

import pandas as pd
import streamlit as st

from bench import charts, image_charts
from bench.score_columns import ScoreColumn
from dashboard import present, state, theme
from dashboard.state import Choice

IMAGE = "image"  # the key of the chosen image, in the URL too
SCATTER = "scatter of images"
MOST = image_charts.MOST_POINTS


def metric_of(choice: Choice) -> ScoreColumn:
    """Let the user choose the metric by which images are sorted."""
    labels = {one.name: theme.markdown(one.label) for one in choice.metrics}
    first = choice.objective.name if choice.objective.name in labels else None
    name = state.select("Score", "metric", list(labels), default=first, show=labels.__getitem__)
    return choice.run.columns[name]


def sorted_scores(table: pd.DataFrame, cell: str, metric: ScoreColumn) -> pd.Series:
    """Sort the images by the score of a cell, the worst first; those without a score come last."""
    return table[cell].sort_values(ascending=metric.sign > 0, kind="stable", na_position="last")


def go_to(image: str) -> None:
    """Choose an image, before the page is drawn again."""
    st.session_state[IMAGE] = image


def show(
    choice: Choice,
    cells: pd.DataFrame,
    chosen: list[str],
    metric: ScoreColumn,
    table: pd.DataFrame,
    image: str,
) -> None:
    """Draw the distribution of the scores, and two methods against each other.

    Args:
        choice: the user's.
        cells: of the task, by label.
        chosen: labels of the methods whose pictures are shown.
        metric: the score.
        table: of the score: a line for each image, a column for each cell.
        image: the chosen one.
    """
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("How much do the images differ?")
        above = cells[~cells.method.isin(charts.FLOOR) | cells.index.isin(chosen)]
        colours = theme.colours(choice.run)
        scores = {str(label): table[cell].to_numpy() for label, cell in above.cell.items()}
        figure = image_charts.distribution(
            scores, metric, [colours[method] for method in above.method]
        )
        present.figure(figure, "distribution")
        hidden = sorted(set(cells.method) - set(above.method))
        without = f" Not drawn: {', '.join(map(theme.markdown, hidden))}." if hidden else ""
        points = "A point is a test image. " if table[above.cell].size <= MOST else ""
        st.caption(f"{points}Boxes: quartiles.{without}")
    with right:
        st.subheader("Is one method better on every image?")
        if len(chosen) < 2:
            st.info("Choose two methods above.")
        else:
            pair(choice, cells, (chosen[0], chosen[1]), metric, table, image)


def pair(
    choice: Choice,
    cells: pd.DataFrame,
    labels: tuple[str, str],
    metric: ScoreColumn,
    table: pd.DataFrame,
    image: str,
) -> None:
    """Draw two methods against each other; a click on a point shows its pictures."""
    both = table[list(cells.cell[list(labels)])].dropna()
    if both.empty:
        st.info("They have no image in common yet.")
        return
    first, second = (both.iloc[:, k] for k in (0, 1))
    drawn = image_charts.thinned(both.assign(gap=second - first).sort_values("gap"), MOST)
    figure = image_charts.against(drawn.iloc[:, :2], metric, labels, image)
    present.figure(figure, SCATTER, on_select=_chosen, selection_mode="points")
    ahead = int((metric.sign * (second - first) > 0).sum())
    names = [theme.markdown(label) for label in labels]
    left_out = "" if len(drawn) == len(both) else f" {len(drawn)} of them are drawn."
    st.caption(
        f"{names[1]} is better on {ahead} of {len(both)} images.{left_out} Click a point to see "
        "its pictures."
    )


def _chosen() -> None:
    points = st.session_state[SCATTER].selection.points
    if points and "customdata" in points[0]:
        go_to(str(points[0]["customdata"][0]))
