"""How do runs compare?"""

import pandas as pd
import streamlit as st

from bench.errors import UserError
from bench.places import Place, place
from dashboard import mirror, present, state, theme
from dashboard import run as runs
from dashboard.state import Choice


def show(choice: Choice) -> None:
    """Show other runs beside this one, or merge them with it."""
    st.title("How do runs compare?")
    here = mirror.address(choice.run.folder)
    found: dict[str, Place] = {str(one): one for one in st.session_state["found"]}
    others = [name for name in found if name != here]
    if not others:
        st.info("There is no other run. Name several when you start the dashboard:")
        command = "streamlit run dashboard/app.py -- results/first results/second"
        st.code(command, language=None, wrap_lines=True)
        return
    chosen = state.several("Other runs", "others", others, default=[])
    if not chosen:
        st.info("Choose the runs to compare with this one.")
        return
    beside(choice, {name: found[name] for name in chosen})
    st.subheader("On one board")
    st.caption(
        "Means, ranks and verdicts over the cells of all of these runs, as `reconbench compare` "
        "finds them. It refuses runs that did not score the same images alike."
    )
    if st.toggle("Merge them", key="merge"):
        merge(choice, [here, *chosen])


def beside(choice: Choice, others: dict[str, Place]) -> None:
    """Show the scores of the chosen task in each run, side by side."""
    objective, column = choice.objective, choice.column(choice.objective)
    st.subheader(f"Side by side: {theme.markdown(objective.title)}")
    facts = choice.cells.iloc[0]
    tables = {_name(choice.run): choice.scores(objective)}
    for name, where in others.items():
        try:
            run, stamp = state.opened(where)
        except (ValueError, UserError) as error:
            st.warning(theme.markdown(error), icon=":material/error:")
            continue
        same = run.cells[
            (run.cells.degradation == facts.degradation) & (run.cells.level == facts.level)
        ]
        if same.empty or column not in run.scored:
            st.info(f"{theme.markdown(name)} has no scores of this task.")
            continue
        other = state.Choice(run, stamp, str(same.task.iloc[0]), choice.n_train, choice.convention)
        tables[name] = other.scores(objective)
        data = (choice.run.manifest.get("data"), run.manifest.get("data"))
        digests = [one.get("test") if isinstance(one, dict) else None for one in data]
        if digests[0] is None or digests[0] != digests[1]:
            st.warning(
                f"{theme.markdown(name)} has other test images: its numbers are not comparable.",
                icon=":material/warning:",
            )
    lines = pd.DataFrame({name: _column(one, column) for name, one in tables.items()})
    look = f"%.{objective.decimals}f"
    columns = {
        name: st.column_config.NumberColumn(theme.markdown(name), format=look) for name in tables
    }
    present.table(lines.rename_axis("method").reset_index(), "beside", columns)


def _name(run: runs.Run) -> str:
    return mirror.address(run.folder)


def _column(cells: pd.DataFrame, column: str) -> pd.Series:
    return cells.drop_duplicates("label").set_index("label")[column]


def merge(choice: Choice, names: list[str]) -> None:
    """Show the merged board of the chosen task."""
    try:
        stamps = tuple(str(runs.stamp(mirror.local(place(name)))) for name in names)
        board = state.merged(tuple(names), stamps)
    except UserError as error:
        st.warning(theme.markdown(error), icon=":material/merge:")
        return
    facts = choice.cells.iloc[0]
    lines = pd.DataFrame(board["lines"])
    lines = lines[(lines.degradation == facts.degradation) & (lines.level == facts.level)]
    metrics = [one.name for one in choice.listed if one.name in lines]
    shown = ["rank", "method", "n_train", *metrics, "tied_with_best", "against_classical", "badges"]
    present.table(
        lines[shown], "merged",
        {
            one.name: st.column_config.NumberColumn(
                theme.markdown(one.title), format=f"%.{one.decimals}f"
            )
            for one in choice.listed
        },
    )  # fmt: skip
    for finding in board["findings"]:
        st.markdown(f"- {theme.markdown(finding)}")


show(state.current())
