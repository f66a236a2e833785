"""The lines of a leaderboard as text, for the terminal, Markdown and HTML."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bench import badges, lesion_table
from bench.report.leaderboard import TASK, Leaderboard
from bench.score_columns import ScoreColumn

LEADING = {"rank": "rank", "method": "method", "n_train": "images"}
TRUST = ["method", "images", "residual / noise", "error seen (%)", "error unseen (%)"]
LESIONS = [
    "task", "method", "images", "radius", "contrast shown (%)", "in the worst tenth (%)",
    "false lesions an image",
]  # fmt: skip
RECORD = [
    "method", "cells", "beat the best classical method", "tie with it", "lose to it", "mean gain",
    "least gain", "first, or tied with the first", "mean lead over the best other that learns",
]  # fmt: skip
COSTS = {
    "train_cpu_seconds": "CPU-seconds of training",
    "ms_1": "ms/image",
    "ms_16": "ms/image, 16 at once",
    "step_ms": "ms/step",
    "step_mb": "MB/step",
}
TRAILING = {
    "to_best": "to the best",
    "parameters": "parameters",
    "flops": "GFLOP/image",
    "trials": "trials",
    "steps": "steps spent",
    "tied_with_best": "",
}


def shown(board: Leaderboard) -> dict[str, str]:
    """Map the columns that pages show to their headings."""
    return {**LEADING, **{one.name: one.title for one in board.metrics}, **TRAILING}


def tasks(board: Leaderboard) -> list[dict[str, Any]]:
    """Group the leaderboard by task, its numbers as text."""
    lines = dict(list(board.lines.groupby(TASK))) if len(board.lines) else {}
    return [
        {
            "title": f"{degradation}, level {level:g}",
            "name": f"{degradation} {level:g}",
            "lines": [_texts(line, board.metrics, board.objective) for _, line in part.iterrows()],
            "trust": trust(part),
            "costs": costs(lines.get((degradation, level), part)),
        }
        for (degradation, level), part in board.table.groupby(TASK, sort=False)
    ]


def trust(lines: pd.DataFrame) -> list[list[str]]:
    """Write what of each line's error the measurement shows; nothing where that is not known."""
    known = lines[lines["error_unseen"].notna()]
    return [
        [
            str(line["method"]),
            str(line["n_train"] or "-"),
            f"{line['residual_to_noise']:.2f}" if pd.notna(line["residual_to_noise"]) else "-",
            f"{100 * line['error_seen']:.1f}",
            f"{100 * line['error_unseen']:.1f}",
        ]
        for _, line in known.iterrows()
    ]


def record(board: Leaderboard) -> list[list[str]]:
    """Write what each method that learns does over all tasks; nothing where there is one task."""
    if board.record is None:
        return []
    signed = dict.fromkeys(("gain", "least", "lead"), board.objective.text)
    return [
        [
            "-" if pd.isna(value) else signed[name](value, "+") if name in signed else str(value)
            for name, value in line.items()
        ]
        for line in board.record.to_dict("records")
    ]


def overview(board: Leaderboard) -> tuple[list[str], list[list[str]]]:
    """Write the objective of every method in every task: a heading, and a line for each size.

    Cells that are best in their task, or tied with the best, are marked with a star. Nothing where
    there is one task.
    """
    table = board.table
    names = [f"{degradation} {level:g}" for degradation, level in table[TASK].to_numpy()]
    tasks = list(dict.fromkeys(names))
    if len(tasks) < 2:
        return [], []
    marks = ["*" if tied else "" for tied in table["tied_with_best"]]
    values = [board.objective.number(value) for value in table[board.objective.name]]
    texts = pd.DataFrame(
        {
            "method": table["method"].astype(str), "n_train": table["n_train"], "task": names,
            "text": [value + mark for value, mark in zip(values, marks, strict=True)],
        }
    )  # fmt: skip
    wide = texts.pivot_table(
        index=["n_train", "method"], columns="task", values="text", aggfunc="first"
    ).reindex(columns=tasks)
    lines = [
        [method, str(n_train or "-"), *("-" if pd.isna(text) else text for text in line)]
        for (n_train, method), line in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return ["method", "images", *tasks], lines


def costs(lines: pd.DataFrame) -> list[list[str]]:
    """Write what each line cost; nothing where that is not known."""
    numbers = lines.reindex(columns=list(COSTS)).astype(float)
    numbers = numbers.where(numbers > 0)  # a method without training has none
    known = numbers.notna().any(axis=1)
    return [
        [method, str(n_train or "-"), *("-" if pd.isna(one) else f"{one:,.3g}" for one in values)]
        for method, n_train, values in zip(
            lines["method"][known], lines["n_train"][known], numbers[known].to_numpy(), strict=True
        )
    ]


def lesions(lines: pd.DataFrame) -> list[list[str]]:
    """Write what the lesion test has found, one line for each cell and radius."""
    return [
        [
            f"{line['degradation']} {line['level']:g}",
            str(line["method"]),
            str(line["n_train"] or "-"),
            f"{line['radius']} px",
            f"{100 * line['recovered']:.0f}",
            f"{100 * line['recovered_low']:.0f}",
            f"{line['false_lesions']:.1f}",
        ]
        for _, line in lesion_table.summary(lines).iterrows()
    ]


def _texts(line: pd.Series, metrics: Sequence[ScoreColumn], objective: ScoreColumn) -> list[str]:
    return [
        _rank(line),
        str(line["method"]),
        str(line["n_train"] or "-"),
        *(_with_interval(line, one) for one in metrics),
        "-"
        if pd.isna(line["to_best"]) or line["rank"] == 1
        else _with_interval(line, replace(objective, name="to_best"), "+"),
        f"{line['parameters']:,}" if line["parameters"] else "-",
        f"{line['flops'] / 1e9:.3g}" if line["flops"] > 0 else "-",
        str(line["trials"]),
        f"{line['steps']:,}" if line["steps"] else "-",
        ", ".join(filter(None, [_standing(line), line["against_classical"], _external(line)])),
    ]


def _with_interval(line: pd.Series, metric: ScoreColumn, sign: str = "") -> str:
    mean, low, high = (line[f"{metric.name}{end}"] for end in ("", "_low", "_high"))
    return metric.number(mean, sign) + metric.interval(low, high, sign)


def _rank(line: pd.Series) -> str:
    if pd.isna(line["rank"]):
        return "-"
    low, high = line["rank_low"], line["rank_high"]
    return f"{line['rank']}" if low == high else f"{line['rank']} ({low}-{high})"


def _external(line: pd.Series) -> str:
    return badges.EXTERNAL if badges.EXTERNAL in line["badges"].split(", ") else ""


def _standing(line: pd.Series) -> str:
    if pd.isna(line["rank"]):
        return badges.UNSCORED
    return "best" if line["rank"] == 1 else "tied with best" if line["tied_with_best"] else ""
