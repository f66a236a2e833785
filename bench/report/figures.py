"""The interactive figures of a report, as JSON for Plotly's JavaScript."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench import charts, task_charts
from bench.palette import palette
from bench.report.leaderboard import TASK, Leaderboard

COSTS = {
    "parameters": "parameters",
    "flops": "FLOPs per image",
    "train_cpu_seconds": "CPU-seconds of training",
    "ms_1": "ms per image, one at a time",
    "step_mb": "MB of a training step",
}
MOST = 350  # lines of the leaderboard that are drawn, each in up to seven figures


def of_board(board: Leaderboard) -> list[dict[str, Any]]:
    """Draw the figures of a leaderboard: `task` (empty where over tasks), `title`, `json`.

    Only the first tasks have figures if there are more than `MOST` lines; see `undrawn`.
    """
    if board.lines.empty:
        return []
    colours = palette(sorted(board.lines["method"], key=_floor_first))
    found = [*_over_tasks(board, colours)]
    left_out = undrawn(board)
    for key, lines in board.lines.groupby(TASK, sort=False):
        if _name(key) not in left_out:
            found += _of_task(board, _name(key), lines, colours)
    for one in found:
        one["json"] = one["figure"].update_layout(template="plotly_white").to_json()
    return found


def undrawn(board: Leaderboard) -> set[str]:
    """Name the tasks that are left without figures, so that the page stays small."""
    if board.lines.empty:
        return set()
    sizes = board.lines.groupby(TASK, sort=False).size()
    first, *_ = sizes.index
    return {_name(key) for key in sizes.index[sizes.cumsum() > MOST] if key != first}


def _name(key: Any) -> str:
    degradation, level = key
    return f"{degradation} {level:g}"


def _floor_first(method: str) -> tuple[bool, str]:
    """Order methods so that those of the floor have the muted colours."""
    return method not in charts.FLOOR, method


def _over_tasks(board: Leaderboard, colours: dict[str, str]) -> Iterator[dict[str, Any]]:
    if board.ranks is not None:
        yield {
            "task": "",
            "title": "Mean ranks over all tasks",
            "figure": task_charts.critical_difference(board.ranks),
        }
    lines, objective = board.lines, board.objective
    for degradation, own in lines.groupby("degradation", sort=False):
        shown = own[_above_floor(own) & own["n_train"].isin([0, own["n_train"].max()])]
        if shown["level"].nunique() > 1:
            yield {
                "task": "",
                "title": f"{degradation}: along the levels",
                "figure": charts.against_level(shown, objective, objective.name, colours),
            }


def _of_task(
    board: Leaderboard, task: str, lines: pd.DataFrame, colours: dict[str, str]
) -> Iterator[dict[str, Any]]:
    objective, shown = board.objective, lines[_above_floor(lines)]
    if lines[lines["n_train"] > 0].groupby("method").size().max() > 1:
        figure = charts.against_size(shown, objective, objective.name, colours)
        figure = charts.add_fits(figure, board.efficiency.get(task, []), colours)
        yield {"task": task, "title": "How many training images?", "figure": figure}
    both = shown.dropna(subset=["psnr", "ssim"])
    if len(both) > 1:
        front = charts.pareto(both, "psnr", "ssim")
        figure = charts.tradeoff(both, front, "psnr", "ssim", colours)
        yield {"task": task, "title": "PSNR against SSIM", "figure": figure}
    for cost in (one for one in COSTS if one in shown):
        title, costly = COSTS[cost], shown[shown[cost] > 0].dropna(subset=[objective.name])
        if len(costly) > 2:
            figure = charts.cost(costly, objective, cost, title, colours)
            yield {"task": task, "title": f"{objective.label} against {title}", "figure": figure}


def _above_floor(lines: pd.DataFrame) -> pd.Series:
    above = ~lines["method"].isin(charts.FLOOR)
    return above if above.any() else ~above
