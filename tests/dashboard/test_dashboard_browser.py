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
axe = pytest.importorskip("axe_playwright_python.base", reason="axe-core is not installed")

pytestmark = pytest.mark.slow

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
WAIT_SECONDS = 60
playwright.expect.set_options(timeout=1000 * WAIT_SECONDS)  # else 5 s
AXE = axe.AXE_SCRIPT


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


# What must hold its text: cards, headings, captions and words of a page.
CARDS = ", ".join(
    f"[data-testid=stMain] [data-testid={name}]"
    for name in ("stMetric", "stMetricValue", "stMetricLabel", "stCaptionContainer", "stHeading",
                 "stMarkdownContainer", "stAlert")
)  # fmt: skip
CUT = """cards => [...document.querySelectorAll(cards)]
    .filter(card => card.offsetParent && card.scrollWidth > card.clientWidth
        && !["inline", "contents"].includes(getComputedStyle(card).display))
    .map(card => `${card.innerText}: ${card.scrollWidth} > ${card.clientWidth}`)"""
PICTURES = "document.querySelector('.st-key-pictures .js-plotly-plot')"
TRUTH = f"JSON.stringify({PICTURES}?.data?.[0].z)"
# Rules of axe-core that a page must keep; see https://dequeuniversity.com/rules/axe/.
SERIOUS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
    .filter(rule => ["serious", "critical"].includes(rule.impact))
    .flatMap(rule => rule.nodes.map(node => `${rule.id}: ${node.html} ${node.failureSummary}`))"""
LOOKS = [(width, scheme) for scheme in ("dark", "light") for width in (390, 1000, 1400)]
# Where a page other than the first is opened directly, Streamlit asks for its own addresses below
# that page first, and the browser reports that they are not there. No setting prevents it.
PROBES = re.compile(r"/[a-z]+/_stcore/(health|host-config)$")


@pytest.fixture
def faults(page: "playwright.Page", serve: str) -> list[str]:
    """Collect what the console reports as an error, and addresses of other hosts; see `look`."""
    found: list[str] = []

    def hear(message: "playwright.ConsoleMessage") -> None:
        where = message.location["url"].removeprefix(serve)
        probe = "404 (Not Found)" in message.text and PROBES.fullmatch(where)
        if message.type == "error" and not probe:
            found.append(f"{message.text} ({where})")

    def watch(request: "playwright.Request") -> None:
        if not request.url.startswith((serve, "data:", "blob:", "about:")):
            found.append(request.url)

    page.on("console", hear)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", watch)
    return found


def see(page: "playwright.Page", title: str) -> None:
    page.get_by_role("heading", name=title).wait_for()
    playwright.expect(page.get_by_test_id("stStatusWidget")).to_have_count(0)
    assert page.get_by_test_id("stException").count() == 0


def look(page: "playwright.Page", title: str, faults: list[str]) -> None:
    """See a page in every width, light and dark; add to the faults text that is cut off, a page
    that is wider than the window, and what axe-core finds serious.
    """
    page.evaluate(AXE)
    for width, scheme in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        see(page, title)
        where = f"{title} {width} {scheme}"
        found = [f"cut off: {text}" for text in page.evaluate(CUT, CARDS)]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append("wider than the window")
        if width != 1000:
            found += page.evaluate(SERIOUS)
        faults += [f"{where}: {fault}" for fault in found]


def go(page: "playwright.Page", link: str, title: str) -> None:
    page.get_by_role("link", name=link, exact=True).click()
    see(page, title)


def test_user_walks_through_the_pages(
    results: Path, serve: str, page: "playwright.Page", faults: list[str]
) -> None:
    make_run(results / "small_data", size=32)
    page.goto(serve)
    see(page, "Which method should I use?")
    page.get_by_text("With 100 training images,").wait_for()
    page.get_by_test_id("stDataFrame").locator("canvas").first.wait_for()
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for()
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("toprule").wait_for()
    page.keyboard.press("Escape")
    look(page, "Which method should I use?", faults)

    page.get_by_test_id("stSidebar").get_by_text("25", exact=True).click()
    page.get_by_text("With 25 training images, use").wait_for()
    page.wait_for_url(re.compile(r"n_train=25"))

    go(page, "Trade-off", "What does PSNR cost?")
    page.locator(".js-plotly-plot .legendtext", has_text="Pareto front").wait_for()
    page.get_by_text("FLOPs per image", exact=True).click()
    page.get_by_text("from the cheapest to the best").wait_for()
    page.wait_for_url(re.compile(r"against=flops"))
    look(page, "What does PSNR cost?", faults)

    go(page, "Overview", "Which method is best over all tasks?")
    playwright.expect(page.locator(".js-plotly-plot")).to_have_count(2)
    look(page, "Which method is best over all tasks?", faults)

    go(page, "Trust", "How far can it be trusted?")
    page.get_by_text("reconbench lesions").wait_for()
    look(page, "How far can it be trusted?", faults)

    go(page, "Levels and sizes", "How do methods hold up?")
    playwright.expect(page.locator(".js-plotly-plot")).to_have_count(2)
    look(page, "How do methods hold up?", faults)

    go(page, "Images", "What do the reconstructions look like?")
    see_images(page)
    look(page, "What do the reconstructions look like?", faults)

    go(page, "Search", "What did the search find?")
    page.locator(".js-plotly-plot .scatterlayer .point").first.wait_for()
    look(page, "What did the search find?", faults)

    go(page, "Compare", "How do runs compare?")
    look(page, "How do runs compare?", faults)

    go(page, "Run", "How was this run made?")
    page.get_by_text("144 / 144").wait_for()
    look(page, "How was this run made?", faults)
    assert faults == []


def see_images(page: "playwright.Page") -> None:
    """Click a point to its pictures, change the window, and follow the address of the page."""
    # truth and measurement, tv and the best network; all but the truth with their errors
    pictures = page.locator(".st-key-pictures .heatmaplayer image")
    playwright.expect(pictures).to_have_count(7)
    page.wait_for_url(re.compile(r"viewer\?.*n_train=25.*show=tv"))

    scatter = page.locator(".st-key-scatter-of-images .js-plotly-plot")
    scatter.scroll_into_view_if_needed()
    names = scatter.evaluate("plot => plot.data[1].customdata.map(one => one[0])")
    point = scatter.locator(".trace").nth(1).locator(".point").nth(names.index("image 2"))
    before = page.evaluate(TRUTH)
    box = point.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_url(re.compile(r"image=image(\+|%20)2"))
    page.wait_for_function(f"before => {PICTURES} && {TRUTH} !== before", arg=before)
    playwright.expect(pictures).to_have_count(7)

    page.get_by_role("button", name="Display").click()
    page.get_by_role("slider").first.press("ArrowRight")
    page.wait_for_function(f"{PICTURES}?.layout.coloraxis.cmin > 0")  # drawn anew meanwhile
    page.keyboard.press("Escape")
    playwright.expect(pictures).to_have_count(7)

    shared, truth = page.url, page.evaluate(TRUTH)
    page.goto("about:blank")
    page.goto(shared)
    see(page, "What do the reconstructions look like?")
    page.get_by_test_id("stMultiSelect").get_by_text("tv", exact=True).wait_for()
    page.wait_for_function(f"truth => {TRUTH} === truth", arg=truth)


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
