"""What did the search find, and was it large enough?"""

import json
from math import nan
from typing import Any

import pandas as pd
import streamlit as st

from bench import search_charts
from bench.edges import at_edge, best_trials
from bench.importance import FEWEST
from bench.score_columns import ScoreColumn
from dashboard import present, state, theme
from dashboard.run import objective_of
from dashboard.state import Choice


def show(choice: Choice) -> None:
    """Show the searches of the task, and one of them closely."""
    st.title("What did the search find?")
    run = choice.run
    objective = objective_of(run)
    mine = choice.cells[choice.cells.trials > 0]
    if mine.empty:
        st.info("Nothing was searched for this task yet.")
        return
    trials = run.trials[run.trials.cell.isin(mine.cell)]
    methods = dict(zip(mine.cell, mine.method, strict=True))
    edges = at_edge(trials, methods, spaces(choice), objective)
    mine = mine.sort_values(["method", "n_train"])
    table(choice, mine, trials, edges)
    labels = dict(zip(mine.label, mine.cell, strict=True))
    label = state.select("Method and training images", "searched", list(labels))
    cell = labels[label]
    own = trials[trials.cell == cell]
    closely(choice, cell, own, objective)
    for one in edges:
        if one.startswith(f"{cell}: "):
            where = theme.markdown(one.removeprefix(f"{cell}: "))
            st.warning(
                f"The best value is at the edge of its range, which may be too small: {where}.",
                icon=":material/align_horizontal_left:",
            )
    parameters(choice, methods[cell], own, objective)


def spaces(choice: Choice) -> dict[str, Any]:
    """Return the search spaces of the run by method; empty where it does not record them."""
    recorded = choice.run.manifest.get("spaces")
    known = recorded if isinstance(recorded, dict) else {}
    return {name: space for name, space in known.items() if isinstance(space, dict)}


def budget_spent(choice: Choice, cells: pd.DataFrame, trials: pd.DataFrame) -> pd.Series:
    """Return the part of the search budget that each cell spent.

    That is of its optimiser steps for a method that takes any, else of its trials.

    Args:
        choice: the user's.
        cells: of a task.
        trials: of these cells.

    Returns:
        by cell; NaN where the run does not record its budget, or nothing was varied.
    """
    budget = choice.run.spec.get("budget")
    planned = [budget.get(key) for key in ("trials", "steps")] if isinstance(budget, dict) else []
    known = [number for number in planned if isinstance(number, int) and number > 0]
    if len(known) < 2:
        return pd.Series(nan, cells.cell)
    count, steps = known
    spent = trials.groupby("cell").agg(trials=("trial", "size"), steps=("step", "sum"))
    spent = spent.reindex(cells.cell, fill_value=0)
    part = (spent.steps / (count * steps)).where(spent.steps > 0, spent.trials / count)
    varied = [bool(spaces(choice).get(method)) for method in cells.method]
    return part.where(pd.Series(varied, cells.cell))


