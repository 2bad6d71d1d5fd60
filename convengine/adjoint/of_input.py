"""The gradient of x: phases as forward problems, and the border folded back onto the samples that it was made from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from convengine.adjoint.phases import Phase, folds, laid_shape, lead, phases_of
from convengine.boundary import most_copies, pad_indices
from convengine.plugin import Declined, Filter, Offer, Plan, Refusal, finish
from convengine.problem import KernelFacts, Problem

__all__ = ["InputGradient", "fold", "input_offers"]

Array: TypeAlias = Any  # an array of the library that the backend computes with
Forward: TypeAlias = Callable[[Problem, KernelFacts], Sequence[Offer] | Refusal]
PlanForward: TypeAlias = Callable[[Problem, Offer], Plan]

TOUCH = 2e-9  # seconds to fold or copy one sample, in NumPy; rough


def _exchanged(problem: Problem, kernel: Array) -> Array:
    """The kernel with the input and output channels of each group exchanged."""
    if not problem.is_layer:
        return kernel
    groups, (c_in, c_out) = problem.groups, problem.channels
    apart = kernel.reshape(groups, c_out // groups, c_in // groups, *problem.kernel_spatial)
    return apart.swapaxes(1, 2).reshape(c_in, c_out // groups, *problem.kernel_spatial)


def _cheapest(phases: list[Phase], forward: Forward) -> list[Offer] | Refusal:
    """One offer for each phase, by the problem alone, so that `plan` finds the same."""
    chosen = []
    for phase in phases:
        answer = forward(phase.problem, KernelFacts.unknown(phase.problem.ndim))
        if isinstance(answer, Refusal):
            return answer
        chosen.append(min(answer, key=lambda offer: (offer.seconds, offer.method)))
    return chosen


def input_offers(problem: Problem, facts: KernelFacts, forward: Forward) -> Sequence[Offer] | Refusal:
    """Offers for an input gradient, from a function that makes them for forward problems."""
    phases = phases_of(problem)
    if len(phases) == 1:
        answer = forward(phases[0].problem, facts)
        return answer if isinstance(answer, Refusal) else [_folded(problem, offer) for offer in answer]
    chosen = _cheapest(phases, forward)
    if isinstance(chosen, Refusal):
        return chosen
    together = Offer(
        method=" + ".join(dict.fromkeys(offer.method for offer in chosen)) or "zeros",
        seconds=sum(offer.seconds for offer in chosen),
        memory=sum(offer.memory for offer in chosen),
        error=max((offer.error for offer in chosen), default=0.0),
        normwise=any(offer.normwise for offer in chosen),
    )
    return [_folded(problem, together)]


def _folded(problem: Problem, offer: Offer) -> Offer:
    """A phase's offer with what folding the border adds: time, memory, the rounding of the copies' sum."""
    copies = math.prod(
        most_copies(rule, n, *pair)
        for rule, n, pair in zip(problem.boundary, problem.spatial, problem.pads, strict=True)
    )
    if copies == 1:
        return offer
    size = math.prod(lead(problem, problem.channels[0])) * math.prod(laid_shape(problem))
    error = offer.error
    if not problem.is_integer:
        u = float(np.finfo(problem.sum_dtype).eps) / 2
        gamma = (copies - 1) * u / (1 - (copies - 1) * u)
        # Every copy has an error of its own; in a normwise bound each may be as large as the bound of one.
        error = (error + gamma * (1 + error)) * (copies if offer.normwise else 1)
    memory = offer.memory + size * problem.sum_dtype.itemsize
    return replace(offer, seconds=offer.seconds + TOUCH * size, memory=memory, error=error)


@dataclass(frozen=True, slots=True)
class InputGradient:
    """The plan of an input gradient."""

    problem: Problem
    offer: Offer
    forward: Forward
    plan_forward: PlanForward

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Prepare the taps of every phase."""
        if kernel.dtype.kind in "fc" and not np.isfinite(kernel).all():
            return TapByTap(self.problem, kernel.copy())
        phases = phases_of(self.problem)
        chosen = [self.offer] if len(phases) == 1 else _cheapest(phases, self.forward)
        if isinstance(chosen, Refusal):
            raise Declined(chosen.reason)
        exchanged = _exchanged(self.problem, kernel)
        filters = []
        for phase, offer in zip(phases, chosen, strict=True):
            taps = np.ascontiguousarray(exchanged[(..., *phase.taps)])
            filters.append((phase, self.plan_forward(phase.problem, offer).prepare(taps)))
        return Phases(self.problem, tuple(filters))


