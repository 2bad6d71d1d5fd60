"""How a problem is cut into overlapping tiles, and what a tiling costs: time, memory, error.

Overlap-save: a tile of T samples, transformed, multiplied by the kernel's spectrum and transformed back, holds
T - k + 1 right outputs; the rest is wrapped around and dropped. Tiles are chosen by the spatial part of the problem
alone, so that neither workers nor batch change a bit of the result; and as if the stride were 1, so that a stride takes
every so many of the very same outputs.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from typing import Any

import numpy as np

from convengine.fft_error import percival
from convengine.problem import Problem, kept, kept_by_form, kept_by_kind
from convengine_fft.pricing import OverlapCosts

__all__ = ["Tiling", "candidates", "compute_dtype", "dense", "error_factor", "widths"]

BATCH_BYTES = 4 << 20  # working memory of the tiles transformed together, per worker: larger batches leave the cache


@dataclass(frozen=True, slots=True)
class Tiling:
    """A tile size and what follows from it.

    Attributes
    ----------
    tile : tuple of int
        Transform length per spatial axis, a power of two.
    outputs : tuple of int
        Output samples that one tile gives, per spatial axis, before the stride takes some of them.
    counts : tuple of int
        Tiles per spatial axis.
    """

    tile: tuple[int, ...]
    outputs: tuple[int, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, problem: Problem, tile: tuple[int, ...]) -> "Tiling":
        """Cut a problem into tiles of this size, each at least as large as the dilated kernel."""
        wanted = dense(problem)
        axes = zip(tile, widths(problem), wanted, strict=True)
        outputs = tuple(min(length - width + 1, max(n, 1)) for length, width, n in axes)
        counts = tuple(-(-n // most) for n, most in zip(wanted, outputs, strict=True))
        return cls(tile, outputs, counts)

    def __str__(self) -> str:
        return "x".join(map(str, self.tile))

    @property
    def size(self) -> int:
        """Samples of one tile and channel."""
        return math.prod(self.tile)

    def gives(self, problem: Problem, index: tuple[int, ...]) -> list[tuple[int, int]]:
        """First and last + 1 output of the tile at `index`, per axis, before the stride takes some of them."""
        return [(i * m, min((i + 1) * m, n)) for i, m, n in zip(index, self.outputs, dense(problem), strict=True)]

    def writes(self, problem: Problem, index: tuple[int, ...]) -> list[tuple[int, int]]:
        """First and last + 1 output that the stride takes of them, per axis; the two are equal where it takes none."""
        axes = zip(self.gives(problem, index), problem.stride, strict=True)
        return [(-(-first // step), -(-last // step)) for (first, last), step in axes]

    def reads(self, problem: Problem, index: tuple[int, ...]) -> list[tuple[int, int]]:
        """First and last + 1 sample that the outputs need, per axis; 0 is the first of x, before it lies the pad."""
        axes = zip(self.gives(problem, index), widths(problem), problem.pads, strict=True)
        return [(first - before, last - 1 + width - before) for (first, last), width, (before, _) in axes]

    def most_read(self, problem: Problem) -> int:
        """Samples of x and its border that a tile reads, at most, in one channel."""
        return math.prod([most - 1 + width for most, width in zip(self.outputs, widths(problem), strict=True)])

    def tile_bytes(self, problem: Problem) -> int:
        """Working memory of one tile: samples, their copy if not finite, spectra; sums, products, their transforms."""
        channels_in, channels_out = problem.channels
        return (3 * channels_in + 4 * channels_out) * self.size * compute_dtype(problem).itemsize

    def spectrum_bytes(self, problem: Problem) -> int:
        """Memory of the kernel's spectrum; of real numbers half is kept."""
        channels_in, channels_out = problem.channels
        return channels_in // problem.groups * channels_out * self.size * compute_dtype(problem).itemsize

    def batch(self, problem: Problem, workers: int) -> int:
        """Tiles that are transformed together: as many as fit the workers' caches, and one at least."""
        tiles = math.prod(problem.batch) * math.prod(self.counts)
        return min(tiles, max(1, BATCH_BYTES * workers // self.tile_bytes(problem)))

    def memory(self, problem: Problem, workers: int) -> int:
        """Bytes beside x and out: kernel, one batch of tiles, and a tile's repair where x is not finite."""
        parts = {"i": 0, "f": 1, "c": 2}[problem.sum_dtype.kind]  # real parts of a sample that may not be finite
        repair = 8 * self.size * (9 * parts * problem.channels[0] + 8 * problem.groups)  # masks, spectra, counts
        return self.spectrum_bytes(problem) + self.batch(problem, workers) * self.tile_bytes(problem) + repair

    def seconds(self, problem: Problem, images: int, workers: int) -> float:
        """Estimated time of one call with SciPy's transforms."""
        return costs_of(problem).seconds(self.size, math.prod(self.counts), images, workers)


@kept
def costs_of(problem: Problem) -> OverlapCosts:
    """What the price of SciPy's transforms depends on."""
    return OverlapCosts(problem.ndim, compute_dtype(problem).itemsize, problem.channels, problem.groups)


@kept_by_form
def widths(problem: Problem) -> tuple[int, ...]:
    """Widths of the dilated kernel."""
    return tuple(d * (k - 1) + 1 for d, k in zip(problem.dilation, problem.kernel_spatial, strict=True))


@kept
def dense(problem: Problem) -> tuple[int, ...]:
    """Output sizes if the stride were 1."""
    if problem.stride == (1,) * problem.ndim:
        return problem.out_spatial
    axes = zip(problem.spatial, problem.pads, widths(problem), strict=True)
    return tuple(max(n + before + after - width + 1, 0) for n, (before, after), width in axes)


def candidates(problem: Problem, most: float = math.inf) -> Iterator[Tiling]:
    """Tilings, the cheapest first: from the kernel's width to one tile that covers all, of `most` samples at most.

    For one image and one worker: a batch and more workers must give the bits of each image alone.
    """
    return starmap(Tiling, costs_of(problem).tiles(widths(problem), dense(problem), most))


@kept_by_kind
def compute_dtype(problem: Problem) -> np.dtype[Any]:
    """Dtype of the transforms: the sum's, float64 for integers."""
    return np.dtype(np.float64) if problem.is_integer else problem.sum_dtype


@lru_cache(maxsize=256)
def error_factor(size: int, channels: int, dtype: np.dtype[Any]) -> float:
    """Proven factor c of |error| <= c * ||x_tile||_2 * ||kernel||_2, the norms over all channels of a group.

    Percival 2003 (Rapid multiplication modulo the sum and difference of highly composite numbers, theorem 5.1), with
    the complex product of Brent, Percival and Zimmermann 2007, for transforms of `size`, a power of two: each of
    3 log2(size) stages adds (u), multiplies (sqrt(5) u) by a rounded root of unity (`root`), and the spectra multiply
    once. A transform over several axes has the stages of one over their product; a real one, or one of radix 4 or 8,
    leaves out operations of the complex one of radix 2. Summing the products over the channels in order adds
    channels - 1 roundings to each, and by the Cauchy-Schwarz inequality sum_c ||x_c|| ||k_c|| <= ||x|| ||kernel||.

    The roots: SciPy's pocketfft, and ducc0 after it, multiply two table entries in double precision, each off by 1.6 u
    (its argument) and 1.5 u (sine and cosine within one unit in the last place), the product by sqrt(5) u: 8.3 u in
    all, where correctly rounded roots err by u / sqrt(2). In float32 these are rounded correctly but for that. For
    other transforms that the user has set in scipy.fft the bound holds if their roots are no worse.

    Tiles and kernels are scaled to between 2**-(maxexp/4) and its inverse, where underflow is far below the last term.
    """
    u = float(np.finfo(dtype).eps) / 2
    return percival(size, channels, u, 8.3 * 2.0**-53 + (u / math.sqrt(2) if u > 2.0**-53 else 0.0))
