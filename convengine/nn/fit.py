"""Learning the kernel between two arrays: by gradient descent, as a network would, and by least squares, exactly."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convengine import api, gradients
from convengine.arguments import per_axis, read_boundary, read_pads
from convengine.boundary import Boundary, window
from convengine.errors import InvalidProblem
from convengine.filters.parameters import count, positive
from convengine.nn.layer import Array, read_samples
from convengine.tables import bytes_text

__all__ = ["Fit", "fit_kernel"]

BLOCK = 1 << 22  # numbers of the design matrix that are held at a time: 32 MiB of float64
MOST = 1 << 13  # unknowns of least squares: their triangle, of which QR needs several copies, then takes 512 MiB


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A learned kernel.

    Attributes
    ----------
    kernel : array
        As corrNd takes it.
    bias : float
        The number to add; 0 where none was asked for.
    losses : tuple of float
        The sum of squared errors: by gradient descent before each step, by least squares the one that is left.
    rank : int or None
        By least squares, how many of the unknowns x determines; where it is fewer than there are, the kernel is the
        smallest of the best.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> x = np.array([0.0, 1.0, 3.0, 2.0, 5.0])
    >>> fit = nn.fit_kernel(x, x[1:] - x[:-1], 2, method="lstsq")
    >>> fit.kernel.round(12), fit.bias, fit.rank
    (array([-1.,  1.]), 0.0, 2)
    """

    kernel: Array
    bias: float
    losses: tuple[float, ...]
    rank: int | None = None

    def trace(self, every: int = 2) -> str:
        """Return a line "epoch 2, loss 5.894" for every so many epochs.

        Parameters
        ----------
        every : int, optional
            From one line to the next, in epochs.

        Returns
        -------
        str

        Raises
        ------
        InvalidProblem
            If `every` is no integer of at least 1.

        Examples
        --------
        >>> from convengine import nn
        >>> print(nn.Fit(kernel=[-1.0, 1.0], bias=0.0, losses=(15.0, 8.25, 5.5, 4.0)).trace())
        epoch 2, loss 8.250
        epoch 4, loss 4.000
        """
        count("every", every, 1)
        numbered = enumerate(self.losses, start=1)
        return "\n".join(f"epoch {epoch}, loss {loss:.3f}" for epoch, loss in numbered if epoch % every == 0)


