"""Reading a filter's parameters: each rule once, each error with the value that came."""

import math
from collections.abc import Callable
from contextlib import suppress
from numbers import Integral, Real
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from convengine.errors import InvalidProblem

__all__ = [
    "MAX_TAPS",
    "Kernel",
    "PerAxis",
    "at_least",
    "axis_index",
    "check_taps",
    "count",
    "dimensions",
    "half_width",
    "nonnegative",
    "number",
    "per_axis",
    "positive",
]

Kernel = npt.NDArray[np.float64]
T = TypeVar("T")
PerAxis: TypeAlias = T | tuple[T, ...] | list[T]  # one for all axes, or one per axis

# A kernel of 128 MB (4096 by 4096): past it a mistyped sigma is likelier than a wish.
MAX_TAPS = 1 << 24


def _real(name: str, value: object, need: str, accepts: Callable[[float], bool]) -> float:
    if not isinstance(value, bool) and isinstance(value, Real):
        with suppress(OverflowError):  # an int past the largest float is not finite either
            result = float(value)
            if math.isfinite(result) and accepts(result):
                return result
    raise InvalidProblem(f"{name} needs {need}; got {value!r}")


def number(name: str, value: object) -> float:
    """Read a finite real number."""
    return _real(name, value, "a finite number", lambda _: True)


def at_least(name: str, value: object, least: float) -> float:
    """Read a finite number of `least` or more."""
    return _real(name, value, f"a finite number >= {least:g}", lambda result: result >= least)


def nonnegative(name: str, value: object) -> float:
    """Read a finite number that is zero or more."""
    return at_least(name, value, 0)


def positive(name: str, value: object) -> float:
    """Read a finite number above zero."""
    return _real(name, value, "a finite number > 0", lambda result: result > 0)


def count(name: str, value: object, least: int, most: int | None = None) -> int:
    """Read a whole number in [least, most]."""
    if not isinstance(value, bool) and isinstance(value, Integral):
        result = int(value)
        if result >= least and (most is None or result <= most):
            return result
    span = f">= {least}" if most is None else f"from {least} to {most}"
    raise InvalidProblem(f"{name} needs a whole number {span}; got {value!r}")


def dimensions(ndim: object) -> int:
    """Read the number of axes of a kernel: 1, 2 or 3."""
    return count("ndim", ndim, 1, 3)


def axis_index(axis: object, ndim: int) -> int:
    """Read an axis, from either end, as an index from 0."""
    return count(f"axis, for ndim={ndim},", axis, -ndim, ndim - 1) % ndim


def per_axis(name: str, value: object, ndim: int, read: Callable[[str, object], T]) -> tuple[T, ...]:
    """Read one value for all axes, or one per axis, each with `read`."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, (tuple, list)):
        return (read(name, value),) * ndim
    if len(value) != ndim:
        raise InvalidProblem(f"{name} needs one value or one per axis (ndim={ndim}); got {len(value)}: {value!r}")
    return tuple(read(name, item) for item in value)


def half_width(reach: float) -> int:
    """Round a reach in pixels, half up, to the samples on each side of the centre."""
    if reach + 0.5 > MAX_TAPS // 2:  # before int() and arange, which fail on infinity and on memory
        raise InvalidProblem(
            f"a kernel needs at most {MAX_TAPS} taps; got a reach of {reach:.6g} pixels; make it narrower"
        )
    return int(reach + 0.5)


def check_taps(shape: tuple[int, ...]) -> None:
    """Refuse a kernel too large to be meant, before its memory is asked for."""
    if (taps := math.prod(shape)) > MAX_TAPS:
        raise InvalidProblem(f"a kernel needs at most {MAX_TAPS} taps; got shape {shape}, {taps} taps; make it smaller")
