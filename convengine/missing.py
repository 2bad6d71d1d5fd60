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
from convengine.errors import InvalidProblem
from convengine.plugin import finish
from convengine.problem import is_integer, sum_dtype
from convengine.reading import Reading, read_array, read_kernel

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
    try:
        share = float(weight)
    except (TypeError, ValueError):
        share = float("nan")
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
    reading = reading_of(samples, weights, keywords | {"dtype": asked}, out)
    total, empty = _sums(operate, reading, samples, weights, missing, keywords, min_weight)
    if masked:
        total[empty] = 0
    elif empty.any():
        total[empty] = np.nan
    problem = reading.problem
    result = finish(problem, total.transpose(reading.out_axes), reading.bias).transpose(np.argsort(reading.out_axes))
    if out is None:
        return np.ma.array(result, mask=empty) if masked else result
    if out.shape != result.shape:
        raise InvalidProblem(f"out must have shape {result.shape}; got {out.shape}")
    if not np.ma.getdata(out).flags.writeable:
        raise InvalidProblem("out is read-only; pass a writable array")
    np.ma.getdata(out)[...] = result
    if masked:
        out.mask = empty
    return out


def _sums(
    operate: Callable[..., Any],
    reading: Reading,
    samples: Array,
    kernel: Array,
    missing: Array,
    keywords: dict[str, Any],
    min_weight: float,
) -> tuple[Array, Array]:
    """The results in the sum's dtype, without bias; and where there is none."""
    problem = reading.problem
    summed = sum_dtype(samples.dtype, kernel.dtype, problem.out_dtype)
    if summed.kind != "c" and summed.itemsize < 8 and is_integer(samples.dtype):
        summed = np.dtype(np.float64)
    if summed.kind not in "fc":
        summed = np.dtype(np.float64)
    plain = keywords | {"bias": None, "overflow": "saturate"}
    # A share of the weight must not drown in the error of a large block: sums with componentwise bounds.
    strict = config.current().strict
    with config.options(strict=True if strict is None else strict):
        known = np.where(missing, np.zeros((), samples.dtype), samples)
        total: Array = operate(known, kernel, **plain | {"dtype": summed})
        if not missing.any():
            return total, np.zeros(total.shape, np.bool_)
        pure = plain | {"conjugate": False}
        taps = (kernel != 0).astype(np.uint8)
        lost = operate(missing, taps, **pure | {"fill_value": 0, "dtype": None})
        size = np.abs(kernel).astype(np.float64)
        weight = operate((~missing).astype(np.float64), size, **pure | {"fill_value": 1, "dtype": np.float64})
        full, all_taps = (_over_channels(values, keywords, problem.ndim) for values in (size, taps.astype(np.int64)))
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            if kernel.dtype.kind in "bu" or (kernel.dtype.kind != "c" and bool((kernel >= 0).all())):
                filled = total * (full / weight)
            else:
                mean = operate(known, size, **pure | {"dtype": summed}) / weight
                filled = total + mean * operate(
                    missing.astype(np.float64), kernel, **plain | {"fill_value": 0, "dtype": None}
                )
    slack = (
        4 * max(problem.taps, 1) * np.finfo(np.float64).eps
    )  # twice the error of the weight and of the product below
    empty = (lost == all_taps) & (all_taps > 0)
    empty |= (lost > 0) & (weight < full * (min_weight * (1 - slack)))
    return np.where(lost > 0, filled, total), empty


def _over_channels(values: Array, keywords: dict[str, Any], ndim: int) -> Any:
    """The sum of a kernel's values for each result: one number, or one along the output channels."""
    if values.ndim == ndim:
        return values.sum()
    channel = keywords["channel_axis"]
    last = channel is not None and (channel == -1 or channel >= ndim)  # channels first are axis 0, or 1 in a batch
    if last:
        return values.sum(axis=tuple(range(ndim + 1)))
    return values.sum(axis=tuple(range(1, ndim + 2))).reshape(-1, *(1,) * ndim)
