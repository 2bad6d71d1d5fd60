"""Host arrays by way of a device, for users who allow it: in chunks, some copied while another is computed.

A chunk is some images of a batch, or some rows of the results of one. Its samples, the border along the rows included,
are gathered in memory that the device reads by itself, so that copies run beside kernels: each of SLOTS chunks has such
memory and a stream of its own. Which rows a result is computed with changes none of its bits, if it does not change
those of the device's own method.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np

from convengine import plugin
from convengine.boundary import window
from convengine.plugin import Offer
from convengine.problem import Problem

__all__ = ["SUFFIX", "Chunk", "CupyLink", "Link", "Transfer", "chunks", "priced"]

SUFFIX = ", by way of the device"  # of a method's name

SLOTS = 3  # one comes, one is computed, one goes
CHUNK = 16 << 20  # bytes of samples and results, about
# Not measured: copies from and to pageable memory by one thread, which the ones to the device run beside, and what a
# call waits for at its ends.
BYTES_PER_SECOND = 8e9
SECONDS_PER_CALL = 1e-4

Array: TypeAlias = np.ndarray[Any, Any]


class Link(Protocol):
    """What copying needs of a device's library."""

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Memory of the host that the device reads and writes by itself."""

    def stream(self) -> Any:
        """A stream of its own, as a context manager that makes it the current one."""

    def bring(self, samples: Array) -> Any:
        """An array on the device, with a copy under way on the current stream."""

    def send(self, result: Any, target: Array) -> None:
        """Copy a result to the host, on the current stream."""

    def wait(self, stream: Any) -> None:
        """Until all that was asked of a stream is done."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some results, and the problem whose results they are."""

    problem: Problem
    axis: int  # of x and of the result: that of the batch, or that of the rows
    first: int  # of the results along this axis
    last: int  # and the one after them

    @property
    def results(self) -> tuple[slice, ...]:
        """Where they lie among all."""
        return (slice(None),) * self.axis + (slice(self.first, self.last),)

    def samples(self, whole: Problem, x: Array) -> Array:
        """What they are computed from; along rows with the border, which the chunk's problem lacks."""
        if self.axis < len(whole.batch):
            return x[self.results]
        start, stop = _rows(whole, self.first, self.last)
        others = [0] * (whole.ndim - 1)
        sizes = list(whole.spatial[1:])
        found: Array = window(x, [start, *others], [stop, *sizes], whole.boundary, whole.fill_value)
        return found


def _rows(problem: Problem, first: int, last: int) -> tuple[int, int]:
    """Positions of the first axis that results need: 0 is the first sample."""
    width = problem.dilation[0] * (problem.kernel_spatial[0] - 1) + 1
    start = first * problem.stride[0] - problem.pads[0][0]
    return start, start + (last - first - 1) * problem.stride[0] + width


def chunks(problem: Problem) -> Iterator[Chunk]:
    """Cut a problem: along its batch, or where there is none along its rows."""
    batched = bool(problem.batch) and problem.batch[0] > 1
    axis = 0 if batched else len(problem.x_shape) - problem.ndim
    count = problem.out_shape[axis]
    whole = math.prod(problem.x_shape) * problem.x_dtype.itemsize
    whole += math.prod(problem.out_shape) * problem.out_dtype.itemsize
    most = max(1, CHUNK * count // max(whole, 1))
    for first in range(0, count, most):
        last = min(first + most, count)
        x_shape, out_shape, pads = list(problem.x_shape), list(problem.out_shape), problem.pads
        out_shape[axis] = x_shape[axis] = last - first
        if not batched:
            start, stop = _rows(problem, first, last)
            x_shape[axis], pads = stop - start, ((0, 0), *pads[1:])
        part = replace(problem, x_shape=tuple(x_shape), out_shape=tuple(out_shape), pads=pads)
        yield Chunk(part, axis, first, last)


def priced(problem: Problem, offer: Offer) -> Offer:
    """The offer for a problem on the host, from one for the same on the device."""
    moved = math.prod(problem.x_shape) * problem.x_dtype.itemsize
    moved += math.prod(problem.out_shape) * problem.out_dtype.itemsize
    seconds = SECONDS_PER_CALL + max(offer.seconds, moved / BYTES_PER_SECOND)
    memory = 2 * SLOTS * min(moved, 2 * CHUNK) + offer.memory  # on the host and on the device
    return replace(offer, method=offer.method + SUFFIX, seconds=seconds, memory=memory)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A chunk under way; both memories are the device's until its stream is done."""

    stream: Any
    chunk: Chunk
    samples: Array
    target: Array


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """A filter of host arrays; `prepare` makes the filter of a chunk's problem, on the device that is current."""

    problem: Problem
    prepare: Callable[[Problem], plugin.Filter]
    link: Link
    filters: dict[Problem, plugin.Filter]  # of chunks: all but the last are of one size

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x, and wait for the results."""
        problem, link = self.problem, self.link
        result = np.empty(problem.out_shape, problem.out_dtype) if out is None else out
        slots: list[Pending | None] = [None] * SLOTS
        streams = [link.stream() for _ in slots]
        try:
            for number, chunk in enumerate(chunks(problem)):
                slot = number % SLOTS
                self._finish(slots[slot], result)
                slots[slot] = None
                found = chunk.samples(problem, x)
                samples = link.pinned(found.shape, found.dtype)
                np.copyto(samples, found)
                target = link.pinned(chunk.problem.out_shape, problem.out_dtype)
                with streams[slot]:
                    link.send(self._filter(chunk.problem)(link.bring(samples)), target)
                slots[slot] = Pending(streams[slot], chunk, samples, target)
            for pending in slots:
                self._finish(pending, result)
        finally:
            for stream in streams:  # the device must not write to memory that is given back
                link.wait(stream)
        return result

    def _finish(self, pending: "Pending | None", result: Array) -> None:
        if pending is not None:
            self.link.wait(pending.stream)
            result[pending.chunk.results] = pending.target

    def _filter(self, problem: Problem) -> plugin.Filter:
        if (made := self.filters.get(problem)) is None:
            made = self.filters[problem] = self.prepare(problem)
        return made


class CupyLink:
    """CuPy's, on the device that is current."""

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Page-locked memory from CuPy's pool."""
        import cupyx

        found: Array = cupyx.empty_pinned(shape, dtype)
        return found

    def stream(self) -> Any:
        """A stream that waits for no other."""
        import cupy

        return cupy.cuda.Stream(non_blocking=True)

    def bring(self, samples: Array) -> Any:
        """Copy without waiting."""
        import cupy

        found = cupy.empty(samples.shape, samples.dtype)
        found.set(samples, stream=cupy.cuda.get_current_stream())
        return found

    def send(self, result: Any, target: Array) -> None:
        """Copy without waiting."""
        import cupy

        result.get(stream=cupy.cuda.get_current_stream(), out=target, blocking=False)

    def wait(self, stream: Any) -> None:
        """Until the stream is done."""
        stream.synchronize()
