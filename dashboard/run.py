"""Read a run folder with DuckDB, finished or in progress; independent of Streamlit.

Files of a run in progress are complete but may be missing, except `spec.yaml`.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from bench import badges, curves, markup, score_columns, statistics, summary, tables
from bench.errors import UserError
from bench.places import Place
from bench.score_columns import ScoreColumn
from bench.statistics import Estimate
from dashboard import mirror
from dashboard.reader import of_folder

KEYS = ("degradation", "level", "n_train", "method")
COSTS = ("parameters", "flops", "train_cpu_seconds")  # whatever else ran on the machine
TRUST = ("residual_to_noise", "error_seen", "error_unseen")
TRIALS = ("cell", "trial", "state", "psnr", "step", "seconds", "error", "config")
CELLS = (
    "cell", "task", "label", "dataset", *KEYS, "kind",
    "images", "seeds", "first_seed", "done", "trials", "replay", *COSTS, *TRUST, "files",
)  # fmt: skip
# Of what the pages read in spec.yaml and manifest.json; a list has elements of the second type.
SPEC: dict[str, tuple[type, ...]] = {
    "name": (str,), "description": (str,), "objective": (str,), "seeds": (int,),
    "methods": (list, str, dict), "n_train": (list, int),
}  # fmt: skip
MANIFEST: dict[str, tuple[type, ...]] = {
    "audit": (dict,), "data": (dict,), "spaces": (dict,), "metrics": (dict,), "cells": (int,),
    "trials": (int,), "started": (str,), "finished": (str,), "starts": (list, dict),
    "simulated": (list, str),
}  # fmt: skip
# What the report says of a cell in its task, see `bench.statistics.compare`.
REPORTED = (
    "rank", "rank_low", "rank_high", "tied_with_best", "against_classical",
    *statistics.DIFFERENCES, "unscored",
)  # fmt: skip
# Files of different releases may differ in their columns.
ROWS = "read_parquet($files, union_by_name = true)"
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Run:
    """A run folder as it is now.

    Attributes:
        folder: where it is.
        cells: one line per cell that has rows: what it is, `label` (its name within its task),
            costs, the command that reproduces it, and the files of its rows.
        columns: the metrics as the run declares them, by name.
        objective: the metric that cells are ranked by.
        scored: the columns of the rows that hold at least one score.
        trials: one line per finished trial.
        manifest: manifest.json.
        spec: spec.yaml.
        damaged: files that fail their checksum, and were left out.
        gains: what networks still gained at the end of their training, see `bench.curves.gains`.
        curves: the validations of refits, see `bench.curves.COLUMNS`.
        lines: those of the leaderboard, of tasks that have not changed since the report was made.
    """

    folder: Path
    cells: pd.DataFrame
    columns: dict[str, ScoreColumn]
    objective: ScoreColumn
    scored: list[str]
    trials: pd.DataFrame
    manifest: dict[str, Any]
    spec: dict[str, Any]
    damaged: list[str]
    gains: pd.DataFrame
    curves: pd.DataFrame
    lines: pd.DataFrame

    @property
    def planned_cells(self) -> int | None:
        """How many cells the run will have, if it says so."""
        return _count(self.manifest.get("cells"))

    @property
    def planned_trials(self) -> int | None:
        """How many trials the run will make, if it says so."""
        return _count(self.manifest.get("trials"))

    @property
    def cells_done(self) -> int:
        """How many cells have all their refits."""
        return int(self.cells["done"].sum())

    @property
    def in_progress(self) -> bool:
        """Whether results are still to come."""
        return not self.manifest.get("finished")


def is_run(folder: Place) -> bool:
    """Return whether a folder is a run folder."""
    return (folder / "spec.yaml").exists()


def find(results: Place) -> list[Place]:
    """List the run folders below `results`, the newest first.

    Raises:
        UserError: an object store cannot be reached.
    """
    if not isinstance(results, Path):
        return mirror.find(results)
    runs = [path.parent for path in results.glob("*/spec.yaml")]
    return [*sorted(runs, key=_touched, reverse=True)]


def _touched(folder: Path) -> int:
    """Return when a run was last written to; each new table changes the time of its folder."""
    parts = ("spec.yaml", "manifest.json", "rows", "trials")
    return max(_modified(folder / part) for part in parts)


def stamp(folder: Path) -> Stamp:
    """Return a value that changes with every result: latest modification time, file count."""
    names = ("spec.yaml", "manifest.json", summary.SOURCES)
    times = [time for time in (_modified(folder / name) for name in names) if time]
    times += [time for _, time in summary.files(folder).values()]
    return max(times, default=0), len(times)


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ValueError: a file cannot be read; the message names it.
    """
    reader = of_folder(folder)
    reader.update(summary.files(folder))
    damaged, found = [*reader.damaged], []
    for name, parse in (("spec.yaml", _yaml), ("manifest.json", json.loads)):
        content = _mapping(folder / name, parse)
        damaged += [name] if content is None else []
        found.append(content or {})
    spec, manifest = found
    for name, content, types in (
        ("spec.yaml", spec, SPEC),
        ("manifest.json", manifest, MANIFEST),
    ):
        for key in _of_wrong_type(content, types):
            del content[key]
            damaged.append(f"{name} ({key})")
    trials = reader.tables["trials"].drop(columns="file")
    trials = trials.sort_values(["cell", "trial"], ignore_index=True)
    trials = trials.reindex(columns=_unique(TRIALS, trials.columns))
    try:
        columns = score_columns.of_run(manifest)
    except UserError:
        columns = score_columns.of_run({})
        damaged.append("manifest.json")
    objective = columns.get(str(spec.get("objective")), columns["psnr"])
    refits, curve = reader.tables["rows"], reader.tables["curves"]
    return Run(
        folder, _cells(folder, spec, trials, refits), columns, objective,
        _scored(refits, columns.values()), trials, manifest, spec, sorted(damaged),
        curves.gains(curve), curve, reader.lines,
    )  # fmt: skip


