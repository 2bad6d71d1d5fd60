"""scipy.ndimage.correlate: any number of axes at once, sums in double precision, drops taps that it takes for zero."""

import math
from dataclasses import dataclass
from operator import gt
from typing import Any

import numpy as np

from convengine.boundary import Boundary
from convengine.plugin import Declined, finish, require_magnitude
from convengine.problem import KernelFacts, Problem, kept, kept_by_form, largest_magnitude
from convengine_scipy.method import all_finite, fill_is_finite, finishing, is_complex, one_boundary, padded_rules

__all__ = ["Correlate"]

MODES = {
    Boundary.CONSTANT: "constant",
    Boundary.EDGE: "nearest",
    Boundary.REFLECT: "mirror",
    Boundary.SYMMETRIC: "reflect",
    Boundary.WRAP: "wrap",
}
DROPPED = float(np.finfo(np.float64).eps)  # its C code keeps the taps of |k| > DBL_EPSILON: not NaN either
EXACT = 2**53  # integers below it are exact in double precision
LARGEST_TABLE = 2**30  # bytes
JUDGED = 255  # an offer for wide integers must at least serve bytes; the call judges the samples

# Rough: scipy 1.17.1, one thread, 2 cores of AMD Zen 4, 2026-11, others at work on them: the best of 3 calls of timeit
# on ones of float32, float64 and int64, x of 256^2 and of 10^5, kernels of 3^2, 15^2, and 3 to 512 taps. A tap took
# 0.65 to 1.7 ns; zero taps cost nothing, which is not counted on.
TAP = 0.8e-9  # seconds
OUTPUT = 2e-9
CALL = 8e-6


@dataclass(frozen=True, slots=True)
class Filter:
    """A kernel for scipy.ndimage.correlate, with one axis for each of x's."""

    problem: Problem
    weights: Any
    bias: Any
    has_zero_taps: bool
    limit: int | None  # on the magnitude of integer samples, where the dtype of x allows more than is exact

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x in one call."""
        from scipy import ndimage

        problem = self.problem
        if self.limit is not None:
            require_magnitude(x, problem.fill_value, self.limit)
        if (is_complex(problem) or self.has_zero_taps) and not all_finite(x):
            why = "multiplies complex numbers by parts" if is_complex(problem) else "leaves out the kernel's zero taps"
            raise Declined(f"x holds NaN or infinity, and ndimage.correlate {why}, which loses products that are NaN")
        if x.dtype == np.float16 or x.dtype.kind == "c":
            x = x.astype(problem.sum_dtype, copy=False)  # it has no float16, and its imaginary pass forms in x's dtype
        leading = x.ndim - problem.ndim
        origin = [before - k // 2 for (before, _), k in zip(problem.pads, problem.kernel_spatial, strict=True)]
        rules = padded_rules(problem) or [Boundary.CONSTANT]
        total = np.empty(problem.out_shape, problem.sum_dtype)
        ndimage.correlate(x, self.weights, total, MODES[rules[0]], problem.fill_value, [0] * leading + origin)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN in x are data, not errors
            return finish(problem, total, self.bias, out)


@kept_by_form
def _form_refusal(problem: Problem) -> str:
    """What of a problem's form is not for it."""
    widths, pads = problem.kernel_spatial, problem.pads
    if any(before + after != k - 1 for (before, after), k in zip(pads, widths, strict=True)):
        return f"gives as many samples as x has: pads must add up to width - 1; got pads {pads} and kernel {widths}"
    return one_boundary(problem, MODES)


@kept_by_form
def _longer_pads(problem: Problem) -> tuple[int, ...]:
    return tuple(map(max, problem.pads))


@kept
def _table(problem: Problem) -> int:
    """Bytes of SciPy's table of offsets: those of all taps, for each way in which the kernel may lie in the border."""
    places = math.prod(map(min, problem.kernel_spatial, problem.spatial))
    return 8 * problem.taps * places


class Correlate:
    """scipy.ndimage.correlate."""

    name = "ndimage.correlate"

    def refusal(self, problem: Problem, facts: KernelFacts) -> str:
        """Say why not."""
        if reason := _form_refusal(problem):
            return reason
        if any(map(gt, _longer_pads(problem), problem.spatial)):
            # SciPy 1.17.1 reads outside its memory for mode="reflect" and a pad of four times the axis.
            return f"is not safe with pads longer than the axis; got pads {problem.pads} and x {problem.spatial}"
        if (table := _table(problem)) > LARGEST_TABLE:
            return (
                f"would make a table of offsets of {table / 2**30:.3g} GiB, for every tap at every place in the border"
            )
        if not facts.finite:
            return "drops taps that are NaN; the kernel must be finite"
        if not fill_is_finite(problem):
            return f"needs a finite fill value beside zero taps and complex numbers; got {problem.fill_value}"
        if 0 < facts.smallest <= DROPPED:
            return f"drops taps up to {DROPPED:.2g}; the smallest tap is {facts.smallest:.2g}"
        least = min(largest_magnitude(problem.x_dtype), JUDGED) if problem.is_integer else 0
        if least * facts.abs_sum >= EXACT:
            return f"sums in float64, exact below 2**53; samples of {least} may reach {least * facts.abs_sum}"
        return ""

    def seconds(self, problem: Problem) -> float:
        """Passes over the real and imaginary parts, each over all taps."""
        passes = 1
        if is_complex(problem):
            passes = 4 if problem.x_dtype.kind == problem.kernel_dtype.kind else 2
        per_output = problem.taps * TAP + OUTPUT
        return CALL * passes + math.prod(problem.out_shape) * passes * per_output

    def memory(self, problem: Problem) -> int:
        """The sum, x where it is converted, SciPy's table of offsets; in a complex problem a pass of its own."""
        whole = math.prod(problem.out_shape) * problem.sum_dtype.itemsize
        converted = problem.x_dtype == np.float16 or is_complex(problem)
        return whole + (2 * whole if converted else 0) + 8 * problem.taps + _table(problem) + finishing(problem)

    def prepare(self, problem: Problem, kernel: Any, bias: Any) -> Filter:
        """Give the kernel an axis for each batch axis of x."""
        parts = kernel.view(kernel.real.dtype) if kernel.dtype.kind == "c" else kernel
        sizes = np.abs(parts.astype(np.float64))
        if (tiny := sizes[(sizes > 0) & (sizes <= DROPPED)]).size:
            raise Declined(f"ndimage.correlate drops taps up to {DROPPED:.2g}; the kernel has one of {tiny.min():.2g}")
        if is_complex(problem) and problem.x_dtype.kind != "c":
            kernel = kernel.astype(problem.sum_dtype)  # it gives complex numbers only where x or the kernel is complex
        limit = None
        if problem.is_integer:
            exact = (EXACT - 1) // max(sum(abs(tap) for tap in kernel.ravel().tolist()), 1)
            limit = exact if exact < largest_magnitude(problem.x_dtype) else None
        weights = kernel.conj()[(None,) * len(problem.batch)]  # it conjugates them, and wants an axis for each of x's
        return Filter(problem, weights, bias, bool((sizes == 0).any()), limit)
