"""The score columns in a run's rows: their names, formats and directions.

Imports neither PyTorch nor the metrics: report and dashboard show what a run declares in its
manifest, and import none of the code that it names.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bench.errors import UserError

# dB, of PSNR: an error of 1e-5 of the data range, which an operator in float32 makes.
PERFECT = 100.0


@dataclass(frozen=True)
class ScoreColumn:
    """A metric as its columns in the rows show it.

    Attributes:
        name: of its column under the convention `image`; others append `_<convention>`.
        label: heading in tables and charts.
        unit: of its values; may be empty.
        direction: which values are better.
        decimals: number of decimals shown.
        conventions: those under which it is computed.
    """

    name: str
    label: str
    unit: str = ""
    direction: Literal["higher", "lower"] = "higher"
    decimals: int = 3
    conventions: tuple[str, ...] = ("image",)

    @property
    def title(self) -> str:
        """The label with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def sign(self) -> int:
        """1 where greater values are better, else -1."""
        return 1 if self.direction == "higher" else -1

    def column(self, convention: str) -> str:
        """Name its column under a convention; that of `image` where it has no such column."""
        plain = convention == "image" or convention not in self.conventions
        return self.name if plain else f"{self.name}_{convention}"

    def number(self, value: float, sign: str = "") -> str:
        """Write a value without its unit; with `sign` "+" a difference, whose sign is shown."""
        return f"{value:{sign}.{self.decimals}f}"

    def text(self, value: float, sign: str = "") -> str:
        """Write a value with its unit."""
        return f"{self.number(value, sign)} {self.unit}".rstrip()

    def interval(self, low: float, high: float, sign: str = "") -> str:
        """Write an interval after a space; empty if it is not known, as with one subject."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return ""
        return f" [{self.number(low, sign)}, {self.number(high, sign)}]"


# Every run has these; runs of earlier versions declare no others.
STANDARD = {
    column.name: column
    for column in (
        ScoreColumn("psnr", "PSNR", "dB", "higher", 2, ("image", "volume", "roi")),
        ScoreColumn("ssim", "SSIM", "", "higher", 3, ("image", "volume", "roi")),
        ScoreColumn("nmse", "NMSE", "", "lower", 3),
        ScoreColumn("data_residual", "Data residual", "", "lower", 3),
    )
}


# Names that no metric may have: other columns of rows, and those that tables add.
TAKEN = {
    "against_classical", "badges", "cell", "data_residual", "dataset", "degradation", "done",
    "error_seen", "error_unseen", "filename", "files", "flops", "image", "infer_ms", "kind",
    "label", "level", "measurement_hash", "method", "n_train", "parameters", "rank", "replay",
    "residual_to_noise", "seed", "seeds", "steps", "subject", "task", "tied_with_best",
    "train_cpu_seconds", "train_seconds", "trials", "unscored",
}  # fmt: skip
ENDINGS = ("_high", "_interval", "_low", "_roi", "_volume")


def is_free(name: str) -> bool:
    """Return whether a name is free for the column of a further metric."""
    return name.lower() not in TAKEN and not name.lower().endswith(ENDINGS)


def listed(columns: Mapping[str, ScoreColumn], objective: str) -> list[ScoreColumn]:
    """Choose what leaderboards show: PSNR, SSIM, what the benchmark file names, the objective."""
    return [
        column
        for name, column in columns.items()
        if name not in ("nmse", "data_residual") or name == objective
    ]


def declare(columns: Mapping[str, ScoreColumn]) -> dict[str, dict[str, Any]]:
    """Convert columns to plain data for the manifest of a run."""
    return {name: asdict(column) for name, column in columns.items()}


def of_run(manifest: Mapping[str, Any]) -> dict[str, ScoreColumn]:
    """Read the columns that a manifest declares, beside the standard ones.

    Raises:
        UserError: the declaration is invalid.
    """
    try:
        declared = {
            name: ScoreColumn(**{**entry, "conventions": tuple(entry["conventions"])})
            for name, entry in (manifest.get("metrics") or {}).items()
        }
    except (TypeError, KeyError, AttributeError):
        raise UserError("manifest.json: 'metrics' does not declare score columns") from None
    return {**STANDARD, **declared}
