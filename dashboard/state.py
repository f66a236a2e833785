"""The user's choices: kept in the URL, across pages and while a run is in progress."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from bench import importance, records, score_columns, statistics
from bench.places import Place
from bench.score_columns import ScoreColumn
from bench.statistics import Estimate
from dashboard import journal, mirror, over_tasks, theme
from dashboard import merged as merged_runs
from dashboard import run as runs
from dashboard.run import Run, Stamp


@dataclass(frozen=True)
class Choice:
    """What the user has chosen in the sidebar, for every page."""

    run: Run
    stamp: Stamp
    task: str
    n_train: int
    convention: str

    @property
    def cells(self) -> pd.DataFrame:
        """The chosen task's cells."""
        return self.run.cells[self.run.cells.task == self.task]

    @property
    def objective(self) -> ScoreColumn:
        """The metric that cells are ranked by."""
        return self.run.objective

    @property
    def metrics(self) -> list[ScoreColumn]:
        """The metrics that have scores under the chosen convention."""
        columns = self.run.columns.values()
        return [one for one in columns if self.column(one) in self.run.scored]

    @property
    def listed(self) -> list[ScoreColumn]:
        """The metrics that leaderboards show."""
        listed = score_columns.listed(self.run.columns, self.objective.name)
        return [one for one in listed if one in self.metrics or one == self.objective]

    def scores(self, *metrics: ScoreColumn, task: str | None = None) -> pd.DataFrame:
        """Return the chosen, or another, task's cells with their scores under the chosen
        convention, ranked by the first metric; see `dashboard.run.scores`.
        """
        columns = tuple((self.column(metric), metric.sign) for metric in metrics)
        return scores(str(self.run.folder), self.stamp, task or self.task, columns)

    def within_reach(self, *metrics: ScoreColumn) -> pd.DataFrame:
        """Return the scores of ranked cells that need no more than the available images."""
        cells = self.scores(*metrics)
        return cells[cells["rank"].notna() & (cells.n_train <= self.n_train)]

    def estimate(self, metric: ScoreColumn) -> Estimate:
        """Estimate a metric of the chosen task's cells under the chosen convention."""
        where = str(self.run.folder), self.stamp, self.task
        return estimate(*where, self.column(metric), metric.sign)

    def by_image(self, metric: ScoreColumn) -> pd.DataFrame:
        """Return a metric of the chosen task under the chosen convention for each test image; see
        `dashboard.run.scores_by_image`.
        """
        return scores_by_image(str(self.run.folder), self.stamp, self.task, self.column(metric))

    def overview(self, metric: ScoreColumn) -> pd.DataFrame:
        """Compare the cells of all tasks with their best classical ones under the chosen
        convention; see `dashboard.over_tasks.of_task`.
        """
        where = str(self.run.folder), self.stamp
        return overview(*where, self.column(metric), metric.sign)

    def records(self, metric: ScoreColumn) -> pd.DataFrame:
        """Compare the methods that learn, in all tasks; see `bench.records.of_task`."""
        return compared(str(self.run.folder), self.stamp, self.column(metric), metric.sign)

    def column(self, metric: ScoreColumn) -> str:
        """Name the column of a metric under the chosen convention."""
        return metric.column(self.convention)


def current() -> Choice:
    """Return the choice made in the sidebar."""
    return st.session_state["choice"]


@st.cache_resource(show_spinner="Reading the run", max_entries=4)
def load(folder: str, stamp: Stamp) -> Run:
    """Read a run folder once per change."""
    return runs.read(Path(folder))


def opened(where: Place) -> tuple[Run, Stamp]:
    """Read a run wherever it is, and its state.

    Raises:
        ValueError: it cannot be read.
        UserError: the object store cannot be reached.
    """
    folder = mirror.local(where)
    stamp = runs.stamp(folder)
    return load(str(folder), stamp), stamp


@st.cache_resource(show_spinner=False, max_entries=4)  # shared: a task may have 50,000 rows
def rows(folder: str, stamp: Stamp, task: str) -> pd.DataFrame:
    """Read the rows of a task once per change of the run."""
    return runs.rows(load(folder, stamp), task)


@st.cache_resource(show_spinner=False, max_entries=64)
def estimate(folder: str, stamp: Stamp, task: str, metric: str, sign: int) -> Estimate:
    """Estimate a metric of a task's cells once per change of the run, as the report does."""
    return statistics.estimate(rows(folder, stamp, task), metric, sign)


@st.cache_data(show_spinner=False, max_entries=256)
def scores(
    folder: str, stamp: Stamp, task: str, metrics: tuple[tuple[str, int], ...]
) -> pd.DataFrame:
    """Score and rank a task's cells once per change of the run, or take both from its report."""
    known = runs.reported(load(folder, stamp), task, [name for name, _ in metrics])
    if known is not None:
        return known
    estimates = {name: estimate(folder, stamp, task, name, sign) for name, sign in metrics}
    return runs.scores(load(folder, stamp), task, estimates)


@st.cache_data(show_spinner="Comparing the tasks", max_entries=8)
def overview(folder: str, stamp: Stamp, metric: str, sign: int) -> pd.DataFrame:
    """Compare the cells of all tasks once per change of the run."""
    tasks = load(folder, stamp).cells.sort_values(["degradation", "level"]).task.unique()
    found = []
    for task in tasks:
        cells = scores(folder, stamp, str(task), ((metric, sign),))
        title = f"{cells.degradation.iloc[0]} {cells.level.iloc[0]:g}"
        found.append(over_tasks.of_task(cells, metric, sign).assign(title=title))
    # All tasks have the same test images.
    images = rows(folder, stamp, str(tasks[0])).image.nunique()
    return pd.concat(found, ignore_index=True).assign(n=images)


