"""How the gradient of x falls into forward problems of stride 1: the phases, where each reads and where it writes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from convengine.boundary import Boundary
from convengine.problem import Problem

__all__ = ["Phase", "folds", "laid_shape", "lead", "phases_of"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One forward problem of an input gradient, and where its operands and its result lie.

    Attributes
    ----------
    problem : Problem
        Of stride 1.
    taps : tuple of slice
        Of the kernel's spatial axes, flipped already.
    samples : tuple of slice
        Of the spatial axes of out's gradient.
    target : tuple of slice
        Of the spatial axes of x's gradient, padded along the axes that fold.
    """

    problem: Problem
    taps: tuple[slice, ...]
    samples: tuple[slice, ...]
    target: tuple[slice, ...]


def folds(problem: Problem, axis: int) -> bool:
    """Whether the border of an axis was made from samples of x."""
    return problem.boundary[axis] is not Boundary.CONSTANT and any(problem.pads[axis])


def laid_shape(problem: Problem) -> tuple[int, ...]:
    """Spatial shape in which the gradient forms: x's, padded along the axes that fold."""
    return tuple(n + (sum(problem.pads[axis]) if folds(problem, axis) else 0) for axis, n in enumerate(problem.spatial))


def _along(problem: Problem, axis: int) -> Iterator[tuple[slice, slice, slice, tuple[int, int], int, int, int]]:
    """(taps, samples, target, pads, dilation, count of samples, count of results) of each phase along an axis.

    At the padded position p = r + s*q the taps a = a0 + t*step with s | p - d*a meet sample (p - d*a) / s of out's
    gradient, which is first + u + dilation*t' for the results u = q - q0 and the flipped taps t'.
    """
    s, d, k = problem.stride[axis], problem.dilation[axis], problem.kernel_spatial[axis]
    o, n, (before, after) = problem.out_spatial[axis], problem.spatial[axis], problem.pads[axis]
    low, high = (0, before + n + after) if folds(problem, axis) else (before, before + n)
    common = math.gcd(s, d)
    step = s // common
    for a0 in range(min(k, step)):
        r = d * a0 % s
        last = (k - 1 - a0) // step  # the flipped taps end there, at tap a0 + last*step
        dilation = d // common if last else 1
        q0, q1 = -((r - low) // s), -((r - high) // s)  # rounded up
        first = q0 + (r - d * a0) // s - dilation * last
        end = first + (q1 - q0) + dilation * last
        start, stop = max(first, 0), min(end, o)
        if q1 <= q0 or stop <= start:
            continue
        taps = slice(a0 + last * step, None, -step)
        target = slice(r + s * q0 - low, r + s * (q1 - 1) - low + 1, s)
        pads = max(-first, 0), max(end - o, 0)
        yield taps, slice(start, stop), target, pads, dilation, stop - start, q1 - q0


def phases_of(problem: Problem) -> list[Phase]:
    """Every forward problem that has a part in an input gradient."""
    per_group = problem.channels[1] // problem.groups
    folded = any(folds(problem, axis) for axis in range(problem.ndim))
    found = []
    for axes in product(*(list(_along(problem, axis)) for axis in range(problem.ndim))):
        taps, samples, targets, pads, dilations, counts, results = zip(*axes, strict=True)
        widths = tuple(len(range(*cut.indices(k))) for cut, k in zip(taps, problem.kernel_spatial, strict=True))
        forward = replace(
            problem,
            op="forward",
            x_shape=(*lead(problem, problem.channels[1]), *counts),
            kernel_shape=(*((problem.channels[0], per_group) if problem.is_layer else ()), *widths),
            out_shape=(*lead(problem, problem.channels[0]), *results),
            x_dtype=problem.out_dtype,
            out_dtype=problem.sum_dtype if folded else problem.x_dtype,
            pads=pads,
            boundary=(Boundary.CONSTANT,) * problem.ndim,
            fill_value=0,
            stride=(1,) * problem.ndim,
            dilation=dilations,
        )
        found.append(Phase(forward, taps, samples, targets))
    return found


def lead(problem: Problem, channels: int) -> tuple[int, ...]:
    """Batch axes, and the channel axis of a layer: what stands before the spatial axes."""
    return (*problem.batch, channels) if problem.is_layer else problem.batch