def rows(run: Run, task: str) -> pd.DataFrame:
    """Read the rows of a task.

    Raises:
        ValueError: they cannot be read.
    """
    cells = run.cells[run.cells.task == task]
    query = f"SELECT * FROM {ROWS} WHERE list_contains($cells, cell)"
    return _query(query, _sound(run.folder, cells), cells=cells.cell.tolist()).df()


def scores(run: Run, task: str, estimates: Mapping[str, Estimate]) -> pd.DataFrame:
    """Return a task's cells with their scores.

    Args:
        run: the run.
        task: its id.
        estimates: by metric; the first one ranks the cells, see `bench.statistics.compare`.

    Returns:
        `Run.cells` with ranks and verdicts, each metric's mean and 95 % interval (`psnr`,
        `psnr_low`, `psnr_high`), `unscored` (the number of test images without a score) and
        `badges`.
    """
    by = next(iter(estimates.values()))
    cells = statistics.compare(run.cells[run.cells.task == task], by)
    for metric, values in estimates.items():
        bounds = {metric: values.mean, f"{metric}_low": values.low, f"{metric}_high": values.high}
        cells = cells.join(pd.DataFrame(bounds, index=values.cells), on="cell")
    cells["unscored"] = [len(by.unscored.get(cell, ())) for cell in cells.cell]
    return _marked(run, cells)


def reported(run: Run, task: str, metrics: Sequence[str]) -> pd.DataFrame | None:
    """Return what `scores` would, from the report.

    Args:
        run: the run.
        task: its id.
        metrics: columns; the first one ranks the cells.

    Returns:
        None if the report has not these scores, or its task has changed since.
    """
    cells = run.cells[run.cells.task == task]
    lines = run.lines[run.lines.cell.isin(cells.cell)]
    wanted = [f"{name}{end}" for name in metrics for end in ("", "_low", "_high")]
    if len(lines) != len(cells) or metrics[0] != run.objective.name or {*wanted} - {*lines}:
        return None
    return _marked(run, cells.join(lines.set_index("cell")[[*REPORTED, *wanted]], on="cell"))


def _marked(run: Run, cells: pd.DataFrame) -> pd.DataFrame:
    """Add badges, and what networks still gained."""
    marks, simulated = badges.of_run(run.manifest), run.manifest.get("simulated") or []
    rising = cells.cell.isin(run.gains.index[run.gains.rising.astype(bool)])
    cells["badges"] = [
        badges.of_line(
            badges.of_task(marks, label, simulated), not unscored, one, kind == "external"
        )
        for label, unscored, kind, one in zip(
            cells.degradation, cells.unscored, cells.kind, rising, strict=True
        )
    ]
    for name, column in (("gain_last_quarter", "gain"), ("psnr_2x",) * 2, ("psnr_4x",) * 2):
        cells[name] = cells.cell.map(run.gains[column]).astype(float)
    return cells


