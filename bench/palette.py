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
DARK_PAGE, LEAST_CONTRAST = "#12191d", 3.0  # what WCAG 2.2 asks of graphics


def palette(methods: Iterable[str]) -> dict[str, str]:
    """Assign a colour to every method, in their order; see `variant` for more than ten."""
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(dict.fromkeys(methods))}


def variant(method: str, colours: dict[str, str]) -> int:
    """Count the methods of the same colour before this one; see `LINES`."""
    return list(colours).index(method) // len(PALETTE) % len(LINES)


def on_dark(colour: str) -> str:
    """Mix a colour, `#rrggbb`, with as little white as it needs to be seen on a dark page."""
    channels = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    for white in range(0, 101, 5):
        mixed = [round(one + (255 - one) * white / 100) for one in channels]
        lighter = "#{:02x}{:02x}{:02x}".format(*mixed)
        if contrast(lighter, DARK_PAGE) >= LEAST_CONTRAST:
            return lighter
    return "#ffffff"


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21, as WCAG 2.2 defines it."""
    dark, bright = sorted((_luminance(one), _luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
