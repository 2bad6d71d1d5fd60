"""From a kernel to the factors of the separable methods, and what may be promised of their error.

A column and a row in the place of a kernel, K = u v' + D, cost kh + kw products instead of kh * kw. Each sum rounds its
terms, one column sum at most gamma(kh), the row sum over them at most gamma(kw), and D is left out:

    rank 1:  |error| <= (gamma(kh + kw) (1 + d) + d) * (|x| corr |K|),    d = max |D| / |K| of any tap

A bias is added last, and counts as one more term. That is componentwise, as the direct bound is, and mostly smaller.
Where some tap is not met to within its own rounding (a zero, or one lost to underflow), or two products cancel, only

    |error| <= (gamma(kh + rank * kw) * || sum_r |u_r| |v_r|' || + ||D||) * ||x_window||,    Frobenius norms,

can be said: normwise. The factors of rank 2 are singular vectors, whose magnitudes together are at most sqrt(2) ||K||.
Nothing is promised whose D is above the direct method's bound; `factor` holds the rounded factors against the promise.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine.low_rank import roundoff, separate
from convengine.plugin import Declined, direct_error
from convengine.problem import KernelFacts, Problem, kept_by_form

__all__ = ["Factors", "Promise", "factor", "promise"]

# Roundings, of the kernel or the sum, that ||D|| / ||K|| may hold in a normwise promise: a few from the making of the
# kernel, those of the decomposition and two of the factors.
ROUNDINGS = 16
SLACK = 1e-6  # by which the rounding of singular vectors may pass their magnitudes' bound

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Promise:
    """What the sum of some outer products, in the kernel's place, promises: `error` and `normwise` as an Offer's."""

    rank: int
    error: float
    normwise: bool


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Columns (rank, kh) and rows (rank, kw), in the dtype of the sum."""

    columns: Array
    rows: Array


def promise(problem: Problem, facts: KernelFacts) -> Promise | None:
    """Say what the factors of a kernel would promise, from its facts alone: for `Backend.offers`.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    facts : KernelFacts
        What the kernel's values allow.

    Returns
    -------
    Promise or None
        None where factors would not be exact enough, or save nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> from convengine.problem import KernelFacts
    >>> kernel = np.multiply.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
    >>> problem = ce.explain(np.ones((9, 9), int), kernel).problem
    >>> promise(problem, KernelFacts.of(kernel, 2))
    Promise(rank=1, error=0.0, normwise=False)
    """
    if facts.rank not in (1, 2):
        return None
    made, key = _promises(problem), (facts.rank, facts.dropped)
    if key not in made:
        made[key] = _promise(problem, facts)
    return made[key]


@kept_by_form
def _promises(problem: Problem) -> dict[tuple[int, float], Promise | None]:
    """What was promised for problems of a form: by rank, and by the part that is dropped, a power of two."""
    return {}


def _promise(problem: Problem, facts: KernelFacts) -> Promise | None:
    if problem.op != "forward" or problem.is_layer or problem.ndim != 2 or problem.sum_dtype.kind == "c":
        return None
    height, width = problem.kernel_spatial
    rank = facts.rank
    if rank * (height + width) >= height * width:
        return None
    if problem.is_integer:
        return Promise(1, 0.0, False) if rank == 1 and facts.dropped == 0 else None
    u, most = roundoff(problem.sum_dtype), direct_error(problem)
    rounded = u if problem.sum_dtype.itemsize < 8 and facts.dropped else 0.0  # each factor, from float64
    dropped = (1 + facts.dropped) * (1 + rounded) ** 2 - 1
    if rank == 1 and dropped <= most:
        return Promise(1, _componentwise(problem, dropped), False)
    dropped = ROUNDINGS * max(u, roundoff(problem.kernel_dtype))
    return Promise(rank, _normwise(problem, rank, dropped), True) if dropped <= most else None


def _gamma(problem: Problem, terms: int) -> float:
    u = roundoff(problem.sum_dtype)
    return terms * u / (1 - terms * u)


def _componentwise(problem: Problem, dropped: float) -> float:
    """Error of rank 1 whose factors miss that part of a tap at most."""
    return _gamma(problem, sum(problem.kernel_spatial) + problem.has_bias) * (1 + dropped) + dropped


