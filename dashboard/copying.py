"""Tables as texts, to be copied into a paper or a page."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bench import markdown


def as_texts(table: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """Write every value as it is shown; missing ones are empty.

    Args:
        table: what is shown.
        forms: by column of numbers, Streamlit's format: `%.2f`, or `localized` with separators of
            thousands. Values of others are written as they are.
    """

    def text(value: Any, form: str) -> str:
        if pd.isna(value):
            return ""
        if "%" in form:
            return form % value
        return f"{value:,.10g}" if form else str(value)

    written = {
        str(name): [text(value, forms.get(str(name), "")) for value in column]
        for name, column in table.items()
    }
    return pd.DataFrame(written, dtype=object)


def as_markdown(texts: pd.DataFrame) -> str:
    """Write a table of texts in Markdown; special characters are escaped."""
    rows = [list(map(str, texts)), *([str(text) for text in row] for row in texts.to_numpy())]
    head, *body = ([str(markdown.as_text(text)) for text in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def as_latex(texts: pd.DataFrame) -> str:
    """Write a table of texts in LaTeX; special characters are escaped."""
    return texts.to_latex(index=False, escape=True)