def table(choice: Choice, cells: pd.DataFrame, trials: pd.DataFrame, edges: list[str]) -> None:
    """Show a line for each search of the task: its trials, what they cost, and its best result."""
    objective = objective_of(choice.run)
    states = pd.crosstab(trials.cell, trials.state)
    states = states.reindex(columns=["complete", "pruned", "failed"], fill_value=0)
    best = trials[trials.state == "complete"].groupby("cell")[objective.name]
    spent = trials.groupby("cell")[["step", "seconds"]].sum()
    at_edges = {edge.partition(": ")[0] for edge in edges}
    lines = pd.DataFrame({"cell": cells.cell, "method": cells.label})
    lines = lines.join(states, on="cell").join(spent, on="cell")
    lines["step"] = lines["step"].where(lines["step"] > 0)
    lines["budget"] = lines.cell.map(100 * budget_spent(choice, cells, trials))
    lines["best"] = lines.cell.map(best.max() if objective.sign > 0 else best.min())
    lines["edge"] = lines.cell.isin(at_edges)
    number = st.column_config.NumberColumn
    title = theme.markdown(f"Best {objective.label} {objective.unit}".rstrip())
    present.table(
        lines.drop(columns="cell"), "searches",
        {
            "method": st.column_config.TextColumn("Method"),
            "complete": number("Complete"),
            "pruned": number("Stopped early"),
            "failed": number("Failed"),
            "step": number("Steps spent", format="localized"),
            "seconds": number("Seconds", format="%.1f", help="While other trials ran beside."),
            "budget": number(
                "Budget %",
                format="%.0f",
                help="The part of the search budget that was spent: of the optimiser steps; of the "
                "trials, if the method takes no steps. Stopping trials early saves the rest.",
            ),
            "best": number(title, format=f"%.{objective.decimals}f", help="On validation images."),
            "edge": st.column_config.CheckboxColumn(
                "At an edge", help="A parameter of the best trial is at the edge of its range."
            ),
        },
    )  # fmt: skip


def closely(choice: Choice, cell: str, trials: pd.DataFrame, objective: ScoreColumn) -> None:
    """Show the trials of one search, and the training of its refits."""
    best = best_trials(trials, objective).get(cell)
    if best is not None:
        st.markdown("**Best configuration**, with which the refits were trained")
        st.code(json.dumps(best), language=None, wrap_lines=True)
    left, right = st.columns(2, gap="large")
    with left:
        st.subheader("Trials, one after another")
        figure = search_charts.course(trials, objective)
        present.figure(figure, "course")
    validations = state.validations(str(choice.run.folder), choice.stamp, cell)
    validations = validations[validations.step > 0]  # a method that takes no steps has no course
    curves = choice.run.curves
    refits = curves[curves.cell == cell]
    with right:
        if len(validations):
            st.subheader("Validation while they trained")
            figure = search_charts.curves(validations, trials, objective)
            present.figure(figure, "trial curves")
        elif len(refits):
            st.subheader("Validation while the refits trained")
            refit_curves(refits, choice.run.columns["psnr"])
    left_out = max(0, len(trials) - search_charts.MOST) if len(validations) else 0
    st.caption(stopped(trials) + (f" The {left_out} worst have no curve." if left_out else ""))
    if len(validations) and len(refits):
        st.subheader("Validation while the refits trained")
        refit_curves(refits, choice.run.columns["psnr"])


def refit_curves(refits: pd.DataFrame, metric: ScoreColumn) -> None:
    """Draw the validations of refits."""
    figure = search_charts.refits(refits, metric)
    present.figure(figure, "refit curves")


def stopped(trials: pd.DataFrame) -> str:
    """Write after how many steps trials were stopped."""
    pruned = trials[trials.state == "pruned"]
    if pruned.empty:
        return "No trial was stopped early."
    counts = pruned.groupby("step").size()
    named = ", ".join(f"{count} after {step:,.0f} steps" for step, count in counts.items())
    return f"Stopped early, because others did better by then: {named}."


def parameters(choice: Choice, method: str, trials: pd.DataFrame, objective: ScoreColumn) -> None:
    """Show what each parameter did."""
    space = spaces(choice).get(method, {})
    if not space:
        st.caption("This method has no parameters that were varied, or the run is an earlier one.")
        return
    st.subheader("What did the parameters do?")
    lines = search_charts.parallel(trials, space, objective)
    if lines is not None:
        present.figure(lines, "parallel")
        st.caption("One line for each complete trial; the darker, the better.")
    found = state.importances(trials, space, objective)
    if found:
        figure = search_charts.importances(found)
        present.figure(figure, "importances")
        st.caption(
            "Part of the variation between complete trials that each parameter explains, by "
            "Optuna's functional ANOVA. With few trials it is a hint, no more."
        )
    else:
        st.caption(
            f"The importance of the parameters needs at least {FEWEST} complete trials that differ."
        )


show(state.current())
