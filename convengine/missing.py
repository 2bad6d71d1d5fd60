"""Samples that are missing: normalised convolution (Knutsson and Westin 1993, CVPR, p. 515), for kernels of any sign.

A missing sample counts as the mean of those present under the kernel, weighted by its absolute values. Where all are
present that is the operation itself; for kernels without negative taps it is the sum over those present times
sum(kernel) over their weight; a constant array gives what it gives when nothing is missing, also under a derivative.

A mask is never multiplied by: what lies under it, NaN too, reaches no result.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.ma import MaskedArray

from convengine import config
from convengine.arguments import read_array, read_kernel
from convengine.call import overlaps_itself
from convengine.errors import InvalidProblem, NoBackend
from convengine.plugin import finish
from convengine.problem import is_integer, sum_dtype
from convengine.reading import Reading

__all__ = ["POLICIES", "check_policy", "check_weight", "run"]

POLICIES = ("propagate", "omit", "raise")

Array = np.ndarray[Any, Any]


def check_policy(policy: Any) -> str:
    """Return the policy, or raise."""
    if not isinstance(policy, str) or policy not in POLICIES:
        raise InvalidProblem(f"nan_policy must be one of {', '.join(map(repr, POLICIES))}; got {policy!r}")
    return policy


def check_weight(weight: Any) -> float:
    """Return the least share of the weight, or raise."""
    share = (
        float(weight)
        if isinstance(weight, int | float | np.floating | np.integer) and not isinstance(weight, bool)
        else float("nan")
    )
    if not 0 <= share <= 1:
        raise InvalidProblem(f"min_weight must be a number of 0 to 1, a share of sum|kernel|; got {weight!r}")
    return share


def _read_mask(mask: Any, x: Any) -> Array:
    """Where samples are missing, in the shape of x."""
    missing: Array = np.array(np.ma.getmaskarray(x)) if isinstance(x, MaskedArray) else np.zeros(np.shape(x), np.bool_)
    if mask is None:
        return missing
    given = np.asarray(mask)
    if isinstance(mask, MaskedArray) or given.dtype.kind != "b":
        raise InvalidProblem(
            f"mask must be a plain array of bool, True where a sample of x is missing; got {type(mask).__name__} of "
            f"{given.dtype}"
        )
    try:
        missing |= np.broadcast_to(given, missing.shape)
    except ValueError:
        raise InvalidProblem(
            f"mask must have x's shape {missing.shape}, or broadcast to it; got {given.shape}"
        ) from None
    return missing


def run(
    operate: Callable[..., Any],
    reading_of: Callable[..., Reading],
    x: Any,
    kernel: Any,
    *,
    mask: Any,
    nan_policy: str,
    min_weight: float,
    out: Any,
    **keywords: Any,
) -> Any:
    """Filter x without its missing samples.

    `operate` is the operation as the user calls it, with who is to compute and the region already said; `reading_of`
    reads its arguments. `keywords` holds every one that says what to compute.
    """
    masked = isinstance(x, MaskedArray)
    missing = _read_mask(mask, x)
    samples = read_array(np.ma.getdata(x) if masked else x, "x")
    if not isinstance(samples, np.ndarray):
        raise InvalidProblem(f"mask and nan_policy need a NumPy array; got {type(samples).__name__}; use where() first")
    if nan_policy != "propagate" and samples.dtype.kind in "fc":
        unknown = np.isnan(samples)
        if nan_policy == "omit":
            missing |= unknown
        elif count := int((unknown & ~missing).sum()):
            raise InvalidProblem(f"x holds {count} NaN, which nan_policy='raise' refuses; say nan_policy='omit'")
    if out is not None and (isinstance(out, MaskedArray) != masked or not isinstance(out, np.ndarray)):
        raise InvalidProblem(f"out must be an array of x's kind, {type(x).__name__}; got {type(out).__name__}")
    weights = read_kernel(kernel, samples.dtype, None)
    asked = keywords["dtype"]
    if asked is None and out is None and (masked or mask is not None) and is_integer(samples.dtype, weights.dtype):
        asked = np.dtype(np.float64)  # a mean of integers is none
    keywords = keywords | {"dtype": asked}
    reading = reading_of(samples, weights, keywords, out)
    # A share of the weight must not drown in the error of a large block: sums with componentwise bounds.
    said = config.current().strict
    try:
        with config.options(strict=True if said is None else said):
            result, empty = _result(operate, reading, samples, weights, missing, keywords, min_weight, masked)
    except NoBackend as error:
        if said is not None:
            raise
        hint = "missing samples need sums with componentwise bounds; `with ce.options(strict=False):` allows others"
        raise NoBackend(f"{error}\n  {hint}") from None
    if out is None:
        return np.ma.array(result, mask=empty) if masked else result
    target = np.ma.getdata(out)
    if out.shape != result.shape:
        raise InvalidProblem(f"out must have shape {result.shape}; got {out.shape}")
    if not target.flags.writeable:
        raise InvalidProblem("out is read-only; pass a writable array")
    if overlaps_itself(target):
        raise InvalidProblem(f"out of strides {out.strides} writes several results to one place; pass a copy")
    target[...] = result
    if masked:
        out.mask = empty
    return out


def _result(
    operate: Callable[..., Any],
    reading: Reading,
    samples: Array,
    kernel: Array,
    missing: Array,
    keywords: dict[str, Any],
    min_weight: float,
    masked: bool,
) -> tuple[Array, Array]:
    """The results, in x's layout; and where there is none."""
    problem, known = reading.problem, np.where(missing, np.zeros((), samples.dtype), samples)
    dtype = {"dtype": problem.out_dtype}
    if not missing.any():
        result = operate(known, kernel, **keywords | dtype)
        return result, np.zeros(result.shape, np.bool_)
    filled, touched, empty = _filled(operate, reading, known, kernel, missing, keywords, min_weight)
    filled[empty] = 0 if masked else np.nan
    total = filled.transpose(reading.out_axes)
    result = finish(problem, total, reading.bias).transpose(np.argsort(reading.out_axes))
    if problem.is_integer:  # exact where nothing is missing
        result = np.where(touched, result, operate(known, kernel, **keywords | dtype))
    return result, empty