def _normwise(problem: Problem, rank: int, dropped: float) -> float:
    """Error of singular vectors that miss that part of the kernel's norm."""
    height, width = problem.kernel_spatial
    return _gamma(problem, height + rank * width) * math.sqrt(rank) * (1 + SLACK) + dropped


def factor(problem: Problem, kernel: Array, promised: Promise) -> Factors:
    """Find the factors of a kernel: for `Plan.prepare`.

    Parameters
    ----------
    problem : Problem
        What is to be computed.
    kernel : array of shape problem.kernel_shape
        Finite.
    promised : Promise
        What `promise` said of it.

    Returns
    -------
    Factors
        In the sum's dtype; no row of theirs sums up to more than its length.

    Raises
    ------
    Declined
        If the rounded factors do not keep the promise.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> kernel = np.array([[2, 0, -2], [4, 0, -4], [2, 0, -2]])
    >>> problem = ce.explain(np.ones((9, 9), int), kernel).problem
    >>> factors = factor(problem, kernel, Promise(1, 0.0, False))
    >>> factors.columns.tolist(), factors.rows.tolist()
    ([[2, 4, 2]], [[1, 0, -1]])
    """
    if promised.rank == 1:
        column, row, missed = separate(kernel)
        columns, rows = column[None], row[None]
        if problem.is_integer:
            if missed:
                raise Declined("no whole numbers multiply to this kernel")
            return Factors(columns.astype(problem.sum_dtype), rows.astype(problem.sum_dtype))
    else:
        left, values, right = np.linalg.svd(kernel.astype(np.float64), full_matrices=False)
        columns, rows = (left * values)[:, : promised.rank].T, right[: promised.rank]
    with np.errstate(all="ignore"):  # what is not finite declines
        factors = _scaled(columns, rows, problem.sum_dtype)
        if promised.normwise:
            error = _normwise(problem, promised.rank, _missed_norm(kernel, factors))
        else:
            error = _componentwise(problem, _missed_part(kernel, factors))
    if not error <= promised.error:
        raise Declined(f"factors of this kernel err by {error:.3g}; {promised.error:.3g} was promised")
    return factors


def _scaled(columns: Array, rows: Array, dtype: np.dtype[Any]) -> Factors:
    """Factors in the dtype of the sum, scaled by powers of two so that no row sums up to more than its length.

    What underflow does to a column sum, kh times half of the smallest subnormal, is multiplied by a row's sum of
    magnitudes: kh * kw / 2 subnormals at most, and kw / 2 for the row's own products, within the kh * kw of a direct
    sum. A column sum may overflow where the direct sum does not: that shows in the output, which is then computed
    directly.
    """
    exponents = np.frexp(np.abs(rows).sum(axis=1) / rows.shape[1])[1][:, None]
    return Factors(np.ldexp(columns, exponents).astype(dtype), np.ldexp(rows, -exponents).astype(dtype))


# Of the two comparisons that follow: products of float32, and of whole numbers below 2**31, are exact in them.
ROUNDOFF = roundoff(np.dtype(np.float64))


def _missed_part(kernel: Array, factors: Factors) -> float:
    """Largest |D| / |K| of any tap."""
    matrix = kernel.astype(np.float64)
    missed = np.abs(matrix - np.einsum("ri,rj->ij", *_wide(factors)))
    part = float(np.where(missed == 0, 0.0, missed / np.abs(matrix)).max())
    return part + 2 * ROUNDOFF if part else 0.0


def _missed_norm(kernel: Array, factors: Factors) -> float:
    """||D|| / ||K||; infinite if the products' magnitudes together are larger than those of singular vectors."""
    matrix, (columns, rows) = kernel.astype(np.float64), _wide(factors)
    magnitudes = np.einsum("ri,rj->ij", np.abs(columns), np.abs(rows))
    missed = np.abs(matrix - np.einsum("ri,rj->ij", columns, rows)) + 4 * ROUNDOFF * magnitudes
    norm = np.linalg.norm(matrix)
    regular = np.linalg.norm(magnitudes) <= math.sqrt(len(rows)) * (1 + SLACK) * norm
    return float(np.linalg.norm(missed) / norm) if regular else math.inf


def _wide(factors: Factors) -> tuple[Array, Array]:
    return factors.columns.astype(np.float64), factors.rows.astype(np.float64)
