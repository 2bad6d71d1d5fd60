"""Blob kernels, differences between a sample and its surroundings: weights that sum to 0."""

import numpy as np

from convengine.errors import InvalidProblem
from convengine.filters.parameters import Kernel, PerAxis, count, dimensions, nonnegative, per_axis, positive
from convengine.filters.smooth import gaussian, gaussian_samples, separable

__all__ = ["difference_of_gaussians", "laplacian", "log"]


def laplacian(ndim: int = 2, *, connectivity: int = 1, normalize: bool = False) -> Kernel:
    """Sum the neighbours minus as many times the centre: the discrete Laplacian.

    Parameters
    ----------
    ndim : int
        Number of axes: 1, 2 or 3.
    connectivity : int
        How many axes a neighbour may differ along, 1 .. ndim. In 2-D 1 is the 4-neighbour form, 2 the 8-neighbour form.
    normalize : bool
        Divide so that the result is the sum of the second derivatives, in units of x per square pixel. Only
        connectivity above 1 is changed by it: the 8-neighbour form is 3 times the Laplacian.

    Returns
    -------
    array of 3 samples per axis
        Sum 0; the centre is negative, so the result is positive in valleys of x.

    Raises
    ------
    InvalidProblem
        If the connectivity is not in 1 .. ndim.

    Notes
    -----
    The neighbourhoods of scipy.ndimage.generate_binary_structure; connectivity 1 is scipy.ndimage.laplace.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.laplacian()
    array([[ 0.,  1.,  0.],
           [ 1., -4.,  1.],
           [ 0.,  1.,  0.]])
    >>> filters.laplacian(connectivity=2)
    array([[ 1.,  1.,  1.],
           [ 1., -8.,  1.],
           [ 1.,  1.,  1.]])
    """
    ndim = dimensions(ndim)
    connectivity = count(f"connectivity, for ndim={ndim},", connectivity, 1, ndim)
    offsets = np.abs(np.indices((3,) * ndim) - 1)
    kernel: Kernel = (offsets.sum(axis=0) <= connectivity).astype(np.float64)
    kernel[(1,) * ndim] -= kernel.sum()
    # On t^2 along axis 0 each neighbour with t = -1 or 1 adds 1, as many as two times kernel[0]; the answer due is 2.
    return kernel / kernel[0].sum() if normalize else kernel


def log(sigma: PerAxis[float], *, ndim: int = 2, truncate: float = 4.0) -> Kernel:
    """Sample the Laplacian of a Gaussian: blobs and edges at one scale.

    Parameters
    ----------
    sigma : float or one per axis
        Standard deviation in pixels, above 0. A disk of radius sigma*sqrt(2) answers most strongly.
    ndim : int
        Number of axes: 1, 2 or 3.
    truncate : float
        Standard deviations kept on each side: the radius is int(truncate*sigma + 0.5) samples, at least 1.

    Returns
    -------
    array of 2*radius + 1 samples per axis
        In 1/pixel^2, sum 0 to rounding; the centre is negative, so the result is negative on bright blobs.

    Raises
    ------
    InvalidProblem
        If a sigma is not above 0, or so small that the kernel has one sample.

    Notes
    -----
    Marr and Hildreth 1980, Theory of Edge Detection, Proc. R. Soc. B 207. Sampling and truncation leave a small sum,
    and a response to flat x with it. So each second derivative loses its sum, spread as the Gaussian, and is scaled to
    answer t^2 with 2: the kernel is the Laplacian on quadratics at every sigma, and `laplacian` as sigma falls.
    ``gaussian(sigma, order=(0, 2))`` plus that of order (2, 0) is uncorrected, as scipy.ndimage.gaussian_laplace.
    Multiply by sigma^2 to compare scales.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.log(0.5, truncate=2).round(3)
    array([[ 0.213,  0.574,  0.213],
           [ 0.574, -3.148,  0.574],
           [ 0.213,  0.574,  0.213]])
    """
    ndim = dimensions(ndim)
    sigmas = per_axis("sigma", sigma, ndim, positive)
    truncate = positive("truncate", truncate)
    smooth = [gaussian_samples(s, 0, truncate) for s in sigmas]
    terms = []
    for axis, s in enumerate(sigmas):
        second = gaussian_samples(s, 2, truncate)
        second -= second.sum() * smooth[axis]
        t = np.arange(len(second)) - len(second) // 2
        second *= 2 / (second @ (t * t))
        second[t == 0] -= second.sum()  # what cancellation left of the sum at a small sigma
        terms.append(separable([*smooth[:axis], second, *smooth[axis + 1 :]]))
    kernel: Kernel = np.sum(terms, axis=0)
    return kernel


def difference_of_gaussians(
    low: PerAxis[float], high: PerAxis[float] | None = None, *, ndim: int = 2, truncate: float = 4.0
) -> Kernel:
    """Subtract a wide Gaussian from a narrow one: the details between two scales.

    Parameters
    ----------
    low : float or one per axis
        Standard deviation in pixels of the Gaussian that is added; 0 keeps the finest details.
    high : float or one per axis, optional
        That of the Gaussian that is subtracted, above `low`; 1.6*low unless given, which is nearest to `log`, negated.
    ndim : int
        Number of axes: 1, 2 or 3.
    truncate : float
        Standard deviations kept on each side.

    Returns
    -------
    array of 2*int(truncate*high + 0.5) + 1 samples per axis
        Sum 0; the centre is positive.

    Raises
    ------
    InvalidProblem
        If `high` is not above `low` along every axis.

    Notes
    -----
    Marr and Hildreth 1980, Theory of Edge Detection, Proc. R. Soc. B 207, for the ratio 1.6.

    Examples
    --------
    >>> from convengine import filters
    >>> filters.difference_of_gaussians(0.0, 0.5, ndim=1, truncate=2.0).round(3)
    array([-0.107,  0.213, -0.107])
    """
    ndim = dimensions(ndim)
    lows = per_axis("low", low, ndim, nonnegative)
    highs = tuple(1.6 * s for s in lows) if high is None else per_axis("high", high, ndim, positive)
    if not all(a < b for a, b in zip(lows, highs, strict=True)):
        raise InvalidProblem(f"high needs to be above low along every axis; got low={lows} and high={highs}")
    narrow, wide = (gaussian(s, ndim=ndim, truncate=truncate) for s in (lows, highs))
    margins = [(b - a) // 2 for a, b in zip(narrow.shape, wide.shape, strict=True)]
    return np.pad(narrow, [(m, m) for m in margins]) - wide
