"""What an analysis is asked about: an operation on an x that is not at hand, read by the engine's own reader."""

from typing import Any

import numpy as np

from convengine.api import DEFAULTS, OPERATIONS, warn_channels
from convengine.arguments import read_shape
from convengine.errors import InvalidProblem
from convengine.reading import Reading, read
from convengine.reading_gradients import Like

__all__ = ["HOW", "check_keywords", "operation_of", "read_question", "read_shapes"]

HOW = ("out", "backend", "workers")  # keywords of an operation that say how to compute
VALUES = ("bias", "fill_value", "conjugate", "dtype", "overflow")  # and those that no shape depends on


def operation_of(op: Any, kernel_ndim: int) -> str:
    """Return `op`, or the correlation that a kernel of this rank stands for: 4 and 5 axes are a layer's."""
    if op is None:
        ndim = kernel_ndim if kernel_ndim <= 3 else kernel_ndim - 2
        op = f"corr{ndim}d"
        if op not in OPERATIONS:
            raise InvalidProblem(
                f"the kernel must have 1 to 3 axes for a filter, or 3 to 5 for a layer; got {kernel_ndim} axes"
            )
    if not isinstance(op, str) or op not in OPERATIONS:
        raise InvalidProblem(f"op must be one of {', '.join(OPERATIONS)}; got {op!r}")
    return op


def check_keywords(given: dict[str, Any], *, also: tuple[str, ...] = ()) -> None:
    """Raise TypeError for a keyword that an operation does not take."""
    if unknown := [name for name in given if name not in DEFAULTS and name not in also]:
        raise TypeError(f"unexpected keyword {unknown[0]!r}; these are taken: {', '.join((*DEFAULTS, *also))}")


def read_question(op: str, x: Like, kernel: np.ndarray[Any, Any], keywords: dict[str, Any], stacklevel: int) -> Reading:
    """Read an operation on an x of this shape and dtype; `stacklevel` as seen from the caller's caller."""
    ndim, flip = OPERATIONS[op][:2]
    said = DEFAULTS | keywords
    warn_channels(ndim, x, kernel, said, stacklevel=stacklevel + 2)
    return read(ndim, flip, x, kernel, **said, out=None, memory=x.memory)


def read_shapes(x_shape: Any, kernel_shape: Any, op: Any, keywords: dict[str, Any], stacklevel: int) -> Reading:
    """Read an operation of which only the shapes matter; its dtypes are made up."""
    check_keywords(keywords, also=HOW)
    shape, taps = read_shape(x_shape, "x_shape"), read_shape(kernel_shape, "kernel_shape")
    name = operation_of(op, len(taps))
    kernel = np.broadcast_to(np.zeros((), np.bool_), taps)
    where = {word: value for word, value in keywords.items() if word not in VALUES + HOW}
    return read_question(name, Like(shape, np.dtype(np.float64), "host"), kernel, where, stacklevel + 1)
