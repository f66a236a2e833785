"""Entry point: chooses the run, the task and the page.

streamlit run dashboard/app.py -- [RUN ...]
"""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that was never installed
    sys.path.insert(0, str(ROOT))

from bench import claim  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.places import Place, place  # noqa: E402
from dashboard import mirror, present, state, theme  # noqa: E402
from dashboard import run as runs  # noqa: E402

RESULTS = Path("results")
REFRESH_SECONDS = 4
MOST_NAMED = 5  # damaged files in a warning
PAGES = {
    "leaderboard": ("Leaderboard", ":material/trophy:"),
    "tradeoff": ("Trade-off", ":material/scatter_plot:"),
    "overview": ("Overview", ":material/grid_on:"),
    "levels": ("Levels and sizes", ":material/show_chart:"),
    "trust": ("Trust", ":material/verified:"),
    "viewer": ("Images", ":material/image:"),
    "search": ("Search", ":material/tune:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "progress": ("Run", ":material/list_alt:"),
}


def main() -> None:
    """Show the page."""
    st.set_page_config("ReconBench", "🩻", layout="wide")
    try:
        given = arguments()
        found = candidates(given)
    except UserError as error:
        st.error(theme.markdown(error), icon=":material/error:")
        return
    if not found:
        explain(given[0] if given else None)
        return
    theme.apply()
    page = st.navigation(
        [
            st.Page(f"views/{name}.py", title=title, icon=icon, url_path=name, default=not index)
            for index, (name, (title, icon)) in enumerate(PAGES.items())
        ],
        position="top",
    )
    st.session_state["found"] = found
    chosen = choose_run(found)
    try:
        run, stamp = state.opened(chosen)
    except (ValueError, UserError) as error:
        st.error(theme.markdown(error), icon=":material/error:")
        return
    if run.damaged:
        st.warning(damage(run.damaged), icon=":material/healing:")
    with st.sidebar:
        if not run.cells.empty:
            st.session_state["choice"] = choose(run, stamp)
            present.choose_format()
        if run.in_progress:
            watch(run, stamp)
    if run.cells.empty:
        placeholder(run)
        return
    try:
        page.run()
    except UserError as error:
        st.error(theme.markdown(error), icon=":material/error:")


def damage(files: list[str]) -> str:
    """Warn of damaged files."""
    named = ", ".join(map(theme.markdown, files[:MOST_NAMED])) + (
        ", ..." if len(files) > MOST_NAMED else ""
    )
    return f"Damaged and left out: {named}. Rerun the command of the run to compute them again."


def arguments() -> list[Place]:
    """Return the folders named on the command line.

    Raises:
        UserError: an invalid address.
    """
    started_by_streamlit = Path(sys.argv[0]).resolve() == Path(__file__).resolve()
    return [place(name) for name in (sys.argv[1:] if started_by_streamlit else [])]


def candidates(given: list[Place]) -> list[Place]:
    """List the runs to choose from: those that are named, or in a folder that is named, and those
    in `results`, the newest first.

    Raises:
        UserError: an object store cannot be reached.
    """
    named = [run for one in given for run in ([one] if runs.is_run(one) else runs.find(one))]
    if given and not named:
        return []
    whole = not given or any(runs.is_run(one) for one in given)
    return list({run.resolve(): run for run in [*named, *(runs.find(RESULTS) if whole else [])]}
                .values())  # fmt: skip


def explain(given: Place | None) -> None:
    """Explain what to do where there is no run."""
    st.title("ReconBench")
    if given is not None:
        is_folder = isinstance(given, Path) and given.is_dir()
        what = "is not a run folder (no spec.yaml)" if is_folder else "is not a folder"
        st.error(f"{theme.markdown(given)} {what}.", icon=":material/folder_off:")
        st.markdown("Give the folder of a run, or leave it out to see the newest one:")
        st.code(
            "streamlit run dashboard/app.py -- results/small_data", language=None, wrap_lines=True
        )
        return
    st.subheader("There is no run to show yet")
    st.markdown(f"None was found in `{RESULTS}/` of the current folder. Make one:")
    st.code("make bench", language=None, wrap_lines=True)
    st.markdown(
        "It takes a few minutes on two CPU cores, and this page shows its results as they arrive. "
        "To open a run that is elsewhere, give its folder:"
    )
    st.code("streamlit run dashboard/app.py -- path/to/run", language=None, wrap_lines=True)
    look_again()


@st.fragment(run_every=REFRESH_SECONDS)
def look_again() -> None:
    """Show a run as soon as there is one."""
    if runs.find(RESULTS):
        st.rerun()


def choose_run(found: list[Place]) -> Place:
    """Let the user choose among the runs found, and no other folder."""
    by_name = {str(folder): folder for folder in found}
    with st.sidebar:
        st.markdown("### ReconBench")
        chosen = state.select("Run", "run", list(by_name), show=lambda name: Path(name).name)
    return by_name[chosen]


def choose(run: runs.Run, stamp: runs.Stamp) -> state.Choice:
    """Let the user choose task, training-set size and convention."""
    tasks = run.cells.drop_duplicates("task").sort_values(["degradation", "level"])
    titles = {
        str(line["task"]): f"{line['degradation']}, level {line['level']:g}"
        for line in tasks.to_dict("records")
    }
    planned = run.spec.get("n_train") or []
    sizes = sorted({int(size) for size in [*planned, *run.cells.n_train] if size} or {0})
    task = state.select("Task", "task", list(titles), show=lambda task: titles[task])
    n_train = state.switch(
        "Available training images", "n_train", [str(size) for size in sizes],
        default=str(sizes[-1]), help="Methods that need more are left out or shown in grey.",
    )  # fmt: skip
    convention = state.select(
        "Metric convention", "convention", list(theme.CONVENTIONS),
        show=lambda name: theme.CONVENTIONS[name],
        help="The data range that PSNR and SSIM use, and the pixels that they cover.",
    )  # fmt: skip
    return state.Choice(run, stamp, task, int(n_train), convention)


@st.fragment(run_every=REFRESH_SECONDS)
def watch(run: runs.Run, stamp: runs.Stamp) -> None:
    """Show the progress of a run, and reload the page when there is a new result."""
    mirror.renew(run.folder)
    if runs.stamp(run.folder) != stamp:
        st.rerun()
    st.divider()
    if claim.is_active(run.folder):
        st.markdown("**In progress**, results are shown as they arrive")
    elif run.manifest:
        st.markdown("**Stopped** before it was finished")
        st.caption("Rerun its command to finish it.")
    else:
        st.markdown("**Not running**")
        st.caption("Without `manifest.json` it is not known whether it was finished.")
    count("cells", run.cells_done, run.planned_cells)
    count("trials", len(run.trials), run.planned_trials)


def count(what: str, done: int, planned: int | None) -> None:
    """Show a progress bar, or only the number if the total is unknown."""
    if planned:
        st.progress(min(1.0, done / planned), f"{done} of {planned} {what}")
    else:
        st.caption(f"{done} {what}")


def placeholder(run: runs.Run) -> None:
    """Stand in for every page until the first refit is scored."""
    st.title(theme.markdown(run.spec.get("name", run.folder.name)))
    st.info(
        "No test image is scored yet. Results appear here when the first cell is done.",
        icon=":material/hourglass_top:",
    )


if __name__ == "__main__":
    main()
