"""Smoothing kernels: nonnegative weights that sum to 1 (and the derivatives of the Gaussian)."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.polynomial.hermite_e import HermiteE

from convengine.errors import InvalidProblem
from convengine.filters.parameters import (
    Kernel,
    PerAxis,
    at_least,
    check_taps,
    count,
    dimensions,
    half_width,
    nonnegative,
    number,
    per_axis,
    positive,
)

__all__ = ["binomial", "box", "disk", "gaussian", "gaussian_samples", "motion", "separable"]

MAX_ORDER = 20  # of a Gaussian's derivative: far beyond any use, far from overflow
MAX_BINOMIAL = 1000  # 2**-n stays a normal float64; wider ones are the Gaussian of sigma sqrt(n)/2


def separable(weights: Sequence[Kernel]) -> Kernel:
    """Multiply 1-D weights, one array per axis, into the n-D kernel."""
    check_taps(tuple(len(w) for w in weights))
    kernel: Kernel = np.ones(())
    for w in weights:
        kernel = np.multiply.outer(kernel, w)
    return kernel


def gaussian_samples(sigma: float, order: int, truncate: float) -> Kernel:
    """Sample a unit-sum Gaussian, or its derivative as correlated, at -radius .. radius."""
    radius = half_width(truncate * sigma)
    if radius == 0 and order == 0:
        return np.ones(1)
    if 2 * radius < order:  # with fewer samples it would be zero, or no derivative at all
        raise InvalidProblem(
            f"a derivative of order {order} needs sigma and truncate that give at least {order + 1} taps; "
            f"got sigma={sigma:.6g} and truncate={truncate:.6g}, which give {2 * radius + 1}"
        )
    t = np.arange(-radius, radius + 1) / sigma
    with np.errstate(over="ignore"):  # far samples of a tiny sigma: exp(-inf) is their weight
        weights = np.exp(-0.5 * t * t)
    if order > 0 and weights[radius + 1] < np.finfo(np.float64).tiny:
        raise InvalidProblem(
            f"a derivative of order {order} needs sigma >= 0.03, or no neighbour has weight; got sigma={sigma:.6g}"
        )
    weights /= weights.sum()
    # The n-th derivative is (-1)^n He_n(t/sigma) / sigma^n times the Gaussian; correlation mirrors it: (-1)^n again.
    return weights if order == 0 else HermiteE.basis(order)(t) / sigma**order * weights


def gaussian(sigma: PerAxis[float], *, ndim: int = 2, truncate: float = 4.0, order: PerAxis[int] = 0) -> Kernel:
    """Sample a Gaussian, or a derivative of it.

    Parameters
    ----------
    sigma : float or one per axis
        Standard deviation in pixels; 0 leaves that axis as it is.
    ndim : int
        Number of axes: 1, 2 or 3.
    truncate : float
        Standard deviations kept on each side: the radius is int(truncate*sigma + 0.5) samples.
    order : int or one per axis
        Derivative along each axis, 0 .. 20: 1 is the gradient, positive where x grows along the axis.

    Returns
    -------
    array of 2*radius + 1 samples per axis
        Order 0 sums to 1. Order m is in 1/pixel^m and is not normalised again, so a sigma below about 0.7 pixels,
        which samples the derivative coarsely, gives too small a response.

    Raises
    ------
    InvalidProblem
        If a sigma is negative or not finite, or too small for its order.

    Notes
    -----
    The weights of scipy.ndimage.gaussian_filter, for the same sigma, truncate and order. Derivatives are Hermite
    polynomials times the Gaussian: Lindeberg 1994, Scale-Space Theory in Computer Vision.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.gaussian(1.0, ndim=1, truncate=2.0).round(3)
    array([0.054, 0.244, 0.403, 0.244, 0.054])
    >>> filters.gaussian((2.0, 0.0)).shape
    (17, 1)
    """
    ndim = dimensions(ndim)
    sigmas = per_axis("sigma", sigma, ndim, nonnegative)
    orders = per_axis("order", order, ndim, lambda name, value: count(name, value, 0, MAX_ORDER))
    truncate = positive("truncate", truncate)
    return separable([gaussian_samples(s, o, truncate) for s, o in zip(sigmas, orders, strict=True)])


def box(size: PerAxis[int], *, ndim: int = 2) -> Kernel:
    """Average over a rectangle.

    Parameters
    ----------
    size : int or one per axis
        Samples along each axis, 1 or more.
    ndim : int
        Number of axes: 1, 2 or 3.

    Returns
    -------
    array of the given size
        Equal weights, sum 1.

    Raises
    ------
    InvalidProblem
        If a size is not a whole number of 1 or more.

    Notes
    -----
    The weights of scipy.ndimage.uniform_filter.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.box((2, 4))
    array([[0.125, 0.125, 0.125, 0.125],
           [0.125, 0.125, 0.125, 0.125]])
    """
    shape = per_axis("size", size, dimensions(ndim), lambda name, value: count(name, value, 1))
    check_taps(shape)
    return np.full(shape, 1 / math.prod(shape))


def binomial(n: PerAxis[int], *, ndim: int = 2) -> Kernel:
    """Smooth with a row of Pascal's triangle: the short integer-like Gaussian.

    Parameters
    ----------
    n : int or one per axis
        Row of the triangle, 0 .. 1000: n + 1 samples, of variance n/4 square pixels. An even n centres the kernel.
    ndim : int
        Number of axes: 1, 2 or 3.

    Returns
    -------
    array of n + 1 samples per axis
        Sum 1; the answer at the highest frequency is exactly 0.

    Raises
    ------
    InvalidProblem
        If n is not a whole number from 0 to 1000.

    Notes
    -----
    Burt and Adelson 1983, The Laplacian Pyramid as a Compact Image Code, IEEE Trans. Communications 31.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.binomial(4, ndim=1)
    array([0.0625, 0.25  , 0.375 , 0.25  , 0.0625])
    """
    rows = per_axis("n", n, dimensions(ndim), lambda name, value: count(name, value, 0, MAX_BINOMIAL))
    return separable([np.array([math.comb(row, i) / 2**row for i in range(row + 1)]) for row in rows])


def disk(radius: float) -> Kernel:
    """Average over a flat disk, as a lens out of focus does.

    Parameters
    ----------
    radius : float
        In pixels, 0 or more: samples whose centre is at most this far from the middle have weight.

    Returns
    -------
    array of shape (2*int(radius) + 1, 2*int(radius) + 1)
        Equal weights inside, 0 outside, sum 1.

    Raises
    ------
    InvalidProblem
        If the radius is negative or not finite.

    Notes
    -----
    The footprint of skimage.morphology.disk, normalised.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.disk(1)
    array([[0. , 0.2, 0. ],
           [0.2, 0.2, 0.2],
           [0. , 0.2, 0. ]])
    """
    radius = nonnegative("radius", radius)
    half = half_width(math.floor(radius))
    check_taps((2 * half + 1, 2 * half + 1))
    square = np.arange(-half, half + 1) ** 2
    inside = np.add.outer(square, square) <= radius * radius
    return inside / np.count_nonzero(inside)


def motion(length: float, angle: float = 0.0) -> Kernel:
    """Average along a straight line, as a moving camera does.

    Parameters
    ----------
    length : float
        Pixels that the line covers, 1 or more.
    angle : float
        Direction in radians from +x (along a row) towards +y (down the columns).

    Returns
    -------
    array of shape (2*h + 1, 2*w + 1)
        Sum 1, symmetric through its middle. At angle 0 and odd length it is ``box((1, length))``.

    Raises
    ------
    InvalidProblem
        If the length is below 1 or a value is not finite.

    Notes
    -----
    Antialiased: a sample's weight falls linearly from 1 on the line to 0 at one pixel from it, where the line
    is the segment between the centres of the first and the last pixel, of length - 1 pixels.

    Examples
    --------
    >>> from convengine import filters
    >>> import math
    >>> filters.motion(4, math.pi / 2)
    array([[0.125],
           [0.25 ],
           [0.25 ],
           [0.25 ],
           [0.125]])
    """
    length, angle = at_least("length", length, 1), number("angle", angle)
    half = (length - 1) / 2
    # cos(pi/2) is 6e-17: rounded, so that an upright line does not grow columns of weight 0.
    cos, sin = round(math.cos(angle), 12), round(math.sin(angle), 12)
    wide, high = (half_width(math.ceil(half * abs(part))) for part in (cos, sin))
    check_taps((2 * high + 1, 2 * wide + 1))
    y, x = np.ogrid[-high : high + 1, -wide : wide + 1]
    along = np.clip(x * cos + y * sin, -half, half)
    weights = np.maximum(0.0, 1 - np.hypot(x - along * cos, y - along * sin))
    kernel: Kernel = weights / weights.sum()
    return kernel
