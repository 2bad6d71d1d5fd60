"""Reads the arguments of a gradient into a Problem: as its forward operation's, what is not at hand made up."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convengine.arguments import read_array, read_shape
from convengine.errors import InvalidProblem
from convengine.problem import Problem
from convengine.reading import Reading, read

__all__ = ["Like", "read_grad_input", "read_grad_kernel"]


@dataclass(frozen=True, slots=True)
class Like:
    """Shape, dtype and place of an array that is not at hand."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    memory: str

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)


def read_grad_input(
    ndim: int, flip: bool, dy: Any, kernel: Any, *, x_shape: Any, out: Any, memory: str, **given: Any
) -> Reading:
    """Read the gradient of x; `x_axes` of the reading are dy's, `out_axes` and `out_shape` x's."""
    x = Like(_shape(x_shape, "x_shape"), dy.dtype, memory)
    # Neither the fill value nor the bias has a part in it, whatever they were in the forward operation.
    keywords = given | {"fill_value": 0, "bias": None}
    forward = read(ndim, flip, x, kernel, **keywords, out=out, memory=memory)
    problem = forward.problem
    result = _result(problem, keywords["dtype"] is not None or out is not None)
    _require_shape(dy, forward.out_shape, f"x of shape {x.shape} and a kernel of shape {np.shape(kernel)}")
    problem = replace(problem, op="grad_input", x_dtype=result, out_dtype=dy.dtype, fill_value=0)
    taps = forward.kernel.conj() if forward.kernel.dtype.kind == "c" else forward.kernel
    return forward._replace(
        problem=problem, kernel=taps, x_axes=forward.out_axes, out_axes=forward.x_axes, out_shape=x.shape
    )


def read_grad_kernel(
    ndim: int,
    flip: bool,
    x: Any,
    dy: Any,
    *,
    kernel_shape: Any,
    out: Any,
    memory: str,
    **given: Any,
) -> Reading:
    """Read the gradient of the kernel; the reading's `kernel` is dy in canonical order, a copy only to conjugate it."""
    dy, shape = read_array(dy, "dy"), _shape(kernel_shape, "kernel_shape")
    keywords = given | {"bias": None}
    kernel = np.broadcast_to(np.zeros((), dy.dtype), shape)  # takes no memory
    forward = read(ndim, flip, x, kernel, **keywords, out=out, memory=memory)
    problem = forward.problem
    result = _result(problem, keywords["dtype"] is not None or out is not None)
    _require_shape(dy, forward.out_shape, f"x of shape {x.shape} and a kernel of shape {shape}")
    problem = replace(problem, op="grad_kernel", kernel_dtype=result, out_dtype=dy.dtype)
    weights = dy.transpose(forward.out_axes)
    if weights.dtype.kind == "c":
        weights = weights.conj()
    return forward._replace(problem=problem, kernel=weights, out_axes=forward.kernel_axes, out_shape=shape)


def _result(problem: Problem, explicit: bool) -> np.dtype[Any]:
    """The forward result's dtype, int64 for integers: how many terms meet depends on more than dtypes and taps."""
    return np.dtype(np.int64) if problem.is_integer and not explicit else problem.out_dtype


def _shape(value: Any, name: str) -> tuple[int, ...]:
    """Read the shape of what is computed, which must be one that an array can have."""
    shape = read_shape(value, name)
    if math.prod(max(size, 1) for size in shape) >= 2**62 // 16:
        raise InvalidProblem(f"{name} {shape} is larger than any memory")
    return shape


def _require_shape(dy: Any, needed: tuple[int, ...], of: str) -> None:
    if dy.shape != needed:
        raise InvalidProblem(
            f"dy must have the shape of the forward result, {needed} for {of} with these keywords; got {dy.shape}"
        )
