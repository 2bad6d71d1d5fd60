"""The oracle: what corr1d .. conv3d owe, computed from the definition and from nothing else of convengine.

    y[n, d, i] = bias[d] + sum_c sum_a kernel[d, c, a] * x[n, c, stride*i + dilation*a - before]

The sums run over NumPy arrays of outputs, one kernel tap and input channel after the other: a few thousand outputs take
milliseconds, and no method of any backend is used. Integers are exact; floats are summed in longdouble.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine.testing.arguments import NAMES, Array, Pads, Question, read, require

__all__ = ["NAMES", "Reference", "final", "moduli", "pad", "promote", "reference"]

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, eq=False, slots=True)
class Reference:
    """What a problem's answer is, and what its error bounds are made of.

    Attributes
    ----------
    value : array in the user's layout
        The sum before rounding and overflow handling: Python ints (dtype object) in an integer problem, else longdouble
        or clongdouble. NaN and infinities stand where the direct sum has them.
    final : array of `dtype`
        `value` rounded once, with `overflow` applied: the answer itself in an integer problem.
    dtype : numpy.dtype
        The result's dtype.
    sum_dtype : numpy.dtype
        The dtype in which an engine's sum forms; int64 in an integer problem.
    magnitude : array of longdouble or clongdouble
        |x| corr |kernel| + |bias|, finite parts only; in a complex problem, the sum of the moduli of the real terms
        that make up the real part, and of those that make up the imaginary part.
    taps : int
        How many terms one output adds: k * C_in/groups, and one more where there is a bias.
    has_bias : bool
        Whether one of them is a bias.
    norm_x : array of longdouble, broadcasting against `value`
        2-norm of the padded samples of each image (in a layer, of all its channels), finite parts only.
    norm_kernel : float
        Largest 2-norm of the kernel over output channels, finite parts only.
    overflow : str
        What happens beyond an explicit integer dtype: "saturate", "wrap" or "raise".

    Examples
    --------
    >>> from convengine.testing import reference
    >>> answer = reference("corr1d", [1.0, 2.0, 4.0], [0.5, -1.0])
    >>> answer.final, answer.taps
    (array([-1.5, -3. ]), 2)
    >>> answer.magnitude.astype(float)
    array([2.5, 5. ])
    """

    value: Array
    final: Array
    dtype: np.dtype[Any]
    sum_dtype: np.dtype[Any]
    magnitude: Array
    taps: int
    has_bias: bool
    norm_x: Array
    norm_kernel: float
    overflow: str


def reference(name: str, x: Any, kernel: Any, **keywords: Any) -> Reference:
    """Compute a correlation or convolution from its definition.

    Parameters
    ----------
    name : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}
        The public function to answer for.
    x, kernel : array-like
        As the public function takes them; neither is modified.
    **keywords
        bias, mode, boundary, fill_value, padding, center, stride, dilation, groups, axes, channel_axis, conjugate,
        dtype and overflow: the public function's keywords that say what to compute, with the same defaults.

    Returns
    -------
    Reference
        The answer, with what its error bounds need.

    Raises
    ------
    ValueError
        If the problem is not a valid one, with the values in the text; also for NaN in an integer result.
    OverflowError
        If an integer problem may pass int64 or its default result dtype, or a sum passes `dtype` under "raise".

    Examples
    --------
    >>> reference("corr2d", [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]]).final
    array([[19, 25],
           [37, 43]])
    """
    q = read(name, x, kernel, **keywords)
    padded = pad(q.x, q.pads, q.boundary, q.fill)
    result, sum_dtype = _dtypes(q)
    if sum_dtype.kind == "i":
        value, magnitude = _exact_sums(q, padded, np.iinfo(result).max if q.dtype is None else INT64_MAX)
    else:
        value, magnitude = _float_sums(q, padded, sum_dtype)
    value = q.restore(value)
    everything = tuple(range(1, padded.ndim))
    norms = np.sqrt(np.sum(moduli(padded) ** 2, axis=everything, keepdims=True))
    return Reference(
        value=value,
        final=final(value, result, q.overflow),
        dtype=result,
        sum_dtype=sum_dtype,
        magnitude=q.restore(magnitude),
        taps=math.prod(q.kernel.shape[1:]) + (q.bias is not None),
        has_bias=q.bias is not None,
        norm_x=q.restore(norms),
        norm_kernel=float(np.sqrt(np.sum(moduli(q.kernel) ** 2, axis=everything)).max()),
        overflow=q.overflow,
    )


def pad(x: Array, pads: Pads, boundary: Sequence[str], fill: Any = 0) -> Array:
    """Extend the last axes of an array beyond its borders, as numpy.pad does, for pads of any length.

    Parameters
    ----------
    x : array of shape (..., *S)
        Never modified.
    pads : one (before, after) per axis of S
        Numbers of samples, not negative.
    boundary : one of "constant", "edge", "reflect", "symmetric", "wrap" per axis of S
        numpy.pad's words.
    fill : scalar
        What "constant" extends by.

    Returns
    -------
    array of shape (..., before + S + after)
        Of the same dtype.

    Examples
    --------
    >>> pad(np.arange(3), [(4, 5)], ["reflect"])
    array([0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1])
    """
    for axis, ((before, after), word) in enumerate(zip(pads, boundary, strict=True), start=x.ndim - len(pads)):
        length = x.shape[axis]
        place = np.arange(-before, length + after)
        if word == "constant":
            extended = np.full((*x.shape[:axis], len(place), *x.shape[axis + 1 :]), fill, x.dtype)
            extended[(slice(None),) * axis + (slice(before, before + length),)] = x
            x = extended
        else:
            x = np.take(x, _source(place, length, word), axis)
    return x


def _source(place: Array, length: int, word: str) -> Array:
    """Index of the sample that stands at each place of the endless extension of an axis."""
    source: Array
    if word == "edge":  # a a a | a b c d | d d d
        source = np.clip(place, 0, length - 1)
    elif word == "wrap":  # b c d | a b c d | a b c
        source = place % length
    elif word == "symmetric":  # c b a | a b c d | d c b: the axis and its mirror image, period 2n
        place = place % (2 * length)
        source = np.minimum(place, 2 * length - 1 - place)
    else:  # reflect: d c b | a b c d | c b a, period 2n - 2; a single sample repeats
        period = max(2 * length - 2, 1)
        place = place % period
        source = np.minimum(place, period - place)
    return source


def _correlate(q: Question, x: Array, kernel: Array) -> Array:
    """The sum of the definition over padded samples and kernel of one dtype: (N, D, *O)."""
    inputs, outputs = kernel.shape[1], len(kernel) // q.groups
    axes = zip(x.shape[2:], kernel.shape[2:], q.stride, q.dilation, strict=True)
    lengths = [-(-max(p - d * (k - 1), 0) // s) for p, k, s, d in axes]
    y = np.zeros((len(x), len(kernel), *lengths), x.dtype)
    for group in range(q.groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        for channel, *tap in np.ndindex(*kernel.shape[1:]):
            starts = [d * a for a, d in zip(tap, q.dilation, strict=True)]
            window = [slice(start, start + s * o, s) for start, s, o in zip(starts, q.stride, lengths, strict=True)]
            samples = x[(slice(None), group * inputs + channel, *window)]
            y[:, rows] += samples[:, None] * _column(kernel[(rows, channel, *tap)], x.ndim)
    return y


def _exact_sums(q: Question, x: Array, limit: int) -> tuple[Array, Array]:
    """Sums as Python ints, and their magnitudes, once max(|x|, |fill|) * sum|kernel| + |bias| is within `limit`."""
    bias = [0] * len(q.kernel) if q.bias is None else _whole(q.bias)
    filled = any(word == "constant" and sum(pair) for word, pair in zip(q.boundary, q.pads, strict=True))
    extremes = [q.x.max(initial=0), q.x.min(initial=0), q.fill if filled else 0]
    largest = max(abs(int(extreme)) for extreme in extremes)
    for d, (weights, offset) in enumerate(zip(q.kernel, bias, strict=True)):
        bound = largest * sum(abs(int(weight)) for weight in weights.flat) + abs(offset)
        if bound > limit:
            raise OverflowError(
                f"results must stay within {limit}; got max|x| * sum|kernel| + |bias| = {bound} in output channel {d}"
            )
    # Every sum fits int64, by the bound: arithmetic modulo 2**64 gives it exactly, in any order.
    value = _correlate(q, x.astype(np.int64), q.kernel.astype(np.int64)).astype(object)
    magnitude = _correlate(q, moduli(x), moduli(q.kernel))
    offsets = _column(np.array(bias, object), x.ndim)
    return value + offsets, magnitude + np.abs(offsets).astype(np.longdouble)


def _float_sums(q: Question, x: Array, sum_dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Sums in longdouble of operands converted to `sum_dtype`, and the magnitudes that bound their errors."""
    is_complex = sum_dtype.kind == "c"
    wide = np.clongdouble if is_complex else np.longdouble
    bias = np.zeros(len(q.kernel)) if q.bias is None else q.bias
    require(is_complex or bias.dtype.kind != "c", f"bias must be real beside a {sum_dtype} sum; got {bias.dtype}")
    with np.errstate(all="ignore"):  # inf - inf, 0 * inf and a conversion's overflow are part of the answer
        weights = q.kernel.astype(promote(q, q.dtype)) if q.weak else q.kernel
        x, kernel, bias = (a.astype(sum_dtype).astype(wide) for a in (x, weights, _column(bias, x.ndim)))
        value = _correlate(q, x, kernel) + bias  # NumPy multiplies complex numbers by the four real products
    if not is_complex:
        return value, _correlate(q, moduli(x), moduli(kernel)) + moduli(bias)
    xr, xi, kr, ki = (moduli(part) for part in (x.real, x.imag, kernel.real, kernel.imag))
    magnitude = np.empty_like(value)
    magnitude.real = _correlate(q, xr, kr) + _correlate(q, xi, ki) + moduli(bias.real)
    magnitude.imag = _correlate(q, xr, ki) + _correlate(q, xi, kr) + moduli(bias.imag)
    return value, magnitude


