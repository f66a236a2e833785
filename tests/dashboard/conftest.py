import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from synthetic_run import make_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
WAIT_SECONDS = 60


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty results folder in the folder that the dashboard is started in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def run_folder(results: Path) -> Path:
    return make_run(results / "small_data", size=16)


@pytest.fixture
def page() -> Iterator[Any]:
    """Open a page in the browser of this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no system browser (looked for {', '.join(BROWSERS)})")
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=browser, args=FLAGS) as chromium,
    ):
        opened = chromium.new_page(viewport={"width": 1400, "height": 900})
        opened.set_default_timeout(1000 * WAIT_SECONDS)
        yield opened
