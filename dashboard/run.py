"""Reads a run folder with DuckDB, finished or still going.

Nothing here needs Streamlit. A run that is still going has fewer files, never half-written ones,
so everything but `spec.yaml` may be missing.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from bench import markup, tables
from bench.errors import UserError

METRICS = (
    "psnr",
    "ssim",
    "nmse",
    "psnr_volume",
    "ssim_volume",
    "psnr_roi",
    "ssim_roi",
    "data_residual",
)
COSTS = ("train_seconds", "infer_ms", "parameters")
KEYS = ("method", "degradation", "level", "n_train")
REPORTED = (
    "rank",
    "rank_low",
    "rank_high",
    "trials",
    "tied_with_best",
    "badges",
    "replay",
)
TRIALS = ("cell", "trial", "state", "psnr", "step", "seconds", "error", "config")
REPORT = Path("report", "leaderboard.csv")
ROW_FILES, TRIAL_FILES = "rows/*/*.parquet", "trials/*.parquet"
# Files of different releases may differ in their columns.
ROWS = "read_parquet($files, union_by_name = true)"
Z95 = 1.96
Stamp = tuple[int, int]


@dataclass(frozen=True)
class Run:
    """A run folder as it is now.

    Attributes:
        folder: where it is.
        cells: one line per cell that has rows: what it is, `label` (its name within its task),
            means and 95 % intervals of its metrics (`psnr`, `psnr_low`, `psnr_high`, ...),
            `unscored` (the number of test images without a score), costs, and what the report
            says.
        trials: one line per finished trial.
        manifest: manifest.json.
        spec: spec.yaml.
        reported: whether ranks and intervals are the report's; else they are provisional.
        damaged: files of it that are not as they were written, and were left out.
    """

    folder: Path
    cells: pd.DataFrame
    trials: pd.DataFrame
    manifest: dict[str, Any]
    spec: dict[str, Any]
    reported: bool
    damaged: list[str]

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
    def going(self) -> bool:
        """Whether results are still to come."""
        return not self.manifest.get("finished")


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run folder."""
    return (folder / "spec.yaml").is_file()


def find(results: Path) -> list[Path]:
    """List the run folders below `results`, the newest first."""
    runs = [path.parent for path in results.glob("*/spec.yaml")]
    return sorted(runs, key=lambda run: stamp(run)[0], reverse=True)


def stamp(folder: Path) -> Stamp:
    """Return what changes whenever a result appears: the latest modification, the file count."""
    files = [folder / "spec.yaml", folder / "manifest.json", folder / REPORT]
    files += [*_files(folder, ROW_FILES), *_files(folder, TRIAL_FILES)]
    times = [time for time in map(_modified, files) if time]
    return max(times, default=0), len(times)


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ValueError: a file of it may not be read; names the file.
    """
    damaged = [
        str(path.relative_to(folder))
        for pattern in (ROW_FILES, TRIAL_FILES)
        for path in _files(folder, pattern)
        if not _is_sound(path, _modified(path))
    ]
    found = []
    for name, parse in (("spec.yaml", _yaml), ("manifest.json", json.loads)):
        content = _mapping(folder / name, parse)
        damaged += [name] if content is None else []
        found.append(content or {})
    spec, manifest = found
    trials = _trials(folder)
    cells = _cells(folder, spec, trials)
    try:
        report = _report(folder)
    except ValueError:
        report = None
        damaged.append(str(REPORT))
    merged = _merge(cells, report)
    return Run(folder, merged, trials, manifest, spec, report is not None, sorted(damaged))


def gain(folder: Path, cell: str, baseline: str, metric: str) -> tuple[float, float, float]:
    """Compare two cells image by image.

    Returns:
        the mean difference `cell` - `baseline` and its 95 % interval over subjects (normal
        approximation; NaN with one subject).
    """
    query = f"""
        WITH image AS (
            SELECT cell, image, any_value(subject) AS subject, avg({metric}) AS value
            FROM {ROWS}
            WHERE cell IN ($cell, $baseline) AND isfinite({metric}) GROUP BY cell, image),
        pair AS (
            SELECT a.subject, a.value - b.value AS gain
            FROM image a JOIN image b USING (image) WHERE a.cell = $cell AND b.cell = $baseline),
        subject AS (SELECT subject, avg(gain) AS gain FROM pair GROUP BY subject)
        SELECT (SELECT avg(gain) FROM pair), {Z95} * stddev_samp(gain) / sqrt(count(*))
        FROM subject"""
    mean, half = _query(query, folder, cell=cell, baseline=baseline).fetchall()[0]
    mean, half = (float("nan") if value is None else value for value in (mean, half))
    return mean, mean - half, mean + half


def image_scores(folder: Path, cells: Iterable[str], image: str) -> pd.DataFrame:
    """Read the metrics of one test image, of each cell's first refit: the one with pictures."""
    query = f"""
        SELECT * FROM {ROWS}
        WHERE image = $image AND list_contains($cells, cell)
        QUALIFY seed = min(seed) OVER (PARTITION BY cell)"""
    return _query(query, folder, image=image, cells=list(cells)).df().set_index("cell")


