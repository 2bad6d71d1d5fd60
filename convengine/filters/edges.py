"""Edge kernels, differences along one axis: weights that sum to 0."""

import math

import numpy as np

from convengine.errors import InvalidProblem
from convengine.filters.parameters import Kernel, axis_index, count, dimensions
from convengine.filters.smooth import separable

__all__ = ["derivative", "edge", "prewitt", "scharr", "sobel"]

MAX_RADIUS = 8  # up to it the weights of `derivative` are quotients of whole numbers below 2**53: rounded once


def edge(*, ndim: int = 2) -> Kernel:
    """Take each sample minus the next along the last axis: the book's edge detector.

    Parameters
    ----------
    ndim : int
        Number of axes: 1, 2 or 3.

    Returns
    -------
    array of shape (2,), (1, 2) or (1, 1, 2)
        [1, -1]: 1 where x falls from 1 to 0, -1 where it rises: the opposite sign of every other kernel here.

    Notes
    -----
    Zhang, Lipton, Li and Smola, Dive into Deep Learning, section 7.2.3.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.edge()
    array([[ 1., -1.]])
    """
    return np.array([1.0, -1.0]).reshape((1,) * (dimensions(ndim) - 1) + (2,))


def _gradient(axis: int, ndim: int, across: list[float], normalize: bool) -> Kernel:
    """Take a central difference along one axis, smoothed by `across` along the others."""
    ndim = dimensions(ndim)
    along = axis_index(axis, ndim)
    smooth, difference = np.array(across), np.array([-1.0, 0.0, 1.0])
    if normalize:
        smooth, difference = smooth / smooth.sum(), difference / 2
    return separable([difference if i == along else smooth for i in range(ndim)])


def sobel(axis: int = -1, *, ndim: int = 2, normalize: bool = False) -> Kernel:
    """Differentiate along one axis, smoothing by [1, 2, 1] along the others.

    Parameters
    ----------
    axis : int
        The axis to differentiate along: -1 is x (answers upright edges), -2 is y.
    ndim : int
        Number of axes: 1, 2 or 3.
    normalize : bool
        Divide by 2 * 4^(ndim - 1), so that the result is in units of x per pixel: 1 on a ramp of slope 1.

    Returns
    -------
    array of 3 samples per axis
        Sum 0; positive where x grows along the axis.

    Raises
    ------
    InvalidProblem
        If the axis does not exist.

    Notes
    -----
    The weights of scipy.ndimage.sobel. Sobel and Feldman 1968, A 3x3 Isotropic Gradient Operator for Image Processing.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.sobel(axis=-2)
    array([[-1., -2., -1.],
           [ 0.,  0.,  0.],
           [ 1.,  2.,  1.]])
    """
    return _gradient(axis, ndim, [1.0, 2.0, 1.0], normalize)


def prewitt(axis: int = -1, *, ndim: int = 2, normalize: bool = False) -> Kernel:
    """Differentiate along one axis, smoothing by [1, 1, 1] along the others.

    Parameters
    ----------
    axis : int
        The axis to differentiate along: -1 is x (answers upright edges), -2 is y.
    ndim : int
        Number of axes: 1, 2 or 3.
    normalize : bool
        Divide by 2 * 3^(ndim - 1), so that the result is in units of x per pixel: 1 on a ramp of slope 1.

    Returns
    -------
    array of 3 samples per axis
        Sum 0; positive where x grows along the axis.

    Raises
    ------
    InvalidProblem
        If the axis does not exist.

    Notes
    -----
    The weights of scipy.ndimage.prewitt. Prewitt 1970, Object Enhancement and Extraction.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.prewitt()
    array([[-1.,  0.,  1.],
           [-1.,  0.,  1.],
           [-1.,  0.,  1.]])
    """
    return _gradient(axis, ndim, [1.0, 1.0, 1.0], normalize)


def scharr(axis: int = -1, *, ndim: int = 2, normalize: bool = False) -> Kernel:
    """Differentiate along one axis, smoothing by [3, 10, 3] along the others: nearly the same for every direction.

    Parameters
    ----------
    axis : int
        The axis to differentiate along: -1 is x (answers upright edges), -2 is y.
    ndim : int
        Number of axes: 1, 2 or 3.
    normalize : bool
        Divide by 2 * 16^(ndim - 1), so that the result is in units of x per pixel: 1 on a ramp of slope 1.

    Returns
    -------
    array of 3 samples per axis
        Sum 0; positive where x grows along the axis.

    Raises
    ------
    InvalidProblem
        If the axis does not exist.

    Notes
    -----
    The weights of OpenCV's Scharr. Jaehne, Scharr and Koerkel 1999, Principles of Filter Design, in Handbook of
    Computer Vision and Applications 2.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.scharr()
    array([[ -3.,   0.,   3.],
           [-10.,   0.,  10.],
           [ -3.,   0.,   3.]])
    """
    return _gradient(axis, ndim, [3.0, 10.0, 3.0], normalize)


def derivative(order: int = 1, *, axis: int = -1, ndim: int = 2, accuracy: int = 2) -> Kernel:
    """Differentiate along one axis by central differences, without smoothing.

    Parameters
    ----------
    order : int
        Which derivative, 1 or more.
    axis : int
        The axis to differentiate along.
    ndim : int
        Number of axes: 1, 2 or 3.
    accuracy : int
        An even number: the error falls as the sample spacing to this power. Exact for polynomials up to
        degree order + accuracy - 1.

    Returns
    -------
    array of 2*r + 1 samples along the axis and 1 along the others, r = (order + 1)//2 - 1 + accuracy//2
        In 1/pixel^order; positive where the derivative is.

    Raises
    ------
    InvalidProblem
        If the accuracy is odd, or the kernel would reach further than 8 samples.

    Notes
    -----
    Fornberg 1988, Generation of Finite Difference Formulas on Arbitrarily Spaced Grids, Math. Comp. 51.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.derivative()
    array([[-0.5,  0. ,  0.5]])
    >>> filters.derivative(2, ndim=1, accuracy=4) * 12
    array([ -1.,  16., -30.,  16.,  -1.])
    """
    ndim = dimensions(ndim)
    along = axis_index(axis, ndim)
    order, accuracy = count("order", order, 1), count("accuracy", accuracy, 2)
    if accuracy % 2:
        raise InvalidProblem(f"accuracy needs an even number, as central differences have; got {accuracy}")
    radius = (order + 1) // 2 - 1 + accuracy // 2
    if radius > MAX_RADIUS:
        raise InvalidProblem(
            f"a derivative needs a reach of at most {MAX_RADIUS} samples; got order={order} and accuracy={accuracy}, "
            f"{radius} samples; lower one of them"
        )
    t = np.arange(-radius, radius + 1.0)
    weights = np.empty(len(t))
    for i, node in enumerate(t):  # the derivative at 0 of the polynomial that is 1 at this node and 0 at the others
        others = np.delete(t, i)
        coefficients = np.polynomial.polynomial.polyfromroots(others)
        weights[i] = math.factorial(order) * coefficients[order] / np.prod(node - others)
    weights += 0.0  # so that no weight reads -0.0
    return weights.reshape([len(t) if i == along else 1 for i in range(ndim)])
