"""Where NaN and infinity in a tile reach: the outputs that the direct sum makes NaN, +inf or -inf, found by counting.

Masks of the samples are correlated with masks of the taps. The counts are integers far below 2**53 that float64
transforms return to well within 0.5, so rounding makes them exact. A product 0 * inf is NaN, as is inf - inf. Complex
products are four real ones (re = xr*kr - xi*ki, im = xr*ki + xi*kr), so complex channels count as two real ones.
"""

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from convengine_fft.transform import Transform

__all__ = ["overwrite"]

Array: TypeAlias = np.ndarray[Any, Any]


def overwrite(sums: Array, tile: Array, kernel: Array, transform: Transform) -> None:
    """Write NaN and infinities where they belong into the correlation of a tile that was computed without them.

    Parameters
    ----------
    sums : array (G, D, *T)
        Circular correlation of the tile with its non-finite parts zeroed; changed in place.
    tile : array (G, C, *T)
        The samples as they were.
    kernel : array (G, D, C, *K)
        The finite taps.
    transform : Transform
        Of this tile size.
    """
    counting = replace(transform, real=True)
    samples = np.concatenate([tile.real, tile.imag], axis=1) if tile.dtype.kind == "c" else tile
    infinite = np.isinf(samples)
    everywhere = np.ones((len(kernel), 1, *kernel.shape[3:]))
    nan = _count(np.isnan(samples).sum(axis=1, keepdims=True), everywhere, counting)[:, None] > 0
    if not infinite.any():
        np.copyto(sums, np.nan if sums.dtype.kind == "f" else complex(np.nan, np.nan), where=nan)
        return
    touched = _count(infinite.sum(axis=1, keepdims=True), everywhere, counting)
    signs = np.where(infinite, np.sign(samples), 0)
    for d in range(kernel.shape[1]):
        for part, taps in _real_parts(sums[:, d], np.sign(kernel[:, d].real), np.sign(kernel[:, d].imag)):
            met = _count(infinite, abs(taps), counting)  # infinities by taps that are not zero: positive + negative
            balance = _count(signs, taps, counting)  # positive - negative
            positive, negative = met + balance > 0, met - balance > 0
            part[positive] = np.inf
            part[negative] = -np.inf
            part[nan[:, 0] | (touched > met) | (positive & negative)] = np.nan


def _real_parts(sums: Array, real: Array, imag: Array) -> list[tuple[Array, Array]]:
    """The real parts of one output channel, each with the taps (G, C, *K) by which real samples reach it."""
    if sums.dtype.kind == "f":
        return [(sums, real)]
    return [(sums.real, np.concatenate([real, -imag], axis=1)), (sums.imag, np.concatenate([imag, real], axis=1))]


def _count(masks: Array, taps: Array, transform: Transform) -> Array:
    """Correlate masks (G, C, *T) with masks (G, C, *K), summed over C, exactly: (G, *T)."""
    return np.rint(transform.correlate(masks.astype(np.float64), taps.astype(np.float64)))
