"""convengine: cross-correlation and convolution behind one API, on many backends, with one answer.

>>> import convengine as ce
>>> ce.corr2d([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
array([[19, 25],
       [37, 43]])
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convengine import filters
from convengine._version import __version__
from convengine.api import clear_cache, conv1d, conv2d, conv3d, corr1d, corr2d, corr3d
from convengine.config import options, set_options
from convengine.crosscheck import crosscheck
from convengine.errors import BackendError, InvalidProblem, NoBackend
from convengine.planning import backends, explain, plan, show_config

if TYPE_CHECKING:
    from convengine import testing

__all__ = [
    "BackendError",
    "InvalidProblem",
    "NoBackend",
    "__version__",
    "backends",
    "clear_cache",
    "conv1d",
    "conv2d",
    "conv3d",
    "corr1d",
    "corr2d",
    "corr3d",
    "crosscheck",
    "explain",
    "filters",
    "options",
    "plan",
    "set_options",
    "show_config",
    "testing",
]


def __getattr__(name: str) -> Any:
    if name == "testing":  # the oracle and its suite load only when asked for
        return import_module("convengine.testing")
    raise AttributeError(f"module 'convengine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
