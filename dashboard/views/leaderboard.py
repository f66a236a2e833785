"""Which method should I use?"""

from collections.abc import Sequence
from math import nan
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from bench import charts
from bench.score_columns import ScoreColumn
from bench.statistics import BEATS
from dashboard import present, state, theme
from dashboard.state import Choice

# Seen on a light and on a dark page.
BEST, OUT_OF_REACH = "background-color: rgba(15, 150, 180, 0.14)", "color: #8b98a0"


def show(choice: Choice) -> None:
    """Answer in a sentence, a table and a chart."""
    st.title("Which method should I use?")
    metrics = _objective_first(choice)
    cells = choice.scores(*metrics).sort_values(["rank", "method"])
    reach = choice.within_reach(*metrics)
    if reach.empty:
        st.info("No method that needs this few training images is scored on this task yet.")
    else:
        headline(choice, best_of(reach), reach)
    table(choice, cells)
    st.subheader("How far apart are they?")
    objective = choice.objective
    above = cells[~cells.method.isin(charts.FLOOR)]
    if 0 < len(above) < len(cells) and not state.tick(
        "Lower bounds", "floor", help="Methods far below all others, which would squeeze them."
    ):
        cells = above
    chart = charts.ranking(cells, objective, choice.column(objective), theme.colours(choice.run))
    present.figure(chart, "ranking")
    st.caption(f"Bars: 95 % interval over subjects. {charts.LEGEND}.")


def _objective_first(choice: Choice) -> list[ScoreColumn]:
    return [choice.objective, *(one for one in choice.listed if one != choice.objective)]


def best_of(cells: pd.DataFrame) -> pd.Series:
    """Return the cell of the best rank."""
    return cells.sort_values("rank").iloc[0]


def headline(choice: Choice, best: pd.Series, reach: pd.DataFrame) -> None:
    """Name the best method and its gain over the best classical one; that of a classical method
    is over the best that learns.
    """
    objective, *others = _objective_first(choice)
    classical = reach.kind == "classical"
    rivals = reach[~classical if best.kind == "classical" else classical]
    rival = best_of(rivals) if len(rivals) else None
    estimate = choice.estimate(objective)
    # The sign makes gains positive where lower is better, too.
    gain, *bounds = (
        (nan,) * 3
        if rival is None
        else (objective.sign * one for one in estimate.gain(best.cell, rival.cell))
    )
    verdict = "" if rival is None else estimate.verdict(best.cell, rival.cell)
    peers = [
        theme.markdown(peer.label)
        for peer in reach[(reach.kind == best.kind) & (reach.cell != best.cell)].itertuples()
        if estimate.verdict(best.cell, str(peer.cell)) != BEATS
    ]
    gained = theme.number(gain, objective)
    st.markdown(f"#### {sentence(choice, best, rival, verdict, gained, peers)}")
    if choice.run.in_progress:
        planned = choice.run.planned_cells or "?"
        st.caption(f"This may change: {choice.run.cells_done} of {planned} cells are finished.")
    best_card, gain_card, other_card, cost_card = st.columns(4)
    with best_card.container(border=True, height="stretch"):
        _card(choice, best, objective)
    with gain_card.container(border=True, height="stretch"):
        label = "Gain" if rival is None else f"Gain over {theme.markdown(rival.method)}"
        st.metric(label, theme.number(gain, objective))
        st.caption(_between(theme.interval(min(bounds), max(bounds), objective)))
    with other_card.container(border=True, height="stretch"):
        if others:
            _card(choice, best, others[0])
    with cost_card.container(border=True, height="stretch"):
        st.metric("Parameters", f"{best.parameters:,.0f}" if best.parameters > 0 else "none")
        st.caption(f"{best.flops / 1e9:.3g} GFLOP per image" if best.flops > 0 else " ")


def _card(choice: Choice, cell: pd.Series, metric: ScoreColumn) -> None:
    column = choice.column(metric)
    st.metric(theme.markdown(metric.label), theme.number(cell[column], metric))
    low, high = cell[f"{column}_low"], cell[f"{column}_high"]
    st.caption(_between(theme.interval(low, high, metric)))


def sentence(
    choice: Choice,
    best: pd.Series,
    rival: pd.Series | None,
    verdict: str,
    gain: str,
    peers: Sequence[str] = (),
) -> str:
    """Put the answer in words; `peers` are those of the same kind with which the best one ties."""
    at_hand = f"With {choice.n_train} training images" if choice.n_train else "On this task"
    name = theme.markdown(best.method)
    if best.n_train and best.n_train < choice.n_train:
        name += f" (trained on {best.n_train})"
    ties = f"ties with {', '.join(peers)}" if peers else ""
    if rival is None:
        lead = f"comes first, but {ties}" if ties else "is the best method scored so far"
        return f"{at_hand}, {name} {lead}."
    other = f"the best {rival.kind} method, {theme.markdown(rival.method)}"
    if verdict != BEATS:
        doubts = f"{ties}, and {verdict}" if ties else verdict
        return f"{at_hand}, {name} comes first, but {doubts} {other}."
    lead = f"{name} comes first, but {ties}" if ties else f"use {name}"
    return f"{at_hand}, {lead}: it {verdict} {other} by {theme.markdown(gain)}."


