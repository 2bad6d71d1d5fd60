"""Few outer products in the place of a 2-D kernel: how many its values call for, and those of a separable one.

A kernel that was rounded to float32 has full rank to float64's precision, though it was made from two vectors. The rank
here is that to within the rounding of the kernel's own dtype. Whole numbers are taken as they are.
"""

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from convengine.native import values

__all__ = ["matrix_rank", "roundoff", "separate"]

Array: TypeAlias = np.ndarray[Any, Any]

NOISE = 16  # roundings of a tap's size that a residual may hold: 4 of the kernel's, each up to 4 times in a cross
WORK = 1 << 10  # products spent on counting a rank beyond 2: a microsecond


@lru_cache(maxsize=64)
def roundoff(dtype: np.dtype[Any]) -> float:
    """Largest relative error of one rounding to a dtype; 0 for integers, which are exact."""
    return float(np.finfo(dtype).eps) / 2 if dtype.kind in "fc" else 0.0


def matrix_rank(kernel: Array) -> int:
    """Count the outer products that add up to a finite matrix, to within the rounding of its dtype.

    By crosses: the largest entry of what is left, its column times its row over itself, is taken away until nothing is
    left. No entry of a cross is larger than its pivot, so that the roundings of the kernel do not grow much.

    Returns
    -------
    int
        0 for zeros, and where counting further would cost more than it could tell.

    Examples
    --------
    >>> g = np.exp(-np.square(np.linspace(-2, 2, 9)))
    >>> matrix_rank(np.outer(g, g).astype(np.float32)), matrix_rank(np.eye(3))
    (1, 3)
    """
    wide = np.ascontiguousarray(kernel, np.complex128 if kernel.dtype.kind == "c" else np.float64)
    return rank_of(wide, kernel.dtype, float(np.abs(wide).max(initial=0)))


def rank_of(matrix: Array, dtype: np.dtype[Any], largest: float) -> int:
    """The same, of values of a dtype as contiguous float32, float64 or complex128, whose largest size is known."""
    most = min(matrix.shape)
    limit = min(most, max(2, WORK // max(matrix.size, 1)))
    rank, whole = values.crosses(matrix, NOISE * max(roundoff(dtype), roundoff(matrix.dtype)), limit, largest)
    return rank if whole or limit == most else 0


def separate(kernel: Array) -> tuple[Array, Array, float]:
    """Two vectors whose outer product is a real matrix of rank 1, or nearly.

    Returns
    -------
    column, row : array of float64, or of int64 for integers
        The factors.
    dropped : float
        Largest |kernel - column * row| / |kernel| of all entries: 0 where every product is its entry, inf where a zero
        is not met, or no factors are found.

    Notes
    -----
    Whole numbers (and floats that are whole multiples of a power of two) are divided by their greatest common divisor,
    and met exactly. Others are fitted by least squares, the column to the largest row, then the row to that column:
    entries far below the largest, which may have lost digits to underflow, weigh little, and a factor is as exact,
    relative to itself, as the entries that it stands for.

    Examples
    --------
    >>> separate(np.array([[2, 0, -2], [4, 0, -4]]))
    (array([2, 4]), array([ 1,  0, -1]), 0.0)
    """
    matrix = np.ascontiguousarray(kernel, np.float64)
    column, row = np.empty(len(matrix)), np.empty(matrix.shape[1])
    integer = kernel.dtype.kind in "biu"
    if values.whole_fit(matrix, not integer, column, row):  # float64 may round integers whose unit is not 1
        return (column.astype(np.int64), row.astype(np.int64), 0.0) if integer else (column, row, 0.0)
    dropped = math.inf if integer else values.outer_fit(matrix, column, row)
    return column, row, dropped + 4 * roundoff(matrix.dtype)  # with this comparison's roundings
