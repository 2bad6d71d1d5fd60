"""Filtering a large array in bands of rows, so that progress shows; borders and error bounds are those of the whole."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import convengine as ce
from convengine.boundary import Boundary, window

__all__ = ["Work"]

Array = np.ndarray[Any, Any]
Advance = Callable[[float], None]

BAND_PRODUCTS = 2**30  # at 1 to 20 GF/s some 0.05 to 1 s of work
LEAST_ROWS = 8  # of kernel heights: rows that two bands share are read twice


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done with each array: the arguments of an operation."""

    op: str
    kernel: Array
    mode: str
    boundary: str
    fill_value: float
    backend: tuple[str, ...] | None
    workers: int | None

    def __call__(self, x: Array, channel_axis: int | None, dtype: Any, advance: Advance) -> Array:
        """Filter x, calling `advance` with shares that add up to 1."""
        channel = None if channel_axis is None else channel_axis % x.ndim
        free = [axis for axis in range(x.ndim) if axis != channel]
        ndim = self.kernel.ndim
        axes = tuple(free[max(len(free) - ndim, 0) :])
        rows = x.shape[axes[0]] if axes else 0
        bands = min(x.size * self.kernel.size // BAND_PRODUCTS, rows // (LEAST_ROWS * self.kernel.shape[0]))
        if bands >= 2:
            # Bands are another problem, "valid" along their axis: who refuses it may do the whole, or say why not.
            with suppress(ce.NoBackend):
                return self._in_bands(x, channel, axes, dtype, bands, advance)
        result = self._run(x, channel, axes, dtype, mode=self.mode, boundary=self.boundary)
        advance(1)
        return result

    def _run(self, x: Any, channel: int | None, axes: tuple[int, ...], dtype: Any, **where: Any) -> Array:
        operation = getattr(ce, f"{self.op}{self.kernel.ndim}d")
        said = {"axes": axes} if len(axes) == self.kernel.ndim else {}  # too few: the operation says so
        filtered: Array = operation(
            x,
            self.kernel,
            fill_value=self.fill_value,
            channel_axis=channel,
            dtype=dtype,
            backend=self.backend,
            workers=self.workers,
            **said,
            **where,
        )
        return filtered

    def _in_bands(
        self, x: Array, channel: int | None, axes: tuple[int, ...], dtype: Any, bands: int, advance: Advance
    ) -> Array:
        """Filter bands along the first spatial axis: each is handed the rows beyond its edges, borders included."""
        axis, height = axes[0], self.kernel.shape[0]
        pads = [_pads(self.mode, size) for size in self.kernel.shape]
        before, after = pads[0]
        rows = x.shape[axis] + before + after - height + 1
        rule = Boundary.parse(self.boundary)
        last = np.moveaxis(x, axis, -1)
        out: Array | None = None
        edges = [rows * band // bands for band in range(bands + 1)]
        for start, stop in pairwise(edges):
            band = window(last, [start - before], [stop + height - 1 - before], [rule], self.fill_value)
            where = {"padding": [(0, 0), *pads[1:]], "boundary": self.boundary}
            part = self._run(np.moveaxis(band, -1, axis), channel, axes, dtype, **where)
            if out is None:
                out = np.empty((*part.shape[:axis], rows, *part.shape[axis + 1 :]), part.dtype)
            out[(slice(None),) * axis + (slice(start, stop),)] = part
            advance((stop - start) / rows)
        assert out is not None
        return out


def _pads(mode: str, size: int) -> tuple[int, int]:
    """(before, after) of an axis, as the operations have them."""
    return {"valid": (0, 0), "same": (size // 2, size - 1 - size // 2), "full": (size - 1, size - 1)}[mode]
