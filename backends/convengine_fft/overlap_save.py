"""Overlap-save: tiles of x are transformed, multiplied by the kernel's spectrum, and transformed back.

Shapes: tiles (B, G, C, *T), their spectra (B, G, C, *F), the kernel's spectrum (G, D, C, *F), sums (B, G, D, *T), for B
tiles, G groups of C input and D output channels each. Nothing but B depends on batch or workers, and every operation
treats the B tiles apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np

from convengine.plugin import Declined, finish, require_magnitude, workers
from convengine.problem import KernelFacts, Problem
from convengine_fft.exactness import exact_limit, largest_sample
from convengine_fft.footprint import overwrite
from convengine_fft.samples import read
from convengine_fft.tiling import Tiling, compute_dtype, error_factor
from convengine_fft.transform import Transform

__all__ = ["OverlapSave"]

Array: TypeAlias = np.ndarray[Any, Any]
Job: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]]  # which image, which tile of it


@dataclass(frozen=True, slots=True)
class OverlapSave:
    """The plan: a problem and how it is cut into tiles."""

    problem: Problem
    tiling: Tiling

    def prepare(self, kernel: Array, bias: Array | None = None) -> "TiledFilter":
        """Transform the kernel, scaled per output channel so that nothing over- or underflows."""
        problem = self.problem
        dtype, groups = compute_dtype(problem), problem.groups
        channels_in, channels_out = problem.channels
        shape = groups, channels_out // groups, channels_in // groups
        limit = None  # on the magnitude of a sample, where the dtype of x allows more than is exact
        if problem.is_integer:
            factor = error_factor(self.tiling.size, channels_in // groups, np.dtype(np.float64))
            exact = exact_limit(problem, KernelFacts.of(kernel, problem.ndim), self.tiling, factor)
            limit = exact if exact < largest_sample(problem) else None
        kernel = kernel.astype(dtype).reshape(*shape, *problem.kernel_spatial)  # astype copies
        scaled = kernel.copy()
        rows = scaled.reshape(1, channels_out, -1)
        peaks = peaks_of(rows)
        if not np.isfinite(peaks).all():  # a gradient, which was not looked at before
            raise Declined("the kernel holds NaN or infinity, which a transform would spread over whole tiles")
        exponents = scale(rows, peaks)
        transform = Transform(self.tiling.tile, problem.dilation, dtype.kind == "f")
        spectrum = np.empty((*shape, *transform.spectrum), np.result_type(dtype, np.complex64))
        for channel in np.ndindex(*shape[:2]):  # one output channel at a time: no second spectrum in memory
            spectrum[channel] = transform.of_kernel(scaled[channel])
        bias = None if bias is None else bias.copy()
        exponents = exponents.reshape(shape[:2])
        return TiledFilter(problem, self.tiling, transform, kernel, spectrum, exponents, bias, limit)


@dataclass(frozen=True, slots=True, eq=False)
class TiledFilter:
    """The filter: holds the kernel's spectrum; the working memory belongs to the call, so that threads may share it."""

    problem: Problem
    tiling: Tiling
    transform: Transform
    kernel: Array  # (G, D, C, *K)
    spectrum: Array  # (G, D, C, *F), of the kernel scaled by 2**-exponents
    exponents: Array  # (G, D)
    bias: Array | None
    limit: int | None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.kernel.nbytes + self.spectrum.nbytes

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Filter x batch by batch of tiles."""
        problem = self.problem
        if self.limit is not None:
            require_magnitude(x, problem.fill_value, self.limit)
        if out is None:
            out = np.empty(problem.out_shape, problem.out_dtype)
        most = self.tiling.batch(problem, workers())
        groups, _, channels = self.kernel.shape[:3]
        tiles = np.zeros((most, groups, channels, *self.tiling.tile), compute_dtype(problem))
        jobs: Iterator[Job] = (
            (image, index)
            for image in np.ndindex(*problem.batch)
            for index in np.ndindex(*self.tiling.counts)
            if all(last > first for first, last in self.tiling.writes(problem, index))
        )
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # infinite and NaN results are results
            while batch := list(islice(jobs, most)):
                self._run(x, out, batch, tiles[: len(batch)])
        return out

    def _run(self, x: Array, out: Array, batch: list[Job], tiles: Array) -> None:
        for tile, (image, index) in zip(tiles, batch, strict=True):
            self._load(x[image], index, tile)
        peaks = peaks_of(tiles)
        broken = take_broken(tiles, peaks)
        exponents = scale(tiles, peaks)
        sums = self.transform.inverse(multiply(self.transform.forward(tiles), self.spectrum))
        unscale(sums, exponents[:, :, None] + self.exponents)
        for b, tile in broken.items():
            overwrite(sums[b], tile, self.kernel, self.transform)
        for block, (image, index) in zip(sums, batch, strict=True):
            self._store(block, index, out[image])

    def _load(self, image: Array, index: tuple[int, ...], tile: Array) -> None:
        """Copy the samples of one tile, borders as the rules say, zeros beyond them."""
        problem, reads = self.problem, self.tiling.reads(self.problem, index)
        samples = read(image, reads, problem.boundary, problem.fill_value)
        corner: Any = (..., *(slice(stop - start) for start, stop in reads))
        if samples.shape[-problem.ndim :] != self.tiling.tile:
            tile[...] = 0
        tile.reshape(-1, *self.tiling.tile)[corner] = samples

    def _store(self, block: Array, index: tuple[int, ...], image: Array) -> None:
        """Write the outputs of one tile, every stride-th of its right ones."""
        problem, writes = self.problem, self.tiling.writes(self.problem, index)
        axes = zip(self.tiling.gives(problem, index), writes, problem.stride, strict=True)
        right = (slice(first * step - start, stop - start, step) for (start, stop), (first, _), step in axes)
        channels: Any = slice(None) if problem.is_layer else 0
        total = block.reshape(-1, *self.tiling.tile)[(channels, *right)]
        if problem.is_integer:
            total = np.rint(total).astype(problem.sum_dtype)  # exact: the offer proved an error below 0.5
        here: Any = (..., *(slice(a, b) for a, b in writes))
        finish(problem, total, self.bias, image[here])


def multiply(tiles: Array, kernel: Array) -> Array:
    """Sum over channels of the products of spectra: (B, G, C, *F) by (G, D, C, *F) to (B, G, D, *F).

    Channel after channel, not by a matrix product, whose order of summation depends on B.
    """
    sums: Array = tiles[:, :, None, 0] * kernel[:, :, 0]
    if tiles.shape[2] > 1:
        products = np.empty_like(sums)
        for channel in range(1, tiles.shape[2]):
            np.multiply(tiles[:, :, None, channel], kernel[:, :, channel], out=products)
            sums += products
    return sums


def as_real(values: Array) -> Array:
    """Real and imaginary parts side by side: a view of the contiguous `values`."""
    return values.view(values.real.dtype)


def peaks_of(blocks: Array) -> Array:
    """Largest magnitude of a real or imaginary part in each of the (B, G) blocks; NaN where there is one."""
    flat = as_real(blocks).reshape(*blocks.shape[:2], -1)
    peaks: Array = np.maximum(flat.max(axis=-1), -flat.min(axis=-1))
    return peaks


def take_broken(tiles: Array, peaks: Array) -> dict[int, Array]:
    """Zero what is not finite in tiles, and correct their peaks; return copies of the tiles that held it, by number."""
    broken = {int(b): tiles[b].copy() for b in np.flatnonzero(~np.isfinite(peaks).all(axis=1))}
    for b in broken:
        parts = as_real(tiles[b])
        parts[~np.isfinite(parts)] = 0
        peaks[b] = peaks_of(tiles[b : b + 1])
    return broken


def scale(blocks: Array, peaks: Array) -> Array:
    """Scale each of the (B, G) blocks by a power of two, in place, if its peak is far from 1; return the exponents.

    Far is beyond 2**(+-maxexp/4): from within, sums and products of two stay in range. Scaling is exact but for
    samples that vanish beside the largest one.
    """
    exponents: Array = np.frexp(peaks)[1]
    exponents[abs(exponents) <= np.finfo(blocks.dtype).maxexp // 4] = 0
    unscale(blocks, -exponents)
    return exponents


def unscale(blocks: Array, exponents: Array) -> None:
    """Multiply blocks by 2**exponents in place, exactly: `exponents` has the shape of the first axes."""
    if exponents.any():
        parts = as_real(blocks)
        np.ldexp(parts, exponents.reshape(*exponents.shape, *(1,) * (blocks.ndim - exponents.ndim)), out=parts)
