"""The report's page in a real browser."""

from pathlib import Path

import pytest
from synthetic_run import make_run

from bench import report
from bench.store import Store

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.slow


def test_the_page_draws_its_figures_and_asks_no_other_host(
    page: "playwright.Page", tmp_path: Path
) -> None:
    folder = make_run(tmp_path / "run", size=32, methods=("degraded", "tv", "unet"))
    report.write(Store(folder))
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    file = (folder / "report" / "leaderboard.html").as_uri()
    for width in (1400, 400):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(file)
        charts = page.locator(".chart")
        assert charts.count() >= 5
        for index in range(charts.count()):
            charts.nth(index).scroll_into_view_if_needed()
            charts.nth(index).locator(".main-svg").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == width
    assert said == []
    assert asked == [file, file]
