"""The table that `reconbench timing` writes, as the report shows it.

Imports neither PyTorch nor Ray.
"""

import io

import pandas as pd

from bench.places import Place

FILE = "timing.csv"  # in the folder of the report
COSTS = ("ms_1", "ms_16", "step_ms", "step_mb")
KEYS = ("cell", "device")
COLUMNS = [*KEYS, "threads", *COSTS]
EMPTY = pd.DataFrame(columns=COLUMNS).astype(dict.fromkeys(COSTS, float))


def read(run: Place) -> pd.DataFrame:
    """Read what was measured of the cells of a run folder: `COLUMNS`; empty if nothing was, or if
    the file is damaged, which the same command writes again.

    `ms_1` and `ms_16` are milliseconds per image, one and 16 at a time; `step_ms` those of an
    optimiser step, and `step_mb` the megabytes of its tensors. NaN: not known, or not comparable.
    """
    file = run / "report" / FILE
    try:
        return pd.read_csv(io.StringIO(file.read_text()))[COLUMNS]
    except (FileNotFoundError, ValueError, KeyError):
        return EMPTY.copy()


def merged(before: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Replace what was measured of the same cells and devices, where it is known anew."""
    both = pd.concat([one for one in (before, found) if len(one)])
    return both.groupby(list(KEYS), as_index=False)[COLUMNS].last()


def of_one_device(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return the device on which most cells were measured, and its lines by cell: `COSTS`."""
    device = str(table["device"].mode().iloc[0]) if len(table) else ""
    return device, table[table["device"] == device].set_index("cell")[list(COSTS)]


def of_single_images(table: pd.DataFrame, rough: pd.Series) -> tuple[pd.Series, str]:
    """Return milliseconds per image of some cells, and the device on which nothing ran beside them.

    Times of the table replace the rough ones for all cells or for none: times that were measured
    alone do not compare with times beside other trials. If they replace none, the device is empty.

    Args:
        table: as `read` returns it.
        rough: by cell, as the run measured them; NaN for methods that ran elsewhere.
    """
    device, measured = of_one_device(table)
    alone = measured["ms_1"].reindex(rough.index)
    if table.empty or (alone.isna() & rough.notna()).any():
        return rough, ""
    return alone, device
