"""The gradient of x: phases as forward problems, and the border folded back onto the samples that it was made from."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from convengine.adjoint.phases import Part, folds, lead, parts_of
from convengine.boundary import most_copies, pad_indices
from convengine.plugin import Declined, Filter, Offer, Plan, Refusal, finish
from convengine.problem import KernelFacts, Problem

__all__ = ["InputGradient", "input_offers"]

Array: TypeAlias = Any  # an array of the library that the backend computes with
Forward: TypeAlias = Callable[[Problem, KernelFacts], Sequence[Offer] | Refusal]
PlanForward: TypeAlias = Callable[[Problem, Offer], Plan]

TOUCH = 10e-9  # seconds to fold one sample of the border, in NumPy; rough
CALL = 20e-6  # to go through the parts


def _exchanged(problem: Problem, kernel: Array) -> Array:
    """The kernel with the input and output channels of each group exchanged."""
    if not problem.is_layer:
        return kernel
    groups, (c_in, c_out) = problem.groups, problem.channels
    apart = kernel.reshape(groups, c_out // groups, c_in // groups, *problem.kernel_spatial)
    return apart.swapaxes(1, 2).reshape(c_in, c_out // groups, *problem.kernel_spatial)


def _cheapest(parts: tuple[Part, ...], forward: Forward) -> list[Offer] | Refusal:
    """One offer for each phase of each part, by the problem alone, so that `plan` finds the same."""
    chosen = []
    for phase in (phase for part in parts for phase in part.phases):
        answer = forward(phase.problem, KernelFacts.unknown(phase.problem.ndim))
        if isinstance(answer, Refusal):
            return answer
        chosen.append(min(answer, key=lambda offer: (offer.seconds, offer.method)))
    return chosen


def _is_one(parts: tuple[Part, ...]) -> bool:
    """Whether one forward problem is all that there is to compute."""
    return len(parts) == 1 and len(parts[0].phases) == 1


def input_offers(problem: Problem, facts: KernelFacts, forward: Forward) -> Sequence[Offer] | Refusal:
    """Offers for an input gradient, from a function that makes them for forward problems."""
    parts = parts_of(problem)
    if _is_one(parts):
        return forward(parts[0].phases[0].problem, facts)
    chosen = _cheapest(parts, forward)
    if isinstance(chosen, Refusal):
        return chosen
    together = Offer(
        method=" + ".join(dict.fromkeys(offer.method for offer in chosen)) or "zeros",
        seconds=sum((offer.seconds for offer in chosen), CALL),
        memory=sum(offer.memory for offer in chosen),
        error=max((offer.error for offer in chosen), default=0.0),
        normwise=any(offer.normwise for offer in chosen),
    )
    return [together if len(parts) == 1 else _folded(problem, parts, together)]


def _folded(problem: Problem, parts: tuple[Part, ...], offer: Offer) -> Offer:
    """The parts' offer with what folding the border adds: time, memory, the rounding of the copies' sum."""
    axes = zip(problem.boundary, problem.spatial, problem.pads, strict=True)
    copies = math.prod(most_copies(rule, n, *pair) for rule, n, pair in axes)
    error = offer.error
    if not problem.is_integer:
        u = float(np.finfo(problem.sum_dtype).eps) / 2
        gamma = (copies - 1) * u / (1 - (copies - 1) * u)
        # Every copy has an error of its own; in a normwise bound each may be as large as the bound of one.
        error = (error + gamma * (1 + error)) * (copies if offer.normwise else 1)
    size = math.prod(lead(problem, problem.channels[0])) * sum(math.prod(part.spatial) for part in parts[1:])
    if problem.sum_dtype != problem.x_dtype:
        size += math.prod(problem.x_shape)
    memory = offer.memory + size * problem.sum_dtype.itemsize
    return replace(offer, seconds=offer.seconds + TOUCH * size, memory=memory, error=error)


@dataclass(frozen=True, slots=True)
class InputGradient:
    """The plan of an input gradient."""

    problem: Problem
    offer: Offer
    forward: Forward
    plan_forward: PlanForward
    xp: Any = np

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Prepare the taps of every phase."""
        if kernel.dtype.kind in "fc" and not np.isfinite(kernel).all():
            return TapByTap(self.problem, self.xp.array(kernel), self.xp)
        parts = parts_of(self.problem)
        chosen = [self.offer] if _is_one(parts) else _cheapest(parts, self.forward)
        if isinstance(chosen, Refusal):
            raise Declined(chosen.reason)
        exchanged = _exchanged(self.problem, kernel)
        offers, filters = iter(chosen), []
        for part in parts:
            prepared = []
            for phase in part.phases:
                taps = np.ascontiguousarray(exchanged[(..., *phase.taps)])
                prepared.append(self.plan_forward(phase.problem, next(offers)).prepare(taps))
            filters.append((part, tuple(prepared)))
        return Parts(self.problem, tuple(filters), self.xp)


@dataclass(frozen=True, slots=True)
class Parts:
    """An input gradient: its inside, and the strips of the border, folded onto it."""

    problem: Problem
    parts: tuple[tuple[Part, tuple[Filter, ...]], ...]
    xp: Any

    @property
    def nbytes(self) -> int:
        """Bytes that its filters hold."""
        return sum(getattr(prepared, "nbytes", 0) for _, filters in self.parts for prepared in filters)

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """The gradient of x from out's, `x`."""
        problem, xp = self.problem, self.xp
        (inside, filters), *strips = self.parts
        if out is None:
            out = xp.empty(problem.x_shape, problem.x_dtype)
        total: Array = out
        if strips and problem.sum_dtype != problem.x_dtype:
            total = xp.empty(problem.x_shape, problem.sum_dtype)
        _compute(inside, filters, x, total)
        for part, filters in strips:
            block = xp.empty((*lead(problem, problem.channels[0]), *part.spatial), problem.sum_dtype)
            _compute(part, filters, x, block)
            block = fold(block, problem, part.axis + 1, xp)
            _add_strip(problem, part, block, total, xp)
        return out if total is out else finish(problem, total, None, out, xp=xp)


