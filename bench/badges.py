"""The badges that report and dashboard show on the lines of a leaderboard.

Imports neither PyTorch nor Ray, since the dashboard does not.
"""

import json
from collections.abc import Mapping
from typing import Any

MIXED = "versions changed"  # between starts of the run
UNSCORED = "not scored on every image"
RISING = "still improving when its steps ended"


def of_run(manifest: Mapping[str, Any]) -> list[str]:
    """List the badges of every line: those of its images, and of how the run was made."""
    audit = manifest.get("audit") or {}
    return [*(audit.get("badges") or []), *[MIXED] * has_mixed_versions(manifest)]


def has_mixed_versions(manifest: Mapping[str, Any]) -> bool:
    """Return whether the run was resumed with other versions than it began with."""
    starts = manifest.get("starts") or []
    return len({json.dumps([one["versions"], one["git"]]) for one in starts}) > 1


def of_line(badges: list[str], is_scored: bool, is_rising: bool = False) -> str:
    """Write the badges of a line.

    Args:
        badges: those of the run.
        is_scored: whether the line's cell has a score on every test image.
        is_rising: whether its network still improved, see `bench.curves.gains`.
    """
    return ", ".join([*badges, *[UNSCORED] * (not is_scored), *[RISING] * is_rising])


def replay(run: object, cell: str) -> str:
    """Write the command that trains a line again."""
    return f"reconbench replay {run} {cell}"
