"""Kernels that keep the picture and change its detail: weights that sum to 1."""

import numpy as np

from convengine.filters.blobs import laplacian
from convengine.filters.parameters import Kernel, PerAxis, check_taps, count, dimensions, nonnegative
from convengine.filters.smooth import gaussian

__all__ = ["emboss", "identity", "sharpen", "unsharp"]


def identity(shape: int | tuple[int, ...] | list[int] = (1, 1)) -> Kernel:
    """Return x as it is: one weight of 1.

    Parameters
    ----------
    shape : int or sequence of 1 to 3 ints
        Samples along each axis; an int makes a 1-D kernel.

    Returns
    -------
    array of the given shape
        1 at shape // 2, which lies on the output sample of corr with mode="same"; 0 elsewhere.

    Raises
    ------
    InvalidProblem
        If the shape has not 1 to 3 axes of 1 sample or more.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.identity((1, 4))
    array([[0., 0., 1., 0.]])
    """
    sizes = shape if isinstance(shape, (tuple, list)) else (shape,)
    count("the length of shape", len(sizes), 1, 3)
    checked = tuple(count("shape", size, 1) for size in sizes)
    check_taps(checked)
    kernel = np.zeros(checked)
    kernel[tuple(size // 2 for size in checked)] = 1
    return kernel


def sharpen(amount: float = 1.0, *, ndim: int = 2) -> Kernel:
    """Add the negated Laplacian: steeper edges.

    Parameters
    ----------
    amount : float
        How much of it, 0 or more.
    ndim : int
        Number of axes: 1, 2 or 3.

    Returns
    -------
    array of 3 samples per axis
        ``identity - amount * laplacian``, sum 1.

    Raises
    ------
    InvalidProblem
        If the amount is negative or not finite.

    Notes
    -----
    Gonzalez and Woods, Digital Image Processing, Using the Second Derivative for Image Sharpening.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.sharpen()
    array([[ 0., -1.,  0.],
           [-1.,  5., -1.],
           [ 0., -1.,  0.]])
    """
    kernel = 0.0 - nonnegative("amount", amount) * laplacian(ndim)  # from 0.0, so that no weight reads -0.0
    kernel[(1,) * kernel.ndim] += 1
    return kernel


def unsharp(sigma: PerAxis[float], amount: float = 1.0, *, ndim: int = 2, truncate: float = 4.0) -> Kernel:
    """Add what a Gaussian blur takes away: the unsharp mask.

    Parameters
    ----------
    sigma : float or one per axis
        Standard deviation of the blur in pixels.
    amount : float
        How much of the difference to add, 0 or more.
    ndim : int
        Number of axes: 1, 2 or 3.
    truncate : float
        Standard deviations kept on each side: the radius is int(truncate*sigma + 0.5) samples.

    Returns
    -------
    array of 2*radius + 1 samples per axis
        ``identity + amount * (identity - gaussian)``, sum 1.

    Raises
    ------
    InvalidProblem
        If sigma or the amount is negative or not finite.

    Notes
    -----
    Gonzalez and Woods, Digital Image Processing, Unsharp Masking and Highboost Filtering.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.unsharp(1.0, 2.0, ndim=1, truncate=1.0).round(3)
    array([-0.548,  2.096, -0.548])
    """
    amount = nonnegative("amount", amount)
    kernel = 0.0 - amount * gaussian(sigma, ndim=dimensions(ndim), truncate=truncate)
    kernel[tuple(size // 2 for size in kernel.shape)] += 1 + amount
    return kernel


def emboss() -> Kernel:
    """Show x as a relief lit from the top left.

    Returns
    -------
    array of shape (3, 3)
        Sum 1: flat areas keep their value, and brighten where x grows towards the bottom right.

    Notes
    -----
    The identity plus a difference along the falling diagonal, as image editors offer it.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.emboss()
    array([[-2., -1.,  0.],
           [-1.,  1.,  1.],
           [ 0.,  1.,  2.]])
    """
    return np.array([[-2.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
