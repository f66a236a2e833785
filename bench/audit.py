"""The audit of a dataset as a page: what a benchmark on these images should know."""

from typing import Any

from bench import markdown


def page(audit: dict[str, Any]) -> str:
    """Render the audit of a dataset as Markdown.

    Args:
        audit: the fields of a `bench.data.Audit`, or of what a manifest keeps of one.
    """
    return markdown.TEMPLATES.get_template("audit.md").render(audit=audit)
