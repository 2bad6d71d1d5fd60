"""Layers without windows: every input to every output, the rectifier, and the step from pictures to vectors."""

import math
from typing import Any

import numpy as np

from convengine.errors import InvalidProblem
from convengine.filters.parameters import count
from convengine.nn.layer import Array, Layer, Weighted

__all__ = ["Flatten", "Linear", "ReLU"]


class Linear(Weighted):
    """Dense layer, as torch.nn.Linear: y = x @ weight.T + bias.

    Parameters
    ----------
    out_features : int
        Numbers in each result.
    in_features : int, optional
        Numbers in each row of x. Without it the first x says, and the weights are drawn then.
    bias : bool, optional
        Whether a learned vector is added.
    dtype, rng
        As in Conv2D; fan_in = in_features.

    Attributes
    ----------
    weight, weight_grad : array (out_features, in_features)
        None before in_features is known. `weight` may be set, and changed in place.
    bias, bias_grad : array (out_features,) or None
        Likewise.

    Notes
    -----
    x is (..., in_features).

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> layer = nn.Linear(2)
    >>> layer.weight, layer.bias = [[1, 2, 3], [0, 0, 1]], [10, 20]
    >>> layer(np.array([[1.0, 1.0, 1.0]]))
    array([[16., 21.]])
    """

    def __init__(
        self,
        out_features: int,
        *,
        in_features: int | None = None,
        bias: bool = True,
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        self.out_features = count("out_features", out_features, 1)
        inputs = None if in_features is None else count("in_features", in_features, 1)
        super().__init__((self.out_features, inputs), self.out_features, bias=bias, dtype=dtype, rng=rng)

    @property
    def in_features(self) -> int | None:
        """Numbers in each row of x; None before they are known."""
        return self._weight.shape[1]

    def _forward(self, x: Array) -> tuple[Array, Array]:
        if not x.ndim or not x.shape[-1] or self.in_features not in (None, x.shape[-1]):
            raise InvalidProblem(f"x must have shape (..., {self.in_features or 'n'}); got {x.shape}; in {self!r}")
        weight, bias = self._settle(1, x.shape[-1])
        y: Array = x @ weight.T
        return y if bias is None else y + bias, x

    def _backward(self, dy: Array, kept: Array) -> Array:
        weight = self._weight.value
        assert weight is not None  # forward has run
        rows, inputs = dy.reshape(-1, dy.shape[-1]), kept.reshape(-1, kept.shape[-1])
        self._weight.add_to_grad(rows.T @ inputs)
        self._add_bias_grad(dy, -1)
        dx: Array = dy @ weight
        return dx

    def __repr__(self) -> str:
        more = "" if self._bias is not None else ", bias=False"
        more += "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        return f"Linear({self.out_features}, in_features={self.in_features}{more})"


class ReLU(Layer):
    """The rectifier, as torch.nn.ReLU: what is negative becomes zero. Its slope at zero is 0; NaN stays.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> nn.ReLU()(np.array([-1.0, 0.5]))
    array([0. , 0.5])
    """

    def _forward(self, x: Array) -> tuple[Array, Array]:
        return np.maximum(x, x.dtype.type(0)), x <= 0

    def _backward(self, dy: Array, kept: Array) -> Array:
        return np.where(kept, dy.dtype.type(0), dy)


class Flatten(Layer):
    """Each example of a batch as one row, as torch.nn.Flatten: (N, C, H, W) becomes (N, C*H*W).

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> nn.Flatten()(np.zeros((8, 16, 5, 5))).shape
    (8, 400)
    """

    def _forward(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        if x.ndim < 2:
            raise InvalidProblem(f"x must have a batch axis and others to flatten; got shape {x.shape}")
        return x.reshape(x.shape[0], math.prod(x.shape[1:])), x.shape

    def _backward(self, dy: Array, kept: tuple[int, ...]) -> Array:
        return dy.reshape(kept)