def scores_by_image(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Tabulate a metric of each cell's first refit, whose pictures are shown.

    Args:
        rows: of a task.
        metric: a column of them.

    Returns:
        a line for each test image, a column for each cell; NaN where there is no finite score.
    """
    first = rows[rows.seed == rows.groupby("cell").seed.transform("min")]
    table = first.pivot_table(index="image", columns="cell", values=metric, dropna=False)
    return table.where(np.isfinite(table))


def objective_of(run: Run) -> ScoreColumn:
    """Return the metric that trials are compared by: the objective, or PSNR without it."""
    return run.objective if run.objective.name in run.trials else run.columns["psnr"]


def image_scores(run: Run, cells: Iterable[str], image: str) -> pd.DataFrame:
    """Read the metrics of one test image for the first refit of each cell, which has pictures."""
    query = f"""
        SELECT * FROM {ROWS}
        WHERE image = $image AND list_contains($cells, cell)
        QUALIFY seed = min(seed) OVER (PARTITION BY cell)"""
    chosen = run.cells[run.cells.cell.isin(list(cells))]
    if chosen.empty:
        return pd.DataFrame()
    values = {"image": image, "cells": chosen.cell.tolist()}
    return _query(query, _sound(run.folder, chosen), **values).df().set_index("cell")


def _cells(
    folder: Path, spec: dict[str, Any], trials: pd.DataFrame, refits: pd.DataFrame
) -> pd.DataFrame:
    """Summarise the refits of each cell."""
    if refits.empty:
        return pd.DataFrame(columns=list(CELLS))
    refits = tables.with_task(refits)
    by_cell = refits.groupby("cell", sort=True)
    facts = [name for name in ("task", "dataset", *KEYS, "kind") if name in refits]
    cells = by_cell[facts].first()
    for name in (*COSTS, *TRUST):
        if name in refits:
            count = refits[f"{name}_count"]
            total = (refits[name] * count).groupby(refits["cell"]).sum(min_count=1)
            cells[name] = total / count.groupby(refits["cell"]).sum()
    learned = cells["parameters"] > 0 if "parameters" in cells else pd.Series(False, cells.index)
    named = pd.Series(np.where(learned, "learned", "classical"), cells.index)
    cells["kind"] = cells["kind"].fillna(named) if "kind" in cells else named
    counts = refits.filter(regex="_count$").max(axis="columns")
    cells["images"] = counts.groupby(refits["cell"]).max()
    cells["seeds"] = by_cell["seed"].nunique()
    cells["first_seed"] = by_cell["seed"].min()
    cells["files"] = by_cell["file"].agg(lambda files: sorted(set(files)))
    cells = cells.reset_index()
    cells["label"] = [
        f"{method} · {n_train}" if n_train else method
        for method, n_train in zip(cells.method, cells.n_train, strict=True)
    ]
    # Every refit of a method without a random start is the same, so one suffices.
    needed = cells.kind.map({"learned": _count(spec.get("seeds")) or 1}).fillna(1)
    cells["done"] = cells.seeds >= needed
    cells["trials"] = cells.cell.map(trials.groupby("cell").size()).fillna(0).astype(int)
    cells["replay"] = [
        "" if kind == "external" else badges.replay(mirror.address(folder), cell)
        for cell, kind in zip(cells.cell, cells.kind, strict=True)
    ]
    return cells.reindex(columns=list(CELLS))


def _scored(refits: pd.DataFrame, columns: Iterable[ScoreColumn]) -> list[str]:
    """List the score columns that hold at least one score."""
    names = [column.column(one) for column in columns for one in column.conventions]
    flags = {name: refits.get(summary.SCORED + name) for name in names}
    return [name for name, flag in flags.items() if flag is not None and flag.eq(True).any()]


def _query(query: str, files: list[str], **values: Any) -> duckdb.DuckDBPyConnection:
    """Run a query over Parquet files."""
    try:
        return duckdb.connect().execute(query, {"files": files, **values})
    except duckdb.Error as error:
        raise ValueError(f"{Path(files[0]).parent}: cannot be read ({error})") from None


def _sound(folder: Path, cells: pd.DataFrame) -> list[str]:
    """List the files of some cells' rows that are intact."""
    paths = [folder / file for file in _unique(*cells.files)]
    return [str(path) for path in paths if _is_sound(path, _modified(path))]


@lru_cache(maxsize=2**14)
def _is_sound(path: Path, time: int) -> bool:
    """Return whether a file is intact; it is read once for each time of modification."""
    try:
        tables.verify(path.read_bytes())
    except FileNotFoundError:  # it was replaced, or renamed
        return False
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except ValueError:
        return False
    return True


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    """Read a mapping from a file; None if it is damaged, empty if there is no file."""
    try:
        content = parse(path.read_text(encoding="utf-8")) if path.exists() else {}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except (ValueError, UserError):
        return None
    return content if isinstance(content, dict) else None


def _of_wrong_type(content: Mapping[str, Any], types: Mapping[str, tuple[type, ...]]) -> list[str]:
    """List the keys of a file whose values have another type than it is written with."""
    wrong = []
    for key, (kind, *inner) in types.items():
        value = content.get(key)
        elements = value if inner and isinstance(value, list) else []
        fits = value is None or isinstance(value, kind)
        if not fits or not all(isinstance(one, tuple(inner)) for one in elements):
            wrong.append(key)
    return wrong


def _yaml(text: str) -> Any:
    return markup.read(text, "spec.yaml")


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _unique(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))
