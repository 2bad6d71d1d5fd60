"""The oracle of the gradients: each product of the forward definition, sent back to the sample or the tap it came from.

    dx[n, c, source(stride*i + dilation*a - before)] += sum_d conj(kernel[d, c, a]) * dy[n, d, i]
    dk[d, c, a] = sum_n sum_i conj(x[n, c, source(stride*i + dilation*a - before)]) * dy[n, d, i]

Where a sample of the padded x came from is found by padding an array of positions; so is every layout, by reading
arrays of positions as the forward operation's arguments.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from convengine.testing.arguments import Array, Question, read, require
from convengine.testing.oracle import Reference, final, moduli, pad, promote

__all__ = ["gradient_reference"]

Product = Callable[[Array, Array], Array]


def gradient_reference(name: str, first: Any, second: Any, **keywords: Any) -> Reference:
    """Compute a gradient from the definition.

    Parameters
    ----------
    name : str
        "corr2d_grad_input" and so on.
    first, second : array-like
        dy and the kernel, or x and dy, as the public function takes them.
    **keywords
        `x_shape` or `kernel_shape`, and the forward function's keywords that say what to compute.

    Returns
    -------
    Reference
        As `reference` returns it: `taps` is the largest number of products that meet in one result; the norms are those
        of the operands, `norm_x` of the first for each image or channel that shares a sum, `norm_kernel` of the second.

    Raises
    ------
    ValueError, OverflowError
        As `reference`.

    Examples
    --------
    >>> gradient_reference("corr1d_grad_kernel", [1, 2, 3, 4], [1, 10], kernel_shape=3).final
    array([21, 32, 43])
    """
    forward, _, operand = name.partition("_grad_")
    keywords = {**keywords, "bias": None}
    compute = _grad_input if operand == "input" else _grad_kernel
    return compute(forward, first, second, **keywords)


def _positions(shape: Any) -> Array:
    sizes = tuple(shape) if np.iterable(shape) else (shape,)
    return np.arange(math.prod(sizes)).reshape(sizes)


def _array(values: Any) -> Array:
    array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _canonical(q: Question, dy: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of out in the axes (N, D, *O) of `shape`, from the user's layout."""
    places = q.restore(_positions(shape))
    require(dy.shape == places.shape, f"dy must have the shape {places.shape} of the forward result; got {dy.shape}")
    laid = np.zeros(math.prod(shape), dy.dtype)
    laid[places.ravel()] = dy.ravel()
    return laid.reshape(shape)


