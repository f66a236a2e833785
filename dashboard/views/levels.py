"""How do methods hold up with more noise and fewer images?"""

import pandas as pd
import streamlit as st

from bench import charts
from bench.efficiency import Efficiency, sample_efficiency
from bench.score_columns import ScoreColumn
from dashboard import present, state, theme
from dashboard.state import Choice


def show(choice: Choice) -> None:
    """Draw a metric against the level and against the training-set size."""
    st.title("How do methods hold up?")
    if not choice.metrics:
        st.info("No test image of this run has a finite score.")
        return
    methods = list(theme.colours(choice.run))
    metric_column, methods_column = st.columns([1, 3])
    with metric_column:
        labels = {one.name: theme.markdown(one.label) for one in choice.metrics}
        default = choice.objective.name if choice.objective.name in labels else None
        name = state.select(
            "Metric", "metric", list(labels), default=default, show=labels.__getitem__
        )
        metric = choice.run.columns[name]
    with methods_column:
        above = [method for method in methods if method not in charts.FLOOR]
        chosen = state.several("Methods", "curves", methods, default=above or methods)
    column, colours = choice.column(metric), theme.colours(choice.run)
    cells = choice.run.cells
    degradation = choice.cells.degradation.iloc[0]
    tasks = cells.task[cells.degradation == degradation].unique()
    cells = pd.concat([choice.scores(metric, task=task) for task in tasks])
    cells = cells[cells.method.isin(chosen)].dropna(subset=[column])
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader(f"Against the level, {choice.n_train} training images")
        # A method without training images is shown at every size.
        same = cells[cells.n_train.isin([0, choice.n_train])]
        axis = theme.level_axis(choice.run, degradation)
        figure = charts.against_level(same, metric, column, colours, axis)
        present.figure(
            charts.add_bands(figure, same, "level", column, colours), "against the level"
        )
    with right:
        level = choice.cells.level.iloc[0]
        st.subheader(f"Against training images, level {level:g}")
        same = cells[cells.task == choice.task]
        figure = charts.against_size(same, metric, column, colours)
        fits = [one for one in efficiency(choice, metric) if one.method in chosen]
        charts.add_crossings(charts.add_fits(figure, fits, colours), fits, colours)
        if choice.n_train in set(same.n_train):
            charts.highlight(figure, choice.n_train)
        present.figure(figure, "against training images")
    _words(choice)
    st.caption(
        f"{theme.markdown(degradation)}. Dashed: methods that use no training images. "
        "Bars and bands: 95 % interval over subjects. Stars: where a fitted course overtakes the "
        "best classical method, with its 95 % interval. Grey: the available training images. "
        f"Lower bounds ({', '.join(map(theme.markdown, charts.FLOOR))}) are drawn if you choose "
        "them."
    )


def efficiency(choice: Choice, metric: ScoreColumn) -> list[Efficiency]:
    """Fit each method's course over the training-set sizes, as the report does."""
    return sample_efficiency(choice.cells, choice.estimate(metric))


def _words(choice: Choice) -> None:
    """Write how many training images each method needs to overtake the best classical one."""
    level = choice.cells.level.iloc[0]
    task = f"{choice.cells.degradation.iloc[0]} {level:g}"
    for one in efficiency(choice, choice.objective):
        sentence = one.sentence(task)
        st.markdown(theme.markdown(sentence[0].upper() + sentence[1:]))


show(state.current())
