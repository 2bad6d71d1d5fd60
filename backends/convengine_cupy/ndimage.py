"""cupyx.scipy.ndimage.correlate, where it does the problem; read in the sources of CuPy 13.0 and 14.2.

One thread computes an output sample, in x's dtype or float32 (float64 for integer kernels), and skips the taps that
are zero, with NaN under them. A constant border is a literal in its CUDA source. CuPy 13.0 takes samples for the border
where x runs backwards in memory.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine.boundary import Boundary
from convengine.plugin import finish
from convengine.problem import KernelFacts, Problem, largest_magnitude
from convengine_cupy.elementwise import LIMIT

__all__ = ["Filter", "memory", "prepare", "refusal"]

MODES = {
    Boundary.CONSTANT: "constant",
    Boundary.EDGE: "nearest",
    Boundary.REFLECT: "mirror",
    Boundary.SYMMETRIC: "reflect",
    Boundary.WRAP: "wrap",
}
EXACT = 2**53  # integers below it are exact in float64


def refusal(problem: Problem, facts: KernelFacts) -> str:
    """Why it does not do this problem; empty if it does."""
    if problem.is_layer or set(problem.stride + problem.dilation) != {1}:
        return "filters only, without stride and dilation"
    if any(before + after != k - 1 for (before, after), k in zip(problem.pads, problem.kernel_spatial, strict=True)):
        return f"pads must add up to width - 1; got {problem.pads} for a kernel of {problem.kernel_spatial}"
    if len(rules := _padded_rules(problem)) > 1:
        return f"one boundary for all axes; got {', '.join(rules)}"
    if not facts.finite or facts.smallest == 0:
        return "zero taps, and with them NaN in x, are skipped; a kernel without zeros is needed, and finite"
    if not np.isfinite(problem.fill_value) or np.imag(problem.fill_value) != 0:
        return f"the fill value must be finite and real; got {problem.fill_value}"
    reach = largest_magnitude(problem.x_dtype) * facts.abs_sum if problem.is_integer else 0
    if reach >= EXACT:
        return f"sums form in float64, exact below 2**53; {problem.x_dtype} by this kernel may reach {reach}"
    return ""


def _padded_rules(problem: Problem) -> list[Boundary]:
    used = (rule for rule, pair in zip(problem.boundary, problem.pads, strict=True) if any(pair))
    return list(dict.fromkeys(used))


def memory(problem: Problem) -> int:
    """Bytes beside x and out: none where the sum is the result, else x converted and the sum, some planes at once."""
    if problem.out_dtype == problem.sum_dtype == problem.x_dtype and not problem.has_bias:
        return 0
    plane = math.prod(problem.spatial)
    planes = max(min(math.prod(problem.batch), LIMIT // (2 * plane * problem.sum_dtype.itemsize)), 1)
    return 2 * planes * plane * problem.sum_dtype.itemsize


@dataclass(frozen=True, slots=True)
class Filter:
    """A kernel for cupyx.scipy.ndimage.correlate, or for SciPy's, which takes the same arguments."""

    problem: Problem
    weights: Any  # conjugated, since ndimage conjugates it
    bias: Any
    correlate: Callable[..., Any]
    xp: Any

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x."""
        problem, xp = self.problem, self.xp
        usable = out is not None and not xp.may_share_memory(x, out)
        result = out if usable else xp.empty(problem.out_shape, problem.out_dtype)
        self._planes(x, result)
        if out is not None and result is not out:
            out[...] = result
        return result if out is None else out

    def _planes(self, x: Any, out: Any) -> None:
        """Filter as many planes at once as the limit of temporaries allows, at least one."""
        problem, xp = self.problem, self.xp
        if x.ndim > problem.ndim and 2 * x.size * problem.sum_dtype.itemsize > LIMIT:
            for plane, target in zip(x, out, strict=True):
                self._planes(plane, target)
            return
        if not problem.is_integer:
            x = x.astype(problem.sum_dtype, copy=False)  # float32 by float64 would else form in float32
        if min(x.strides) < 0:
            x = xp.ascontiguousarray(x)
        leading = x.ndim - problem.ndim
        origin = [before - k // 2 for (before, _), k in zip(problem.pads, problem.kernel_spatial, strict=True)]
        rule = (_padded_rules(problem) or [Boundary.CONSTANT])[0]
        fill = np.real(problem.fill_value)
        direct = out.dtype == problem.sum_dtype and self.bias is None
        total = out if direct else xp.empty(out.shape, problem.sum_dtype)
        weights = self.weights[(None,) * leading]
        cval = int(fill) if x.dtype.kind in "biu" else float(fill)
        self.correlate(x, weights, total, MODES[rule], cval, [0] * leading + origin)
        if not direct:
            finish(problem, total, self.bias, out, xp=xp)


def prepare(problem: Problem, kernel: Any, bias: Any, correlate: Callable[..., Any], xp: Any) -> Filter:
    """Bring a host kernel to where `xp` computes."""
    weights = kernel.astype(np.int64 if problem.is_integer else problem.sum_dtype).conj()
    return Filter(problem, xp.asarray(weights), None if bias is None else xp.array(bias), correlate, xp)
