"""The table that `reconbench lesions` writes, as report and dashboard show it.

Imports neither PyTorch nor Ray.
"""

import io
from collections.abc import Collection

import pandas as pd

from bench.places import Place

FILE = "lesions.csv"  # in the folder of the report
COLUMNS = [
    "cell", "degradation", "level", "n_train", "method", "image", "subject", "radius", "contrast",
    "recovered", "false_lesions",
]  # fmt: skip


def none() -> pd.DataFrame:
    """Return the table of a run that was not examined."""
    return pd.DataFrame(columns=COLUMNS).astype({"recovered": float, "false_lesions": float})


def read(run: Place, cells: Collection[str]) -> pd.DataFrame:
    """Read what was found of some cells of a run folder: `COLUMNS`; empty if nothing was, or if
    the file is damaged, which the same command writes again.
    """
    file = run / "report" / FILE
    try:
        lines = pd.read_csv(io.StringIO(file.read_text()))[COLUMNS]
    except (FileNotFoundError, ValueError, KeyError):
        return none()
    return lines[lines["cell"].isin(cells)]


def summary(lines: pd.DataFrame) -> pd.DataFrame:
    """Average over images: one line for each cell and radius, the best of each radius first.

    Returns:
        `degradation, level, radius, method, n_train, contrast`; `recovered`, the mean, and
        `recovered_low`, the tenth percentile; `false_lesions` for each image.
    """
    keys = ["degradation", "level", "radius", "method", "n_train", "contrast"]
    groups = lines.groupby(keys, sort=False)
    table = pd.DataFrame(
        {
            "recovered": groups["recovered"].mean(),
            "recovered_low": groups["recovered"].quantile(0.1),
            "false_lesions": groups["false_lesions"].mean(),
        }
    ).reset_index()
    order = ["degradation", "level", "radius", "recovered"]
    return table.sort_values(order, ascending=[True, True, True, False], ignore_index=True)
