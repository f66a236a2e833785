"""Which method is best over all tasks?"""

import pandas as pd
import streamlit as st

from bench import charts, records, task_charts
from bench.mean_ranks import over_tasks
from bench.score_columns import ScoreColumn
from dashboard import present, state, theme
from dashboard.over_tasks import largest, ranked
from dashboard.state import Choice

MOST_SQUARES = 2400
MOST_CELLS = 600  # of a run whose verdicts are computed here


def show(choice: Choice) -> None:
    """Show every method in every task, mean ranks, and how often each method wins."""
    st.title("Which method is best over all tasks?")
    metric = choice.objective
    lines = choice.overview(metric)
    if lines.task.nunique() < 2:
        st.info("This run has one task so far: see the leaderboard.")
        return
    looks = {"gain": "Gain over classical", "rank": "Rank"}
    look = state.switch("Show", "look", list(looks), show=looks.__getitem__)
    with st.container(horizontal=True, gap="large"):
        every = state.tick(
            "All training-set sizes", "every size",
            help="Otherwise each method with the most of the available training images.",
        )  # fmt: skip
        floor = state.tick("Lower bounds", "floor", help=", ".join(charts.FLOOR))
    lines = lines if every else largest(lines, choice.n_train)
    lines = lines if floor else lines[~lines.method.isin(charts.FLOOR)]
    if lines.empty:
        st.info("No method is scored with these training images yet.")
        return
    lines = ranked(lines, metric.sign)
    squares(lines, metric, look)
    # As the report does, where all sizes are shown; otherwise a method has one name in all tasks.
    mean_ranks(lines if every else lines.assign(n_train=0))
    if every and len(choice.run.cells) <= MOST_CELLS:
        wins(choice, metric)


def squares(lines: pd.DataFrame, metric: ScoreColumn, look: str) -> None:
    """Draw every method in every task."""
    tasks = lines.task.nunique()
    labels = list(dict.fromkeys(lines.label))
    kept = labels[: max(1, MOST_SQUARES // tasks)]
    shown = lines[lines.label.isin(kept)]
    by_gain = look == "gain" and shown.gain.notna().any()
    figure = task_charts.gains(shown, metric) if by_gain else task_charts.ranks(shown, metric)
    present.figure(figure, "methods by tasks")
    words = ["The best mean rank is on top. Empty: not scored on every test image (yet)."]
    if by_gain:
        words.append(
            f"{theme.markdown(metric.label)} above that of the best classical method of the task "
            "(below it, where lower is better); a pointer shows the 95 % interval."
        )
    if len(kept) < len(labels):
        words.append(f"{len(labels) - len(kept)} methods of lower mean rank are not drawn.")
    st.caption(" ".join(words))


def mean_ranks(lines: pd.DataFrame) -> None:
    """Draw mean ranks with their critical difference."""
    st.subheader("Mean ranks over all tasks")
    found = over_tasks(lines)
    if found is None:
        st.info("Too few methods are scored in every task.")
        return
    st.markdown(theme.markdown(found.sentence()))
    present.figure(task_charts.critical_difference(found), "mean ranks")
    left = len(set(lines.label)) - len(found.ranks)
    without = f" Left out, because a task lacks them: {left}." if left else ""
    st.caption(f"Bars join methods whose mean ranks do not differ.{without}")


def wins(choice: Choice, metric: ScoreColumn) -> None:
    """Show how often each method that learns beats the best classical one."""
    found = choice.records(metric)
    if found.empty:
        return
    st.subheader("How often does each method that learns win?")
    table = records.summary(found)
    number = st.column_config.NumberColumn
    form = f"%+.{metric.decimals}f"
    unit = theme.markdown(f" {metric.unit}".rstrip())
    against = "By the corrected test, against the best classical method of the task."
    present.table(
        table, "wins",
        {
            "method": "Method",
            "cells": number("Cells", help="Tasks and training-set sizes."),
            records.VERDICTS[0]: number("Beats classical", help=against),
            records.VERDICTS[1]: number("Ties", help=against),
            records.VERDICTS[2]: number("Loses", help=against),
            "gain": number(f"Mean gain{unit}", format=form),
            "least": number(f"Least gain{unit}", format=form),
            "first": number("First, or tied", help="Among cells with as many training images."),
            "lead": number(
                f"Mean lead{unit}", format=form, help="Over the best other that learns."
            ),
        },
    )  # fmt: skip


show(state.current())
