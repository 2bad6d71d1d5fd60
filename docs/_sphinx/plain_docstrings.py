"""Docstrings are plain text: a bar is an absolute value and a star a product, not markup.

numpydoc hands docstrings to Sphinx as reStructuredText, which would take ``|x|`` for a substitution and ``(*batch, C)``
for emphasis. Both signs are escaped, but in code: doctests and their output, literal blocks, ``literals``.
"""

import re
from typing import Any

from sphinx.application import Sphinx

MARKUP = re.compile(r"(``.*?``)|([*|])")
PARAMETERS = re.compile(r"\*{1,2}\w+( : .*)?$")  # "**values", which numpydoc escapes itself


def escaped(lines: list[str]) -> list[str]:
    """Escape stars and bars in the prose of a docstring."""
    result = []
    code_from = None  # the indentation at which the text before a code block stood
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if code_from is not None and line.strip() and indent <= code_from[0] and not code_from[1]:
            code_from = None
        if code_from is not None and code_from[1] and not line.strip():
            code_from = None  # a doctest ends at an empty line
        if code_from is None and line.lstrip().startswith(">>> "):
            code_from = (indent, True)
        if code_from is None and not PARAMETERS.match(line.strip()):
            line = MARKUP.sub(lambda found: found[1] or "\\" + found[2], line)
        result.append(line)
        if code_from is None and line.rstrip().endswith("::"):
            code_from = (indent, False)
    return result


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape a docstring in place."""
    lines[:] = escaped(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Escape before numpydoc, whose own output is markup, reads the docstrings."""
    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
