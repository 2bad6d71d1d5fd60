"""A right backend in plain NumPy loops, for every problem on host arrays: what the wrong ones are made from."""

import math
from typing import Any

import numpy as np

from convengine import adjoint
from convengine.boundary import window
from convengine.plugin import API, Offer, Refusal, Solve, direct_error, finish
from convengine.problem import KernelFacts, Problem


class Filter:
    """One kernel, one step after the other; a mutant overrides one step."""

    def __init__(self, problem: Problem, kernel: Any, bias: Any) -> None:
        inputs, outputs = problem.channels
        shape = problem.groups, outputs // problem.groups, inputs // problem.groups, *problem.kernel_spatial
        self.problem = problem
        self.kernel = kernel.reshape(shape).astype(problem.sum_dtype)
        self.bias = None if bias is None else bias.copy()
        self.boundary, self.fill_value = problem.boundary, problem.fill_value
        self.stride, self.dilation = problem.stride, problem.dilation

    def __call__(self, x: Any, out: Any = None) -> Any:
        with np.errstate(all="ignore"):  # NaN and infinities are answers
            return self.finish(self.total(self.padded(x)), out)

    def padded(self, x: Any) -> Any:
        """Samples in the sum's dtype, borders included: (*batch, G, 1, C/G, *S)."""
        problem = self.problem
        starts = [-before for before, _ in problem.pads]
        stops = [n + after for n, (_, after) in zip(problem.spatial, problem.pads, strict=True)]
        samples = window(x, starts, stops, self.boundary, self.fill_value).astype(problem.sum_dtype)
        groups = problem.groups
        return samples.reshape(*problem.batch, groups, 1, self.kernel.shape[2], *samples.shape[-problem.ndim :])

    def taps(self) -> list[tuple[int, ...]]:
        """(channel, *place) of each tap, in the order of their addition."""
        return list(np.ndindex(*self.kernel.shape[2:]))

    def total(self, padded: Any) -> Any:
        """The sums: (*batch, C_out, *O)."""
        problem = self.problem
        total = np.zeros((*problem.batch, *self.kernel.shape[:2], *problem.out_spatial), padded.dtype)
        for channel, *tap in self.taps():
            windows = [
                slice(at * d, at * d + s * (n - 1) + 1, s)
                for at, d, s, n in zip(tap, self.dilation, self.stride, problem.out_spatial, strict=True)
            ]
            weights = self.kernel[(slice(None), slice(None), channel, *tap)]
            weights = weights.reshape(*weights.shape, *[1] * problem.ndim)
            total += multiply(padded[(..., channel, *windows)], weights)
        return total.reshape(problem.out_shape)

    def finish(self, total: Any, out: Any) -> Any:
        """Bias, rounding, overflow."""
        return finish(self.problem, total, self.bias, out)


def multiply(a: Any, b: Any) -> Any:
    """Products whose bits do not depend on where they stand: NumPy's complex ones do, vectorised or not."""
    if a.dtype.kind != "c":
        return a * b
    product = np.empty(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    product.real = a.real * b.real - a.imag * b.imag
    product.imag = a.real * b.imag + a.imag * b.real
    return product


class Plan:
    def __init__(self, problem: Problem, kind: type[Filter]) -> None:
        self.problem, self.kind = problem, kind

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        return self.kind(self.problem, kernel, bias)


class Backend:
    name = "toy"
    api = API
    filter = Filter

    def offers(self, problem: Problem, facts: KernelFacts) -> list[Offer] | Refusal:
        if problem.op != "forward":
            return adjoint.offers(problem, facts, self.offers)
        if problem.memory != "host":
            return Refusal(f"runs on host arrays, not {problem.memory}")
        seconds = 1e-5 * problem.taps + 1e-8 * problem.multiplications
        return [Offer("loops", seconds, self.memory(problem), direct_error(problem))]

    def memory(self, problem: Problem) -> int:
        """Bytes of x with its borders, twice, and of sums, products and what is made of them."""
        samples = math.prod(problem.x_shape) // max(math.prod(problem.spatial), 1)
        for n, (before, after) in zip(problem.spatial, problem.pads, strict=True):
            samples *= n + before + after
        return problem.sum_dtype.itemsize * (2 * samples + 5 * math.prod(problem.out_shape))

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Any:
        return adjoint.plan(problem, offer, self.offers, lambda forward, chosen: Plan(forward, self.filter))
