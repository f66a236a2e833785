"""Tables to be copied into a paper or a page."""

from typing import Any

import pandas as pd
import streamlit as st

from bench import markdown


def offer(table: pd.DataFrame, decimals: dict[str, int], key: str) -> None:
    """Offer a table as Markdown and LaTeX, each with a button that copies it.

    Args:
        table: what is shown.
        decimals: by column of numbers; others are written as they are.
        key: of the widget.
    """
    with st.popover("Copy", icon=":material/content_copy:", width="stretch", key=key):
        texts = as_texts(table, decimals)
        st.caption("Markdown")
        st.code(as_markdown(texts), language=None, height=160)
        st.caption("LaTeX, for the package booktabs")
        st.code(as_latex(texts), language=None, height=160)


def as_texts(table: pd.DataFrame, decimals: dict[str, int]) -> pd.DataFrame:
    """Write every value as it is shown; missing ones are empty."""

    def text(value: Any, name: str) -> str:
        if pd.isna(value):
            return ""
        return f"{value:.{decimals[name]}f}" if name in decimals else str(value)

    written = {
        str(name): [text(value, str(name)) for value in column] for name, column in table.items()
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
