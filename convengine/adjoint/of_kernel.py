"""The gradient of the kernel: x correlated with out's gradient, stride and dilation exchanged, images as channels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from convengine.plugin import Filter, Offer, Plan, Refusal
from convengine.problem import KernelFacts, Problem

__all__ = ["KernelGradient", "kernel_offers"]

Array: TypeAlias = Any  # an array of the library that the backend computes with
Forward: TypeAlias = Callable[[Problem, KernelFacts], Sequence[Offer] | Refusal]
PlanForward: TypeAlias = Callable[[Problem, Offer], Plan]


def _as_forward(problem: Problem) -> Problem:
    """The forward problem of one group of channels; it may have results beyond the kernel's last tap."""
    images, groups = math.prod(problem.batch), problem.groups
    c_in, c_out = (channels // groups for channels in problem.channels)
    plain = not problem.is_layer and images == 1
    results = []
    for axis, (n, pair) in enumerate(zip(problem.spatial, problem.pads, strict=True)):
        room = n + sum(pair) - problem.stride[axis] * (problem.out_spatial[axis] - 1)
        results.append(-(-room // problem.dilation[axis]))
    spread = zip(problem.stride, problem.out_spatial, strict=True)
    return replace(
        problem,
        op="forward",
        x_shape=(*(() if plain else (c_in, images)), *problem.spatial),
        kernel_shape=(*(() if plain else (c_out, images)), *problem.out_spatial),
        out_shape=(*(() if plain else (c_in, c_out)), *results),
        kernel_dtype=problem.out_dtype,
        out_dtype=problem.kernel_dtype,
        stride=problem.dilation,
        dilation=tuple(s if o > 1 else 1 for s, o in spread),
        groups=1,
    )


def kernel_offers(problem: Problem, facts: KernelFacts, forward: Forward) -> Sequence[Offer] | Refusal:
    """Offers for a kernel gradient, from a function that makes them for forward problems."""
    one = _as_forward(problem)
    answer = forward(one, facts)
    if isinstance(answer, Refusal):
        return answer
    extra = (math.prod(one.out_shape) + math.prod(one.kernel_shape)) * problem.sum_dtype.itemsize
    groups = problem.groups
    return [replace(offer, seconds=offer.seconds * groups, memory=offer.memory * groups + extra) for offer in answer]


@dataclass(frozen=True, slots=True)
class KernelGradient:
    """The plan of a kernel gradient."""

    problem: Problem
    offer: Offer
    forward: Forward
    plan_forward: PlanForward
    xp: Any = np

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Prepare out's gradient, `kernel`, as the kernel of each group."""
        problem, one = self.problem, _as_forward(self.problem)
        apart = kernel.reshape(-1, problem.groups, problem.channels[1] // problem.groups, *problem.out_spatial)
        filters = []
        for group in range(problem.groups):
            weights = self.xp.ascontiguousarray(apart[:, group].swapaxes(0, 1).reshape(one.kernel_shape))
            filters.append(self.plan_forward(one, self.offer).prepare(weights))
        return Groups(problem, one, tuple(filters), self.xp)


@dataclass(frozen=True, slots=True)
class Groups:
    """A kernel gradient, group by group."""

    problem: Problem
    one: Problem
    filters: tuple[Filter, ...]
    xp: Any

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """The gradient of the kernel from x."""
        problem, groups = self.problem, self.problem.groups
        if out is None:
            out = self.xp.empty(problem.kernel_shape, problem.kernel_dtype)
        c_in, c_out = (channels // groups for channels in problem.channels)
        apart = x.reshape(-1, groups, c_in, *problem.spatial)
        target = out.reshape(out.shape if problem.is_layer else (1, 1, *out.shape))
        taps = tuple(slice(k) for k in problem.kernel_spatial)
        for group, prepared in enumerate(self.filters):
            returned = prepared(apart[:, group].swapaxes(0, 1).reshape(self.one.x_shape))
            returned = returned.reshape(c_in, c_out, *self.one.out_spatial)[(..., *taps)]
            target[group * c_out : (group + 1) * c_out] = returned.swapaxes(0, 1)
        return out
