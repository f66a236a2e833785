"""How was this run made, and how far has it come?"""

from typing import Any

import pandas as pd
import streamlit as st

from bench.score_columns import ScoreColumn
from dashboard import present, state, theme
from dashboard.run import Run, objective_of
from dashboard.state import Choice

CARD = 152  # pixels, wide enough for hours of minutes


def show(choice: Choice) -> None:
    """Show progress, the search of every cell, the benchmark file and the manifest."""
    run = choice.run
    st.title("How was this run made?")
    if run.spec.get("description"):
        st.markdown(theme.markdown(run.spec["description"]))
    numbers(run)
    audit(run.manifest.get("audit") or {})
    st.subheader("Cells")
    present.table(cells(run), "cells", _columns(objective_of(run)))
    failures(run.trials)
    left, right = st.columns(2)
    with left.expander("Benchmark file"):
        st.json(run.spec)
    with right.expander("Manifest"):
        st.json(run.manifest)


def numbers(run: Run) -> None:
    """Show the counts as cards."""
    planned_cells, planned_trials = run.planned_cells, run.planned_trials
    failed = int((run.trials.state == "failed").sum())
    pruned = int((run.trials.state == "pruned").sum())
    cards = {
        "Cells done": f"{run.cells_done} / {planned_cells or '?'}",
        "Trials done": f"{len(run.trials)} / {planned_trials or '?'}",
        "Stopped early": str(pruned),
        "Failed": str(failed),
        "Time": _duration(run.manifest),
    }
    with st.container(horizontal=True):  # in as many rows as the window needs
        for label, value in cards.items():
            st.metric(label, value, border=True, width=CARD)


def audit(content: dict[str, object]) -> None:
    """Show what was noticed while the data was read."""
    notes, skipped = content.get("notes"), content.get("skipped")
    for note in notes if isinstance(notes, list) else []:
        st.info(theme.markdown(note), icon=":material/info:")
    if isinstance(skipped, dict) and skipped:
        with st.expander(f"Files left out: {len(skipped)}"):
            table = pd.DataFrame(skipped.items(), columns=["File", "Why"])
            present.table(table, "files left out")


def cells(run: Run) -> pd.DataFrame:
    """Count the trials and refits of every cell, including cells without rows."""
    by_state = pd.crosstab(run.trials.cell, run.trials.state)
    counts = by_state.reindex(columns=["complete", "pruned", "failed"], fill_value=0)
    objective = objective_of(run)
    best = run.trials.groupby("cell").agg(
        best=(objective.name, "max" if objective.direction == "higher" else "min"),
        seconds=("seconds", "sum"),
    )
    known = run.cells.set_index("cell")[["seeds", "done"]]
    table = counts.join(best).join(known, how="outer")
    table["done"] = table.done.eq(True)
    return table.rename_axis("cell").reset_index()


def failures(trials: pd.DataFrame) -> None:
    """List the failed trials and why."""
    failed = trials[trials.state == "failed"]
    if len(failed):
        with st.expander(f"Failed trials: {len(failed)}"):
            present.table(failed[["cell", "trial", "error", "config"]], "failed trials")


def _columns(objective: ScoreColumn) -> dict[str, Any]:
    number = st.column_config.NumberColumn
    return {
        "cell": st.column_config.TextColumn("Cell", width="large"),
        "complete": number("Complete"),
        "pruned": number("Stopped early"),
        "failed": number("Failed"),
        "best": number(
            f"Best validation {theme.markdown(objective.label)}",
            format=f"%.{objective.decimals}f {objective.unit.replace('%', '%%')}".rstrip(),
        ),
        "seconds": number("Search s", format="%.1f"),
        "seeds": number("Refits"),
        "done": st.column_config.CheckboxColumn("Done"),
    }


def _duration(manifest: dict[str, object]) -> str:
    times = pd.Series([manifest.get("started"), manifest.get("finished")], dtype=str)
    elapsed = pd.to_datetime(times, errors="coerce", utc=True, format="ISO8601").diff()
    seconds = elapsed.dt.total_seconds().iloc[1]
    return "n/a" if pd.isna(seconds) else f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"


show(state.current())
