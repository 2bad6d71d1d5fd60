"""Large kernels by transforms of tiles: which problems, which tile, at what price, with what error.

Overlap-save: a tile of T samples, transformed, multiplied by the kernel's spectrum and transformed back, holds
T - width + 1 right outputs along each axis; the rest is wrapped around and dropped. The tile follows from the spatial
part of the problem and the device alone, so that a batch changes no bit; and as if the stride were 1, so that a stride
takes every so many of the very same outputs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine.fft_error import pair_error_factor
from convengine.plugin import Offer
from convengine.problem import KernelFacts, Problem, kept_by_form
from convengine.roots import RADICES
from convengine_cupy import direct
from convengine_cupy.variants import Variant

__all__ = ["METHOD", "Tiles", "dense", "offers", "refusal", "shape_of", "tiles_of", "widths"]

METHOD = "fft tile "
SHAPES = {  # rows and columns of a transform; a signal's is one line
    1: ((32, 32), (32, 64), (64, 64), (64, 128), (128, 128)),
    2: ((32, 32), (64, 64), (128, 128)),
}
MOST_BLOCKS = 2**31 - 1

# Not measured: one multiprocessor of an H100 SXM at 1.7 GHz, of whose figures half is taken for shared memory (128
# bytes a clock) and 0.4 for arithmetic (128 or 64 lanes, of whose operations most are no fused multiply-adds).
MULTIPROCESSORS = 132
SHARED_BYTES_PER_SECOND = 1.1e11
OPERATIONS_PER_SECOND = {4: 1.7e11, 8: 0.85e11}
READ_BYTES_PER_SECOND = 2e10  # of samples, by way of the second-level cache
SHARED_MEMORY = 227 << 10
ALONE = 1.5  # times as long, where no second block fits beside one, to run while the first waits at a barrier
SECONDS_PER_LAUNCH = 1e-5


def refusal(problem: Problem) -> str:
    """Why no problem of this form goes by tiles; empty if some do."""
    if reason := direct.refusal(problem):
        return reason
    if problem.is_integer:
        return "sums of floating-point numbers only"
    if problem.ndim > 2:
        return "one or two axes only"
    return ""


@kept_by_form
def widths(problem: Problem) -> tuple[int, ...]:
    """Widths of the dilated kernel."""
    return tuple(d * (k - 1) + 1 for d, k in zip(problem.dilation, problem.kernel_spatial, strict=True))


def dense(problem: Problem) -> tuple[int, ...]:
    """Output sizes if the stride were 1."""
    axes = zip(problem.spatial, problem.pads, widths(problem), strict=True)
    return tuple(max(n + before + after - width + 1, 0) for n, (before, after), width in axes)


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a problem is cut.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of a transform.
    outputs : tuple of int
        Outputs that a tile gives along each axis, before the stride takes some of them.
    counts : tuple of int
        Tiles along each axis.
    """

    shape: tuple[int, int]
    outputs: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, problem: Problem, shape: tuple[int, int]) -> "Tiles":
        """Cut a problem whose dilated kernel fits."""
        lengths = shape if problem.ndim == 2 else (math.prod(shape),)
        axes = zip(lengths, widths(problem), dense(problem), strict=True)
        outputs = tuple(min(length - width + 1, max(n, 1)) for length, width, n in axes)
        return cls(shape, outputs, tuple(-(-n // most) for n, most in zip(dense(problem), outputs, strict=True)))

    @property
    def name(self) -> str:
        """The lengths of the transform."""
        return "x".join(map(str, self.shape)) if len(self.outputs) == 2 else str(self.size)

    @property
    def size(self) -> int:
        """Samples of a tile."""
        return math.prod(self.shape)

    @property
    def pairs(self) -> int:
        """Blocks for one image."""
        return -(-math.prod(self.counts) // 2)

    def variant(self, problem: Problem, out_dtype: np.dtype[Any]) -> Variant:
        """What is compiled."""
        dtypes = problem.x_dtype, problem.sum_dtype, out_dtype
        return Variant("fft", *dtypes, problem.overflow == "saturate", *self.shape, signal=problem.ndim == 1)

    def pair_seconds(self, problem: Problem) -> float:
        """Estimated time that a multiprocessor spends on two tiles."""
        item, size, signal = problem.sum_dtype.itemsize, self.size, problem.ndim == 1
        passes = 2 * sum(len(RADICES[length]) for length in self.shape) - 1
        moved = 2 * item * size * (2 * passes + 1)  # samples are written, looked at again; outputs leave at once
        operations = size * (10 * math.log2(size) + 12 * signal + 6)
        samples = 2 * size * problem.x_dtype.itemsize
        rate = OPERATIONS_PER_SECOND[item]
        seconds = moved / SHARED_BYTES_PER_SECOND + operations / rate + samples / READ_BYTES_PER_SECOND
        alone = 2 * self.variant(problem, problem.sum_dtype).shared > SHARED_MEMORY
        return seconds * ALONE if alone else seconds

    def price(self, problem: Problem) -> float:
        """What tiles are compared by: the time of an image alone, and its share of that of many."""
        rounds = -(-self.pairs // MULTIPROCESSORS) + self.pairs / MULTIPROCESSORS
        return rounds * self.pair_seconds(problem)

    def seconds(self, problem: Problem) -> float:
        """Estimated time of one call; with `finish`, where it is needed."""
        blocks = self.pairs * math.prod(problem.batch)
        rounds = -(-blocks // MULTIPROCESSORS)
        finishing = 10 * SECONDS_PER_LAUNCH if direct.temporaries(problem) else 0.0
        return SECONDS_PER_LAUNCH + finishing + rounds * self.pair_seconds(problem)

    def memory(self, problem: Problem) -> int:
        """Bytes beside x and out: spectrum, roots and taps, and what `finish` makes of sums."""
        roots = 2 * self.size * (problem.ndim == 1) + 2 * sum(self.shape)
        tables = (2 * self.size + roots + problem.taps) * problem.sum_dtype.itemsize
        return tables + direct.temporaries(problem)


def shape_of(lengths: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of the transform of these lengths."""
    if len(lengths) == 2:
        return lengths
    return next(shape for shape in SHAPES[1] if math.prod(shape) == lengths[0])


def tiles_of(problem: Problem, shared: int) -> Tiles | None:
    """The tile that is fastest for one image, on a device that gives a block so many bytes; None if none can serve."""
    found: list[Tiles] = []
    for shape in SHAPES[problem.ndim]:
        lengths: Sequence[int] = shape if problem.ndim == 2 else (math.prod(shape),)
        if any(length < width for length, width in zip(lengths, widths(problem), strict=True)):
            continue
        tiles = Tiles.of(problem, shape)
        blocks = 2 * tiles.pairs * math.prod(problem.batch)
        if tiles.variant(problem, problem.out_dtype).shared <= shared and blocks <= MOST_BLOCKS:
            found.append(tiles)
    return min(found, key=lambda tiles: (tiles.price(problem), tiles.size), default=None)


def offers(problem: Problem, facts: KernelFacts, shared: int) -> list[Offer]:
    """Offer the fastest tile, if there is one."""
    places = [n + sum(pads) for n, pads in zip(problem.spatial, problem.pads, strict=True)]
    if refusal(problem) or not facts.finite or max(places) >= direct.PLACES:
        return []
    if (tiles := tiles_of(problem, shared)) is None:
        return []
    error = pair_error_factor(tiles.size, problem.sum_dtype)
    return [Offer(METHOD + tiles.name, tiles.seconds(problem), tiles.memory(problem), error, normwise=True)]
