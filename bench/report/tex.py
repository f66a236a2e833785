"""The leaderboard in LaTeX: one booktabs table per task."""

import re
from collections.abc import Mapping

import pandas as pd

from bench.errors import printable
from bench.report.leaderboard import TASK, Leaderboard
from bench.score_columns import ScoreColumn

SPECIAL: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",
    "]": "{]}",
}
HEAD = (
    r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}.",
    "% Bold: the best line of a task, if no other ties with it. [low, high]: 95 % interval.",
)


def escape(text: object) -> str:
    """Write text that LaTeX shows literally, in one line."""
    return re.sub(r'[\\{}$&#%_^~<>|"\[\]]', lambda found: SPECIAL[found[0]], printable(str(text)))


def page(board: Leaderboard) -> str:
    """Write the tables of a leaderboard."""
    tables = [
        _table(f"{degradation}, level {level:g}", lines, board)
        for (degradation, level), lines in board.table.groupby(TASK, sort=False)
    ]
    return "\n".join([*HEAD, *tables]) + "\n"


def _table(title: str, lines: pd.DataFrame, board: Leaderboard) -> str:
    alone = int(lines["tied_with_best"].sum()) == 1
    heads = ["", "method", "images", *(one.title for one in board.metrics), "to the best", ""]
    rows = []
    for _, line in lines.iterrows():
        bold = alone and line["tied_with_best"]
        best = pd.isna(line["to_best"]) or line["rank"] == 1
        cells = [
            "--" if pd.isna(line["rank"]) else str(line["rank"]),
            escape(line["method"]),
            str(line["n_train"] or "--"),
            *(
                _score(line, one.name, one, bold and one == board.objective)
                for one in board.metrics
            ),
            "--" if best else _score(line, "to_best", board.objective, False, "+"),
            escape(line["against_classical"]),
        ]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join(
        [
            "",
            f"% {printable(title)}",
            rf"\begin{{tabular}}{{rlr{'l' * len(board.metrics)}ll}}",
            r"\toprule",
            rf"\multicolumn{{{len(heads)}}}{{l}}{{{escape(title)}}} \\",
            r"\midrule",
            " & ".join(escape(head) for head in heads) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _score(line: pd.Series, name: str, metric: ScoreColumn, bold: bool, sign: str = "") -> str:
    value, low, high = (line[f"{name}{end}"] for end in ("", "_low", "_high"))
    mean = metric.number(value, sign).replace("-", "$-$")
    interval = escape(metric.interval(low, high, sign)).replace("-", "$-$")
    return (rf"\textbf{{{mean}}}" if bold else mean) + interval