def final(value: Array, dtype: np.dtype[Any], overflow: str) -> Array:
    """Round sums to the result's dtype, half to even, and apply `overflow` where that is an integer."""
    if dtype.kind not in "iu":
        with np.errstate(over="ignore"):
            return value.astype(dtype)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if value.dtype != object:
        nans = np.count_nonzero(np.isnan(value))
        require(nans == 0, f"{dtype} cannot hold NaN; got {nans} of them in the sums")
        if overflow == "saturate":
            value = np.clip(value, low, high)
        elif not np.isfinite(value).all():
            raise OverflowError(f"{dtype} cannot hold infinite sums under overflow={overflow!r}; use 'saturate'")
        value = np.array([int(v) for v in np.rint(value).flat], object).reshape(value.shape)
    if overflow == "wrap":
        value = (value - low) % (high - low + 1) + low
    elif overflow == "saturate":
        value = np.minimum(np.maximum(value, low), high)
    elif outside := [v for v in value.flat if not low <= v <= high]:
        raise OverflowError(f"{dtype} holds {low} .. {high}; got {outside[0]} under overflow='raise'")
    return value.astype(dtype)


def _dtypes(q: Question) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """The result's dtype and the sum's."""
    if q.x.dtype.kind in "biu" and q.kernel.dtype.kind in "biu" and (q.dtype is None or q.dtype.kind in "iu"):
        largest = _largest(q.x.dtype) * _largest(q.kernel.dtype) * math.prod(q.kernel.shape[1:])
        default = np.dtype(np.int32 if largest <= 2**31 - 1 else np.int64)
        return default if q.dtype is None else q.dtype, np.dtype(np.int64)
    natural = promote(q, None)
    result = natural if q.dtype is None else q.dtype
    require(result.kind == "c" or natural.kind != "c", f"dtype must be complex for {natural} sums; got {result}")
    total = promote(q, q.dtype)
    return result, np.dtype(np.float32) if total == np.float16 else total


