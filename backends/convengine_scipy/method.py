"""What one of SciPy's functions answers for itself, and the questions about borders and NaN that several ask."""

import cmath
import math
from collections.abc import Container
from typing import Any, Protocol

import numpy as np

from convengine.boundary import Boundary
from convengine.plugin import Filter
from convengine.problem import KernelFacts, Problem, kept_by_form

__all__ = ["Method", "all_finite", "fill_is_finite", "finishing", "is_complex", "one_boundary", "padded_rules"]


class Method(Protocol):
    """One function of SciPy."""

    name: str

    def refusal(self, problem: Problem, facts: KernelFacts) -> str:
        """Why it does not do this problem, as the end of a sentence that begins with its name; empty if it does."""

    def seconds(self, problem: Problem) -> float:
        """Expected time of a call."""

    def memory(self, problem: Problem) -> int:
        """Bytes beside x and out."""

    def prepare(self, problem: Problem, kernel: Any, bias: Any) -> Filter:
        """Bind the kernel; raise Declined where its values are not for this function."""


@kept_by_form
def padded_rules(problem: Problem) -> tuple[Boundary, ...]:
    """The different boundaries of the axes that are padded at all, in axis order."""
    used = (rule for rule, pair in zip(problem.boundary, problem.pads, strict=True) if any(pair))
    return tuple(dict.fromkeys(used))


def one_boundary(problem: Problem, known: Container[Boundary]) -> str:
    """Why the padded axes do not have one boundary of the known ones; empty if they do."""
    rules = padded_rules(problem)
    if len(rules) > 1:
        return f"takes one boundary for all axes; got {', '.join(rules)}"
    if rules and rules[0] not in known:
        return f"has no {rules[0]} boundary"
    return ""


def finishing(problem: Problem) -> int:
    """Bytes that rounding the sum to the result takes beside both: masks, and copies of the sum."""
    count, dtype, summed = math.prod(problem.out_shape), problem.out_dtype, problem.sum_dtype
    if dtype.kind in "biu" and dtype != summed:
        return count * ((2 if summed.kind == "f" else 1) * summed.itemsize + dtype.itemsize + 4)
    return count * summed.itemsize if problem.has_bias else 0


def is_complex(problem: Problem) -> bool:
    """Whether the sum is complex."""
    return problem.sum_dtype.kind == "c"


def fill_is_finite(problem: Problem) -> bool:
    """Whether the fill value is neither NaN nor infinite."""
    return cmath.isfinite(problem.fill_value)


def all_finite(x: Any) -> bool:
    """Whether x holds neither NaN nor infinity."""
    return x.dtype.kind not in "fc" or bool(np.isfinite(x).all())
