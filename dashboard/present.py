"""Tables and figures on the pages: every table can be copied, every figure saved."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler

from bench import charts
from dashboard import copying, state

PNG = "png"  # the key of the switch in the sidebar


def choose_format() -> None:
    """Let the user choose the format in which figures are saved."""
    state.tick(
        "Save figures as PNG", PNG,
        help="By the camera above a figure, which a pointer on the figure shows; else as SVG.",
    )  # fmt: skip


def figure(
    chart: Any,
    key: str,
    *,
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Draw a figure that can be saved.

    Args:
        chart: a Plotly figure.
        key: of the element.
        name: of the saved file, after the run's; default: the key.
        config: Plotly's, for what differs from `bench.charts.CONFIG`.
        options: of `st.plotly_chart`.
    """
    saved = {
        "format": "png" if st.session_state.get(PNG) else "svg",
        "filename": f"{state.current().run.folder.name} {name or key}",
        "scale": 2,  # sharp as PNG too
    }
    full = {**charts.CONFIG, **(config or {}), "toImageButtonOptions": saved}
    st.plotly_chart(chart, config=full, key=key, **options)


def table(
    lines: pd.DataFrame | Styler,
    key: str,
    columns: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Show a table without its index, and offer it for copying.

    Args:
        lines: one for each line of the table.
        key: of the element.
        columns: titles, or Streamlit's column configurations, by column.
        options: of `st.dataframe`.
    """
    st.dataframe(
        lines,
        hide_index=True,
        key=key,
        column_config=dict(columns or {}),
        placeholder="-",
        **options,
    )
    data = lines.data if isinstance(lines, Styler) else lines  # type: ignore[attr-defined]
    offer(data, key, columns or {})


def offer(
    lines: pd.DataFrame, key: str, columns: Mapping[str, Any], *, width: Any = "content"
) -> None:
    """Offer a table as Markdown and LaTeX, each with a button that copies it.

    Args:
        lines: of the table.
        key: that of the table.
        columns: see `table`; the copy has their titles and formats.
        width: of the button.
    """
    box = st.popover(
        "Copy", icon=":material/content_copy:", key=f"copy {key}", width=width, on_change="rerun",
        type="secondary" if width == "stretch" else "tertiary",
    )  # fmt: skip
    if not box.open:  # a table of 2,000 lines takes a second to write
        return
    forms = {name: form for name, one in columns.items() if (form := _form(one))}
    texts = copying.as_texts(lines, forms)
    titles = [_title(str(name), columns.get(str(name))) for name in texts]
    texts = texts.set_axis(titles, axis="columns")
    with box:
        st.caption("Markdown")
        st.code(copying.as_markdown(texts), language=None, height=160)
        st.caption("LaTeX, for the package booktabs")
        st.code(copying.as_latex(texts), language=None, height=160)


def _title(name: str, column: Any) -> str:
    """Return a column's title as plain text."""
    title = column if isinstance(column, str) else (column or {}).get("label") or name
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", title)


def _form(column: Any) -> str:
    """Return the format of a column's numbers; empty if it has none."""
    if isinstance(column, str):
        return ""
    return str((column.get("type_config") or {}).get("format") or "")
