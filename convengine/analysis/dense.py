"""The dense layer that an operation is: a weight from every sample of x to every result, for small shapes."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convengine.analysis.footprint import entries
from convengine.analysis.linear import AffineMap, read_map
from convengine.arguments import per_axis
from convengine.errors import InvalidProblem
from convengine.tables import bytes_text

__all__ = ["DenseLayer", "dense_layer"]


@dataclass(frozen=True, eq=False)
class DenseLayer:
    """H = U + sum W * X over the samples of X: a correlation or convolution as a dense layer. Made by `dense_layer`.

    Attributes
    ----------
    W : array of shape out_shape + x_shape
        W[i, j, k, l] is the weight from sample (k, l) of x to result (i, j); in the dtype in which the sums form.
    U : array of shape out_shape
        What is added: the bias, and what a fill value gives.

    Examples
    --------
    >>> from convengine import analysis
    >>> layer = analysis.dense_layer([1, 2], (3,), bias=10)
    >>> layer.W
    array([[1, 2, 0],
           [0, 1, 2]])
    >>> layer.U + layer.W @ [1, 1, 100]
    array([ 13, 211])
    """

    W: np.ndarray[Any, Any]
    U: np.ndarray[Any, Any]
    _map: AffineMap = field(repr=False)

    def reindexed(self, reach: Any = None) -> np.ndarray[Any, Any]:
        """Return the weights by offset instead of by place: V[i, j, a, b] = W[i, j, s*i + a, s*j + b], s the stride.

        Translation invariance says that V does not depend on (i, j), where the border does not cut it off; locality,
        that it is zero but for small offsets (a, b).

        Parameters
        ----------
        reach : int or sequence of int, optional
            Largest offset, per spatial axis. Default: the largest there is between a result and a sample.

        Returns
        -------
        array of shape out_shape + x_shape, but 2*reach + 1 in place of each spatial size of x
            The offset a stands at index a + reach; 0 where there is no sample.

        Raises
        ------
        InvalidProblem
            If reach is not one integer, or one per spatial axis, from 0 on.

        Examples
        --------
        >>> from convengine import analysis
        >>> layer = analysis.dense_layer([1, 2, 4], (5,), mode="same")
        >>> layer.W
        array([[2, 4, 0, 0, 0],
               [1, 2, 4, 0, 0],
               [0, 1, 2, 4, 0],
               [0, 0, 1, 2, 4],
               [0, 0, 0, 1, 2]])
        >>> layer.reindexed(reach=2)
        array([[0, 0, 2, 4, 0],
               [0, 1, 2, 4, 0],
               [0, 1, 2, 4, 0],
               [0, 1, 2, 4, 0],
               [0, 1, 2, 0, 0]])
        """
        reading = self._map.reading
        problem, lead = reading.problem, len(reading.out_shape)
        ndim = problem.ndim
        strides = problem.stride
        if reach is None:
            sizes = zip(problem.out_spatial, problem.spatial, strides, strict=True)
            reach = tuple(max((o - 1) * s, n - 1, 0) for o, n, s in sizes)
        reaches = per_axis(reach, ndim, "reach", 0)
        axes = zip(reading.out_axes[-ndim:], reading.x_axes[-ndim:], strides, reaches, strict=True)
        weights = self.W
        for out_axis, x_axis, stride, most in axes:
            lines = np.moveaxis(weights, (out_axis, lead + x_axis), (0, 1))
            results, samples = np.arange(lines.shape[0])[:, None], lines.shape[1]
            places = stride * results + np.arange(-most, most + 1)
            found = np.zeros((*places.shape, *lines.shape[2:]), lines.dtype)
            inside = (places >= 0) & (places < samples)
            found[inside] = lines[np.broadcast_to(results, places.shape)[inside], places[inside]]
            weights = np.moveaxis(found, (0, 1), (out_axis, lead + x_axis))
        return weights


def dense_layer(
    kernel: Any, x_shape: Any, *, op: str | None = None, x_dtype: Any = None, limit: int = 2**24, **keywords: Any
) -> DenseLayer:
    """Return a correlation or convolution as the dense layer that computes the same.

    Parameters
    ----------
    kernel : array
        As for the operation; finite. Python lists and numbers take on x_dtype.
    x_shape : tuple of int
        Shape of the arrays that it takes.
    op : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}, optional
        The operation. Default: correlation with a filter of the kernel's rank; a kernel of 4 or 5 axes is a layer.
    x_dtype : dtype, optional
        Of the arrays that it is meant for. Default the kernel's.
    limit : int, optional
        How many weights W may have at most. Their number is that of samples times that of results: what a
        dense layer costs.
    **keywords
        As for the operation.

    Returns
    -------
    DenseLayer
        With ``W`` of shape out_shape + x_shape, and ``U`` of out_shape.

    Raises
    ------
    InvalidProblem
        As the operation; if W would have more weights than `limit`; for a kernel with NaN or infinity; for an integer
        dtype, which would round and saturate.
    OverflowError
        If the weights of an integer kernel may add up past int64.
    TypeError
        For a keyword that no operation takes.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> from convengine import analysis
    >>> x, kernel = np.arange(9.0).reshape(3, 3), np.array([[0.0, 1.0], [2.0, 3.0]])
    >>> layer = analysis.dense_layer(kernel, x.shape, bias=10)
    >>> layer.W.shape, layer.U
    ((2, 2, 3, 3), array([[10., 10.],
           [10., 10.]]))
    >>> layer.U + np.einsum("ijkl,kl->ij", layer.W, x)
    array([[29., 35.],
           [47., 53.]])
    >>> ce.corr2d(x, kernel, bias=10)
    array([[29., 35.],
           [47., 53.]])
    """
    most = per_axis(limit, 1, "limit", 0)[0]
    described = read_map(kernel, x_shape, op, x_dtype, keywords, 2)
    reading = described.reading
    shape = (*reading.out_shape, *described.x_shape)
    dtype = reading.problem.sum_dtype
    if math.prod(shape) > most:
        raise InvalidProblem(
            f"a dense layer from x {described.x_shape} to {reading.out_shape} has {math.prod(shape)} weights, "
            f"{bytes_text(math.prod(shape) * dtype.itemsize)}, more than limit={most}; take a smaller x, raise limit, "
            "or use as_linear_operator(...).tosparse(), which holds those that are not zero"
        )
    rows, columns, values = entries(reading, described.x_shape)
    weights = np.zeros((math.prod(reading.out_shape), math.prod(described.x_shape)), dtype)
    np.add.at(weights, (rows, columns), values)
    return DenseLayer(weights.reshape(shape), described.constant(), described)