def _cells(folder: Path, spec: dict[str, Any], trials: pd.DataFrame) -> pd.DataFrame:
    measured = [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    if not _sound(folder, ROW_FILES):
        columns = [
            "cell",
            "task",
            "label",
            "dataset",
            *KEYS,
            "kind",
            "seeds",
            "unscored",
            "done",
            *measured,
            *COSTS,
        ]
        return pd.DataFrame(columns=[*columns, "trials"])
    known = {line[0] for line in _query(f"DESCRIBE SELECT * FROM {ROWS}", folder).fetchall()}
    cells = _query(_summary(known), folder).df()
    cells = cells.reindex(columns=_unique(cells.columns, measured, COSTS))
    cells["label"] = [
        f"{method} · {n_train}" if n_train else method
        for method, n_train in zip(cells.method, cells.n_train, strict=True)
    ]
    cells["task"] = [
        cell.removesuffix(f"-n{n_train}-{method}")
        for cell, n_train, method in zip(cells.cell, cells.n_train, cells.method, strict=True)
    ]
    # One refit says all of a classical method, which has no random start.
    needed = cells.kind.map({"learned": _count(spec.get("seeds")) or 1}).fillna(1)
    cells["done"] = cells.seeds >= needed
    cells["trials"] = cells.cell.map(trials.groupby("cell").size()).fillna(0).astype(int)
    return cells


def _summary(known: set[str]) -> str:
    """Write the query for every cell's means, with 95 % intervals over its subjects."""
    metrics = [name for name in METRICS if name in known]
    costs = [name for name in COSTS if name in known]
    learned = "max(parameters) > 0" if "parameters" in known else "false"
    kind = "any_value(kind)" if "kind" in known else f"if({learned}, 'learned', 'classical')"
    # A ROI metric is NaN where an image has no foreground: such an image has no say.
    means = [f"avg({m}) FILTER (isfinite({m})) AS {m}" for m in metrics]
    means += [f"avg({cost}) AS {cost}" for cost in costs]
    by_subject = [f"avg({m}) FILTER (isfinite({m})) AS {m}" for m in metrics]
    halves = [f"{Z95} * stddev_samp({m}) / sqrt(count({m})) AS {m}" for m in metrics]
    bounds = [f"mean.{m} - half.{m} AS {m}_low, mean.{m} + half.{m} AS {m}_high" for m in metrics]
    return f"""
        WITH mean AS (
            SELECT cell, any_value(dataset) AS dataset, any_value(degradation) AS degradation,
                any_value(level) AS level, any_value(n_train) AS n_train,
                any_value(method) AS method, {kind} AS kind,
                count(DISTINCT seed) AS seeds,
                count(DISTINCT image) FILTER (NOT coalesce(isfinite(psnr), false))
                    AS unscored, {", ".join(means)}
            FROM {ROWS} GROUP BY cell),
        subject AS (SELECT cell, {", ".join(by_subject)} FROM {ROWS} GROUP BY cell, subject),
        half AS (SELECT cell, {", ".join(halves)} FROM subject GROUP BY cell)
        SELECT mean.*, {", ".join(bounds)} FROM mean JOIN half USING (cell) ORDER BY cell"""


def _report(folder: Path) -> pd.DataFrame | None:
    """Read the leaderboard, unless it is missing or older than some row.

    Raises:
        ValueError: it is no table.
    """
    path = folder / REPORT
    newest = max(map(_modified, _files(folder, ROW_FILES)), default=0)
    if _modified(path) < max(newest, 1):
        return None
    names = {"method": str, "degradation": str, "badges": str}  # a method may be called "NA"
    report = pd.read_csv(path, converters=names)
    return report if set(KEYS) <= set(report.columns) else None


def _merge(cells: pd.DataFrame, report: pd.DataFrame | None) -> pd.DataFrame:
    """Add the report's ranks and intervals to the cells; provisional ranks where there is none."""
    if report is None:
        rank = whole(cells).groupby("task").psnr.rank(ascending=False, method="min")
        return cells.assign(rank=rank).reindex(columns=_unique(cells.columns, REPORTED))
    said = [name for name in report.columns if name not in KEYS]
    merged = cells.merge(report, on=list(KEYS), how="left", suffixes=("_measured", ""))
    for name in said:
        if f"{name}_measured" in merged:
            merged[name] = merged[name].fillna(merged.pop(f"{name}_measured"))
    return merged.reindex(columns=_unique(merged.columns, REPORTED))


def whole(cells: pd.DataFrame) -> pd.DataFrame:
    """Keep the cells with a score on every test image: the others compare with none."""
    return cells[cells.unscored == 0]


def _trials(folder: Path) -> pd.DataFrame:
    if not _sound(folder, TRIAL_FILES):
        return pd.DataFrame(columns=list(TRIALS))
    trials = _query(f"SELECT * FROM {ROWS} ORDER BY cell, trial", folder, TRIAL_FILES).df()
    return trials.reindex(columns=_unique(TRIALS, trials.columns))


def _query(
    query: str, folder: Path, files: str = ROW_FILES, **values: Any
) -> duckdb.DuckDBPyConnection:
    """Run a query over the run's rows, or over other files of it."""
    try:
        return duckdb.connect().execute(query, {"files": _sound(folder, files), **values})
    except duckdb.Error as error:
        raise ValueError(f"{folder}/{files}: cannot be read ({error})") from None


def _sound(folder: Path, pattern: str) -> list[str]:
    """List the files that are as they were written."""
    return [str(path) for path in _files(folder, pattern) if _is_sound(path, _modified(path))]


@lru_cache(maxsize=2**17)
def _is_sound(path: Path, time: int) -> bool:
    """Return whether a file is as it was written, looking once for each time of its change."""
    try:
        tables.verify(path.read_bytes())
    except FileNotFoundError:  # it was replaced, or set aside
        return False
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except ValueError:
        return False
    return True


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    """Read a file of keys; None where it is damaged, without keys where there is none."""
    try:
        content = parse(path.read_text(encoding="utf-8")) if path.exists() else {}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except (ValueError, UserError):
        return None
    return content if isinstance(content, dict) else None


def _yaml(text: str) -> Any:
    return markup.read(text, "spec.yaml")


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _unique(*names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name for group in names for name in group))
