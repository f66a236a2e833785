"""Several runs on one board, where they measured and scored the same images in the same way."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench import badges, curves, score_columns
from bench.errors import UserError
from bench.report.leaderboard import TASK, Leaderboard, build
from bench.store import Store


def combine(stores: Sequence[Store]) -> tuple[Leaderboard, pd.DataFrame, pd.DataFrame]:
    """Merge runs; a cell that several have is shown once for each, under the name of its run.

    Returns:
        the leaderboard, all rows and all trials.

    Raises:
        UserError: fewer than two runs, or runs that cannot be compared; says why.
    """
    if len(stores) < 2:
        raise UserError("compare: name at least two runs")
    first, *others = stores
    for other in others:
        _check(first, other)
    rows, trials, gains = [], [], []
    taken: dict[str, str] = {}
    for store in stores:
        own = store.rows()
        if own.empty:
            raise UserError(f"{store.folder}: no cell has finished yet")
        name = store.folder.name
        again = {cell: f"{cell}@{name}" for cell in own["cell"].unique() if cell in taken}
        if len(set(again.values()) & set(taken)):
            raise UserError(f"{store.folder}: a run of this name is named twice; rename its folder")
        method = own["method"].where(~own["cell"].isin(again), own["method"] + f" ({name})")
        rows.append(own.assign(cell=own["cell"].replace(again), method=method))
        # Trials and curves of a cell without rows, which has not finished, are not on the board.
        tried, drawn = (
            one[one["cell"].isin(own["cell"])] for one in (store.trials(), store.curves())
        )
        trials.append(_renamed(tried, again))
        gains.append(curves.gains(_renamed(drawn, again)))
        taken |= dict.fromkeys(rows[-1]["cell"].unique(), str(store.folder))
    every, searched = pd.concat(rows, ignore_index=True), pd.concat(trials, ignore_index=True)
    _check_measurements(every, stores)
    manifest, spec = first.manifest(), first.spec()
    columns = score_columns.of_run(manifest)
    objective = columns[spec.objective]
    marks = list(dict.fromkeys(one for store in stores for one in badges.of_run(store.manifest())))
    board = build(
        every, searched, marks, "", spec.budget.steps,
        score_columns.listed(columns, objective.name), objective,
        pd.concat(gains).astype({"rising": bool}), manifest.get("simulated") or (),
    )  # fmt: skip
    for table in (board.table, board.lines):
        cells = board.lines["cell"]
        table["replay"] = [
            badges.replay(taken[cell], cell.partition("@")[0]) if replay else ""
            for cell, replay in zip(cells, board.lines["replay"], strict=True)
        ]
    board.findings[:0] = _differences(stores)
    return board, every, searched


def _renamed(table: pd.DataFrame, again: dict[str, str]) -> pd.DataFrame:
    return table.assign(cell=table["cell"].replace(again))


def _check(first: Store, other: Store) -> None:
    """Refuse runs with other images, metrics or objectives."""
    known, here = first.manifest().get("data", {}), other.manifest().get("data", {})
    if not known.get("test") or known.get("test") != here.get("test"):
        raise UserError(
            f"{other.folder}: has other test images than {first.folder} (by their hashes); compare "
            "runs of one dataset, image size and split"
        )
    if first.spec().objective != other.spec().objective:
        raise UserError(
            f"{other.folder}: ranks by {other.spec().objective}, {first.folder} by "
            f"{first.spec().objective}; compare runs with one objective"
        )
    columns = score_columns.of_run(first.manifest()), score_columns.of_run(other.manifest())
    code = [store.manifest().get("metric_code") or {} for store in (first, other)]
    for name in columns[0].keys() | columns[1].keys():
        if columns[0].get(name) != columns[1].get(name) or code[0].get(name) != code[1].get(name):
            raise UserError(
                f"{other.folder}: its metric {name} is not that of {first.folder}; compare runs "
                "with the same metrics and conventions"
            )


def _check_measurements(rows: pd.DataFrame, stores: Sequence[Store]) -> None:
    """Refuse tasks of one name in which the same images were measured differently."""
    counts = rows.groupby([*TASK, "image"])["measurement_hash"].nunique()
    different = counts[counts > 1]
    if len(different):
        degradation, level, _ = different.index[0]
        named = ", ".join(str(store.folder) for store in stores)
        raise UserError(
            f"{named}: their measurements of {degradation} {level:g} differ (by their hashes), "
            "because of other options of the degradation, or another kind of processor"
        )


def _differences(stores: Sequence[Store]) -> list[str]:
    """List the other differences between the runs that a reader must know."""
    named: dict[str, list[Any]] = {
        "number of trials": [store.spec().budget.trials for store in stores],
        "number of steps": [store.spec().budget.steps for store in stores],
        "batch size": [store.spec().budget.batch_size for store in stores],
        "number of seeds": [store.spec().seeds for store in stores],
        "validation images": [store.manifest().get("data", {}).get("val") for store in stores],
        "precision": [store.spec().precision for store in stores],
    }
    differ = [name for name, values in named.items() if len(set(values)) > 1]
    if not differ:
        return []
    runs = ", ".join(str(store.folder) for store in stores)
    return [f"The runs differ in {', '.join(differ)} ({runs}): methods had unequal chances."]
