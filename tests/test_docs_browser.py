"""The built documentation in a real browser: search finds, formulas are drawn, nothing is loaded from elsewhere."""

import shutil
import threading
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="a browser is driven by playwright, pip install 'convengine[browser]'")
from playwright import sync_api

from convengine.dashboard.serving import HOST, server_of

BUILT = Path(__file__).parents[1] / "docs" / "_build" / "html"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.skipif(not (BUILT / "index.html").is_file(), reason="the documentation is not built: nox -s docs"),
]
SILENT = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture
def page():
    """A page of the documentation's server; errors and requests to elsewhere fail the test in the end."""
    with server_of(BUILT, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://{HOST}:{server.server_address[1]}/"
        wrong = []
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SILENT)
            page = browser.new_page(base_url=site)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda one: None if one.url.startswith((site, "data:")) else wrong.append(one.url))
            yield page
            browser.close()
        server.shutdown()
    assert wrong == []


@pytest.mark.parametrize(("words", "target"), [("corr2d", "convengine.corr2d"), ("saturate", "numbers")])
def test_search_finds(page, words, target):
    page.goto(f"search.html?q={words}")
    page.wait_for_selector(f"ul.search li a[href*='{target}']", timeout=20_000)  # results come one by one


def test_formulas_are_drawn(page):
    page.goto("guide/borders.html")
    formula = page.locator("math").first
    assert formula.bounding_box()["width"] > 5


@pytest.mark.parametrize("place", ["index.html", "guide/performance.html", "reference/operations.html"])
def test_pages_load_nothing_from_elsewhere(page, place):
    page.goto(place)
    assert page.locator("h1").count() == 1