def fit_kernel(
    x: Any,
    y: Any,
    kernel_size: Any,
    *,
    method: str = "gradient",
    bias: bool = False,
    mode: str | None = None,
    boundary: Any = "constant",
    padding: Any = None,
    center: Any = None,
    stride: Any = 1,
    dilation: Any = 1,
    lr: float | None = None,
    epochs: int = 10,
    initial: Any = None,
    rng: Any = None,
    dtype: Any = np.float64,
    progress: Callable[[int, float], None] | None = None,
) -> Fit:
    """Learn the kernel that takes x to y: minimise the sum of (corrNd(x, kernel, ...) + bias - y)**2.

    Parameters
    ----------
    x : array (..., *S)
        What went in; other axes than the last are a batch, with one kernel for all.
    y : array (..., *O)
        What came out, of the shape of corrNd's result.
    kernel_size : int or sequence of int
        Its length is the number of spatial axes; an int stands for one per axis of x, which then has no others.
    method : {"gradient", "lstsq"}, optional
        Gradient descent over all of x at each step, or least squares: exact up to rounding, and at once, for kernels of
        up to some thousand taps.
    bias : bool, optional
        Whether a number is learned that is added to every result.
    mode, boundary, padding, center, stride, dilation : optional
        As corrNd has them.
    lr : float, optional
        Step per unit of the gradient; default one that cannot diverge: half the reciprocal of the windows' sum of
        squares.
    epochs : int, optional
        Steps of the descent.
    initial : array, optional
        The kernel to start from; default uniform within +-1/sqrt(taps), from `rng`. The bias starts from 0.
    rng : numpy.random.Generator or seed, optional
        For the first kernel.
    dtype : dtype, optional
        In which the descent computes: float32 or float64 (default). Least squares computes in float64.
    progress : callable, optional
        Called with (epoch, loss) after each step of the descent.

    Returns
    -------
    Fit
        kernel, bias, losses; `trace()` has the losses as lines of text.

    Raises
    ------
    InvalidProblem
        If the shapes do not fit, samples are not finite, the descent diverges, or least squares had more than 8192
        unknowns.

    Notes
    -----
    Least squares takes the QR decomposition of the matrix of windows, block by block, so that it is never held whole,
    and solves what is left by singular values; squaring the condition, as the normal equations do, is avoided (Golub
    and Van Loan 2013, Matrix Computations, section 5.3).

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> x = np.ones((6, 8))
    >>> x[:, 2:6] = 0
    >>> y = x[:, :-1] - x[:, 1:]
    >>> fit = nn.fit_kernel(x, y, (1, 2), lr=3e-2, rng=0)
    >>> print(fit.trace())
    epoch 2, loss ...
    >>> nn.fit_kernel(x, y, (1, 2), method="lstsq").kernel.round(12)
    array([[ 1., -1.]])
    """
    x, y = _finite(x, "x"), _finite(y, "y")
    fit = _Windows.read(x, kernel_size, mode, boundary, padding, center, stride, dilation)
    if y.shape != (needed := fit.out_shape(x)):
        raise InvalidProblem(
            f"y must have shape {needed}, which x {x.shape} and a kernel {fit.shape} give; got {y.shape}"
        )
    if method == "lstsq":
        if (unknowns := math.prod(fit.shape) + bool(bias)) > MOST:
            raise InvalidProblem(
                f"least squares takes at most {MOST} unknowns; got {unknowns}, whose triangle alone takes "
                f"{bytes_text(8 * unknowns**2)}; give a smaller kernel_size, or method='gradient'"
            )
        return _least_squares(x.astype(np.float64), y.astype(np.float64), fit, bias)
    if method != "gradient":
        raise InvalidProblem(f"method must be 'gradient' or 'lstsq'; got {method!r}")
    floating = np.dtype(dtype)
    if floating.name not in ("float32", "float64"):
        raise InvalidProblem(f"dtype must be float32 or float64; got {floating}")
    kernel = _first(initial, fit.shape, rng).astype(floating)
    step = None if lr is None else positive("lr", lr)
    return _descend(
        x.astype(floating), y.astype(floating), fit, kernel, bias, step, count("epochs", epochs, 1), progress
    )


def _finite(value: Any, name: str) -> Array:
    """An array of real, finite samples."""
    array = read_samples(value, name)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
        raise InvalidProblem(f"{name} must hold finite numbers to learn from; got {array[place]} at {place}")
    return array


def _first(initial: Any, shape: tuple[int, ...], rng: Any) -> Array:
    """The kernel that a descent starts from: a copy."""
    if initial is None:
        reach = 1 / math.sqrt(math.prod(shape))
        return np.random.default_rng(rng).uniform(-reach, reach, shape)
    kernel = _finite(initial, "initial")
    if kernel.shape != shape:
        raise InvalidProblem(f"initial must have the kernel's shape {shape}; got {kernel.shape}")
    return kernel.copy()


