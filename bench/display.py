"""The console of the command line, which obeys no control characters in text from files."""

import sys
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

LOG_WIDTH = 190  # a log file has no width of its own
# Control characters of terminals, and those that change the direction of text.
CONTROLS = {*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)}
UNSAFE = dict.fromkeys(CONTROLS - {ord("\n")}, "\N{REPLACEMENT CHARACTER}")


class SafeConsole(Console):
    """Shows text from files without obeying its control characters."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Replace the control characters of text."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(text.translate(UNSAFE), style)


def show_notices(console: Console, notices: Iterable[str]) -> None:
    """Print notices, each as one line of plain text."""
    for notice in notices:
        console.print(notice, markup=False, highlight=False, soft_wrap=True)


console = SafeConsole(width=None if sys.stdout.isatty() else LOG_WIDTH)
