"""`convengine tune`: what it prints, stores and removes."""

import json

import pytest

from convengine import prices, tuning

pytest.importorskip("click", reason="the command line needs pip install 'convengine[cli]'")
from command_line import done, refused


@pytest.fixture(autouse=True)
def few(monkeypatch, own_prices):
    """Two problems in place of some hundred."""
    monkeypatch.setattr(tuning, "_grid", lambda: [tuning.Case((n, n), (3, 3), "float32", 1) for n in (16, 32)])


def test_it_measures_stores_and_removes():
    lines = done("tune").splitlines()
    assert lines[0].split() == ["backend", "method", "arrays", "threads", "least", "measured/offered", "most"]
    assert any(line.startswith("cython") and "direct" in line for line in lines)
    assert lines[-1].endswith(f"stored in {prices.cache_file()}")
    assert prices.cache_file().is_file()
    assert done("tune", "--remove").startswith("removed ")
    assert done("tune", "--remove").startswith("there is none: ")
    assert not prices.cache_file().exists()


def test_as_json():
    found = json.loads(done("tune", "--json"))
    assert {"backend", "method", "middle", "is_lie"} <= set(found["verdicts"][0])


def test_it_checks_the_choice():
    assert "3 problems: chosen / best" in done("tune", "--check", "--problems", "3")
    found = json.loads(done("tune", "--check", "--problems", "2", "--seed", "4", "--json"))
    assert len(found["choices"]) == 2 and len(found["quantiles"]) == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [("--check --remove", "give one of them"), ("--seed 3", "go with --check"), ("--check --problems 0", "1<=x")],
)
def test_what_does_not_go_together(options, text):
    assert text in refused("tune", *options.split())


def test_a_cache_that_cannot_be_written_shows_before_measuring(monkeypatch):
    monkeypatch.setenv("CONVENGINE_CACHE", "/proc/nowhere")
    monkeypatch.setattr(tuning, "_measured", lambda case: pytest.fail("measured"))
    assert "/proc/nowhere" in refused("tune")