def _compute(part: Part, filters: tuple[Filter, ...], x: Array, block: Array) -> None:
    """Write a part of the gradient, phase by phase."""
    if not part.is_covered:
        block[...] = 0
    for phase, prepared in zip(part.phases, filters, strict=True):
        place = block[(..., *phase.target)]
        returned = prepared(x[(..., *phase.samples)], place)
        if returned is not place:
            place[...] = returned


def _runs(indices: np.ndarray[Any, Any]) -> Iterator[tuple[slice, slice]]:
    """(places in the list, what stands there) of the longest pieces, in order, that go up or down by one."""
    turns = np.diff(indices)
    start = 0
    while start < len(indices):
        step = int(turns[start]) if start < len(turns) else 0
        stop = start + 1
        if step in (1, -1):
            others = np.flatnonzero(turns[start:] != step)
            stop = start + 1 + (int(others[0]) if len(others) else len(turns) - start)
        first, end = int(indices[start]), int(indices[stop - 1]) + (step if stop - start > 1 else 1)
        yield slice(start, stop), slice(first, None if end < 0 else end, step if stop - start > 1 else 1)
        start = stop


def _add_at(lines: Array, indices: np.ndarray[Any, Any], added: Array) -> None:
    """np.add.at(lines, indices, added), in the same order, by additions of whole lines.

    CuPy's own adds in whatever order its threads come, so that the bits of floats would differ from call to call.
    """
    for places, samples in _runs(indices):
        chosen = lines[samples]
        chosen += added[places]


def _add_strip(problem: Problem, part: Part, block: Array, total: Array, xp: Any) -> None:
    """Add a strip of the border of one axis to the samples that it was made from."""
    axis = part.axis
    n, (before, after) = problem.spatial[axis], problem.pads[axis]
    left, right = pad_indices(problem.boundary[axis], n, before, after)
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf is NaN: that is the sum
        lines = xp.moveaxis(total, axis - problem.ndim, 0)
        _add_at(lines, left if part.region[axis][0] == 0 else right, xp.moveaxis(block, axis - problem.ndim, 0))


def fold(padded: Array, problem: Problem, first: int, xp: Any = np) -> Array:
    """Add the borders of the axes from `first` on to the samples that they were made from.

    Axes that do not fold have no border in `padded`, which is changed; a view of it is returned.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        for axis in range(first, problem.ndim):
            if not folds(problem, axis):
                continue
            n, (before, after) = problem.spatial[axis], problem.pads[axis]
            lines = xp.moveaxis(padded, axis - problem.ndim, 0)
            inside = lines[before : before + n]
            left, right = pad_indices(problem.boundary[axis], n, before, after)
            _add_at(inside, left, lines[:before])
            _add_at(inside, right, lines[before + n :])
            padded = xp.moveaxis(inside, 0, axis - problem.ndim)
    return padded


@dataclass(frozen=True, slots=True)
class TapByTap:
    """An input gradient by a kernel that holds NaN or infinity: every tap where it stands, by array operations.

    A correlation with zeros around the samples would multiply these zeros by infinity.
    """

    problem: Problem
    kernel: Array
    xp: Any

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self.kernel.nbytes)

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """The gradient of x from out's, `x`."""
        problem, groups, xp = self.problem, self.problem.groups, self.xp
        c_in, c_out = problem.channels
        pads, batch = problem.pads, problem.batch
        padded = [n + sum(pair) for n, pair in zip(problem.spatial, pads, strict=True)]
        total: Array = xp.zeros((*batch, groups, c_in // groups, *padded), problem.sum_dtype)
        samples = x.reshape(*batch, groups, c_out // groups, *problem.out_spatial).astype(problem.sum_dtype)
        taps = self.kernel.reshape(groups, c_out // groups, c_in // groups, *problem.kernel_spatial)
        taps = taps.astype(problem.sum_dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for at in np.ndindex(*problem.kernel_spatial):
                steps = zip(at, problem.dilation, problem.stride, problem.out_spatial, strict=True)
                place = tuple(slice(a * d, a * d + s * (o - 1) + 1, s) for a, d, s, o in steps)
                _add_products(total[(..., *place)], samples, taps[(..., *at)], problem.ndim, xp)
        for axis, (n, (before, _)) in enumerate(zip(problem.spatial, pads, strict=True)):
            if not folds(problem, axis):
                inside = (slice(None),) * (total.ndim - problem.ndim + axis) + (slice(before, before + n),)
                total = total[inside]
        total = total.reshape(*lead(problem, c_in), *total.shape[total.ndim - problem.ndim :])
        result: Array = finish(problem, fold(total, problem, 0, xp), None, out, xp=xp)
        return result


def _add_products(total: Array, samples: Array, taps: Array, ndim: int, xp: Any) -> None:
    """Add samples (*batch, g, o, *spatial) by taps (g, o, i), summed over o, to total (*batch, g, i, *spatial)."""
    if xp is np:
        letters = "xyz"[:ndim]
        total += np.einsum(f"...go{letters},goi->...gi{letters}", samples, taps, optimize=False)
        return
    every = (slice(None),) * ndim
    for o in range(taps.shape[1]):  # CuPy's einsum calls a product of matrices, which has rules of its own for infinity
        total += samples[(..., slice(o, o + 1), *every)] * taps[(slice(None), o, slice(None), *(None,) * ndim)]
