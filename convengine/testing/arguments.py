"""The oracle's own reading of the public arguments: from what a user may pass to the definition's symbols.

Written from the contract a second time, so that a mistake in the engine's reading shows as a wrong answer.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Pads = Sequence[tuple[int, int]]

NAMES = ("corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d")
MODES = ("valid", "same", "full")
BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")
OVERFLOWS = ("saturate", "wrap", "raise")


@dataclass(frozen=True, eq=False, slots=True)
class Question:
    """A problem in the definition's symbols: y[n, d, i] = bias[d] + sum kernel[d, c, a] * x[n, c, s*i + t*a - before].

    Attributes
    ----------
    x : array (N, C, *S)
        The samples, batch axes as one; a filter sees each slice as an image of one channel.
    kernel : array (D, C/groups, *K)
        As correlated: flipped and conjugated already.
    bias : array (D,) or None
        As given.
    weak : str
        "i", "f" or "c" where the kernel came as Python numbers, whose dtype gives way to that of x; else "".
    pads, boundary, fill, stride, dilation, groups : per spatial axis, in the order of the kernel's
        `fill` is a scalar in the dtype of x.
    dtype, overflow : numpy.dtype or None, str
        The result's explicit dtype and what happens beyond it.
    restore : function
        From the axes (N, D, *O) to the user's layout.
    """

    x: Array
    kernel: Array
    bias: Array | None
    weak: str
    pads: Pads
    boundary: Sequence[str]
    fill: Any
    stride: Sequence[int]
    dilation: Sequence[int]
    groups: int
    dtype: np.dtype[Any] | None
    overflow: str
    restore: Callable[[Array], Array]


def read(
    name: str,
    x: Any,
    kernel: Any,
    *,
    bias: Any = None,
    mode: str | None = None,
    boundary: str | Sequence[str] = "constant",
    fill_value: Any = 0,
    padding: Any = None,
    center: Any = None,
    stride: Any = 1,
    dilation: Any = 1,
    groups: int = 1,
    axes: Any = None,
    channel_axis: int | None = None,
    conjugate: bool = False,
    dtype: Any = None,
    overflow: str = "saturate",
) -> Question:
    """Read the arguments of a public function, or raise ValueError with what was needed and what came."""
    require(name in NAMES, f"name must be one of {', '.join(NAMES)}; got {name!r}")
    require(overflow in OVERFLOWS, f"overflow must be one of {', '.join(OVERFLOWS)}; got {overflow!r}")
    n, groups = int(name[4]), operator.index(groups)
    samples, weights, weak = _samples("x", x), _samples("kernel", kernel), _weak_kind(kernel)
    if weak == "i":
        weights = np.asarray(kernel, np.int64)
    arrange = _filter if weights.ndim == n else _layer
    stacked, filters, restore = arrange(samples, weights, n, axes, channel_axis, groups)
    if conjugate:
        filters = filters.conj()
    if name.startswith("conv"):
        filters = np.flip(filters, axis=tuple(range(2, 2 + n)))
    strides, dilations = _counts("stride", stride, n, 1), _counts("dilation", dilation, n, 1)
    extents = [d * (k - 1) + 1 for d, k in zip(dilations, filters.shape[2:], strict=True)]
    pads, words = _pads(mode, padding, center, extents), _words(boundary, n)
    _require_fit(stacked.shape[2:], extents, pads, words)
    return Question(
        x=stacked,
        kernel=filters,
        bias=_bias(bias, len(filters)),
        weak=weak,
        pads=pads,
        boundary=words,
        fill=_exact("fill_value", fill_value, samples.dtype),
        stride=strides,
        dilation=dilations,
        groups=groups,
        dtype=_wanted(dtype),
        overflow=overflow,
        restore=restore,
    )


def require(condition: bool, text: str) -> None:
    """Raise ValueError with a text unless a condition holds."""
    if not condition:
        raise ValueError(text)


def _filter(
    x: Array, kernel: Array, n: int, axes: Any, channel_axis: int | None, groups: int
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """Every axis of x that the filter does not run over is a batch axis."""
    require(kernel.size > 0, f"kernel must not be empty; got {kernel.shape}")
    require(groups == 1, f"groups needs a layer's kernel of {n + 2} axes; got groups={groups} and a filter")
    spatial = _axes(x.ndim, n, axes, channel_axis)
    moved = np.moveaxis(x, spatial, range(-n, 0))
    batch = moved.shape[:-n]

    def restore(y: Array) -> Array:
        return np.moveaxis(y.reshape(batch + y.shape[2:]), range(-n, 0), spatial)

    return moved.reshape(math.prod(batch), 1, *moved.shape[-n:]), kernel[None, None], restore


def _layer(
    x: Array, kernel: Array, n: int, axes: Any, channel_axis: int | None, groups: int
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """Channels first: x (N, C, *S), kernel (D, C/groups, *K); channels last: x (N, *S, C), kernel (*K, C/groups, D)."""
    require(kernel.ndim == n + 2, f"kernel must have {n} axes (a filter) or {n + 2} (a layer); got {kernel.shape}")
    require(x.ndim in (n + 1, n + 2), f"a layer needs x of {n + 1} or {n + 2} axes; got {x.shape}")
    require(axes is None, f"a layer takes no axes; got axes={axes}")
    last = channel_axis is not None
    if last:
        require(channel_axis in (-1, x.ndim - 1), f"a layer's channel_axis is None or -1; got {channel_axis}")
        x = np.moveaxis(x, -1, -n - 1)
        kernel = kernel.transpose(n + 1, n, *range(n))
    single = x.ndim == n + 1
    x = x[None] if single else x
    outputs, inputs = kernel.shape[:2]
    require(outputs > 0 and 0 not in kernel.shape[2:], f"kernel must not be empty; got {kernel.shape}, channels first")
    require(
        groups >= 1 and inputs * groups == x.shape[1] and outputs % groups == 0,
        f"x must have groups * {inputs} channels and the kernel's {outputs} outputs must divide by groups;"
        f" got {x.shape[1]} channels and groups={groups}",
    )

    def restore(y: Array) -> Array:
        y = y[0] if single else y
        return np.moveaxis(y, -n - 1, -1) if last else y

    return x, kernel, restore


def _axes(ndim: int, n: int, axes: Any, channel_axis: int | None) -> list[int]:
    """Which axes of x a filter runs over, in the order of the kernel's."""
    channel = [] if channel_axis is None else [operator.index(channel_axis)]
    chosen = [] if axes is None else [operator.index(axis) for axis in (axes if np.iterable(axes) else [axes])]
    require(all(-ndim <= axis < ndim for axis in channel + chosen), f"axes must be in x of {ndim} axes; got {axes}")
    free = [axis for axis in range(ndim) if axis not in [c % ndim for c in channel]]
    spatial = free[-n:] if axes is None else [axis % ndim for axis in chosen]
    fits = len(spatial) == n and len(set(spatial)) == n and set(spatial) <= set(free)
    require(fits, f"{n} different axes beside the channel axis are needed; got x of {ndim} axes and axes={axes}")
    return spatial


