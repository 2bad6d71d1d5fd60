"""scipy.signal.correlate2d and scipy.signal.correlate(method="direct"): plane after plane, in the sum's dtype."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from convengine.boundary import Boundary
from convengine.plugin import Declined, finish
from convengine.problem import KernelFacts, Problem, kept_by_form
from convengine_scipy.method import all_finite, fill_is_finite, finishing, is_complex, one_boundary, padded_rules

__all__ = ["Correlate", "Correlate2d"]

BOUNDARIES = {Boundary.CONSTANT: "fill", Boundary.SYMMETRIC: "symm", Boundary.WRAP: "wrap"}

# How far before an axis each mode's first output reaches, for a kernel of k, and how far behind it the last one.
REACHES: dict[str, Callable[[int], tuple[int, int]]] = {
    "valid": lambda k: (0, 0),
    "same": lambda k: ((k - 1) // 2, k // 2),  # correlate2d; correlate has k // 2 before
    "full": lambda k: (k - 1, k - 1),
}

# Rough: scipy 1.17.1, one thread, 2 cores of AMD Zen 4, 2026-11, others at work on them: the best of 3 calls of timeit
# on ones of float32, float64 and int64, x of 256^2 (10^5 samples in 1-D), kernels of 3^2 and 15^2 (3 to 512 taps in
# 1-D). In 1-D integers take twice as long, and float32 half.
TAP_2D = 1.2e-9  # seconds: correlate2d
TAP_ND = 11e-9  # correlate in 2-D and 3-D: a neighbourhood iterator steps for every tap
TAP_1D = 0.25e-9  # correlate in 1-D: numpy.correlate, a dot product per sample
OUTPUT = 9e-9
PLANE = 8e-6


@dataclass(frozen=True, slots=True)
class Filter:
    """A function of scipy.signal with its kernel, and where the wanted samples lie in what it gives."""

    problem: Problem
    correlate: Callable[[Any], Any]
    wanted: tuple[slice, ...]
    bias: Any

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x plane by plane."""
        problem = self.problem
        if is_complex(problem) and not all_finite(x):
            raise Declined("x holds NaN or infinity, and scipy.signal's products of these are not the textbook's")
        total = np.empty(problem.out_shape, problem.sum_dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN in x are data, not errors
            for index in np.ndindex(problem.batch):
                total[index] = self.correlate(x[index].astype(problem.sum_dtype, copy=False))[self.wanted]
            return finish(problem, total, self.bias, out)


class Correlate2d:
    """scipy.signal.correlate2d."""

    name = "signal.correlate2d"

    def refusal(self, problem: Problem, facts: KernelFacts) -> str:
        """Say why not."""
        return _refusal_2d(problem) or _refusal(problem, facts)

    def seconds(self, problem: Problem) -> float:
        """Taps and samples of what SciPy gives, wanted or not."""
        return _seconds(problem, _narrowest(problem), TAP_2D)

    def memory(self, problem: Problem) -> int:
        """The sum, and one plane of x and of what SciPy gives."""
        return _memory(problem, _narrowest(problem), 1)

    def prepare(self, problem: Problem, kernel: Any, bias: Any) -> Filter:
        """Bind the kernel, the boundary and the fill value."""
        from scipy import signal

        mode, dtype = _narrowest(problem), problem.sum_dtype
        rule = (padded_rules(problem) or [Boundary.CONSTANT])[0]
        correlate = partial(
            signal.correlate2d,
            in2=kernel.astype(dtype).conj(),  # it conjugates the kernel
            mode=mode,
            boundary=BOUNDARIES[rule],
            fillvalue=np.asarray(problem.fill_value).astype(dtype)[()],
        )
        return Filter(problem, correlate, _wanted(problem, mode), bias)


class Correlate:
    """scipy.signal.correlate, method="direct"."""

    name = "signal.correlate"

    def refusal(self, problem: Problem, facts: KernelFacts) -> str:
        """Say why not."""
        if reason := _refusal_nd(problem):
            return reason
        rules = padded_rules(problem)
        if rules and problem.ndim == 1 and not facts.finite:
            return "leaves its zeros out of the sum in 1-D, which loses 0 * inf; the kernel must be finite"
        if rules and problem.ndim > 1 and math.prod(problem.kernel_spatial) > math.prod(problem.spatial):
            return f"swaps x {problem.spatial} and a larger kernel {problem.kernel_spatial}, which smears NaN"
        return _refusal(problem, facts)

    def seconds(self, problem: Problem) -> float:
        """Taps and samples of what SciPy gives, wanted or not."""
        return _seconds(problem, _mode(problem), TAP_1D if problem.ndim == 1 else TAP_ND)

    def memory(self, problem: Problem) -> int:
        """The sum, and one plane of x, of x padded and of what SciPy gives."""
        return _memory(problem, _mode(problem), 2)

    def prepare(self, problem: Problem, kernel: Any, bias: Any) -> Filter:
        """Bind the kernel."""
        from scipy import signal

        mode = _mode(problem)
        correlate = partial(
            signal.correlate,
            in2=kernel.astype(problem.sum_dtype).conj(),  # it conjugates the kernel
            mode=mode,
            method="direct",
        )
        return Filter(problem, correlate, _wanted(problem, mode), bias)


@kept_by_form
def _refusal_2d(problem: Problem) -> str:
    """What of a problem's form is not for correlate2d."""
    if problem.ndim != 2:
        return f"filters two axes; got {problem.ndim}"
    return one_boundary(problem, BOUNDARIES) or _long_pads(problem)


@kept_by_form
def _refusal_nd(problem: Problem) -> str:
    """What of a problem's form is not for correlate."""
    rules = padded_rules(problem)
    if set(rules) - {Boundary.CONSTANT} or (rules and problem.fill_value != 0):
        return f"pads with zeros; got boundary {', '.join(rules)} and fill value {problem.fill_value}"
    return _long_pads(problem)


def _long_pads(problem: Problem) -> str:
    if any(max(pair) >= k for pair, k in zip(problem.pads, problem.kernel_spatial, strict=True)):
        return f"pads by up to width - 1; got pads {problem.pads} and kernel {problem.kernel_spatial}"
    return ""


def _refusal(problem: Problem, facts: KernelFacts) -> str:
    """What holds for both functions."""
    if is_complex(problem) and not (facts.finite and fill_is_finite(problem)):
        return "multiplies complex infinities unlike the textbook; kernel and fill value must be finite"
    return ""


def _reaches(problem: Problem, mode: str) -> list[tuple[int, int]]:
    return [REACHES[mode](k) for k in problem.kernel_spatial]


@kept_by_form
def _narrowest(problem: Problem) -> str:
    """The mode of correlate2d that gives the fewest samples, all wanted ones among them."""
    for mode in ("valid", "same"):
        reaches = _reaches(problem, mode)
        if all(b <= left and a <= right for (b, a), (left, right) in zip(problem.pads, reaches, strict=True)):
            return mode
    return "full"


def _mode(problem: Problem) -> str:
    return "full" if any(map(any, problem.pads)) else "valid"


@lru_cache(maxsize=8)  # asked for time and for memory
def _given(problem: Problem, mode: str) -> int:
    """Samples of one plane that SciPy gives."""
    axes = zip(problem.spatial, problem.kernel_spatial, _reaches(problem, mode), strict=True)
    return math.prod(n + left + right - k + 1 for n, k, (left, right) in axes)


def _wanted(problem: Problem, mode: str) -> tuple[slice, ...]:
    starts = [left - b for (b, _), (left, _) in zip(problem.pads, _reaches(problem, mode), strict=True)]
    return tuple(slice(start, start + n) for start, n in zip(starts, problem.out_spatial, strict=True))


def _seconds(problem: Problem, mode: str, tap: float) -> float:
    if is_complex(problem):
        tap *= 2
    return max(math.prod(problem.batch), 1) * (PLANE + _given(problem, mode) * (OUTPUT + problem.taps * tap))


def _memory(problem: Problem, mode: str, padded: int) -> int:
    samples = math.prod(problem.out_shape) + math.prod(problem.spatial) + padded * _given(problem, mode)
    return samples * problem.sum_dtype.itemsize + finishing(problem)
