"""The audit of a dataset as a Markdown page."""

from typing import Any

from bench import markdown


def page(audit: dict[str, Any]) -> str:
    """Render the audit of a dataset as Markdown.

    Args:
        audit: the fields of a `bench.data.Audit`, also as a manifest stores them.
    """
    return markdown.TEMPLATES.get_template("audit.md").render(audit=audit)