def table(choice: Choice, cells: pd.DataFrame) -> None:
    """Show every cell of the task and offer the table as a file."""
    lines = listed(choice, cells)
    st.dataframe(
        styled(lines, choice), column_order=_shown(lines), hide_index=True,
        column_config=_columns(choice), height=2 + 35 * (len(lines) + 1), row_height=35,
        placeholder="-",
    )  # fmt: skip
    explain, download = st.columns([5, 1], vertical_alignment="top")
    explain.caption(_legend(cells))
    csv = lines.assign(cell=cells.cell.tolist(), replay=cells.replay.tolist()).to_csv(index=False)
    download.download_button(
        "CSV", csv, f"{choice.task}.csv", "text/csv", icon=":material/download:", width="stretch"
    )
    with download:
        present.offer(lines[_shown(lines)], "leaderboard", _columns(choice), width="stretch")
    with st.expander("Reproduce a line"):
        st.code("\n".join(cells.replay), language=None, wrap_lines=True)


def listed(choice: Choice, cells: pd.DataFrame) -> pd.DataFrame:
    """Make the table that is shown."""
    scores: dict[str, pd.Series | list[str]] = {}
    for metric in choice.listed:
        column = choice.column(metric)
        scores[metric.name] = cells[column]
        scores[f"{metric.name}_interval"] = _intervals(cells, column, metric)
    return pd.DataFrame(
        {
            "rank": [_rank(cell) for cell in cells.itertuples()],
            "method": cells.method,
            "kind": cells.kind,
            "n_train": cells.n_train.astype(int),
            **scores,
            # Neither yes nor no for a cell without a rank.
            "tied": cells.tied_with_best.astype("boolean").where(cells["rank"].notna()),
            "against_classical": cells.against_classical,
            "parameters": [f"{count:,.0f}" if count > 0 else "-" for count in cells.parameters],
            "flops": [f"{count / 1e9:.3g}" if count > 0 else "-" for count in cells.flops],
            "error_unseen": 100 * cells.error_unseen,
            "badges": cells.badges,
        }
    ).reset_index(drop=True)


def styled(lines: pd.DataFrame, choice: Choice) -> Styler:
    """Tint the best line within reach; fade those that need more training images."""
    n_train, objective = choice.n_train, choice.objective
    reach = lines[(lines.n_train <= n_train) & (lines["rank"] != "")]
    best = (objective.sign * reach[objective.name]).idxmax() if len(reach) else None

    def style(line: pd.Series) -> list[str]:
        look = OUT_OF_REACH if line.n_train > n_train else BEST if line.name == best else ""
        return [look] * len(line)

    return lines.style.apply(style, axis=1)


def _shown(lines: pd.DataFrame) -> list[str]:
    """List the columns; without badges if all lines have the same, which the legend names, and
    without what is not known of any line.
    """
    shown = {"badges": lines.badges.nunique() > 1, "error_unseen": lines.error_unseen.notna().any()}
    return [str(name) for name in lines if shown.get(str(name), True)]


def _columns(choice: Choice) -> dict[str, Any]:
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    scores: dict[str, Any] = {}
    for metric in choice.listed:
        title = theme.markdown(f"{metric.label} {metric.unit}".rstrip())
        scores[metric.name] = number(title, format=f"%.{metric.decimals}f", width=64)
        scores[f"{metric.name}_interval"] = text("95 % interval", width=108)
    return {
        "rank": text("Rank", width=68, help="Within the task, with its 95 % interval."),
        "method": text("Method", width=140),
        "kind": text("Kind", width=70),
        "n_train": number("n train", width=56, help="Training images; 0: needs none."),
        **scores,
        "tied": st.column_config.CheckboxColumn(
            "Tied", width=42, help="Not shown to be worse than the best, by the corrected test."
        ),
        "against_classical": text(
            "Against classical", help="Of methods that learn, by the corrected test.", width=108
        ),
        "parameters": text("Weights", width=64, help="Parameters."),
        "flops": text(
            "GFLOP",
            width=56,
            help="Floating-point operations for one image, by PyTorch's counter. Times depend on "
            "what else ran: they are in the report's leaderboard.csv.",
        ),
        "error_unseen": number(
            "Unseen %",
            format="%.1f",
            width=70,
            help="The part of the error that the measurement hardly shows, in per cent of the "
            "image: what was invented or left out.",
        ),
        "badges": text("Badges"),
    }


def _rank(cell: object) -> str:
    rank, low, high = (getattr(cell, name) for name in ("rank", "rank_low", "rank_high"))
    if pd.isna(rank):
        return ""
    return f"{rank}" if low == high else f"{rank} ({low}-{high})"


def _intervals(cells: pd.DataFrame, column: str, metric: ScoreColumn) -> list[str]:
    bounds = zip(cells[f"{column}_low"], cells[f"{column}_high"], strict=True)
    return [theme.interval(low, high, metric) for low, high in bounds]


def _between(interval: str) -> str:
    return f"95 %: {interval}" if interval else " "


def _legend(cells: pd.DataFrame) -> str:
    parts = [
        "Tinted: the best available method. Grey: needs more training images than are available."
    ]
    parts += [
        f"{theme.markdown(cell.label)}: no score on {cell.unscored} of the test images, so no rank."
        for cell in cells[cells.unscored > 0].itertuples()
    ]
    unfinished = int((~cells.done.astype(bool)).sum())
    if unfinished:
        parts.append(f"Cells whose refits are not all finished: {unfinished}.")
    if cells.badges.nunique() == 1 and cells.badges.iloc[0]:
        parts.append(f"All lines: **{theme.markdown(cells.badges.iloc[0])}**.")
    return " ".join(parts)


show(state.current())