def promote(q: Question, wanted: np.dtype[Any] | None) -> np.dtype[Any]:
    """np.result_type of x, kernel and dtype; Python numbers are as weak as NEP 50 has them, on every NumPy release."""
    dtypes = [q.x.dtype] if wanted is None else [q.x.dtype, wanted]
    if not q.weak:
        return np.result_type(*dtypes, q.kernel.dtype)
    strong = np.result_type(*dtypes)
    if q.weak == "i" and q.x.dtype.kind in "biu":  # beside integers, whole numbers are int64
        return np.result_type(strong, np.int64)
    if q.weak == "i" or strong.kind == "c" or (q.weak == "f" and strong.kind == "f"):
        return strong
    if strong.kind == "f":
        return np.result_type(strong, np.complex64)
    return np.dtype(np.float64 if q.weak == "f" else np.complex128)


def _whole(bias: Array) -> list[int]:
    """The biases of an integer problem as Python ints."""
    whole = bias.dtype.kind != "c" and bool(np.all(np.isfinite(bias) & (bias == np.rint(bias))))
    require(whole, f"bias must be whole numbers in an integer problem; got {bias.tolist()}")
    return [int(offset) for offset in bias]


def moduli(values: Array) -> Array:
    """Moduli in longdouble, with zeros for NaN and infinities."""
    wide = np.abs(values.astype(np.clongdouble if values.dtype.kind == "c" else np.longdouble))
    return np.where(np.isfinite(wide), wide, 0)


def _column(values: Array, ndim: int) -> Array:
    """One value per output channel, shaped to stand against (N, D, *O)."""
    return values.reshape(-1, *[1] * (ndim - 2))


def _largest(dtype: np.dtype[Any]) -> int:
    """The largest modulus that an integer dtype holds; bool counts as uint8."""
    info = np.iinfo(np.uint8 if dtype.kind == "b" else dtype)
    return max(int(info.max), -int(info.min))
