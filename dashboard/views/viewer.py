"""What do the reconstructions look like?"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import streamlit as st

from bench import image_charts
from bench.image_charts import Display, Picture
from bench.score_columns import ScoreColumn
from dashboard import image_scores, pictures, present, state, theme
from dashboard.image_scores import IMAGE
from dashboard.pictures import CellPictures
from dashboard.sources import Source
from dashboard.state import Choice

MOST, WIDTH = 4, 880


def show(choice: Choice) -> None:
    """Show truth, measurement and the chosen reconstructions of one test image."""
    st.title("What do the reconstructions look like?")
    try:
        truth = pictures.truth(choice.run.folder, choice.task)
    except ValueError as error:
        st.warning(theme.markdown(error), icon=":material/healing:")
        truth = {}
    if not choice.metrics:
        st.info("No test image of this run has a finite score.")
        return
    cells = choice.scores(choice.objective).sort_values("rank").set_index("label")
    methods_column, metric_column = st.columns([3, 1])
    with methods_column:
        chosen = state.several(
            "Methods and training images", "show", list(cells.index),
            default=usual(choice) or list(cells.index)[:MOST],
            most=MOST,
        )  # fmt: skip
    with metric_column:
        metric = image_scores.metric_of(choice)
    table = choice.by_image(metric)
    image, order = choose(choice, cells, chosen, metric, table, truth)
    above = st.container()
    image_scores.show(choice, cells, chosen, metric, table, image)
    with above:  # last, since a picture that is not stored takes seconds
        draw(choice, cells.loc[chosen], image, truth)
    st.caption(f"{len(order)} test images; their scores are those of each cell's first refit.")


def choose(
    choice: Choice,
    cells: pd.DataFrame,
    chosen: list[str],
    metric: ScoreColumn,
    table: pd.DataFrame,
    truth: dict[str, np.ndarray],
) -> tuple[str, list[str]]:
    """Let the user choose a test image among all, the worst of a method first."""
    by_column, image_column = st.columns([2, 3])
    with by_column:
        by = state.select("Sorted by the score of", "sorted", chosen)
    scores = image_scores.sorted_scores(table, cells.cell[by], metric)
    order = [str(name) for name in scores.index]
    with image_column:
        image = state.select(
            "Test image, the worst first", IMAGE, order,
            default=next((name for name in truth if name in order), order[len(order) // 2]),
            show=lambda name: f"{name}: {theme.number(scores[name], metric)}",
        )  # fmt: skip
    known = max(1, int(scores.notna().sum()))
    numbers = {"Worst": 0, "Median": (known - 1) // 2, "Best": known - 1}
    with st.container(horizontal=True):
        for label, number in numbers.items():
            st.button(
                label, key=f"go to {label}", on_click=image_scores.go_to, args=(order[number],)
            )
    return image, order


def draw(choice: Choice, cells: pd.DataFrame, image: str, truth: dict[str, np.ndarray]) -> None:
    """Draw the pictures of an image."""
    data = choice.run.manifest.get("data")
    digest = str(data.get("test")) if isinstance(data, dict) else ""
    source = Source(choice.run.folder, choice.stamp, digest, image, truth)
    found = {
        str(label): source.of_cell(cell.cell, str(label), int(cell.first_seed), cell.kind)
        for label, cell in cells.iterrows()
    }
    some = next((one for one in found.values() if one), None)
    x = truth.get(image, None if some is None else some.x)
    if x is None:
        return
    where = str(choice.run.folder), choice.stamp
    scores = state.image_scores(*where, tuple(cells.cell), image)
    shown = [Picture(("Ground truth x",), x), *measurement(x, some)]
    reconstructed = []
    for label, one in found.items():
        method, n_train, cell = (cells[key][label] for key in ("method", "n_train", "cell"))
        heading = (str(method), *([f"{n_train} images"] if n_train else []))
        if one is None:
            shown.append(Picture((*heading, "no picture"), None))
        else:
            heading += score(scores, str(cell), choice)
            reconstructed.append(Picture(heading, one.x_hat, one.error))
    shown += reconstructed
    display, split = settings(worst_of(found.values()), len(reconstructed) > 1)
    if split is not None:
        shown.append(image_charts.halves(reconstructed[0], reconstructed[1], split))
    figure = image_charts.pictures(shown, WIDTH, display)
    bar = {"displayModeBar": True, "modeBarButtons": [["toImage", "resetScale2d"]]}
    # Streamlit's own theme would replace the colour scales.
    with st.container(key=theme.WIDE):
        present.figure(figure, "pictures", name=f"{choice.task} {image}", config=bar, theme=None)
    st.caption(
        "Top: images on one grey scale. Bottom: errors on one scale, which ends at the largest "
        "error of a reconstruction unless you set its end; the measurement may exceed it. Scores "
        "are those of this image. Drag to zoom into all images, double-click to reset; the camera "
        "at the top right saves the figure."
    )


def settings(worst: float, several: bool) -> tuple[Display, float | None]:
    """Let the user set how pictures are shown.

    Args:
        worst: the largest error.
        several: whether there are two reconstructions to compare.

    Returns:
        the settings; and where a picture of two halves is split, if it is wanted.
    """
    with st.popover("Display", icon=":material/tune:"):
        window = state.slide("Window: black and white", "window", (0.0, 1.0), (0.0, 1.0), step=0.01)
        gamma = state.slide(
            "Gamma", "gamma", (0.3, 3.0), 1.0, step=0.1, help="Above 1, dark parts are brighter."
        )
        limit = state.slide(
            "End of the error scale", "limit", (0.0, 1.0), 0.0, step=0.005,
            help="0: at the largest error of these reconstructions.",
        )  # fmt: skip
        signed = state.tick("Errors with their sign", "signed")
        halves = several and state.tick(
            "Split the first two", "halves", help="One picture, whose left part is of the first."
        )
        split = state.slide("Split at", "split", (0.0, 1.0), 0.5, step=0.02) if halves else None
    if window[0] == window[1]:
        window = (window[0], window[0] + 0.01)
    display = Display(window, gamma, limit or worst, signed, theme.ink())
    return display, split


def usual(choice: Choice) -> list[str]:
    """Choose the best classical and the best learned method within reach."""
    reach = choice.within_reach(choice.objective).sort_values("rank")
    return reach.drop_duplicates("kind").sort_values("kind").label.tolist()[:MOST]


def measurement(x: np.ndarray, kept: CellPictures | None) -> list[Picture]:
    """Show the measurement, or `A_dagger(y)` if y is not an image of the truth's size."""
    if kept is None:
        return []
    y = pictures.as_image(kept.y, x)
    if y is not None:
        return [Picture(("Measurement y",), y, y - x)]
    if kept.start is None:
        return []
    shape = " x ".join(map(str, kept.y.shape))
    st.caption(f"y is not an image of this size ({shape}, {kept.y.dtype}); A_dagger(y) is shown.")
    return [Picture(("A_dagger(y)", "from y alone"), kept.start, kept.start - x)]


def worst_of(kept: Iterable[CellPictures | None]) -> float:
    """Return the largest error of a reconstruction; with that of y, all would look dark."""
    errors = [np.abs(one.error) for one in kept if one]
    return max((float(np.nanmax(error)) for error in errors), default=0.0) or 1.0


def score(scores: pd.DataFrame, cell: str, choice: Choice) -> tuple[str, ...]:
    """Write a picture's scores under the chosen convention."""
    if cell not in scores.index:
        return ()
    values = {
        metric: theme.number(scores[choice.column(metric)][cell], metric)
        for metric in choice.listed
    }
    words = (f"{'' if one.unit else f'{one.label} '}{text}" for one, text in values.items())
    return (", ".join(words),)


show(state.current())