def _filled(
    operate: Callable[..., Any],
    reading: Reading,
    known: Array,
    kernel: Array,
    missing: Array,
    keywords: dict[str, Any],
    min_weight: float,
) -> tuple[Array, Array, Array]:
    """The sums, without bias, each missing sample a mean; where one is missing; and where too many are."""
    problem = reading.problem
    wide = np.dtype(np.complex128 if kernel.dtype.kind == "c" else np.float64)
    summed = sum_dtype(known.dtype, kernel.dtype, problem.out_dtype)
    if summed.kind not in "fc" or is_integer(known.dtype):
        summed = np.result_type(summed, np.float64)
    plain = keywords | {"bias": None, "overflow": "saturate"}
    pure = plain | {"conjugate": False, "dtype": np.float64}
    taps, gone = (kernel != 0).astype(np.float64), missing.astype(np.float64)
    with np.errstate(all="ignore"):
        size = np.abs(kernel.astype(wide))
        total: Array = operate(known, kernel, **plain | {"dtype": summed})
        lost = np.rint(operate(gone, taps, **pure | {"fill_value": 0}))
        weight = operate(1 - gone, size, **pure | {"fill_value": 1})
        full, all_taps = (_over_channels(values, reading) for values in (size, taps))
        if kernel.dtype.kind in "bu" or (kernel.dtype.kind != "c" and bool((kernel >= 0).all())):
            filled = total * (full / weight)
        else:
            mean = operate(known, size, **pure | {"dtype": None}) / weight
            filled = total + mean * operate(gone, kernel.astype(wide), **plain | {"fill_value": 0, "dtype": None})
        slack = 4 * problem.taps * np.finfo(np.float64).eps  # twice the error of the weight and of the product below
        touched = lost > 0
        empty = touched & ((lost == all_taps) | (weight < full * (min_weight * (1 - slack))))
    return np.where(touched, filled, total), touched, empty


def _over_channels(values: Array, reading: Reading) -> Any:
    """The sum of a kernel's values for each result: one number, or one along the output channels."""
    if not reading.problem.is_layer:
        return values.sum()
    canonical = values.transpose(reading.kernel_axes)
    shape = [1] * len(reading.out_axes)
    shape[reading.out_axes[len(reading.problem.batch)]] = len(canonical)
    return canonical.reshape(len(canonical), -1).sum(axis=1).reshape(shape)
