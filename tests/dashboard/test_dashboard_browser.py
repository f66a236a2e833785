"""The dashboard as a user starts it, in a real browser."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from synthetic_run import make_run

from bench import claim

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.slow

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
WAIT_SECONDS = 60


@pytest.fixture
def serve(results: Path) -> Iterator[str]:
    """Start the dashboard in the folder above the results; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    with subprocess.Popen(command, cwd=results.parent, stdout=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_for(f"{address}/_stcore/health", server)
            yield address
        finally:
            server.terminate()


def wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the dashboard ended by itself"
        try:
            urlopen(address, timeout=5).close()
            return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError("the dashboard did not answer")


def see(page: "playwright.Page", title: str) -> None:
    page.get_by_role("heading", name=title).wait_for()
    playwright.expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    assert page.get_by_test_id("stException").count() == 0


def test_user_walks_through_the_pages(results: Path, serve: str, page: "playwright.Page") -> None:
    make_run(results / "small_data", size=32)
    outside = []
    page.on("request", lambda request: outside.append(request.url))
    page.goto(serve)
    see(page, "Which method should I use?")
    page.get_by_text("With 100 training images,").wait_for()
    page.get_by_test_id("stDataFrame").locator("canvas").first.wait_for()
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for()

    page.get_by_test_id("stSidebar").get_by_text("25", exact=True).click()
    page.get_by_text("With 25 training images, use").wait_for()
    page.wait_for_url(re.compile(r"n_train=25"))

    page.get_by_role("link", name="Trade-off").click()
    see(page, "What does PSNR cost?")
    page.locator(".js-plotly-plot .legendtext", has_text="Pareto front").wait_for()
    page.get_by_text("FLOPs per image", exact=True).click()
    page.get_by_text("from the cheapest to the best").wait_for()
    page.wait_for_url(re.compile(r"against=flops"))

    page.get_by_role("link", name="Overview").click()
    see(page, "Which method is best over all tasks?")
    playwright.expect(page.locator(".js-plotly-plot")).to_have_count(2)

    page.get_by_role("link", name="Trust").click()
    see(page, "How far can it be trusted?")
    page.get_by_text("reconbench lesions").wait_for()

    page.get_by_role("link", name="Levels and sizes").click()
    see(page, "How do methods hold up?")
    playwright.expect(page.locator(".js-plotly-plot")).to_have_count(2)

    page.get_by_role("link", name="Images").click()
    see(page, "What do the reconstructions look like?")
    # truth and measurement, tv and the best network; all but the truth with their errors
    playwright.expect(page.locator(".js-plotly-plot .heatmaplayer image")).to_have_count(7)
    page.wait_for_url(re.compile(r"viewer\?.*n_train=25.*show=tv"))

    shared = page.url
    page.goto("about:blank")
    page.goto(shared)
    see(page, "What do the reconstructions look like?")
    page.get_by_test_id("stMultiSelect").get_by_text("tv", exact=True).wait_for()

    page.get_by_role("link", name="Run", exact=True).click()
    see(page, "How was this run made?")
    page.get_by_text("144 / 144").wait_for()
    foreign = [url for url in outside if not url.startswith((serve, "data:", "blob:", "about:"))]
    assert foreign == []


def test_page_follows_a_run_as_it_goes(results: Path, serve: str, page: "playwright.Page") -> None:
    page.goto(serve)
    page.get_by_text("There is no run to show yet").wait_for()
    folder = make_run(results / "going", finished=False, unstarted=3, size=32)
    with claim.held(folder):
        page.get_by_text("14 of 18 cells", exact=True).wait_for()
        page.get_by_text("In progress").wait_for()
        shutil.rmtree(folder / "rows")
        make_run(folder, size=32)
    page.get_by_text("In progress").wait_for(state="detached")
    see(page, "Which method should I use?")


def test_names_from_files_are_never_run(results: Path, serve: str, page: "playwright.Page") -> None:
    evil = "<img src=x onerror=alert(1)>"
    make_run(results / "evil", rename={"attention_residual_unet": evil}, size=32)
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for name, title in {"": "Which method", "tradeoff": "PSNR cost", "levels": "hold up"}.items():
        page.goto(f"{serve}/{name}")
        see(page, title)
        page.get_by_text(evil).first.wait_for()
    assert dialogs == []
    assert page.locator("img[src=x]").count() == 0
