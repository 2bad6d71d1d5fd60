"""The dashboard in a real browser: no error, no request that leaves this machine, keyboard, a phone's width."""

import shutil
import threading

import pytest

pytest.importorskip("asv", reason="the dashboard needs pip install 'convengine[dashboard]'")
pytest.importorskip("playwright", reason="a browser is driven by playwright, pip install 'convengine[browser]'")
from dashboard_clone import git, make_clone, write_results
from playwright import sync_api

from convengine import dashboard
from convengine.dashboard.serving import HOST

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
SILENT = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
GRAPH = "asv/index.html#filters.Images.time_call?x-axis=k&p-n=1024&p-threads=%27all%27&y-axis-scale=log"
PLACES = {
    "front page": ("", "main table"),
    "grid": ("asv/index.html#/", ".benchmark-plot canvas"),
    "graph": (GRAPH, "#main-graph canvas"),
    "graph of what another machine measured": ("asv/index.html#comparisons.Limit.track_time", "#main-graph canvas"),
    "list": ("asv/index.html#summarylist", "#summarylist-body table"),
    "regressions": ("asv/index.html#regressions", "#regressions-body table tbody tr"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a site of two commits, the last one slower."""
    folder = tmp_path_factory.mktemp("browser")
    commits = make_clone(folder / "clone")
    write_results(folder / "clone" / ".asv" / "results", commits, without="comparisons.Limit.track_time")
    write_results(folder / "clone" / "asv_bench" / "results", commits, machine="reference")
    assert git(folder / "clone", "rev-parse", "HEAD") == commits[-1]
    dashboard.build(dashboard.Clone.find(folder / "clone"), folder / "site")
    with dashboard.server_of(folder / "site", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{HOST}:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    """A browser."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SILENT)
        yield browser
        browser.close()


@pytest.fixture
def visit(site, chromium):
    """Open a place at a width; every error and every request to elsewhere fails the test in the end."""
    wrong = []
    opened = []

    def open_(place, width=1200):
        page = chromium.new_page(viewport={"width": width, "height": 800})
        opened.append(page)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on(
            "request", lambda request: None if request.url.startswith((site, "data:")) else wrong.append(request.url)
        )
        path, awaited = PLACES[place]
        page.goto(site + path)
        page.wait_for_selector(awaited, timeout=20_000)
        return page

    yield open_
    for page in opened:
        page.close()
    assert wrong == []


@pytest.mark.parametrize("width", [1200, 375])
@pytest.mark.parametrize("place", PLACES)
def test_every_page_works_at_every_width(visit, place, width):
    page = visit(place, width)
    page.wait_for_timeout(300)
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= seen


def test_the_front_page_leads_to_a_comparison_of_backends(visit):
    page = visit("front page")
    page.get_by_role("link", name="As a graph").first.click()
    page.wait_for_selector("#main-graph canvas")
    page.wait_for_selector(".legend", state="attached")
    legend = page.locator(".legend").text_content()
    assert all(f"backend-{name};" in legend for name in ("convengine", "convengine/fft", "opencv"))


def test_the_slow_commit_is_among_the_regressions(visit):
    page = visit("regressions")
    assert "filters.Images.time_call" in page.locator("#regressions-body table").first.inner_text()


def test_the_front_page_by_keyboard(visit):
    page = visit("front page")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim().split('\\n')[0].slice(0, 30)"))
    assert reached[:4] == ["Skip to the answers", "All benchmarks", "As a list", "Regressions"]
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_asvs_buttons_by_keyboard(visit):
    page = visit("graph")
    button = page.locator("#log-scale")
    assert "active" in button.get_attribute("class")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('#log-scale').classList.contains('active')")


def test_drawings_have_names_and_headings_an_order(visit):
    page = visit("front page")
    assert page.locator("svg[role=img][aria-label]").count() == page.locator("figure svg").count() == 3
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("th:not([scope])").count() == 0
