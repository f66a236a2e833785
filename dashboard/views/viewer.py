"""What do the reconstructions look like?"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import streamlit as st

from bench import charts
from bench.charts import Picture
from dashboard import pictures, state, theme
from dashboard.pictures import CellPictures
from dashboard.state import Choice

MOST, WIDTH = 4, 880


def show(choice: Choice) -> None:
    """Show truth, measurement and the chosen reconstructions of one test image."""
    st.title("What do the reconstructions look like?")
    try:
        truth = pictures.truth(choice.run.folder, choice.task)
        if not truth:
            st.info("This run keeps no pictures (`pictures: 0` in its benchmark file).")
            return
        draw(choice, truth)
    except ValueError as error:
        st.error(theme.markdown(error), icon=":material/error:")


def draw(choice: Choice, truth: dict[str, np.ndarray]) -> None:
    """Let the user choose image and methods, and draw them."""
    cells = choice.scores(choice.objective).sort_values("rank")
    labels = dict(zip(cells.label, cells.cell, strict=True))
    image_column, methods_column = st.columns([1, 3])
    with image_column:
        image = state.select("Test image", "image", list(truth))
    with methods_column:
        chosen = state.several(
            "Methods and training images", "show", list(labels), default=usual(choice), most=MOST
        )
    kept = {label: kept_of(choice, labels[label], image) for label in chosen}
    where = str(choice.run.folder), choice.stamp
    scores = state.image_scores(*where, tuple(labels[label] for label in chosen), image)
    shown = [Picture(("Ground truth x",), truth[image])]
    shown += measurement(truth[image], next((one for one in kept.values() if one), None))
    named = cells.set_index("label")
    for label, one in kept.items():
        method, n_train = named.method[label], named.n_train[label]
        heading = (method, *([f"{n_train} images"] if n_train else []))
        if one is None:
            shown.append(Picture((*heading, "no picture"), None))
        else:
            heading += score(scores, labels[label], choice)
            shown.append(Picture(heading, one.x_hat, one.error))
    figure = charts.pictures(shown, WIDTH, worst_of(kept.values()))
    # Streamlit's own theme would replace the colour scales.
    st.plotly_chart(figure, config={"displayModeBar": False}, theme=None, key="pictures")
    st.caption(
        "Top: images on one grey scale, 0 to 1. Bottom: absolute errors on one scale, which ends "
        "at the largest error of a reconstruction; the measurement may exceed it. Scores are those "
        "of this image. Drag to zoom into all images, double-click to reset."
    )


def kept_of(choice: Choice, cell: str, image: str) -> CellPictures | None:
    """Read a cell's pictures; a damaged file is named, and the others are shown."""
    try:
        return pictures.of_cell(choice.run.folder, cell, image)
    except ValueError as error:
        st.warning(theme.markdown(error), icon=":material/healing:")
        return None


def usual(choice: Choice) -> list[str]:
    """Choose the best classical and the best learned method within reach."""
    reach = choice.within_reach(choice.objective).sort_values("rank")
    return reach.drop_duplicates("kind").sort_values("kind").label.tolist()


def measurement(x: np.ndarray, kept: CellPictures | None) -> list[Picture]:
    """Show the measurement, or `A_dagger(y)` if y is not an image of the truth's size."""
    if kept is None:
        return []
    y = pictures.as_image(kept.y, x)
    if y is not None:
        return [Picture(("Measurement y",), y, np.abs(y - x))]
    if kept.start is None:
        return []
    shape = " x ".join(map(str, kept.y.shape))
    st.caption(f"y is not an image of this size ({shape}, {kept.y.dtype}); A_dagger(y) is shown.")
    return [Picture(("A_dagger(y)", "from y alone"), kept.start, np.abs(kept.start - x))]


def worst_of(kept: Iterable[CellPictures | None]) -> float:
    """Return the largest error of a reconstruction; with that of y, all would look dark."""
    return max((float(np.nanmax(one.error)) for one in kept if one), default=0.0) or 1.0


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
