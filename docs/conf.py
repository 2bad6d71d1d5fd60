"""Sphinx settings: everything builds and reads offline; intersphinx links only when they are asked for."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_sphinx"))
os.environ.setdefault("CONVENGINE_BACKEND", "cython,fft,scipy")  # pages come out alike, whatever else is installed

import border_rules
import command_help
import performance

# Compiled; imported before autodoc comes, which would put the stub file in its place.
import convengine.native.pool  # noqa: F401
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
    "sphinx_gallery.gen_gallery",
    # in _sphinx
    "mathml",
    "plain_docstrings",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "tutorial"]  # the gallery makes pages of the tutorial's programs, in auto_tutorial

myst_enable_extensions = ["dollarmath", "substitution"]
myst_substitutions = {"border_rules": border_rules.markdown(), "command_help": command_help.markdown()}
myst_substitutions["performance"] = performance.markdown()
myst_heading_anchors = 3

autosummary_generate = True
autodoc_mock_imports = [name for name in ("hypothesis", "pytest", "torch") if find_spec(name) is None]  # read, not run
autodoc_typehints = "none"  # the docstrings say types in words, with shapes and units
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "tutorial",
    "gallery_dirs": "auto_tutorial",
    "filename_pattern": r"[\\/]\d_\w+\.py$",  # all are run
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),  # a page shows what its program prints
    "remove_config_comments": True,
    "download_all_examples": False,
    "notebook_extensions": set(),
    "show_signature": False,
    "write_computation_times": False,
}

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
