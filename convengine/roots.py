"""Roots of unity for transforms of tiles, correctly rounded, in the order in which their stages take them.

For backends that transform by stages of radix 8 and 4: decimation in frequency forward, in time back, so that nothing
is reordered between the two.
"""

import math
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

__all__ = ["RADICES", "Stage", "bends", "order", "root_error", "stages", "unit_roots"]

Array: TypeAlias = np.ndarray[Any, Any]
Stage: TypeAlias = tuple[int, int, Array]  # radix, span, roots

# Stages of each length that the tiles have, first to last forward.
RADICES = {16: (4, 4), 32: (8, 4), 64: (8, 8), 128: (8, 4, 4), 256: (8, 8, 4), 512: (8, 8, 8)}


def root_error(dtype: np.dtype[Any]) -> float:
    """Largest error of a root's modulus: of its rounding, and of the long double that was rounded.

    A part below 1 is rounded by u/2 at most. Before that its angle, up to pi/4, was off by two roundings, and its sine
    or cosine by one unit in the last place.

    Parameters
    ----------
    dtype : dtype
        Of the parts of the roots.

    Returns
    -------
    float

    Examples
    --------
    >>> round(root_error(np.dtype("f4")) * 2**24, 3)
    0.707
    """
    eps = float(np.finfo(np.longdouble).eps)
    return (float(np.finfo(dtype).eps) / 4 + 2 * eps) * math.sqrt(2)


def unit_roots(numerators: Array, length: int) -> tuple[Array, Array]:
    """Cosines and sines of 2 pi numerators / length, in long double, from angles up to pi/4; `length` is 8n or 4."""
    quadrants, rest = np.divmod(4 * (numerators % length), length)
    steep = rest > length // 2
    angles = np.where(steep, length - rest, rest).astype(np.longdouble) * (2 * np.arctan(np.longdouble(1)) / length)
    cosines, sines = np.cos(angles), np.sin(angles)
    cosines, sines = np.where(steep, sines, cosines), np.where(steep, cosines, sines)
    turned = [(cosines, sines), (-sines, cosines), (-cosines, -sines), (sines, -cosines)]
    return (
        np.choose(quadrants, [cosine for cosine, _ in turned]),
        np.choose(quadrants, [sine for _, sine in turned]),
    )


@lru_cache(maxsize=32)
def stages(length: int, dtype: np.dtype[Any]) -> tuple[Stage, ...]:
    """The stages of one length; roots as (re, im) pairs of exp(-2 pi i j q / block), by j, then by q from 1.

    Parameters
    ----------
    length : int
        One of RADICES.
    dtype : dtype
        Of the parts of the roots.

    Returns
    -------
    tuple of (radix, span, array)

    Examples
    --------
    >>> [(radix, span, roots.shape) for radix, span, roots in stages(32, np.dtype("f4"))]
    [(8, 4, (4, 7, 2)), (4, 1, (1, 3, 2))]
    """
    made, block = [], length
    for radix in RADICES[length]:
        span = block // radix
        cosines, sines = unit_roots(np.outer(np.arange(span), np.arange(1, radix)), block)
        made.append((radix, span, np.stack([cosines, -sines], axis=-1).astype(dtype)))
        block = span
    return tuple(made)


def order(length: int) -> Array:
    """Frequencies in the order in which the stages leave them."""
    frequencies, factor = np.zeros(1, np.intp), 1
    for radix in RADICES[length]:
        frequencies = (frequencies[:, None] + factor * np.arange(radix)).reshape(-1)
        factor *= radix
    return frequencies


@lru_cache(maxsize=8)
def bends(down: int, along: int, dtype: np.dtype[Any]) -> Array:
    """exp(-2 pi i f n / (down * along)) for frequencies f of the columns and n along the rows: (re or im, f, n)."""
    cosines, sines = unit_roots(np.outer(order(down), np.arange(along)), down * along)
    return np.stack([cosines, -sines]).astype(dtype)
