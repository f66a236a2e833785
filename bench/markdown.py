"""Markdown pages from templates; text that comes from files is escaped."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from bench.errors import printable

# Most names contain brackets or underscores: those that make no link or emphasis are not escaped.
SPECIAL = re.compile(
    r"[\\`*<>|~&]|\](?=[(\[:])|(?<!\w)_|_(?!\w)"
    # At the start: what begins a heading, a link, or an item of a list.
    r"|^(?:[#=\[]|[+-](?![\d.])|\d+(?=[.)](?!\d)))",
)


def as_text(value: Any) -> Any:
    """Escape a value for a page: one line, without any Markdown syntax."""
    if not isinstance(value, str):
        return value
    return SPECIAL.sub(lambda found: _escaped(found[0]), printable(value))


def _escaped(special: str) -> str:
    return special + "\\" if special.isdigit() else "\\" + special


TEMPLATES = Environment(
    # A path, since importing `bench.report` takes time that other pages can do without.
    loader=FileSystemLoader(Path(__file__).parent / "report" / "templates"),
    autoescape=False,
    finalize=as_text,
    trim_blocks=True,
    lstrip_blocks=True,
)
