"""The gradients of the public operations: exact adjoints, with respect to x and to the kernel."""

import inspect
from collections.abc import Callable
from typing import Any

from convengine.api import DEFAULTS, SOME, corr2d, run_gradient
from convengine.docstrings import document_gradient

__all__ = [
    "conv1d_grad_input",
    "conv1d_grad_kernel",
    "conv2d_grad_input",
    "conv2d_grad_kernel",
    "conv3d_grad_input",
    "conv3d_grad_kernel",
    "corr1d_grad_input",
    "corr1d_grad_kernel",
    "corr2d_grad_input",
    "corr2d_grad_kernel",
    "corr3d_grad_input",
    "corr3d_grad_kernel",
]

Gradient = Callable[..., Any]


def _all_keywords(name: str, given: dict[str, Any]) -> dict[str, Any]:
    if unknown := [word for word in given if word not in DEFAULTS]:
        raise TypeError(f"{name}() got an unexpected keyword {unknown[0]!r}; it takes {', '.join(DEFAULTS)}")
    return DEFAULTS | given


def _described(function: Gradient, name: str) -> Gradient:
    """Name and document a gradient; its keywords are those of the forward operations."""
    positional = [p for p in inspect.signature(function).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    parameters = inspect.signature(corr2d).parameters.values()
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in SOME]
    function.__name__ = function.__qualname__ = name
    function.__doc__ = document_gradient(name)
    function.__signature__ = inspect.Signature([*positional, *keywords])  # type: ignore[attr-defined]  # inspect reads it
    return function


def _grad_input(name: str) -> Gradient:
    def gradient(
        dy: Any,
        kernel: Any,
        x_shape: Any,
        *,
        out: Any = None,
        backend: Any = None,
        workers: Any = None,
        **given: Any,
    ) -> Any:
        return run_gradient(name, dy, kernel, x_shape, out, backend, workers, _all_keywords(name, given))

    return _described(gradient, name)


def _grad_kernel(name: str) -> Gradient:
    def gradient(
        x: Any,
        dy: Any,
        kernel_shape: Any,
        *,
        out: Any = None,
        backend: Any = None,
        workers: Any = None,
        **given: Any,
    ) -> Any:
        return run_gradient(name, x, dy, kernel_shape, out, backend, workers, _all_keywords(name, given))

    return _described(gradient, name)


corr1d_grad_input = _grad_input("corr1d_grad_input")
corr2d_grad_input = _grad_input("corr2d_grad_input")
corr3d_grad_input = _grad_input("corr3d_grad_input")
conv1d_grad_input = _grad_input("conv1d_grad_input")
conv2d_grad_input = _grad_input("conv2d_grad_input")
conv3d_grad_input = _grad_input("conv3d_grad_input")
corr1d_grad_kernel = _grad_kernel("corr1d_grad_kernel")
corr2d_grad_kernel = _grad_kernel("corr2d_grad_kernel")
corr3d_grad_kernel = _grad_kernel("corr3d_grad_kernel")
conv1d_grad_kernel = _grad_kernel("conv1d_grad_kernel")
conv2d_grad_kernel = _grad_kernel("conv2d_grad_kernel")
conv3d_grad_kernel = _grad_kernel("conv3d_grad_kernel")
