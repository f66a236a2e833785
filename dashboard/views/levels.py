"""How do methods hold up with more noise and fewer images?"""

import pandas as pd
import streamlit as st

from bench import charts
from bench.efficiency import sample_efficiency
from dashboard import state, theme
from dashboard.state import Choice


def show(choice: Choice) -> None:
    """Draw a metric against the level and against the training-set size."""
    st.title("How do methods hold up?")
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
    column = choice.column(metric)
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
        _draw(charts.against_level(same, metric, column, theme.colours(choice.run)), "level")
    with right:
        level = choice.cells.level.iloc[0]
        st.subheader(f"Against training images, level {level:g}")
        same = cells[cells.task == choice.task]
        _draw(charts.against_size(same, metric, column, theme.colours(choice.run)), "size")
    _words(choice)
    st.caption(
        f"{theme.markdown(degradation)}. Dashed: methods that use no training images. "
        "Bars: 95 % interval over subjects."
    )


def _words(choice: Choice) -> None:
    """Write how many training images each method needs to overtake the best classical one."""
    cells = choice.run.cells[choice.run.cells.task == choice.task]
    level = choice.cells.level.iloc[0]
    task = f"{choice.cells.degradation.iloc[0]} {level:g}"
    for one in sample_efficiency(cells, choice.estimate(choice.objective)):
        sentence = one.sentence(task)
        st.markdown(theme.markdown(sentence[0].upper() + sentence[1:]))


def _draw(chart: object, key: str) -> None:
    st.plotly_chart(chart, config=charts.CONFIG, key=f"against {key}")


show(state.current())
