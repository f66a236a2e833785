"""The audit of a dataset as a page: what a benchmark on these images should know."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

# Not through the package of reports, which would import PyTorch.
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "report" / "templates"),
    autoescape=False,  # Markdown
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(audit: dict[str, Any]) -> str:
    """Render the audit of a dataset as Markdown.

    Args:
        audit: the fields of a `bench.data.Audit`, or of what a manifest keeps of one.
    """
    return TEMPLATES.get_template("audit.md").render(audit=audit)