@dataclass(frozen=True, slots=True)
class Phases:
    """An input gradient, phase by phase."""

    problem: Problem
    filters: tuple[tuple[Phase, Filter], ...]

    @property
    def nbytes(self) -> int:
        """Bytes that its filters hold."""
        return sum(getattr(prepared, "nbytes", 0) for _, prepared in self.filters)

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """The gradient of x from out's, `x`."""
        problem = self.problem
        laid = laid_shape(problem)
        folded = laid != problem.spatial
        if out is None:
            out = np.empty(problem.x_shape, problem.x_dtype)
        target: Array = out
        if folded:
            target = np.empty((*lead(problem, problem.channels[0]), *laid), problem.sum_dtype)
        if sum(math.prod(phase.problem.out_spatial) for phase, _ in self.filters) < math.prod(laid):
            target[...] = 0  # a phase without taps
        for phase, prepared in self.filters:
            part = target[(..., *phase.target)]
            returned = prepared(x[(..., *phase.samples)], part)
            if returned is not part:
                part[...] = returned
        return _rounded(problem, target, out) if folded else out


def _rounded(problem: Problem, padded: Array, out: Array | None) -> Array:
    result: Array = finish(problem, fold(padded, problem), None, out)
    return result


def fold(padded: Array, problem: Problem) -> Array:
    """Add the border of a gradient to the samples that the border was made from; a view of `padded`, which changes.

    Only axes whose border was made from samples are padded.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # inf - inf is NaN: that is the sum
        for axis in range(problem.ndim):
            if not folds(problem, axis):
                continue
            n, (before, after) = problem.spatial[axis], problem.pads[axis]
            lines = np.moveaxis(padded, axis - problem.ndim, 0)
            inside = lines[before : before + n]
            left, right = pad_indices(problem.boundary[axis], n, before, after)
            np.add.at(inside, left, lines[:before])
            np.add.at(inside, right, lines[before + n :])
            padded = np.moveaxis(inside, 0, axis - problem.ndim)
    return padded


@dataclass(frozen=True, slots=True)
class TapByTap:
    """An input gradient by a kernel that holds NaN or infinity: every tap where it stands, in NumPy.

    A correlation with zeros around the samples would multiply these zeros by infinity.
    """

    problem: Problem
    kernel: Array

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self.kernel.nbytes)

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """The gradient of x from out's, `x`."""
        problem, groups = self.problem, self.problem.groups
        c_in, c_out = problem.channels
        pads, batch = problem.pads, problem.batch
        padded = [n + sum(pair) for n, pair in zip(problem.spatial, pads, strict=True)]
        total: Array = np.zeros((*batch, groups, c_in // groups, *padded), problem.sum_dtype)
        samples = x.reshape(*batch, groups, c_out // groups, *problem.out_spatial).astype(problem.sum_dtype)
        taps = self.kernel.reshape(groups, c_out // groups, c_in // groups, *problem.kernel_spatial)
        taps = taps.astype(problem.sum_dtype)
        letters = "xyz"[: problem.ndim]
        with np.errstate(over="ignore", invalid="ignore"):
            for at in np.ndindex(*problem.kernel_spatial):
                steps = zip(at, problem.dilation, problem.stride, problem.out_spatial, strict=True)
                place = tuple(slice(a * d, a * d + s * (o - 1) + 1, s) for a, d, s, o in steps)
                total[(..., *place)] += np.einsum(
                    f"...go{letters},goi->...gi{letters}", samples, taps[(..., *at)], optimize=False
                )
        for axis, (n, (before, _)) in enumerate(zip(problem.spatial, pads, strict=True)):
            if not folds(problem, axis):
                inside = (slice(None),) * (total.ndim - problem.ndim + axis) + (slice(before, before + n),)
                total = total[inside]
        total = total.reshape(*lead(problem, c_in), *total.shape[total.ndim - problem.ndim :])
        return _rounded(problem, total, out)
