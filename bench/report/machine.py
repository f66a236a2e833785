"""The report for machines: what the pages say, as JSON."""

import json
import math
from collections.abc import Mapping
from typing import Any

from bench.report.leaderboard import Leaderboard


def page(board: Leaderboard, words: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Write report.json: words, lines, sample efficiency, mean ranks; NaN becomes null.

    Args:
        board: the leaderboard.
        words: what the pages show: `conclusion, limits, findings, notes, settings`.
        manifest: of the run.
    """
    content = {
        "name": words["spec"].name,
        "description": words["spec"].description,
        **{key: words[key] for key in ("conclusion", "limits", "findings", "notes")},
        "objective": board.objective.name,
        "lines": board.lines.drop(columns=["unscored"], errors="ignore").to_dict("records"),
        "settings": words["settings"],
        "sample_efficiency": [
            {
                "task": task,
                "method": one.method,
                "reference": one.reference,
                "sizes": one.sizes,
                "overtakes": dict(
                    zip(("at", "low", "high"), map(_bound, one.overtakes), strict=True)
                ),
                "shown_from": one.shown_from,
                "law": dict(zip("abc", one.law, strict=True)),
                "sentence": one.sentence(task),
            }
            for task, found in board.efficiency.items()
            for one in found
        ],
        "mean_ranks": board.ranks
        and {
            "ranks": board.ranks.ranks.to_dict(),
            "tasks": board.ranks.tasks,
            "p": board.ranks.p,
            "critical_difference": board.ranks.critical,
        },
        "record": None if board.record is None else board.record.to_dict("records"),
        "versions": manifest.get("versions", {}),
    }
    return json.dumps(_plain(content), indent=1)


def _bound(images: float) -> float | str:
    """Name what lies beyond the sizes of the run."""
    return images if math.isfinite(images) else "above" if images > 0 else "below"


def _plain(value: Any) -> Any:
    """Convert a value to what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):  # of NumPy
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else _missing(value)


def _missing(value: Any) -> str | None:
    return None if str(value) == "<NA>" else str(value)