@dataclass(frozen=True, slots=True)
class _Windows:
    """How the windows of one kernel lie on x."""

    shape: tuple[int, ...]  # of the kernel
    pads: tuple[tuple[int, int], ...]
    boundary: tuple[Boundary, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def read(
        cls, x: Array, kernel_size: Any, mode: Any, boundary: Any, padding: Any, center: Any, stride: Any, dilation: Any
    ) -> "_Windows":
        """Read the public arguments."""
        sizes = (kernel_size,) * x.ndim if np.ndim(kernel_size) == 0 else tuple(kernel_size)
        n = len(sizes)
        if not 1 <= n <= min(x.ndim, 3):
            raise InvalidProblem(f"kernel_size must name 1 to 3 axes of x {x.shape}; got {kernel_size!r}")
        shape = per_axis(sizes, n, "kernel_size", 1)
        steps, spread = per_axis(stride, n, "stride", 1), per_axis(dilation, n, "dilation", 1)
        widths = tuple(d * (k - 1) + 1 for d, k in zip(spread, shape, strict=True))
        return cls(shape, read_pads(mode, padding, center, widths, n), read_boundary(boundary, n), steps, spread)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.shape)

    @property
    def how(self) -> dict[str, Any]:
        """The engine's keywords."""
        said = {"padding": self.pads, "boundary": self.boundary, "stride": self.stride, "dilation": self.dilation}
        return said | {"axes": tuple(range(-self.ndim, 0))}

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the dilated kernel."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.shape, strict=True))

    def out_shape(self, x: Array) -> tuple[int, ...]:
        """Shape of the result for x."""
        spatial = x.shape[x.ndim - self.ndim :]
        axes = zip(spatial, self.pads, self.widths, self.stride, strict=True)
        out = tuple((size + sum(pads) - width) // step + 1 for size, pads, width, step in axes)
        if min(*spatial, *out) < 1 or not x.size:
            raise InvalidProblem(
                f"x must hold a window of the kernel, {self.widths}; got {x.shape}, padded {self.pads}"
            )
        return (*x.shape[: x.ndim - self.ndim], *out)

    def blocks(self, x: Array, y: Array) -> Iterator[tuple[Array, Array]]:
        """Windows as rows of a matrix, with the results that belong to them, some rows at a time."""
        lead = x.ndim - self.ndim
        rows, *others = y.shape[lead:]
        band = max(1, BLOCK // (math.prod(self.shape) * math.prod(others)))
        every = tuple(slice(None, None, step) for step in (*self.stride, *self.dilation))
        ends = [(-before, size + after) for size, (before, after) in zip(x.shape[lead:], self.pads, strict=True)]
        for batch in np.ndindex(*x.shape[:lead]):
            for first in range(0, rows, band):
                last = min(first + band, rows)
                start = first * self.stride[0] - self.pads[0][0]
                stop = (last - 1) * self.stride[0] + self.widths[0] - self.pads[0][0]
                starts, stops = zip((start, stop), *ends[1:], strict=True)
                seen = window(x[batch], starts, stops, self.boundary, 0)
                windows = sliding_window_view(seen, self.widths)[every]
                yield windows.reshape(-1, math.prod(self.shape)), y[batch][first:last].reshape(-1)


def _least_squares(x: Array, y: Array, fit: _Windows, bias: bool) -> Fit:
    """Solve windows @ kernel (+ bias) = y in the sense of least squares."""
    left: Array | None = None
    for windows, results in fit.blocks(x, y):
        columns = [windows, *([np.ones((len(windows), 1))] if bias else []), results[:, None]]
        block = np.hstack(columns)
        left = np.asarray(np.linalg.qr(block if left is None else np.vstack([left, block]), mode="r"))
    assert left is not None  # x has windows
    solution, _, rank, _ = np.linalg.lstsq(left[:, :-1], left[:, -1], rcond=None)
    kernel = solution[: math.prod(fit.shape)].reshape(fit.shape)
    added = float(solution[-1]) if bias else 0.0
    return Fit(kernel, added, (_loss(_result(x, kernel, added, fit) - y),), int(rank))


def _descend(
    x: Array,
    y: Array,
    fit: _Windows,
    kernel: Array,
    bias: bool,
    lr: float | None,
    epochs: int,
    progress: Callable[[int, float], None] | None,
) -> Fit:
    """Step down the gradient of the sum of squares; `kernel` is changed."""
    by_kernel = getattr(gradients, f"corr{fit.ndim}d_grad_kernel")
    # The squares of all windows together: no less than the largest curvature, which 1/lr must not fall below.
    squares = float(by_kernel(np.square(x), np.ones_like(y), fit.shape, **fit.how).sum()) + (y.size if bias else 0)
    rate = (0.5 / squares if squares else 1.0) if lr is None else lr
    added, losses = 0.0, []
    for epoch in range(1, epochs + 1):
        error = _result(x, kernel, added, fit) - y
        losses.append(_loss(error))
        if not math.isfinite(losses[-1]):
            raise InvalidProblem(
                f"lr={rate:g} is too large for this x: the loss is {losses[-1]} in epoch {epoch}; any up to "
                f"{0.5 / squares:g} is safe, which is the default"
            )
        error *= 2
        kernel -= rate * by_kernel(x, error, fit.shape, **fit.how)
        if bias:
            added -= rate * float(error.sum())
        if progress is not None:
            progress(epoch, losses[-1])
    return Fit(kernel, added, tuple(losses))


def _result(x: Array, kernel: Array, bias: float, fit: _Windows) -> Array:
    y: Array = getattr(api, f"corr{fit.ndim}d")(x, kernel, bias=bias or None, **fit.how)
    return y


def _loss(error: Array) -> float:
    with np.errstate(over="ignore"):
        return float(np.square(error).sum())
