"""The example notebook runs from the first cell to the last."""

from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def test_the_example_notebook(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'bench/alias'}")
    notebook = nbformat.read(ROOT / "docs/example.ipynb", as_version=4)
    kept = [cell.get("outputs") for cell in notebook.cells]
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = [cell.get("outputs") for cell in notebook.cells]
    for before, now in zip(kept, shown, strict=True):  # the file shows what a run of it shows
        assert [one.output_type for one in before or []] == [one.output_type for one in now or []]
    kinds = {kind for outputs in shown for one in outputs or [] for kind in one.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
