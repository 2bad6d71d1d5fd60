"""How the gradient of x falls into forward problems: its parts, inside and border, and the phases of each.

Positions are those of the padded x: its border begins at 0, its samples at `before`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from convengine.boundary import Boundary
from convengine.problem import Problem

__all__ = ["Part", "Phase", "folds", "lead", "parts_of"]


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
        Of the spatial axes of the part.
    """

    problem: Problem
    taps: tuple[slice, ...]
    samples: tuple[slice, ...]
    target: tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A block of the padded gradient: the inside, which is the gradient but for borders, or a strip of the border.

    Attributes
    ----------
    axis : int
        The spatial axis whose border this is a strip of; -1 for the inside. A strip lies inside along the axes before
        this one, and has their borders, too, along the axes after it, where they fold.
    region : tuple of (start, stop)
        Positions per spatial axis.
    phases : tuple of Phase
        The forward problems that compute it; what none of them reaches is zero.
    """

    axis: int
    region: tuple[tuple[int, int], ...]
    phases: tuple[Phase, ...]

    @property
    def spatial(self) -> tuple[int, ...]:
        """Its sizes along the spatial axes."""
        return tuple(stop - start for start, stop in self.region)

    @property
    def is_covered(self) -> bool:
        """Whether the phases reach all of it."""
        return sum(math.prod(phase.problem.out_spatial) for phase in self.phases) == math.prod(self.spatial)


def folds(problem: Problem, axis: int) -> bool:
    """Whether the border of an axis was made from samples of x."""
    return problem.boundary[axis] is not Boundary.CONSTANT and any(problem.pads[axis])


def lead(problem: Problem, channels: int) -> tuple[int, ...]:
    """Batch axes, and the channel axis of a layer: what stands before the spatial axes."""
    return (*problem.batch, channels) if problem.is_layer else problem.batch


def parts_of(problem: Problem) -> tuple[Part, ...]:
    """The inside of an input gradient, and then the strips of the borders that fold."""
    sizes = list(zip(problem.spatial, problem.pads, strict=True))
    inside = tuple((before, before + n) for n, (before, _) in sizes)
    whole = tuple(
        (0, before + n + after) if folds(problem, axis) else inside[axis]
        for axis, (n, (before, after)) in enumerate(sizes)
    )
    regions = [(-1, inside)]
    for axis, (n, (before, after)) in enumerate(sizes):
        if folds(problem, axis):
            strips = [(0, before)] * (before > 0) + [(before + n, before + n + after)] * (after > 0)
            regions += [(axis, (*inside[:axis], strip, *whole[axis + 1 :])) for strip in strips]
    out_dtype = problem.x_dtype if len(regions) == 1 else problem.sum_dtype  # rounded once all is added
    return tuple(Part(axis, region, tuple(_phases(problem, region, out_dtype))) for axis, region in regions)


def _along(
    problem: Problem, axis: int, low: int, high: int
) -> Iterator[tuple[slice, slice, slice, tuple[int, int], int, int, int]]:
    """(taps, samples, target, pads, dilation, count of samples, count of results) of each phase from low to high.

    At the padded position p = r + s*q the taps a = a0 + t*step with s | p - d*a meet sample (p - d*a) / s of out's
    gradient, which is first + u + dilation*t' for the results u = q - q0 and the flipped taps t'.
    """
    s, d, k, o = problem.stride[axis], problem.dilation[axis], problem.kernel_spatial[axis], problem.out_spatial[axis]
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


def _phases(problem: Problem, region: tuple[tuple[int, int], ...], out_dtype: np.dtype[Any]) -> Iterator[Phase]:
    """Every forward problem that has a part in a region of the padded gradient."""
    per_group = problem.channels[1] // problem.groups
    for axes in product(*(list(_along(problem, axis, *ends)) for axis, ends in enumerate(region))):
        taps, samples, targets, pads, dilations, counts, results = zip(*axes, strict=True)
        widths = tuple(len(range(*cut.indices(k))) for cut, k in zip(taps, problem.kernel_spatial, strict=True))
        forward = replace(
            problem,
            op="forward",
            x_shape=(*lead(problem, problem.channels[1]), *counts),
            kernel_shape=(*((problem.channels[0], per_group) if problem.is_layer else ()), *widths),
            out_shape=(*lead(problem, problem.channels[0]), *results),
            x_dtype=problem.out_dtype,
            out_dtype=out_dtype,
            pads=pads,
            boundary=(Boundary.CONSTANT,) * problem.ndim,
            fill_value=0,
            stride=(1,) * problem.ndim,
            dilation=dilations,
        )
        yield Phase(forward, taps, samples, targets)
