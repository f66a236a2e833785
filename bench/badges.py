"""The badges that report and dashboard show on the lines of a leaderboard.

Imports neither PyTorch nor Ray, since the dashboard does not.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

SIMULATED = "magnitude-sim"  # k-space that was computed from magnitudes
MIXED = "versions changed"  # between starts of the run
UNSCORED = "not scored on every image"
EXTERNAL = "external"  # made elsewhere, see `bench.external`
RISING = "still improving when its steps ended"


def of_run(manifest: Mapping[str, Any]) -> list[str]:
    """List the badges of every line: those of its images, and of how the run was made."""
    audit = manifest.get("audit") or {}
    return [*(audit.get("badges") or []), *[MIXED] * has_mixed_versions(manifest)]


def of_task(badges: list[str], degradation: str, simulated: Sequence[str]) -> list[str]:
    """Replace the badge of raw data where a degradation simulated what the data could have brought.

    Args:
        badges: those of the run.
        degradation: its label.
        simulated: labels of the degradations that do so, which the manifest lists.
    """
    if degradation not in simulated:
        return badges
    origins = ("raw", "processed", SIMULATED)
    return [SIMULATED, *(badge for badge in badges if badge not in origins)]


def has_mixed_versions(manifest: Mapping[str, Any]) -> bool:
    """Return whether the run was resumed with other versions than it began with."""
    starts = manifest.get("starts") or []
    return len({json.dumps([one["versions"], one["git"]]) for one in starts}) > 1


def of_line(
    badges: list[str], is_scored: bool, is_rising: bool = False, is_external: bool = False
) -> str:
    """Write the badges of a line.

    Args:
        badges: those of the run.
        is_scored: whether the line's cell has a score on every test image.
        is_rising: whether its network still improved, see `bench.curves.gains`.
        is_external: whether its method ran elsewhere.
    """
    own = {UNSCORED: not is_scored, RISING: is_rising, EXTERNAL: is_external}
    return ", ".join([*badges, *(badge for badge, has in own.items() if has)])


def replay(run: object, cell: str) -> str:
    """Write the command that trains a line again."""
    return f"reconbench replay {run} {cell}"
