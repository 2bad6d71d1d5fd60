"""Operations as scipy's linear operators, for its solvers; the one module of analysis that loads scipy."""

import math
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.linalg import LinearOperator

from convengine import api, gradients
from convengine.analysis.footprint import entries
from convengine.analysis.linear import AffineMap, read_map

__all__ = ["CorrelationOperator", "as_linear_operator"]


def as_linear_operator(
    kernel: Any,
    x_shape: Any,
    *,
    op: str | None = None,
    x_dtype: Any = None,
    backend: Any = None,
    workers: int | None = None,
    **keywords: Any,
) -> "CorrelationOperator":
    """Return a correlation or convolution as a linear operator on flattened arrays, with its exact adjoint.

    Parameters
    ----------
    kernel : array
        As for the operation; finite; copied. Python lists and numbers take on x_dtype.
    x_shape : tuple of int
        Shape of the arrays that it takes, flattened in C order.
    op : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}, optional
        The operation. Default: correlation with a filter of the kernel's rank; a kernel of 4 or 5 axes is a layer.
    x_dtype : dtype, optional
        Of the arrays that it is meant for; decides the operator's dtype. Default the kernel's. Vectors of other dtypes
        are taken too: the result's dtype is then the one that the operation gives.
    backend, workers
        As for the operation.
    **keywords
        As for the operation. A bias and a fill value other than 0 are a constant beside the linear part: `offset`.

    Returns
    -------
    CorrelationOperator
        A scipy.sparse.linalg.LinearOperator A with ``A @ x.ravel() + A.offset`` equal to the operation on x, raveled.

    Raises
    ------
    InvalidProblem
        As the operation; for a kernel with NaN or infinity; for an integer dtype, which would round and saturate.
    OverflowError
        If the weights of an integer kernel may add up past int64.
    TypeError
        For a keyword that no operation takes.

    Notes
    -----
    The adjoint is the operation's input gradient: the conjugate transpose, border included, so that
    ``vdot(y, A @ x) == vdot(A.H @ y, x)``, exactly for integers.

    Examples
    --------
    Undo a blur by least squares:

    >>> import numpy as np
    >>> from scipy.sparse.linalg import lsqr
    >>> from convengine import analysis
    >>> x = np.array([0.0, 0.0, 1.0, 3.0, 0.0, 2.0])
    >>> blur = analysis.as_linear_operator([0.25, 0.5, 0.25], x.shape, mode="full")
    >>> blurred = blur @ x
    >>> blurred
    array([0.  , 0.  , 0.25, 1.25, 1.75, 1.25, 1.  , 0.5 ])
    >>> lsqr(blur, blurred, atol=1e-14, btol=1e-14)[0].round(6) + 0.0
    array([0., 0., 1., 3., 0., 2.])
    """
    return CorrelationOperator(read_map(kernel, x_shape, op, x_dtype, keywords, 2), backend, workers)


class CorrelationOperator(LinearOperator):  # type: ignore[misc]  # scipy is not typed
    """The linear part of an operation, between flattened arrays. Made by `as_linear_operator`.

    Everything that scipy's linear operators do: ``A @ x``, ``A.H``, ``A.T``, sums and products. It can be pickled.

    Attributes
    ----------
    shape : (int, int)
        Samples of a result and of an x.
    dtype : numpy.dtype
        Of the result for an x of the planned dtype.
    x_shape, out_shape : tuple of int
        Before flattening.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import analysis
    >>> steps = analysis.as_linear_operator([[-1.0, 1.0]], (2, 3), bias=5)
    >>> steps.shape, steps.x_shape, steps.out_shape
    ((4, 6), (2, 3), (2, 2))
    >>> steps @ np.array([0.0, 1.0, 3.0, 2.0, 2.0, 2.0]) + steps.offset
    array([6., 7., 5., 5.])
    >>> steps.H @ np.ones(4)
    array([-1.,  0.,  1., -1.,  0.,  1.])
    """

    def __init__(self, described: AffineMap, backend: Any = None, workers: int | None = None) -> None:
        self._map = described
        self.x_shape, self.out_shape = described.x_shape, described.reading.out_shape
        super().__init__(described.reading.problem.out_dtype, (math.prod(self.out_shape), math.prod(self.x_shape)))
        self._how = {"backend": backend, "workers": workers}
        self._linear = self._how | _linear_keywords(described)

    @cached_property
    def offset(self) -> np.ndarray[Any, Any]:
        """The constant part, a vector: what the bias and the fill value give where x is zero; read-only."""
        constant = self._map.constant(**self._how).ravel()
        constant.flags.writeable = False
        return constant

    def tosparse(self) -> Any:
        """Return the linear part as a sparse matrix.

        Returns
        -------
        scipy.sparse.csr_array
            In the dtype in which the sums form: the operator's, for float16 float32. A tap of weight 0 is stored, so
            that NaN in x spreads as in the operation; `eliminate_zeros` drops it.

        Examples
        --------
        >>> from convengine import analysis
        >>> analysis.as_linear_operator([1, 2, 4], (4,), mode="same", boundary="edge").tosparse().toarray()
        array([[3, 4, 0, 0],
               [1, 2, 4, 0],
               [0, 1, 2, 4],
               [0, 0, 1, 6]])
        """
        rows, columns, values = entries(self._map.reading, self.x_shape)
        return coo_array((values, (rows, columns)), shape=self.shape).tocsr()

    def _matvec(self, vector: Any) -> np.ndarray[Any, Any]:
        return self._matmat(vector.reshape(-1, 1))

    def _rmatvec(self, vector: Any) -> np.ndarray[Any, Any]:
        return self._rmatmat(vector.reshape(-1, 1))

    def _matmat(self, vectors: Any) -> np.ndarray[Any, Any]:
        count = vectors.shape[1]
        x = np.asarray(vectors).T.reshape(self._stacked(self.x_shape, count))
        y: np.ndarray[Any, Any] = getattr(api, self._map.op)(x, self._map.kernel, **self._linear)
        return y.reshape(count, self.shape[0]).T

    def _rmatmat(self, vectors: Any) -> np.ndarray[Any, Any]:
        count = vectors.shape[1]
        dy = np.asarray(vectors).T.reshape(self._stacked(self.out_shape, count))
        gradient = getattr(gradients, f"{self._map.op}_grad_input")
        dx: np.ndarray[Any, Any] = gradient(dy, self._map.kernel, self._stacked(self.x_shape, count), **self._linear)
        return dx.reshape(count, self.shape[1]).T

    def _stacked(self, shape: tuple[int, ...], count: int) -> tuple[int, ...]:
        """The shape of several arrays in one: a filter takes any batch axes, a layer one."""
        problem = self._map.reading.problem
        if problem.is_layer and problem.batch:
            return count * shape[0], *shape[1:]
        return count, *shape


def _linear_keywords(described: AffineMap) -> dict[str, Any]:
    """The keywords of the linear part, for arrays with one more axis in front."""
    reading, said = described.reading, described.keywords
    kept = {name: value for name, value in said.items() if name not in ("bias", "fill_value", "axes", "channel_axis")}
    ndim = reading.problem.ndim
    spatial, before = reading.x_axes[-ndim:], reading.x_axes[:-ndim]
    if not reading.problem.is_layer:
        return kept | {"axes": tuple(axis + 1 for axis in spatial)}
    return kept | {"channel_axis": -1 if before[-1] > max(spatial) else None}
