"""Filters as one launch of kernels/fft.cu: the kernel's spectrum and the roots of unity, and what a call passes on.

Spectra are computed on the host, in long double where it is wider than float64, and rounded once; so are the roots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from convengine.plugin import Declined
from convengine.problem import Problem
from convengine.roots import bends, order, stages, unit_roots
from convengine_cupy import direct, layout
from convengine_cupy.fft_tiles import Tiles, dense, widths
from convengine_cupy.layout import Layout
from convengine_cupy.variants import Variant

__all__ = ["Filter", "prepare", "spectrum", "tables"]

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter(direct.Filter):
    """A kernel's spectrum on the device; `taps` holds it, the roots and the taps."""

    tiles: Tiles
    exponent: int
    nonnegative: bool

    def _launch(self, problem: Problem, x: Any, out: Any, aligned: bool) -> direct.Found | tuple[()]:
        """What to launch for arrays that lie like these; nothing if there are too many axes for one launch."""
        x_strides, out_strides = ([stride // array.itemsize for stride in array.strides] for array in (x, out))
        found = Layout.of(problem, x_strides, out_strides, within_rows=False)
        if len(found.batch) > layout.MOST_AXES:
            return ()
        signals = found.size[1] if problem.ndim == 1 else 1
        arguments = self._numbers(found, out.dtype)
        return self.tiles.variant(problem, out.dtype), self.tiles.pairs * found.images * signals, arguments

    def _numbers(self, found: Layout, out_dtype: np.dtype[Any]) -> Array:
        """The structure `Arguments` of the kernel's file; a signal is a tile's second axis."""
        problem, tiles = self.problem, self.tiles
        pairs = ("dense", "outputs", "counts", "widths", "step")
        fields: list[tuple[Any, ...]] = [("task", layout.TASK), *((name, np.int32, 2) for name in pairs)]
        fields += [("exponent", np.int32), ("nonnegative", np.int32)]
        fields += [("bias", problem.sum_dtype), ("fill", problem.x_dtype)]
        made = np.zeros((), np.dtype(fields, align=True))
        values = dense(problem), tiles.outputs, tiles.counts, widths(problem), problem.stride
        for name, value in zip(pairs, values, strict=True):
            made[name] = (1,) * (2 - problem.ndim) + value
        made["task"], made["fill"] = layout.task(found, False, problem.sum_dtype.itemsize), problem.fill_value
        made["exponent"], made["nonnegative"] = self.exponent, self.nonnegative
        if self.bias is not None:
            made["bias"] = self.bias[0]
        return made


def transform(values: Array) -> Array:
    """Transform the last axis, a power of two, by stages of radix 2, as the theorem of fft_error.percival has them."""
    length = block = values.shape[-1]
    frequencies, factor = np.zeros(1, np.intp), 1
    lines = values.astype(np.clongdouble)
    while block > 1:
        halves = lines.reshape(*values.shape[:-1], length // block, 2, block // 2)
        first, second = halves[..., 0, :], halves[..., 1, :]
        cosines, sines = unit_roots(np.arange(block // 2), block) if block > 4 else EASY[block]
        turned = (first - second) * (cosines - 1j * sines)
        lines = np.stack([first + second, turned], axis=-2)
        frequencies = (frequencies[:, None] + factor * np.arange(2)).reshape(-1)
        block, factor = block // 2, 2 * factor
    found = np.empty(values.shape, np.clongdouble)
    found[..., frequencies] = lines.reshape(values.shape)
    return found


EASY = {4: (np.array([1, 0]), np.array([0, 1])), 2: (np.array([1]), np.array([0]))}  # which unit_roots does not take


def spectrum(placed: Array, shape: tuple[int, int]) -> Array:
    """The conjugate spectrum of a kernel that lies in a tile, by rows and columns, ordered as the stages leave it."""
    rows, columns = order(shape[0]), order(shape[1])
    if placed.ndim == 1:
        found = transform(placed)[rows[:, None] + shape[0] * columns]
    else:
        found = transform(transform(placed).T).T[np.ix_(rows, columns)]
    conjugate: Array = found.conj()
    return conjugate


def tables(kernel: Array, placed: Array, shape: tuple[int, int]) -> Array:
    """What `Tables` of the kernel's file reads, in the kernel's dtype."""
    dtype = kernel.dtype
    found = np.ascontiguousarray(spectrum(placed, shape).T)
    parts = [np.stack([found.real, found.imag], axis=-1).astype(dtype)]
    parts += [roots for length in shape for _, _, roots in stages(length, dtype)]
    if placed.ndim == 1:
        parts.append(np.moveaxis(bends(*shape, dtype), 0, -1))
    return np.concatenate([part.reshape(-1) for part in (*parts, kernel)])


def prepare(
    problem: Problem, kernel: Any, bias: Any, load: Callable[[Variant], direct.Launch], xp: Any, tiles: Tiles
) -> Filter:
    """Transform a host kernel, scaled so that nothing over- or underflows, and bring it to where `xp` computes."""
    taps = np.ascontiguousarray(kernel.astype(problem.sum_dtype))
    if not np.isfinite(taps).all():  # infinite, or too large for the sum's dtype
        raise Declined("the kernel holds NaN or infinity, which a transform would spread over whole tiles")
    wide = taps.astype(np.longdouble)
    peak = int(np.frexp(np.abs(wide).max(initial=0))[1])
    exponent = peak + int(np.frexp(np.linalg.norm(np.ldexp(wide, -peak).astype(np.float64)))[1])
    lengths = tiles.shape if problem.ndim == 2 else (tiles.size,)
    placed = np.zeros(lengths, np.longdouble)
    comb = tuple(slice(0, width, d) for width, d in zip(widths(problem), problem.dilation, strict=True))
    placed[comb] = np.ldexp(wide, 1 - exponent - tiles.size.bit_length())  # by the size, for the transforms' own factor
    own_bias = np.zeros(1) if bias is None else np.array(bias)
    nonnegative = bool(np.all(taps >= 0) and problem.fill_value >= 0 and np.all(own_bias >= 0))
    return Filter(
        problem,
        taps.ravel(),
        xp.asarray(tables(taps, placed, tiles.shape)),
        separable=False,
        bias=None if bias is None else own_bias,
        load=load,
        xp=xp,
        tiles=tiles,
        exponent=exponent,
        nonnegative=nonnegative,
    )
