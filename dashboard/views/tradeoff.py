"""What does PSNR cost: in SSIM, in parameters, in computing?"""

import json
from dataclasses import replace
from typing import Any

import pandas as pd
import streamlit as st

from bench import charts, timing_table
from bench.edges import best_trials
from dashboard import present, state, theme
from dashboard import run as runs
from dashboard.state import Choice

COSTS = {
    "parameters": "Parameters",
    "flops": "FLOPs per image",
    "train_cpu_seconds": "CPU-seconds of training",
    "ms_1": "ms per image",
    "step_mb": "MB of a training step",
}
NAMES = {"ssim": "SSIM", **COSTS}
CLICK = "Click a point to see its configuration, and the command that trains it again."
ONE_KIND = f"{charts.LEGEND}; a larger marker means more training images."


def show(choice: Choice) -> None:
    """Draw PSNR against SSIM or a cost, and name the Pareto front."""
    st.title("What does PSNR cost?")
    both = choice.run.columns["psnr"], choice.run.columns["ssim"]
    methods = list(theme.colours(choice.run))
    device, costs = timing_table.of_one_device(timing_table.read(choice.run.folder))
    measured = choice.run.cells.join(costs, on="cell")
    known = [name for name in COSTS if name in measured and (measured[name] > 0).any()]
    against = state.switch("Against", "against", ["ssim", *known], show=NAMES.__getitem__)
    above = [method for method in methods if method not in charts.FLOOR]
    chosen = state.several("Methods", "methods", methods, default=above or methods)
    cells = choice.within_reach(*both).join(costs, on="cell")
    cells = cells[cells.method.isin(chosen)].dropna(subset=[choice.column(both[0])])
    if against == "ssim":
        against_ssim(choice, cells)
    else:
        against_cost(choice, cells, against)
        if against in costs:
            st.caption(f"Measured by `reconbench timing` on: {theme.markdown(device)}.")
        elif "ms_1" not in known:
            st.caption("`reconbench timing` adds time and memory, measured with nothing beside.")


def against_ssim(choice: Choice, cells: pd.DataFrame) -> None:
    """Draw PSNR against SSIM."""
    psnr, ssim = (choice.column(choice.run.columns[name]) for name in ("psnr", "ssim"))
    cells = cells.dropna(subset=[ssim])
    if cells.empty:
        st.info("None of these methods is scored with this few training images yet.")
        return
    front = charts.pareto(cells, psnr, ssim)
    names = [theme.markdown(label) for label in front.label]
    st.markdown(f"#### {verdict(names)}")
    chart = charts.tradeoff(cells, front, psnr, ssim, theme.colours(choice.run))
    clickable(chart, "tradeoff")
    st.caption(
        "Up and right is better. In the shaded region the front is at least as good in both. "
        f"{ONE_KIND} Bars: 95 % interval over subjects. {CLICK}"
    )
    configuration(choice, cells, "tradeoff")


def against_cost(choice: Choice, cells: pd.DataFrame, cost: str) -> None:
    """Draw PSNR against a cost."""
    psnr = choice.run.columns["psnr"]
    costly = cells[cells[cost] > 0]
    if costly.empty:
        st.info(f"{NAMES[cost]}: recorded for none of these methods.")
        return
    shown = replace(psnr, name=choice.column(psnr))
    front = charts.pareto(costly, shown.name, cost, ascending=True)
    names = [theme.markdown(label) for label in reversed(front.label.tolist())]
    st.markdown(f"#### On the Pareto front, from the cheapest to the best: {', '.join(names)}.")
    chart = charts.cost(costly, shown, cost, NAMES[cost], theme.colours(choice.run))
    clickable(chart, "cost")
    free = sorted({theme.markdown(label) for label in cells.label[~(cells[cost] > 0)]})
    without = f" Not on this axis, because they have none: {', '.join(free)}." if free else ""
    st.caption(
        f"Up and left is better. {ONE_KIND} Bars: 95 % interval over subjects.{without} {CLICK}"
    )
    configuration(choice, costly, "cost")


def clickable(chart: Any, key: str) -> None:
    """Draw a chart whose points can be clicked."""
    present.figure(chart, key, on_select="rerun", selection_mode="points")


def configuration(choice: Choice, cells: pd.DataFrame, key: str) -> None:
    """Show the configuration of the point that was clicked, and the command that repeats it."""
    points = st.session_state[key].selection.points
    labels = {charts.escape(label): label for label in cells.label}
    clicked = [labels[one["customdata"]] for one in points if one.get("customdata") in labels]
    if not clicked:
        return
    cell = cells[cells.label == clicked[0]].iloc[0]
    st.subheader(theme.markdown(cell.label))
    if cell.replay:
        st.code(cell.replay, language=None, wrap_lines=True)
    trials = choice.run.trials[choice.run.trials.cell == cell.cell]
    config = best_trials(trials, runs.objective_of(choice.run)).get(str(cell.cell))
    if config:
        st.code(json.dumps(config), language=None, wrap_lines=True)


def verdict(names: list[str]) -> str:
    """Put the front of PSNR and SSIM in words."""
    if len(names) == 1:
        return f"No trade-off: {names[0]} has both the best PSNR and the best SSIM."
    return f"On the Pareto front, from best PSNR to best SSIM: {', '.join(names)}."


show(state.current())
