"""Transforms of tiles and kernels by scipy.fft, over the last axes, real where the samples are."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import fft

from convengine.plugin import workers

__all__ = ["Transform"]

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Transform:
    """The transforms of one tile size.

    Attributes
    ----------
    tile : tuple of int
        Lengths of the transformed axes.
    dilation : tuple of int
        Spacing of the kernel's taps.
    real : bool
        Whether samples are real: half of the spectrum is kept.
    """

    tile: tuple[int, ...]
    dilation: tuple[int, ...]
    real: bool

    @property
    def spectrum(self) -> tuple[int, ...]:
        """Shape of a spectrum."""
        return (*self.tile[:-1], self.tile[-1] // 2 + 1) if self.real else self.tile

    @property
    def axes(self) -> tuple[int, ...]:
        """The transformed axes."""
        return tuple(range(-len(self.tile), 0))

    def forward(self, tiles: Array) -> Array:
        """Spectra of (..., *tile)."""
        transform = fft.rfftn if self.real else fft.fftn
        spectra: Array = transform(tiles, axes=self.axes, workers=workers())
        return spectra

    def inverse(self, spectra: Array) -> Array:
        """Samples of (..., *spectrum), which may be overwritten."""
        transform = fft.irfftn if self.real else fft.ifftn
        samples: Array = transform(spectra, s=self.tile, axes=self.axes, overwrite_x=True, workers=workers())
        return samples

    def of_kernel(self, taps: Array) -> Array:
        """Spectra that correlate: of (..., *K), dilated, in the tile's corner, time reversed."""
        placed = np.zeros((*taps.shape[: taps.ndim - len(self.tile)], *self.tile), taps.dtype)
        widths = taps.shape[taps.ndim - len(self.tile) :]
        comb: Any = (..., *(slice(0, d * (k - 1) + 1, d) for d, k in zip(self.dilation, widths, strict=True)))
        placed[comb] = taps.conj()
        return self.forward(placed).conj()

    def correlate(self, tiles: Array, taps: Array) -> Array:
        """Circular correlation of (G, C, *tile) with (G, C, *K), summed over C."""
        return self.inverse((self.forward(tiles) * self.of_kernel(taps)).sum(axis=1))
