"""The fixtures that test files share, and what pytest must leave alone."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from convengine_cython.backend import compiled_levels

import convengine as ce
from convengine import api, prices, registry
from convengine.native import cpu

# Distributions that only the tests that lay them down may find. Collected for doctests, they would land on sys.path,
# and their backends would be installed for every other test.
collect_ignore = ["plugins", "mutants"]

# The choice must not depend on what somebody, or another test, measured here: nobody can make a folder in this file.
os.environ["CONVENGINE_CACHE"] = str(Path(__file__, "no-cache"))

LEVELS = [level for level in cpu.levels() if level in compiled_levels()]


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    """Run a test at each level; the plan cache knows nothing of the environment."""
    monkeypatch.setenv("CONVENGINE_ISA", request.param)
    ce.clear_cache()
    yield request.param
    ce.clear_cache()


@pytest.fixture
def own_prices(monkeypatch, tmp_path):
    """Prices that are the test's own: none in the beginning, and none left."""
    monkeypatch.setenv("CONVENGINE_CACHE", str(tmp_path / "cache"))
    prices.use(None)
    ce.clear_cache()
    yield
    prices.use(None)
    registry.forget()
    ce.clear_cache()


@pytest.fixture
def cold():
    """No call came before this test, and none of its own stays."""
    ce.clear_cache()
    yield
    ce.clear_cache()


@pytest.fixture
def ways(monkeypatch):
    """How many calls took the ordinary way; empty it to count anew."""
    taken, ordinary = [], api._correlate

    def counted(*arguments):
        taken.append(arguments[0])
        return ordinary(*arguments)

    monkeypatch.setattr(api, "_correlate", counted)
    return taken


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder that holds a few pictures."""
    from command_line import save_pictures  # only the tests of the command line need its libraries

    monkeypatch.chdir(tmp_path)
    save_pictures()
    return tmp_path


@pytest.fixture
def ran(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the engine says that it ran."""
    caplog.set_level(logging.DEBUG, logger="convengine")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("convengine")]


@pytest.fixture
def cupy(monkeypatch):
    """What stands for CuPy where there is none."""
    from cupy_stand_in import stand_in  # only these tests need all of it

    with stand_in(monkeypatch) as driver:
        yield driver
