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
from convengine.gradients import (
    conv1d_grad_input,
    conv1d_grad_kernel,
    conv2d_grad_input,
    conv2d_grad_kernel,
    conv3d_grad_input,
    conv3d_grad_kernel,
    corr1d_grad_input,
    corr1d_grad_kernel,
    corr2d_grad_input,
    corr2d_grad_kernel,
    corr3d_grad_input,
    corr3d_grad_kernel,
)
from convengine.planning import backends, explain, plan, show_config

if TYPE_CHECKING:
    from convengine import analysis, interop, nn, testing
    from convengine.tuning import tune

__all__ = [
    "BackendError",
    "InvalidProblem",
    "NoBackend",
    "__version__",
    "analysis",
    "backends",
    "clear_cache",
    "conv1d",
    "conv1d_grad_input",
    "conv1d_grad_kernel",
    "conv2d",
    "conv2d_grad_input",
    "conv2d_grad_kernel",
    "conv3d",
    "conv3d_grad_input",
    "conv3d_grad_kernel",
    "corr1d",
    "corr1d_grad_input",
    "corr1d_grad_kernel",
    "corr2d",
    "corr2d_grad_input",
    "corr2d_grad_kernel",
    "corr3d",
    "corr3d_grad_input",
    "corr3d_grad_kernel",
    "crosscheck",
    "explain",
    "filters",
    "interop",
    "nn",
    "options",
    "plan",
    "set_options",
    "show_config",
    "testing",
    "tune",
]


LAZY = ("analysis", "interop", "nn", "testing")  # what most programs do not use loads when it is asked for


def __getattr__(name: str) -> Any:
    if name in LAZY:
        return import_module(f"convengine.{name}")
    if name == "tune":
        return import_module("convengine.tuning").tune
    raise AttributeError(f"module 'convengine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
