"""A complete backend in NumPy: pad x, then add up shifted views of it, one for each tap and channel."""

import math

import numpy as np

from convengine.boundary import window
from convengine.plugin import API, Offer, Refusal, direct_error, finish

CALL, PRODUCT = 20e-6, 0.5e-9  # seconds: rough, by timeit of 1024 x 1024 float32 and 7 x 7 taps, AMD Zen 4, 2026-11


class Backend:
    """Direct sums by NumPy, for every forward problem in host memory."""

    name, api = "plain", API

    def offers(self, problem, facts):
        """Refuse with a reason, or price the problem."""
        if problem.op != "forward":
            return Refusal(f"computes forward only, not {problem.op}")
        if problem.memory != "host":
            return Refusal(f"runs on host arrays, not {problem.memory}")
        padded = [n + sum(pair) for n, pair in zip(problem.spatial, problem.pads, strict=True)]
        samples = math.prod((*problem.batch, problem.channels[0], *padded)) + 2 * math.prod(problem.out_shape)
        seconds = CALL + problem.multiplications * PRODUCT
        return [Offer("shifted views", seconds, samples * problem.sum_dtype.itemsize, direct_error(problem))]

    def plan(self, problem, offer, solve):
        """Plan one of the offers; there is only one method here."""
        return Plan(problem)


class Plan:
    """The method for one problem; a filter is taken for a layer of one channel."""

    def __init__(self, problem):
        self.problem = p = problem
        self.starts = [-before for before, _ in p.pads]
        self.stops = [n + after for n, (_, after) in zip(p.spatial, p.pads, strict=True)]

    def prepare(self, kernel, bias=None):
        """Copy the kernel, by groups, in the sum's dtype; `finish` adds the bias, rounds and writes."""
        p = self.problem
        taps = kernel.reshape(p.groups, -1, p.channels[0] // p.groups, *p.kernel_spatial).astype(p.sum_dtype)
        return lambda x, out=None: finish(p, self.sums(x, taps), bias, out)

    def sums(self, x, taps):
        """Add up the products; canonical axes are (*batch, groups, channels, *spatial)."""
        p = self.problem
        x = window(x, self.starts, self.stops, p.boundary, p.fill_value).astype(p.sum_dtype)
        x = x.reshape(*p.batch, p.groups, 1, taps.shape[2], *x.shape[-p.ndim :])
        total = np.zeros((*p.batch, *taps.shape[:2], *p.out_spatial), p.sum_dtype)
        for channel, *tap in np.ndindex(taps.shape[2:]):
            axes = zip(tap, p.dilation, p.stride, p.out_spatial, strict=True)
            view = x[(..., channel, *(slice(a * d, a * d + s * n, s) for a, d, s, n in axes))]
            with np.errstate(all="ignore"):  # NaN and infinity in x are data
                total += view * taps[(..., channel, *tap)].reshape(*taps.shape[:2], *[1] * p.ndim)
        return total.reshape(p.out_shape)
