"""The documentation: its examples run, its tables tell the truth, its reference is complete. Without Sphinx."""

import csv
import doctest
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

import convengine as ce
from convengine import config, registry

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
FENCE = re.compile(r"^```.*$", re.MULTILINE)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def rows(name: str) -> list[dict[str, str]]:
    """The rows of a table of the guide, without the marks of code."""
    with (DOCS / "guide" / name).open(encoding="utf-8", newline="") as file:
        return [{key: cell.replace("`", "") for key, cell in row.items()} for row in csv.DictReader(file)]


# ---- examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_examples_of_a_page_run(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))  # a closing fence is no output; lines keep their numbers
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    report: list[str] = []
    with ce.options(backend=("cython", "fft", "scipy")):  # what is installed beside does not show in the pages
        outcome = doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append)
    assert outcome.failed == 0, "".join(report)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_python_on_a_page_is_an_example_that_runs(page: Path) -> None:
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        if language in ("python", "py", "pycon"):
            assert code.startswith(">>> "), f"this block is not run; write it as a session:\n{code}"