def _pads(mode: str | None, padding: Any, center: Any, extents: Sequence[int]) -> list[tuple[int, int]]:
    """Samples before and after each spatial axis."""
    n = len(extents)
    require(mode is None or mode in MODES, f"mode must be one of {', '.join(MODES)}; got {mode!r}")
    require(mode is None or padding is None, f"give mode or padding, not both; got {mode!r} and {padding!r}")
    require(center is None or mode == "same", f"center needs mode='same'; got mode={mode!r}")
    if padding is not None:
        entries = list(padding) if np.iterable(padding) else [padding] * n
        require(len(entries) == n, f"padding must have one entry for each of {n} axes; got {padding!r}")
        return [(before, after) for before, after in (_counts("padding", entry, 2, 0) for entry in entries)]
    if mode == "full":
        return [(k - 1, k - 1) for k in extents]
    if mode == "same":
        centers = [k // 2 for k in extents] if center is None else _counts("center", center, n, 0)
        inside = all(c < k for c, k in zip(centers, extents, strict=True))
        require(inside, f"center must lie in the dilated kernel {tuple(extents)}; got {center!r}")
        return [(c, k - 1 - c) for c, k in zip(centers, extents, strict=True)]
    return [(0, 0)] * n


def _require_fit(shape: Sequence[int], extents: Sequence[int], pads: Pads, words: Sequence[str]) -> None:
    for length, k, (before, after), word in zip(shape, extents, pads, words, strict=True):
        require(length > 0 or word == "constant", f"an empty axis has no samples for {word!r}; got {tuple(shape)}")
        # An axis without samples may also leave exactly n - k + 1 = 0 outputs, as the formula gives.
        room = length + before + after + (length == 0)
        require(k <= room, f"the dilated kernel {tuple(extents)} does not fit x {tuple(shape)} with pads {list(pads)}")


def _words(boundary: str | Sequence[str], n: int) -> list[str]:
    words = [boundary] * n if isinstance(boundary, str) else list(boundary)
    valid = len(words) == n and all(word in BOUNDARIES for word in words)
    require(valid, f"boundary must be one of {', '.join(BOUNDARIES)}, or one for each of {n} axes; got {boundary!r}")
    return [str(word) for word in words]


def _counts(what: str, value: Any, n: int, least: int) -> list[int]:
    counts = [value] * n if isinstance(value, int | np.integer) else value
    whole = np.iterable(counts) and all(isinstance(count, int | np.integer) and count >= least for count in counts)
    require(whole and len(counts) == n, f"{what} must be an int >= {least}, or {n} of them; got {value!r}")
    return [int(count) for count in counts]


def _bias(bias: Any, outputs: int) -> Array | None:
    """One number for all output channels, or one for each; a filter has one."""
    if bias is None:
        return None
    offsets = _samples("bias", bias)
    require(offsets.shape in ((), (outputs,)), f"bias must be one number or {outputs}; got the shape {offsets.shape}")
    return np.broadcast_to(offsets, outputs)


def _samples(what: str, values: Any) -> Array:
    """An array in native byte order, of a dtype that the contract knows."""
    require(not isinstance(values, np.ma.MaskedArray), f"{what} must not be masked: a mask would be dropped")
    array = np.asarray(values)
    require(_known(array.dtype), f"{what} must be of bools, integers, floats or complex numbers; got {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _wanted(dtype: Any) -> np.dtype[Any] | None:
    if dtype is None:
        return None
    wanted: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    require(_known(wanted) and wanted.kind != "b", f"dtype must be of integers, floats or complex; got {wanted}")
    return wanted


def _known(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biufc" and dtype.char not in "gG"  # g and G are longdouble and clongdouble


def _weak_kind(kernel: Any) -> str:
    """The kind ("i", "f", "c") of a nested list of Python numbers; "" for arrays, NumPy scalars and lists of bool."""
    leaves, kinds = [kernel], set()
    while leaves:
        leaf = leaves.pop()
        if isinstance(leaf, list | tuple):
            leaves.extend(leaf)
        else:
            kinds.add({bool: "b", int: "i", float: "f", complex: "c"}.get(type(leaf), ""))
    return "" if "" in kinds else next((kind for kind in "cfi" if kind in kinds), "")


def _exact(what: str, value: Any, dtype: np.dtype[Any]) -> Any:
    """A scalar in a dtype that holds it exactly."""
    given = np.asarray(value)
    real = given.dtype.kind != "c" or dtype.kind == "c"
    require(given.ndim == 0 and real, f"{what} must be a number of {dtype}; got {value!r}")
    number = given.item()
    try:
        with np.errstate(all="ignore"):
            cast = given.astype(dtype).item()
    except OverflowError:  # a Python int beyond the dtype
        cast = None
    # Python compares ints and floats exactly; NaN is the one number that differs from itself.
    exact = cast == number or (number != number and dtype.kind in "fc")
    require(exact, f"{what} must be exact in {dtype}; got {value!r}")
    return dtype.type(cast)
