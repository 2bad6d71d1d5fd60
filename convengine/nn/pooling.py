"""Pooling: windows of a picture made into one sample each, the largest or the mean."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from convengine import api, gradients
from convengine.arguments import per_axis, read_pads
from convengine.errors import InvalidProblem
from convengine.nn.layer import Array, Layer

__all__ = ["AvgPool2D", "MaxPool2D"]


class Pool2D(Layer):
    """What both share: windows of (kh, kw) samples, every `stride`, over the last two axes."""

    transposed = False
    dilation = (1, 1)

    def __init__(self, kernel_size: Any, *, stride: Any = None, padding: Any = 0) -> None:
        self.kernel_size = per_axis(kernel_size, 2, "kernel_size", 1)
        self.stride = self.kernel_size if stride is None else per_axis(stride, 2, "stride", 1)
        self.padding = read_pads(None, padding, None, self.kernel_size, 2)
        for size, pads in zip(self.kernel_size, self.padding, strict=True):
            if max(pads) >= size:
                raise InvalidProblem(
                    f"padding must be smaller than the window, or some hold no sample; got {self.padding} for "
                    f"windows of {self.kernel_size}"
                )

    def _out_spatial(self, x: Array) -> tuple[int, int]:
        """Height and width of the result."""
        if x.ndim not in (3, 4):
            raise InvalidProblem(f"x must have shape (C, H, W) or (N, C, H, W); got {x.shape}; in {self!r}")
        axes = zip(x.shape[-2:], self.kernel_size, self.stride, self.padding, strict=True)
        height, width = ((n + sum(pads) - k) // s + 1 for n, k, s, pads in axes)
        if min(height, width, *x.shape[-2:]) < 1:
            raise InvalidProblem(f"x must hold a window of {self.kernel_size}; got {x.shape}; in {self!r}")
        return height, width

    def __repr__(self) -> str:
        more = f", padding={self.padding}" if any(map(any, self.padding)) else ""
        return f"{type(self).__name__}({self.kernel_size}, stride={self.stride}{more})"


class MaxPool2D(Pool2D):
    """The largest sample of each window, as torch.nn.MaxPool2d; NaN counts as the largest.

    Parameters
    ----------
    kernel_size : int or sequence of int
        Height and width of the windows.
    stride : int or sequence of int, optional
        Samples from one window to the next; default `kernel_size`.
    padding : int, sequence of int or of (before, after), optional
        How far windows reach over the edge, where there are no samples; smaller than the window.

    Notes
    -----
    x is (C, H, W) or (N, C, H, W) and keeps its dtype. The gradient goes to the sample that was taken, the first of
    equals.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> pool = nn.MaxPool2D(2)
    >>> pool(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 5.,  7.],
            [13., 15.]]])
    >>> pool.backward(np.ones((1, 2, 2)))[0, 1]
    array([0., 1., 0., 1.])
    """

    def _windows(self, padded: Array, out: tuple[int, int]) -> Iterator[Array]:
        """For each tap, its sample of every window, as a view."""
        for tap in np.ndindex(*self.kernel_size):
            rows, columns = (
                slice(first, first + step * (n - 1) + 1, step)
                for first, step, n in zip(tap, self.stride, out, strict=True)
            )
            yield padded[..., rows, columns]

    def _forward(self, x: Array) -> tuple[Array, Any]:
        out = self._out_spatial(x)
        inside = np.pad(np.ones(x.shape[-2:], bool), self.padding)
        padded = np.pad(x, ((0, 0),) * (x.ndim - 2) + self.padding)  # what is added is never taken
        largest = np.empty((*x.shape[:-2], *out), x.dtype)
        taken = np.full(largest.shape, -1, np.int32)
        for tap, (sample, exists) in enumerate(
            zip(self._windows(padded, out), self._windows(inside, out), strict=True)
        ):
            better = exists & ((taken < 0) | (sample > largest) | (sample != sample))
            np.copyto(largest, sample, where=better)
            np.copyto(taken, tap, where=better)
            # A NaN stays: nothing is larger, and only another NaN takes its place.
        return largest, (padded.shape, taken)

    def _backward(self, dy: Array, kept: Any) -> Array:
        padded_shape, taken = kept
        padded = np.zeros(padded_shape, dy.dtype)
        for tap, gradient in enumerate(self._windows(padded, dy.shape[-2:])):
            np.add(gradient, dy, out=gradient, where=taken == tap)
        (top, bottom), (left, right) = self.padding
        height, width = padded_shape[-2:]
        return np.ascontiguousarray(padded[..., top : height - bottom, left : width - right])


class AvgPool2D(Pool2D):
    """The mean of each window, as torch.nn.AvgPool2d: a correlation with a box, strided.

    Parameters
    ----------
    kernel_size, stride, padding
        As in MaxPool2D; what lies beyond the edge counts as zeros.

    Notes
    -----
    x is (C, H, W) or (N, C, H, W); integers give float64. float16 is summed in float32, and rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> nn.AvgPool2D(2)(np.arange(16.0).reshape(1, 4, 4))
    array([[[ 2.5,  4.5],
            [10.5, 12.5]]])
    """

    @property
    def _how(self) -> dict[str, Any]:
        """The engine's keywords."""
        return {"stride": self.stride, "padding": self.padding, "axes": (-2, -1)}

    def _forward(self, x: Array) -> tuple[Array, Any]:
        self._out_spatial(x)
        floating = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        box = self._box(floating)
        total: Array = api.corr2d(x, box, **self._how)
        return (total / box.size).astype(floating, copy=False), x.shape

    def _backward(self, dy: Array, kept: Any) -> Array:
        box = self._box(dy.dtype)
        dx: Array = gradients.corr2d_grad_input(dy / np.array(box.size, box.dtype), box, kept, **self._how)
        return dx.astype(dy.dtype, copy=False)

    def _box(self, dtype: np.dtype[Any]) -> Array:
        """Ones for a window, in no less than float32: the sum of a window of float16 may pass its largest number."""
        return np.ones(self.kernel_size, np.result_type(dtype, np.float32))
