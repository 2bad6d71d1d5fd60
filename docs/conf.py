"""Sphinx settings: everything builds and reads offline; intersphinx links only when they are asked for."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_sphinx"))

import border_rules
import command_help

from convengine import __version__

project = "convengine"
author = "The convengine developers"
copyright = "2026, the convengine developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    # in _sphinx
    "mathml",
    "plain_docstrings",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "substitution"]
myst_substitutions = {"border_rules": border_rules.markdown(), "command_help": command_help.markdown()}
myst_heading_anchors = 3

autosummary_generate = True
autodoc_mock_imports = [name for name in ("hypothesis", "pytest") if find_spec(name) is None]  # read, not run
autodoc_typehints = "none"  # the docstrings say types in words, with shapes and units
numpydoc_show_class_members = False

html_theme = "pydata_sphinx_theme"
html_title = f"convengine {__version__}"
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "show_toc_level": 2,
    "footer_end": [],
}

if os.environ.get("CONVENGINE_DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }
