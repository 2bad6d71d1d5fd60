"""The shape of a result, of an operation or of its transpose, without computing it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from convengine.analysis.question import HOW, check_keywords, operation_of, read_shapes
from convengine.api import DEFAULTS, OPERATIONS
from convengine.arguments import per_axis, read_axes, read_axis, read_pads, read_shape
from convengine.errors import InvalidProblem

__all__ = ["lags", "output_shape", "transposed_shape"]


def output_shape(x_shape: Any, kernel_shape: Any, *, op: str | None = None, **keywords: Any) -> tuple[int, ...]:
    """Return the shape of what an operation gives.

    Parameters
    ----------
    x_shape, kernel_shape : tuple of int
        Shapes of the operands, in samples.
    op : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}, optional
        The operation. Default: correlation with a filter of the kernel's rank; a kernel of 4 or 5 axes is a layer. A
        1-D layer, whose kernel has 3 axes, needs ``op="corr1d"``.
    **keywords
        As for the operation. Those that change values only (bias, dtype, ...) are not looked at.

    Returns
    -------
    tuple of int
        In the layout of x.

    Raises
    ------
    InvalidProblem
        As the operation, where the shapes or keywords describe none.
    TypeError
        For a keyword that no operation takes.

    See Also
    --------
    transposed_shape : The same for a transposed layer.

    Examples
    --------
    >>> from convengine import analysis
    >>> analysis.output_shape((6, 8), (1, 2))
    (6, 7)
    >>> analysis.output_shape((32, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
    (32, 64, 112, 112)
    >>> analysis.output_shape((480, 640, 3), (5, 5), mode="full", channel_axis=-1)
    (484, 644, 3)
    """
    return read_shapes(x_shape, kernel_shape, op, keywords, 2).out_shape


def transposed_shape(
    x_shape: Any, kernel_shape: Any, *, op: str | None = None, output_padding: Any = 0, **keywords: Any
) -> tuple[int, ...]:
    """Return the shape of what a transposed operation gives: that of the input gradient of a correlation.

    Parameters
    ----------
    x_shape : tuple of int
        What goes into the transposed operation: the shape that the operation itself would give.
    kernel_shape : tuple of int
        As the operation itself has it, and as PyTorch's transposed layers do: (C_in, C_out/groups, ``*K``), C_in the
        channels that go into the transposed layer; ``(*K, C_out/groups, C_in)`` with channel_axis=-1.
    op : str, optional
        As for `output_shape`.
    output_padding : int or sequence of int, optional
        With stride s, up to s sizes give the same shape under the operation; this many samples more than the
        smallest, 0 to s - 1.
    **keywords
        As for `output_shape`.

    Returns
    -------
    tuple of int
        In the layout of x.

    Raises
    ------
    InvalidProblem
        If no array gives `x_shape` under the operation.
    TypeError
        For a keyword that no operation takes.

    Examples
    --------
    >>> from convengine import analysis
    >>> analysis.transposed_shape((8, 64, 28, 28), (64, 32, 4, 4), stride=2, padding=1)
    (8, 32, 56, 56)
    >>> analysis.output_shape((8, 32, 56, 56), (64, 32, 4, 4), stride=2, padding=1)
    (8, 64, 28, 28)
    """
    given, taps = read_shape(x_shape, "x_shape"), read_shape(kernel_shape, "kernel_shape")
    check_keywords(keywords, also=HOW)
    ndim = OPERATIONS[operation_of(op, len(taps))][0]
    said = DEFAULTS | keywords
    channel = None if said["channel_axis"] is None else read_axis(said["channel_axis"], len(given), "channel_axis")
    result = list(given)
    if len(taps) == ndim + 2 and len(given) in (ndim + 1, ndim + 2):
        last = channel == len(given) - 1
        axes = tuple(axis - last for axis in range(len(given) - ndim, len(given)))
        widths, inputs = (taps[:ndim], taps[ndim]) if last else (taps[2:], taps[1])
        result[-1 if last else axes[0] - 1] = inputs * per_axis(said["groups"], 1, "groups", 1)[0]
    else:
        axes, widths = read_axes(said["axes"], len(given), ndim, channel), taps
    sizes = _spatial([given[axis] for axis in axes], widths, output_padding, said)
    for axis, size in zip(axes, sizes, strict=True):
        result[axis] = size
    found = read_shapes(result, taps, op, keywords, 2).out_shape
    if found != given:
        raise InvalidProblem(
            f"x_shape must be what the operation gives for some array; got {given}, and the kernel {taps} with these "
            f"keywords makes {found} of {tuple(result)}; the first two axes of a transposed layer's kernel are "
            "(C_in, C_out/groups), with channel_axis=-1 its last two (C_out/groups, C_in)"
        )
    return tuple(result)


def lags(nx: int, nk: int, mode: str | None = None, **keywords: Any) -> np.ndarray[Any, Any]:
    """Return how far the pattern is shifted at each result of a correlation: 0 where both begin together.

    Parameters
    ----------
    nx, nk : int
        Samples of the signal and of the pattern.
    mode : {"valid", "same", "full"}, optional
        As for `corr1d`.
    **keywords
        center, padding, stride and dilation, as for `corr1d`.

    Returns
    -------
    array of int64, shape (number of results,)
        In samples of x: result i of ``corr1d(x, pattern, mode=mode)`` compares ``x[lag : lag + nk]`` with the pattern.

    Raises
    ------
    InvalidProblem
        As the operation.
    TypeError
        For another keyword.

    See Also
    --------
    scipy.signal.correlation_lags : The same for SciPy's correlate, whose default is "full".

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> ce.analysis.lags(5, 3, "full")
    array([-2, -1,  0,  1,  2,  3,  4])
    >>> x = np.array([0.0, 0, 0, 1, 2, 1, 0])
    >>> ce.analysis.lags(7, 3, "same")[ce.corr1d(x, [1, 2, 1], mode="same").argmax()]
    np.int64(3)
    """
    check_keywords(keywords)
    if unknown := [name for name in keywords if name not in ("center", "padding", "stride", "dilation")]:
        raise TypeError(f"lags takes center, padding, stride and dilation; got {unknown[0]!r}")
    (samples,), (taps,) = read_shape(nx, "nx"), read_shape(nk, "nk")
    problem = read_shapes((samples,), (taps,), "corr1d", {"mode": mode, **keywords}, 2).problem
    steps = np.arange(problem.out_spatial[0], dtype=np.int64)
    found: np.ndarray[Any, Any] = steps * problem.stride[0] - problem.pads[0][0]
    return found


def _spatial(sizes: Sequence[int], taps: Sequence[int], extra: Any, said: dict[str, Any]) -> list[int]:
    """The sizes whose operation gives `sizes`: under a stride the smallest, and `extra` more."""
    ndim = len(sizes)
    strides, dilations = (per_axis(said[name], ndim, name, 1) for name in ("stride", "dilation"))
    more = per_axis(extra, ndim, "output_padding", 0)
    widths = tuple(d * (k - 1) + 1 for d, k in zip(dilations, taps, strict=True))
    pads = read_pads(said["mode"], said["padding"], said["center"], widths, ndim)
    found = []
    for n, width, step, pair, rest in zip(sizes, widths, strides, pads, more, strict=True):
        if rest >= step:
            raise InvalidProblem(f"output_padding must be smaller than the stride; got {rest} with stride {step}")
        size = (n - 1) * step + width - sum(pair) + rest
        if n < 1 or size < 1:
            raise InvalidProblem(
                f"a transposed operation needs samples, and fewer cut off by padding than it makes; got {n} along an "
                f"axis with a kernel {width} wide, stride {step} and padding {pair}"
            )
        found.append(size)
    return found
