"""Markdown pages from templates, in which what comes from files is text and nothing else."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from bench.errors import printable

# Brackets make a link only together, and an underscore within a word nothing: most names have some.
SPECIAL = re.compile(
    r"[\\`*<>|~&]|\](?=[(\[:])|(?<!\w)_|_(?!\w)|^(?:[#+=\[-]|\d+(?=[.)]))",
)


def as_text(value: Any) -> Any:
    """Escape a value that is put into a page: one line, in which no character has a meaning."""
    if not isinstance(value, str):
        return value
    return SPECIAL.sub(lambda found: _escaped(found[0]), printable(value))


def _escaped(special: str) -> str:
    return special + "\\" if special.isdigit() else "\\" + special


TEMPLATES = Environment(
    # Not through the package of reports, which would import PyTorch.
    loader=FileSystemLoader(Path(__file__).parent / "report" / "templates"),
    autoescape=False,
    finalize=as_text,
    trim_blocks=True,
    lstrip_blocks=True,
)
