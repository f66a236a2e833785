"""How far can the reconstructions be trusted?"""

import pandas as pd
import streamlit as st

from bench import lesion_table
from dashboard import mirror, present, state, theme
from dashboard.state import Choice


def show(choice: Choice) -> None:
    """Show what of each error the measurement shows, the lesion test, and the data's findings."""
    st.title("How far can it be trusted?")
    cells = choice.scores(choice.objective).sort_values(["rank", "method"])
    errors(cells)
    lesions(choice, cells)
    data(choice)


def errors(cells: pd.DataFrame) -> None:
    """Show the parts of each error."""
    st.subheader("Which part of the error does the measurement show?")
    known = cells[cells.error_unseen.notna()]
    if known.empty:
        st.info("Not known: the operator is not linear or not known, or the run is an earlier one.")
        return
    number = st.column_config.NumberColumn
    present.table(
        pd.DataFrame(
            {
                "Method": known.label,
                "Seen %": 100 * known.error_seen,
                "Unseen %": 100 * known.error_unseen,
                "Residual / noise": known.residual_to_noise,
            }
        ),
        "errors",
        {
            "Seen %": number(format="%.1f"),
            "Unseen %": number(format="%.1f"),
            "Residual / noise": number(format="%.2f"),
        },
    )
    st.caption(
        "In per cent of the image. What is unseen was invented or left out: no measurement "
        "contradicts it. Residual / noise is 1 where a reconstruction fits the measurement as well "
        "as the truth does, and less where it fits the noise."
    )


def lesions(choice: Choice, cells: pd.DataFrame) -> None:
    """Show the lesion test of the task."""
    st.subheader("Are small lesions shown?")
    found = lesion_table.read(choice.run.folder, set(cells.cell))
    if found.empty:
        st.info("Not examined yet:")
        command = f"reconbench lesions {mirror.address(choice.run.folder)}"
        st.code(command, language=None, wrap_lines=True)
        return
    table = lesion_table.summary(found)
    label = table.method + [f" · {n}" if n else "" for n in table.n_train]
    bar = st.column_config.ProgressColumn
    present.table(
        pd.DataFrame(
            {
                "Radius": [f"{radius} px" for radius in table.radius],
                "Method": label,
                "Contrast shown": 100 * table.recovered.clip(0, 1),
                "In the worst tenth": 100 * table.recovered_low.clip(0, 1),
                "False lesions an image": table.false_lesions,
            }
        ),
        "lesions",
        {
            "Contrast shown": bar(format="%.0f %%", min_value=0, max_value=100),
            "In the worst tenth": bar(format="%.0f %%", min_value=0, max_value=100),
            "False lesions an image": st.column_config.NumberColumn(format="%.1f"),
        },
    )
    st.caption(
        f"Discs of contrast {table.contrast.iloc[0]:g} were added to test images before these were "
        "measured, with the same noise as without them. False lesions: spots of the same size "
        "where the error exceeds half the contrast."
    )


def data(choice: Choice) -> None:
    """Show what the audit of the images has found."""
    st.subheader("What is known of the images?")
    audit = choice.run.manifest.get("audit")
    notes = audit.get("notes") if isinstance(audit, dict) else None
    for note in notes if isinstance(notes, list) else []:
        st.markdown(f"- {theme.markdown(note)}")
    if not notes:
        st.caption("The audit has no findings.")


show(state.current())