@st.cache_data(show_spinner="Comparing the tasks", max_entries=8)
def compared(folder: str, stamp: Stamp, metric: str, sign: int) -> pd.DataFrame:
    """Compare the methods that learn in all tasks once per change of the run."""
    tasks = load(folder, stamp).cells.groupby("task", sort=False)
    return pd.concat(
        [
            records.of_task(lines, estimate(folder, stamp, str(task), metric, sign))
            for task, lines in tasks
        ],
        ignore_index=True,
    )


@st.cache_data(show_spinner=False, max_entries=256)
def image_scores(folder: str, stamp: Stamp, cells: tuple[str, ...], image: str) -> pd.DataFrame:
    """Read one image's metrics once per change of the run."""
    return runs.image_scores(load(folder, stamp), cells, image)


@st.cache_data(show_spinner=False, max_entries=16)
def scores_by_image(folder: str, stamp: Stamp, task: str, metric: str) -> pd.DataFrame:
    """Tabulate a metric once per change of the run, see `dashboard.run.scores_by_image`."""
    return runs.scores_by_image(rows(folder, stamp, task), metric)


@st.cache_resource(show_spinner="Reading the journal", max_entries=16)
def validations(folder: str, stamp: Stamp, cell: str) -> pd.DataFrame:
    """Read the validations of a cell's trials once per change of the run."""
    every = journal.validations(Path(folder))
    return every[every.cell == cell]


@st.cache_data(show_spinner="Asking Optuna", max_entries=64)
def importances(
    trials: pd.DataFrame, space: dict[str, Any], objective: ScoreColumn
) -> dict[str, float]:
    """Estimate the importance of a search's parameters once; see `bench.importance`."""
    return importance.importances(trials, space, objective)


@st.cache_data(show_spinner="Merging the runs", max_entries=4)
def merged(names: tuple[str, ...], stamps: tuple[str, ...]) -> dict[str, Any]:
    """Merge runs once per change of any; see `dashboard.merged`."""
    return merged_runs.board(names)


def select(
    label: str,
    key: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    show: Callable[[str], str] = str,
    help: str | None = None,
) -> str:
    """Show a drop-down list whose choice is kept."""
    _restore(label, key, options, default or options[0], show)
    st.selectbox(label, options, key=key, format_func=show, help=help)
    return _keep(key)


def switch(
    label: str,
    key: str,
    options: Sequence[str],
    *,
    default: str | None = None,
    show: Callable[[str], str] = str,
    help: str | None = None,
) -> str:
    """Show a row of buttons, of which one is pressed, whose choice is kept."""
    _restore(label, key, options, default or options[0], show)
    st.segmented_control(
        label, options, key=key, format_func=lambda option: theme.markdown(show(option)),
        help=help, required=True,
    )  # fmt: skip
    return _keep(key)


def several(
    label: str,
    key: str,
    options: Sequence[str],
    *,
    default: Sequence[str],
    show: Callable[[str], str] = str,
    most: int | None = None,
    help: str | None = None,
) -> list[str]:
    """Show a list of which several may be chosen; the choice is kept."""
    candidates = (
        st.session_state.get(key),
        st.session_state.get(_kept(key)),
        st.query_params.get_all(key),
        default,
    )
    if st.session_state.get(key) != []:  # which is all cleared by the user
        valid = ([option for option in value or [] if option in options] for value in candidates)
        st.session_state[key] = next((value for value in valid if value), [])[:most]
    st.multiselect(
        label, options, key=key, format_func=show, max_selections=most, help=help,
        placeholder="The usual ones; choose others",
    )  # fmt: skip
    chosen = _keep(key) or list(default)
    if len(chosen) == len(options) == len(default):  # as without the key, so the URL can be short
        del st.query_params[key]
    return chosen


def tick(label: str, key: str, *, help: str | None = None) -> bool:
    """Show a switch, off at first, whose choice is kept across pages but is no part of the URL."""
    st.session_state[key] = bool(_known(key, False))
    st.toggle(label, key=key, help=help)
    return bool(_remember(key))


def slide(
    label: str,
    key: str,
    bounds: tuple[float, float],
    default: Any,
    *,
    step: float = 0.05,
    help: str | None = None,
) -> Any:
    """Show a slider, for a number or a range, whose choice is kept across pages."""
    st.session_state[key] = _known(key, default)
    st.slider(label, *bounds, key=key, step=step, help=help)
    return _remember(key)


def _known(key: str, default: Any) -> Any:
    return st.session_state.get(key, st.session_state.get(_kept(key), default))


def _remember(key: str) -> Any:
    st.session_state[_kept(key)] = st.session_state[key]
    return st.session_state[key]


def _restore(
    label: str, key: str, options: Sequence[str], default: str, show: Callable[[str], str]
) -> None:
    """Set a widget to what was clicked, else to the choice on another page, else to the URL's."""
    clicked = st.session_state.get(key), st.session_state.get(_kept(key))
    linked = st.query_params.get(key)
    candidates = (*clicked, linked)
    chosen = next((value for value in candidates if value in options), None) or default
    st.session_state[key] = chosen
    if linked is not None and linked not in options and clicked == (None, None):
        st.warning(
            f"The link asks for {label.lower()} {theme.markdown(linked)}, which is not there; "
            f"this is {theme.markdown(show(chosen))}.",
            icon=":material/link_off:",
        )


def _keep(key: str) -> Any:
    value = st.session_state[key]
    # Streamlit forgets a widget that the next page does not show.
    st.session_state[_kept(key)] = value
    st.query_params[key] = value
    return value


def _kept(key: str) -> str:
    return f"kept {key}"
