"""Which samples of x each result sees, and with which weight: the operation as the entries of a matrix."""

import math
from typing import Any, TypeAlias

import numpy as np

from convengine.boundary import FILL, pad_indices
from convengine.problem import Problem
from convengine.reading import Reading

__all__ = ["entries", "sources"]

Array: TypeAlias = np.ndarray[Any, Any]


def sources(problem: Problem) -> list[Array]:
    """Per spatial axis, of shape (results, taps): the sample that a result's tap meets; FILL for the fill value."""
    maps = []
    axes = zip(problem.spatial, problem.pads, problem.boundary, strict=True)
    for axis, (n, (before, after), rule) in enumerate(axes):
        left, right = pad_indices(rule, n, before, after)
        padded = np.concatenate([left, np.arange(n), right])
        results, taps = np.arange(problem.out_spatial[axis]), np.arange(problem.kernel_spatial[axis])
        maps.append(padded[problem.stride[axis] * results[:, None] + problem.dilation[axis] * taps])
    return maps


def entries(reading: Reading, x_shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Rows, columns and values of the linear part, as it takes x.ravel() to out.ravel() in the user's layout.

    One entry for each product of the direct sum: a border may name one place more than once, and values then add up.
    """
    problem = reading.problem
    columns, met = np.zeros((1, 1), np.intp), np.ones((1, 1), np.bool_)
    for line, n in zip(sources(problem), problem.spatial, strict=True):
        shape = len(columns) * len(line), columns.shape[1] * line.shape[1]
        columns = (columns[:, None, :, None] * n + line[None, :, None, :]).reshape(shape)
        met = (met[:, None, :, None] & (line != FILL)[None, :, None, :]).reshape(shape)
    result, tap = np.nonzero(met)
    sample = columns[result, tap]

    c_in, c_out = problem.channels
    image, d, c = np.ix_(range(math.prod(problem.batch)), range(c_out), range(c_in // problem.groups))
    first = d // (c_out // problem.groups) * (c_in // problem.groups)  # channel of d's group
    rows = (image * c_out + d)[..., None] * math.prod(problem.out_spatial) + result
    cols = (image * c_in + first + c)[..., None] * math.prod(problem.spatial) + sample
    kernel = reading.kernel.reshape(c_out, c_in // problem.groups, math.prod(problem.kernel_spatial))
    values = kernel[..., tap].astype(problem.sum_dtype)
    rows, cols, values = (array.ravel() for array in np.broadcast_arrays(rows, cols, values))
    return _laid(reading.out_shape, reading.out_axes)[rows], _laid(x_shape, reading.x_axes)[cols], values


def _laid(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Where the samples, counted in canonical order, lie in an array of the user's."""
    return np.arange(math.prod(shape)).reshape(shape).transpose(axes).ravel()
