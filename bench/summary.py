"""A summary of a run's tables, so that readers of a large run need not open thousands of files.

The report writes it: what each table of rows holds, all trials, all validations, and the lines of
the leaderboard. It names the files that it was made from, with size, time and seal (see
`bench.tables`), so that a reader can tell which of them have changed since; a copied run, whose
files have other times, keeps its summary.

Imports neither PyTorch nor Ray, since the dashboard reads it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64

from bench import listing, tables
from bench.places import Place

KINDS = ("rows", "trials", "curves")  # folders of tables
SOURCES = "report/summary/sources.parquet"
PARTS = ("refits", "trials", "curves", "lines")
FACTS = ("cell", "seed", "task", "dataset", "degradation", "level", "n_train", "method", "kind")
MEANS = (
    "parameters", "flops", "train_cpu_seconds", "residual_to_noise", "error_seen", "error_unseen",
)  # fmt: skip
SCORED = "scored "  # begins the names of the columns that say whether a score is known
Listing = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Summary:
    """A summary as it was written.

    Attributes:
        sources: `file` (its path in the run folder), `size`, `modified` (ns), `seal`.
        refits: see `refits`.
        trials: all trials, with `file`.
        curves: all validations, with `file`.
        lines: the lines of the leaderboard; `unscored` is the number of images without a score.
    """

    sources: pd.DataFrame
    refits: pd.DataFrame
    trials: pd.DataFrame
    curves: pd.DataFrame
    lines: pd.DataFrame


def files(folder: Place) -> dict[str, tuple[int, int]]:
    """List the tables of a run folder: size and time of modification (ns) by path in the folder."""
    return {
        f"{kind}/{name}": facts
        for kind in KINDS
        for name, facts in listing.files(folder / kind).items()
        if name.endswith(".parquet")
    }


def refits(
    rows: pd.DataFrame, file: Int64[np.ndarray, " rows"], files: Iterable[str]
) -> pd.DataFrame:
    """Summarise rows: one line for each file, cell and seed.

    Args:
        rows: of some files.
        file: the index in `files` of each row's file.
        files: their paths in the run folder.

    Returns:
        `file`, `FACTS`, `MEANS` and the number of values of each (`parameters_count`), and for
        every other column of numbers whether any is finite (`SCORED` and its name).
    """
    cell, cells = pd.factorize(rows["cell"])
    seed, seeds = pd.factorize(rows["seed"])
    key = (file * max(len(cells), 1) + cell) * max(len(seeds), 1) + seed
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    facts = [name for name in FACTS if name in rows]
    found = rows.loc[rows.index[first], facts].reset_index(drop=True)
    found.insert(0, "file", np.array(list(files), dtype=object)[file[first]])

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values, minlength=len(first))

    flags = {}
    for name in rows.columns.difference(list(FACTS), sort=False):
        if not pd.api.types.is_numeric_dtype(rows[name]):
            continue
        values = rows[name].to_numpy(dtype=float, na_value=np.nan)
        if name in MEANS:
            known = ~np.isnan(values)
            count = sums(known)
            with np.errstate(invalid="ignore"):
                flags[name] = sums(np.where(known, values, 0)) / count
            flags[f"{name}_count"] = count
        else:
            flags[SCORED + name] = sums(np.isfinite(values)) > 0
    return found.assign(**flags)


def write(
    read: Mapping[str, Sequence[tuple[str, int, int, str, int]]],
    content: Mapping[str, pd.DataFrame],
    lines: pd.DataFrame,
) -> dict[str, bytes]:
    """Return the files of a summary by their names in `report/`; the last one makes it valid.

    Args:
        read: for each of `KINDS` the files that were read, in order; see `Store.sources`.
        content: for each of `KINDS` the lines of these files.
        lines: of the leaderboard.
    """
    index = {
        kind: np.repeat(np.arange(len(files)), [length for *_, length in files])
        for kind, files in read.items()
    }
    names = {kind: [name for name, *_ in files] for kind, files in read.items()}
    found = {
        "refits": refits(content["rows"], index["rows"], names["rows"]),
        **{
            kind: content[kind].assign(file=np.array(names[kind], dtype=object)[index[kind]])
            for kind in ("trials", "curves")
        },
        "lines": lines.assign(unscored=[len(one) for one in lines.get("unscored", ())]),
    }
    written = {f"summary/{part}.parquet": tables.to_bytes(found[part]) for part in PARTS}
    sources = [facts for files in read.values() for *facts, _ in files]
    sources += [[name, len(one), 0, tables.seal(one)] for name, one in written.items()]
    table = pd.DataFrame(sources, columns=["file", "size", "modified", "seal"])
    return {**written, "summary/sources.parquet": tables.to_bytes(table)}


def read(folder: Path) -> Summary | None:
    """Read the summary of a run; None if there is none, or it is damaged or incomplete."""
    try:
        content = (folder / SOURCES).read_bytes()
        sources = tables.from_bytes(content).to_pandas()
        parts = {}
        seals = dict(zip(sources["file"], sources["seal"], strict=True))
        for part in PARTS:
            name = f"summary/{part}.parquet"
            content = (folder / "report" / name).read_bytes()
            if tables.seal(content) != seals.get(name):
                return None
            parts[part] = tables.from_bytes(content).to_pandas()
        return Summary(sources, **parts)
    except (OSError, ValueError, KeyError):
        return None


def unchanged(folder: Path, sources: pd.DataFrame, now: Listing) -> set[str]:
    """Return the files that are as they were when a summary was made from them."""
    return {
        name
        for name, size, modified, seal in sources.itertuples(index=False, name=None)
        if name in now and (now[name] == (size, modified) or tables.seal_of(folder / name) == seal)
    }
