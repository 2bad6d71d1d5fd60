"""The sum by array operations: for each tap, one multiply-add of a strided slice of the padded window.

Written against an array module `xp`, CuPy or NumPy: nothing here knows of devices. The work goes in pieces of x and out
whose temporaries stay within `LIMIT`. Elementwise, every output adds its products in one order, whatever the batch and
the pieces; with matmul a piece never spans two samples of the batch, so that each sample meets the same products.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from convengine.boundary import window
from convengine.plugin import finish
from convengine.problem import Problem

__all__ = ["LIMIT", "Filter", "Pieces", "prepare"]

LIMIT = 256 << 20  # bytes of temporaries
Block = tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Pieces:
    """How the work is cut: blocks of (*batch, groups, outputs of a group, *out_spatial)."""

    whole: tuple[int, ...]
    size: tuple[int, ...]
    memory: int  # bytes of temporaries in one piece

    @classmethod
    def of(cls, problem: Problem, matmul: bool, limit: int | None = None) -> "Pieces":
        """Halve the batch, then groups, then rows, then outputs, until a piece fits into the limit."""
        limit = LIMIT if limit is None else limit
        batch, outputs = problem.batch, problem.channels[1] // problem.groups
        whole = (*batch, problem.groups, outputs, *problem.out_spatial)
        size = [1] * len(batch) + list(whole[len(batch) :]) if matmul else list(whole)
        channel = len(batch) + 1
        # The outputs of several groups lie apart in out, so that groups are single before outputs are cut.
        for axis in (*range(channel), *range(channel + 1, len(whole)), channel):
            while size[axis] > 1 and _bytes(problem, size, matmul) > limit:
                size[axis] = -(-size[axis] // 2)
        return cls(whole, tuple(size), _bytes(problem, size, matmul))

    def __len__(self) -> int:
        return math.prod(-(-n // step) for n, step in zip(self.whole, self.size, strict=True))

    def __iter__(self) -> Iterator[Block]:
        axes = zip(self.whole, self.size, strict=True)
        return product(*([slice(i, min(i + step, n)) for i in range(0, n, step)] for n, step in axes))


def _bytes(problem: Problem, size: list[int], matmul: bool) -> int:
    """Temporaries of a piece: its window, padded and converted, its samples for one tap, the sum and its rounding."""
    cut = len(size) - problem.ndim
    planes = math.prod(size[: cut - 1]) * (problem.channels[0] // problem.groups)
    steps = zip(size[cut:], problem.stride, problem.dilation, problem.kernel_spatial, strict=True)
    samples = math.prod(size[cut:])
    reach = math.prod((n - 1) * s + d * (k - 1) + 1 for n, s, d, k in steps)
    wide = problem.sum_dtype.itemsize
    return planes * (reach * (problem.x_dtype.itemsize + wide) + matmul * samples * wide) + 4 * math.prod(size) * wide


@dataclass(frozen=True, slots=True)
class Filter:
    """A kernel cut into taps."""

    problem: Problem
    taps: Any  # (taps, groups, outputs of a group, inputs of a group), in the sum's dtype
    bias: Any
    matmul: bool
    xp: Any

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x piece by piece."""
        problem, xp = self.problem, self.xp
        usable = out is not None and not xp.may_share_memory(x, out)
        result = out if usable else xp.empty(problem.out_shape, problem.out_dtype)
        every = (slice(None),) * problem.ndim
        if problem.is_layer:
            per_group = problem.channels[0] // problem.groups
            view, target = x.reshape((*problem.batch, problem.groups, per_group, *problem.spatial)), result
        else:
            view, target = x[(..., None, None, *every)], result[(..., None, *every)]
        for block in Pieces.of(problem, self.matmul):
            *batch, group, outputs = block[: len(block) - problem.ndim]
            per_group = problem.channels[1] // problem.groups
            channels = slice(group.start * per_group + outputs.start, (group.stop - 1) * per_group + outputs.stop)
            place = (*batch, channels, *block[len(block) - problem.ndim :])
            with np.errstate(over="ignore", invalid="ignore"):  # infinity and NaN in x are data, not errors
                total = self._sum(view[(*batch, group)], block)
                bias = self.bias[channels] if self.bias is not None else None
                finish(problem, total.reshape(target[place].shape), bias, target[place], xp=xp)
        if out is not None and result is not out:
            out[...] = result
        return result if out is None else out

    def _sum(self, x: Any, block: Block) -> Any:
        """The sum of one piece; x is (*batch, groups, inputs of a group, *spatial) of the piece's batch and groups."""
        problem, xp = self.problem, self.xp
        group, outputs, *spatial = block[len(block) - problem.ndim - 2 :]
        left = [before for before, _ in problem.pads]
        steps, dilations, widths = problem.stride, problem.dilation, problem.kernel_spatial
        axes = list(zip(spatial, steps, left, dilations, widths, strict=True))
        starts = [at.start * s - b for at, s, b, _, _ in axes]
        stops = [(at.stop - 1) * s - b + d * (k - 1) + 1 for at, s, b, d, k in axes]
        padded = window(x, starts, stops, problem.boundary, problem.fill_value, xp=xp)
        padded = padded.astype(problem.sum_dtype, copy=False)
        total = xp.zeros(tuple(at.stop - at.start for at in block), problem.sum_dtype)
        scratch = None if self.matmul else xp.empty_like(total)
        for number, tap in enumerate(np.ndindex(widths)):
            reaches = zip(spatial, steps, dilations, tap, strict=True)
            slices = [slice(d * a, d * a + s * (at.stop - at.start - 1) + 1, s) for at, s, d, a in reaches]
            samples = padded[(..., *slices)]
            weights = self.taps[number, group, outputs]
            if self.matmul:
                total += _channel_sums(weights, samples, xp).reshape(total.shape)
            else:
                _add_products(total, scratch, weights, samples, problem.ndim, xp)
        return total


def _channel_sums(weights: Any, samples: Any, xp: Any) -> Any:
    """Weights (G, D, C) times samples (*ones, G, C, *spatial), summed over C."""
    groups, _, inputs = weights.shape
    return xp.matmul(weights, samples.reshape(groups, inputs, -1))


def _add_products(total: Any, scratch: Any, weights: Any, samples: Any, ndim: int, xp: Any) -> None:
    """Add weights (G, D, C) times samples (*batch, G, C, *spatial) to total (*batch, G, D, *spatial), for each c."""
    every = (slice(None),) * ndim
    for c in range(weights.shape[2]):
        xp.multiply(samples[(..., slice(c, c + 1), *every)], weights[(..., c, *(None,) * ndim)], out=scratch)
        xp.add(total, scratch, out=total)


def prepare(problem: Problem, kernel: Any, bias: Any, matmul: bool, xp: Any) -> Filter:
    """Bring a kernel to where `xp` computes, taps first, in the sum's dtype."""
    (inputs, outputs), groups = problem.channels, problem.groups
    split = xp.asarray(kernel).reshape(groups, outputs // groups, inputs // groups, math.prod(problem.kernel_spatial))
    taps = xp.ascontiguousarray(xp.moveaxis(split, -1, 0).astype(problem.sum_dtype))
    return Filter(problem, taps, None if bias is None else xp.array(bias), matmul, xp)
