"""Proven errors of convolutions by transforms, which backends promise in their offers: normwise factors.

Percival 2003 (Rapid multiplication modulo the sum and difference of highly composite numbers, theorem 5.1), with the
complex product of Brent, Percival and Zimmermann 2007.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from convengine.roots import root_error

__all__ = ["pair_error_factor", "percival"]


@lru_cache(maxsize=256)
def pair_error_factor(size: int, dtype: np.dtype[Any]) -> float:
    """Proven factor c of |error| <= c * ||x_tile||_2 * ||kernel||_2 of pairs of tiles, each by its own norm.

    Two real tiles a and b, neither norm twice the other, are transformed as z = a + ib: as they are, if that holds
    already, or each scaled by a power of two to a norm from 1 to 2. The theorem of `percival` bounds the error of
    either by its factor times ||z|| ||kernel||; and ||z||**2 = ||a||**2 + ||b||**2 < (1 + 4) ||a||**2, likewise for b:
    one more factor, sqrt(5). The norms are computed, from row sums in the element type, to some 2**-12 at worst. A
    tile of zeros gives zeros, whatever its partner.

    The theorem holds as it stands. Columns, then rows, are the stages of one transform of `size`; so they are with the
    roots between them that make one long transform of a signal, which stand for those that the columns' last stage
    would have. Radix 4 and 8 are two and three stages of radix 2 with operations left out: products by -i, and in
    radix 8 that by (1 - i) / sqrt(2), where r + i is rounded, then its product with a rounded 1 / sqrt(2): 2 u, less
    than sqrt(5) u. A fused multiply-add rounds less, too: a complex product with them errs by 2 u at most (Jeannerod,
    Kornerup, Louvet and Muller 2017, Math. Comp. 86). Scaling is exact but for samples that vanish beside the largest.

    Parameters
    ----------
    size : int
        Samples of a tile, a power of two.
    dtype : dtype
        Of the transforms: float32 or float64.

    Returns
    -------
    float

    Examples
    --------
    >>> round(pair_error_factor(4096, np.dtype("f4")) * 2**24)
    323
    """
    u = float(np.finfo(dtype).eps) / 2
    return math.sqrt(5) * (1 + 2.0**-11) * percival(size, 1, u, root_error(dtype))


def percival(size: int, channels: int, u: float, root: float) -> float:
    """Proven factor of a convolution by transforms of `size`, a power of two, in steps of radix 2 or their products.

    Each of 3 log2(size) stages adds (u), multiplies (sqrt(5) u) by a rounded root of unity (`root`), and the spectra
    multiply once; sums of products over channels add channels - 1 roundings to each.

    Parameters
    ----------
    size, channels : int
        Samples of a tile; channels that are summed.
    u, root : float
        Relative error of a rounding, and of a root's modulus.

    Returns
    -------
    float

    Examples
    --------
    >>> round(percival(4096, 1, 2.0**-53, 2.0**-53.5) * 2**53)
    144
    """
    product = math.log1p(math.sqrt(5) * u)
    stages = 3 * math.log2(size)
    exponent = stages * (math.log1p(u) + product + math.log1p(root)) + product + (channels - 1) * math.log1p(u)
    return math.expm1(exponent) * (1 + 1e-6)  # rounded up: this expression's own rounding, and underflow
