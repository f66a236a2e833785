from pathlib import Path

import pytest
from synthetic_run import make_run


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder in the folder that the dashboard is started in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def run_folder(results: Path) -> Path:
    return make_run(results / "small_data", size=16)
