"""Colours, lines and markers that tell methods apart."""

from collections.abc import Iterable

# Muted colours first: most benchmark files list reference methods before networks. People with any
# kind of colour blindness can tell them apart (a test simulates it).
PALETTE = (
    "#8b949c", "#c29c15", "#26811e", "#61218e", "#0691f5",
    "#e08161", "#a70f49", "#c88ad3", "#543901", "#263d67",
)  # fmt: skip
# Of the methods that share a colour, each has its own kind of line and marker.
LINES, REFERENCE_LINES = ("solid", "dot", "dashdot"), ("dash", "longdash", "longdashdot")
MARKERS = ("", "-open", "-dot")


def palette(methods: Iterable[str]) -> dict[str, str]:
    """Assign a colour to every method, in their order; see `variant` for more than ten."""
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(dict.fromkeys(methods))}


def variant(method: str, colours: dict[str, str]) -> int:
    """Count the methods of the same colour before this one; see `LINES`."""
    return list(colours).index(method) // len(PALETTE) % len(LINES)