def _out_shape(q: Question, padded: tuple[int, ...]) -> tuple[int, ...]:
    axes = zip(padded[2:], q.kernel.shape[2:], q.stride, q.dilation, strict=True)
    return (padded[0], len(q.kernel), *(-(-max(p - d * (k - 1), 0) // s) for p, k, s, d in axes))


def _pairs(q: Question, out: tuple[int, ...]) -> Iterator[tuple[slice, int, int, tuple[int, ...], tuple[Any, ...]]]:
    """(output channels, input channel of the group, input channel, tap, its samples of the padded x)."""
    outputs = len(q.kernel) // q.groups
    for group in range(q.groups):
        for channel, *tap in np.ndindex(*q.kernel.shape[1:]):
            starts = [d * a for a, d in zip(tap, q.dilation, strict=True)]
            window = [slice(start, start + s * o, s) for start, s, o in zip(starts, q.stride, out[2:], strict=True)]
            rows = slice(group * outputs, (group + 1) * outputs)
            yield rows, channel, group * q.kernel.shape[1] + channel, tuple(tap), tuple(window)


def _grad_input(forward: str, dy: Any, kernel: Any, *, x_shape: Any, **keywords: Any) -> Reference:
    places, dy = _positions(x_shape), _array(dy)
    keywords.pop("fill_value", None)  # has no part in it, and need not be one that dy's dtype holds
    q = read(forward, places, kernel, **keywords)
    canonical = q.x  # the position in the user's x of each sample (N, C, *S)
    target = pad(canonical, q.pads, q.boundary, -1)  # likewise of each padded one; -1 is none
    dy = _canonical(q, dy, _out_shape(q, target.shape))
    q = replace(q, x=np.zeros(0, dy.dtype))  # whose dtype a weak kernel takes on

    def scatter(samples: Array, taps: Array) -> Array:
        total = np.zeros(places.size + 1, samples.dtype)
        for rows, channel, at, tap, window in _pairs(q, dy.shape):
            for d in range(*rows.indices(len(taps))):
                products = samples[:, d] * taps[(d, channel, *tap)]
                np.add.at(total, target[(slice(None), at, *window)], products)
        return total[:-1].reshape(places.shape)

    images = np.sqrt(np.sum(moduli(dy) ** 2, axis=tuple(range(1, dy.ndim)), keepdims=True))
    norm_x = np.zeros(places.size, np.longdouble)
    norm_x[canonical] = images
    squares = np.sum(moduli(q.kernel) ** 2, axis=tuple(range(2, q.kernel.ndim)))
    apart = squares.reshape(q.groups, len(squares) // q.groups, squares.shape[1])
    norm_kernel = float(np.sqrt(apart.sum(axis=1).max(initial=0)))
    return _reference(q, scatter, dy, q.kernel.conj(), norm_x.reshape(places.shape), norm_kernel)


def _grad_kernel(forward: str, x: Any, dy: Any, *, kernel_shape: Any, **keywords: Any) -> Reference:
    places, dy, x = _positions(kernel_shape), _array(dy), _array(x)
    q = read(forward, x, places, **keywords)
    canonical = q.kernel  # the position in the user's kernel of each tap (D, C, *K)
    padded = pad(q.x, q.pads, q.boundary, q.fill)
    dy = _canonical(q, dy, _out_shape(q, padded.shape))
    everything = tuple(range(2, dy.ndim))

    def gather(samples: Array, weights: Array) -> Array:
        total = np.zeros(places.size, samples.dtype)
        for rows, channel, at, tap, window in _pairs(q, dy.shape):
            for d in range(*rows.indices(len(canonical))):
                total[canonical[(d, channel, *tap)]] = np.sum(samples[(slice(None), at, *window)] * weights[:, d])
        return total.reshape(places.shape)

    norms = np.sqrt(np.sum(moduli(padded) ** 2, axis=(0, *everything)))
    norms = norms.reshape(q.groups, 1, canonical.shape[1])
    shared = np.broadcast_to(norms, (q.groups, len(canonical) // q.groups, canonical.shape[1]))
    norm_x = np.zeros(places.size, np.longdouble)
    norm_x[canonical] = shared.reshape(*canonical.shape[:2], *[1] * len(everything))
    norm_kernel = float(np.sqrt(np.sum(moduli(dy) ** 2, axis=(0, *everything))).max(initial=0))
    samples, weights = (padded, dy.conj()) if keywords.get("conjugate") else (padded.conj(), dy)
    return _reference(q, gather, samples, weights, norm_x.reshape(places.shape), norm_kernel)


def _reference(q: Question, compute: Product, one: Array, other: Array, norm_x: Array, norm_kernel: float) -> Reference:
    """Run a sum of products over values and magnitudes; `q` says which dtypes."""
    kinds = one.dtype.kind + other.dtype.kind + ("i" if q.dtype is None else q.dtype.kind)
    weak = q.weak != ""
    terms = compute(np.ones(one.shape, np.int64), np.ones(other.shape, np.int64)).max(initial=1)
    if all(kind in "biu" for kind in kinds):
        sum_dtype: np.dtype[Any] = np.dtype(np.int64)
        result = sum_dtype if q.dtype is None else q.dtype
        magnitude = compute(moduli(one), moduli(other))
        most = magnitude.max(initial=0)
        if most > 2**63 - 1:
            raise OverflowError(f"results must stay within {2**63 - 1}; got sums of magnitudes up to {most}")
        value = compute(one.astype(np.int64), other.astype(np.int64)).astype(object)
    else:
        natural = promote(q, None) if weak else np.result_type(one.dtype, other.dtype)
        wide = promote(q, q.dtype) if weak else np.result_type(natural, q.dtype or natural)
        result = natural if q.dtype is None else q.dtype
        require(result.kind == "c" or natural.kind != "c", f"dtype must be complex for {natural} sums; got {result}")
        sum_dtype = np.dtype(np.float32) if wide == np.float16 else wide
        value, magnitude = _float_sums(compute, one, other.astype(wide) if weak else other, sum_dtype)
    return Reference(
        value=value,
        final=final(value, result, q.overflow),
        dtype=result,
        sum_dtype=sum_dtype,
        magnitude=magnitude,
        taps=int(terms),
        has_bias=False,
        norm_x=norm_x,
        norm_kernel=norm_kernel,
        overflow=q.overflow,
    )


def _float_sums(compute: Product, one: Array, other: Array, sum_dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Sums in longdouble of operands converted to `sum_dtype`, and the magnitudes that bound their errors."""
    wide = np.clongdouble if sum_dtype.kind == "c" else np.longdouble
    with np.errstate(all="ignore"):  # inf - inf, 0 * inf and a conversion's overflow are part of the answer
        one, other = (operand.astype(sum_dtype).astype(wide) for operand in (one, other))
        value = compute(one, other)
    if sum_dtype.kind != "c":
        return value, compute(moduli(one), moduli(other))
    ar, ai, br, bi = (moduli(part) for part in (one.real, one.imag, other.real, other.imag))
    magnitude = np.empty_like(value)
    magnitude.real = compute(ar, br) + compute(ai, bi)
    magnitude.imag = compute(ar, bi) + compute(ai, br)
    return value, magnitude
