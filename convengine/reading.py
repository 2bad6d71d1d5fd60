"""Reads user arguments into a Problem: ranks, axes, borders, dtypes; every check of an argument stands here."""

import math
import operator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.ma import MaskedArray

from convengine.boundary import Boundary
from convengine.errors import InvalidProblem
from convengine.problem import Problem, integer_sum_dtype, is_integer, sum_dtype

__all__ = ["Reading", "forget", "read", "read_array", "read_kernel", "read_shape"]

FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
LARGEST = 2**40  # samples of a padded axis; their indices alone would fill terabytes
READY = frozenset(map(np.dtype, "?bhilBHIL" + "efdFD")) | frozenset(map(np.dtype, "qQ"))  # native, as they are
ELSEWHERE = (
    "torch",
    "jax",
    "jaxlib",
    "dask",
    "xarray",
    "tensorflow",
    "pandas",
)  # libraries whose arrays must not turn into NumPy's unasked


class Reading(NamedTuple):
    """What the arguments mean: the problem, the canonical kernel and bias, and how x and out lie to it."""

    problem: Problem
    kernel: np.ndarray[Any, Any]  # canonical, flipped and conjugated as asked; of any strides
    bias: np.ndarray[Any, Any] | None  # (C_out,), or (1,) for a filter, in the sum's dtype
    x_axes: tuple[int, ...]  # x.transpose(x_axes) is canonical
    out_axes: tuple[int, ...]  # out.transpose(out_axes) is canonical
    out_shape: tuple[int, ...]  # as the user sees it
    kernel_axes: tuple[int, ...]  # the user's kernel.transpose(kernel_axes) is canonical, but for flip and conjugation


def read_array(value: Any, name: str) -> Any:
    """Return an array of a supported dtype in native byte order: NumPy's, or a device array as it is."""
    if type(value) is np.ndarray and value.dtype in READY and value.flags.aligned:
        return value
    refuse_library(value, name)
    if _holds_mask(value):
        raise InvalidProblem(
            f"{name} is a masked array, or holds one; x alone may be one, and a mask is never dropped: fill it, "
            f"{name}.filled(value)"
        )
    if hasattr(value, "__cuda_array_interface__"):
        return value if check_dtype(value.dtype, name) else None
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InvalidProblem(f"{name} must be an array of numbers; got rows of different lengths ({error})") from None
    check_dtype(array.dtype, name)
    if not (array.dtype.isnative and array.flags.aligned):
        array = array.astype(array.dtype.newbyteorder("="))
    return array


def refuse_library(value: Any, name: str) -> None:
    """Raise for an array of a library whose arrays must not turn into NumPy's unasked."""
    library = type(value).__module__.partition(".")[0]
    if library in ELSEWHERE:
        raise InvalidProblem(
            f"{name} is a {library} {type(value).__name__}, which is not supported; pass a NumPy array"
        )


def _holds_mask(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(type(item) not in (int, float) and _holds_mask(item) for item in value)
    return isinstance(value, MaskedArray)


def check_dtype(dtype: Any, name: str) -> bool:
    """Raise for a dtype that the engine does not compute with."""
    if dtype.kind in "biu" or (dtype.kind in "fc" and dtype.newbyteorder("=").name in FLOATS):
        return True
    raise InvalidProblem(
        f"{name} has dtype {dtype}; supported are bool, integers of 8 to 64 bits, {', '.join(FLOATS)}; convert it first"
    )


def weak_kind(value: Any) -> str:
    """'b', 'i', 'f' or 'c' for a Python number or nested list of them, '' for anything that carries a dtype."""
    if isinstance(value, list | tuple):
        kinds = {weak_kind(item) for item in value}
        return "" if "" in kinds or not kinds else max(kinds, key="bifc".index)
    for kind, number in (("b", bool), ("i", int), ("f", float), ("c", complex)):
        if type(value) is number:
            return kind
    return ""


def read_kernel(value: Any, x_dtype: np.dtype[Any], dtype: np.dtype[Any] | None) -> np.ndarray[Any, Any]:
    """Return the kernel as a host array; Python numbers and lists are weak (NEP 50)."""
    if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
        value = value.get()
    kernel: np.ndarray[Any, Any] = read_array(value, "kernel")
    kind = weak_kind(value)
    if kind not in ("i", "f", "c"):
        return kernel
    if kind == "i" and is_integer(x_dtype):
        if kernel.dtype.kind == "u":
            raise OverflowError(f"kernel holds {int(kernel.max())}, which passes int64; use a float kernel")
        return kernel.astype(np.int64, copy=False)
    if kind == "i" and dtype is not None:
        return kernel.astype(np.result_type(x_dtype, dtype))
    with np.errstate(over="ignore"):
        return kernel.astype(np.result_type(x_dtype, {"i": 0, "f": 0.0, "c": 0j}[kind]))


def per_axis(value: Any, ndim: int, name: str, least: int) -> tuple[int, ...]:
    """One integer per spatial axis, of at least `least`."""
    if type(value) is int and value >= least:
        return (value,) * ndim
    values = value if _is_sequence(value) else (value,) * ndim
    if len(values) != ndim:
        raise InvalidProblem(f"{name} must be an integer or {ndim} of them, one per spatial axis; got {value!r}")
    return tuple(_integer(item, name, least) for item in values)


def read_shape(value: Any, name: str) -> tuple[int, ...]:
    """Return a shape as a tuple of integers; one integer is a shape of one axis."""
    return tuple(_integer(size, name, 0) for size in (value if _is_sequence(value) else (value,)))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _integer(value: Any, name: str, least: int) -> int:
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise InvalidProblem(f"{name} must hold integers; got {value!r}") from None
    if number < least:
        raise InvalidProblem(f"{name} must be at least {least}; got {number}")
    return number


def read_pads(mode: Any, padding: Any, center: Any, widths: tuple[int, ...], ndim: int) -> tuple[tuple[int, int], ...]:
    """(before, after) of each spatial axis, from mode or padding; `widths` are dilated kernel widths."""
    if mode is not None and not isinstance(mode, str):
        raise InvalidProblem(f"mode must be 'valid', 'same' or 'full'; got {mode!r}")
    if isinstance(padding, str):
        raise InvalidProblem(f"padding must be integers; got {padding!r}; mode='same' or 'full' pads by the kernel")
    if mode is not None and padding is not None:
        raise InvalidProblem(f"give mode or padding, not both; got mode={mode!r} and padding={padding!r}")
    if center is not None and mode != "same":
        raise InvalidProblem(f"center goes with mode='same' only; got mode={mode!r} and center={center!r}")
    if padding is not None:
        return _explicit_pads(padding, ndim)
    match mode:
        case None | "valid":
            return ((0, 0),) * ndim
        case "full":
            return tuple((width - 1, width - 1) for width in widths)
        case "same":
            if center is None:
                return tuple((width // 2, width - 1 - width // 2) for width in widths)
            centers = per_axis(center, ndim, "center", 0)
            for at, width in zip(centers, widths, strict=True):
                if at >= width:
                    raise InvalidProblem(f"center must be 0 .. {width - 1} for a dilated kernel {width} wide; got {at}")
            return tuple((at, width - 1 - at) for at, width in zip(centers, widths, strict=True))
    raise InvalidProblem(f"mode must be 'valid', 'same' or 'full'; got {mode!r}")


def _explicit_pads(padding: Any, ndim: int) -> tuple[tuple[int, int], ...]:
    values = padding if _is_sequence(padding) else (padding,) * ndim
    if len(values) != ndim:
        raise InvalidProblem(
            f"padding must be an integer, {ndim} integers, or {ndim} (before, after) pairs, one per spatial axis; "
            f"got {padding!r}"
        )
    pairs = [item if _is_sequence(item) else (item, item) for item in values]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidProblem(f"padding pairs must be (before, after); got {padding!r}")
    return tuple((_integer(pair[0], "padding", 0), _integer(pair[1], "padding", 0)) for pair in pairs)


def read_boundary(boundary: Any, ndim: int) -> tuple[Boundary, ...]:
    """One rule per spatial axis."""
    if isinstance(boundary, list | tuple):
        if len(boundary) != ndim:
            raise InvalidProblem(f"boundary must be one word or {ndim}, one per spatial axis; got {boundary!r}")
        return tuple(Boundary.parse(word) for word in boundary)
    return (Boundary.parse(boundary),) * ndim


def read_fill(fill_value: Any, dtype: np.dtype[Any]) -> Any:
    """Return the fill value as a Python number, exact in x's dtype."""
    if type(fill_value) is int and not fill_value:  # as nearly always: exact in every dtype
        return 0
    try:
        given = np.asarray(fill_value)
        if given.ndim != 0 or given.dtype.kind not in "biufc":
            raise TypeError
        with np.errstate(over="ignore", invalid="ignore"):
            held = given.astype(dtype)
        value, kept = given.item(), held.item()
        if not (kept == value or (value != value and held.dtype.kind in "fc")):
            raise InvalidProblem(
                f"fill_value must be exact in x's dtype {dtype}; got {fill_value!r}, which becomes {kept!r}"
            )
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidProblem):
            raise
        raise InvalidProblem(
            f"fill_value must be one number that x's dtype {dtype} holds; got {fill_value!r}"
        ) from None
    return (
        math.nan if kept != kept and isinstance(kept, float) else kept
    )  # one NaN object, so that problems compare equal


def read_axis(value: Any, ndim: int, name: str) -> int:
    """Return an axis number in 0 .. ndim - 1."""
    axis = _integer(value, name, -ndim)
    if axis >= ndim:
        raise InvalidProblem(f"{name} {axis} is out of range for x with {ndim} axes")
    return axis % ndim


def read_axes(axes: Any, x_ndim: int, ndim: int, channel: int | None) -> tuple[int, ...]:
    """Return the spatial axes of a filter, in the kernel's order."""
    if axes is None:
        free = [axis for axis in range(x_ndim) if axis != channel]
        if len(free) < ndim:
            besides = " besides channel_axis" if channel is not None else ""
            raise InvalidProblem(f"a {ndim}-D filter needs x with at least {ndim} axes{besides}; got {x_ndim} axes")
        return tuple(free[len(free) - ndim :])
    values = axes if _is_sequence(axes) else (axes,)
    if len(values) != ndim:
        raise InvalidProblem(f"axes must name {ndim} axes of x, one per kernel axis; got {axes!r}")
    chosen = tuple(read_axis(value, x_ndim, "axes") for value in values)
    if len(set(chosen)) != ndim or channel in chosen:
        raise InvalidProblem(f"axes must be different from each other and from channel_axis; got axes={axes!r}")
    return chosen


def read_output_dtype(
    dtype: Any, out: Any, x: np.dtype[Any], kernel_value: Any
) -> tuple[np.dtype[Any] | None, np.ndarray[Any, Any]]:
    """Return the explicit result dtype, from dtype or out, and the kernel that goes with it."""
    asked = None
    if dtype is not None:
        try:
            asked = np.dtype(dtype).newbyteorder("=")
        except TypeError:
            raise InvalidProblem(f"dtype must be a NumPy dtype; got {dtype!r}") from None
        check_dtype(asked, "dtype")
    if out is not None:
        check_dtype(out.dtype, "out")
        if asked is not None and out.dtype.newbyteorder("=") != asked:
            raise InvalidProblem(f"dtype={asked} and out of dtype {out.dtype} disagree; give one of them")
        asked = out.dtype.newbyteorder("=")
    if asked is not None and asked.kind == "b":
        raise InvalidProblem("dtype=bool would keep no sums; give dtype=uint8, or compare the result with 0")
    return asked, read_kernel(kernel_value, x, asked)


def result_dtype(asked: np.dtype[Any] | None, x: np.dtype[Any], kernel: np.dtype[Any], taps: int) -> np.dtype[Any]:
    """Result dtype by the rule: explicit, else exact integers, else NumPy's promotion."""
    natural = integer_sum_dtype(x, kernel, taps) if is_integer(x, kernel) else np.result_type(x, kernel)
    if asked is None:
        return natural
    if natural.kind == "c" and asked.kind != "c":
        raise InvalidProblem(
            f"x {x} and kernel {kernel} give complex results, which dtype={asked} cannot hold; take .real"
        )
    return asked


def read_bias(bias: Any, channels: int, problem_is_layer: bool, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    """Return the bias as (channels,) in the sum's dtype; it never widens the result."""
    if bias is None:
        return None
    if hasattr(bias, "__cuda_array_interface__") and hasattr(bias, "get"):
        bias = bias.get()
    given = read_array(bias, "bias")
    if given.ndim == 0 or (not problem_is_layer and given.shape == (1,)):
        given = np.broadcast_to(given.reshape(()), (channels,))
    if given.shape != (channels,):
        needed = f"one number per output channel, shape ({channels},)" if problem_is_layer else "one number"
        raise InvalidProblem(f"bias must be {needed}; got shape {given.shape}")
    if given.dtype.kind == "c" and dtype.kind != "c":
        raise InvalidProblem(
            f"a complex bias cannot be added to a result that forms in {dtype}; take .real or give dtype"
        )
    if dtype.kind in "iu" and given.dtype.kind == "f":
        if not np.array_equal(given, np.trunc(given)) or not np.isfinite(given).all():
            raise InvalidProblem(
                f"bias of an integer problem must be integers; got {given.ravel()[:4].tolist()}; give a float dtype"
            )
        if (np.abs(given) >= 2.0**63).any():
            raise OverflowError(f"bias {float(np.abs(given).max())} passes int64")
    if dtype.kind in "iu" and given.dtype == np.uint64 and given.size and int(given.max()) >= 2**63:
        raise OverflowError(f"bias {int(given.max())} passes int64")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(given.astype(np.int64 if dtype.kind in "iu" else dtype))


def read(
    ndim: int,
    flip: bool,
    x: Any,
    kernel_value: Any,
    *,
    bias: Any,
    mode: Any,
    boundary: Any,
    fill_value: Any,
    padding: Any,
    center: Any,
    stride: Any,
    dilation: Any,
    groups: Any,
    axes: Any,
    channel_axis: Any,
    conjugate: Any,
    dtype: Any,
    overflow: Any,
    out: Any,
    memory: str,
) -> Reading:
    """Read the public arguments; x is an array already (`read_array`)."""
    asked, kernel = read_output_dtype(dtype, out, x.dtype, kernel_value)
    if not isinstance(conjugate, bool | np.bool_):
        raise InvalidProblem(f"conjugate must be True or False; got {conjugate!r}")
    x_ndim, layer = x.ndim, kernel.ndim == ndim + 2
    if layer and x_ndim not in (ndim + 1, ndim + 2):
        raise InvalidProblem(
            f"a layer kernel of shape {kernel.shape} needs x of {ndim + 1} axes, or {ndim + 2} with a batch; "
            f"got shape {x.shape}"
        )
    arrays = x_ndim, x.dtype, kernel.shape, kernel.dtype, asked, bias is not None, memory
    words = overflow, mode, boundary, fill_value, padding, center, stride, dilation, groups, axes, channel_axis
    told = asked is not None and asked.metadata
    if _is_plain(words) and not (x.dtype.metadata or kernel.dtype.metadata or told):
        chars = x.dtype.char + kernel.dtype.char + (asked.char if asked is not None else "")
        form = _kept_form(chars, ndim, *arrays, *words)
    else:
        form = _Form.of(ndim, *arrays, *words)
    fields = form.fields
    if layer:
        _require_channels(x.shape, form)
        kernel = kernel.transpose(form.kernel_axes)
    x_shape = tuple([x.shape[axis] for axis in form.x_axes])
    colours = not layer and axes is None and channel_axis is None and x_ndim == ndim + 1 and x.shape[-1] in (3, 4)
    out_spatial, steps = _out_spatial(x_shape[x_ndim - ndim :], form, x.shape[-1] if colours else 0)
    lead = x_shape[: x_ndim - ndim - layer]
    out_shape = (*lead, kernel.shape[0], *out_spatial) if layer else (*lead, *out_spatial)
    if math.prod(out_shape) >= 2**62 // 16:
        raise InvalidProblem(f"the result of shape {out_shape} is larger than any memory")
    problem = Problem.sized(fields, x_shape, out_shape)
    if steps != fields["stride"]:
        problem = replace(problem, stride=steps)
    if flip:
        kernel = np.flip(kernel, tuple(range(kernel.ndim - ndim, kernel.ndim)))
    if conjugate and kernel.dtype.kind == "c":
        kernel = kernel.conj()
    added = None
    if bias is not None:
        dtypes = x.dtype, kernel.dtype, problem.out_dtype
        summed = np.dtype(np.int64) if is_integer(*dtypes) else sum_dtype(*dtypes)
        added = read_bias(bias, kernel.shape[0] if layer else 1, layer, summed)
    user_shape = tuple([out_shape[axis] for axis in form.back])
    return Reading(problem, kernel, added, form.x_axes, form.x_axes, user_shape, form.kernel_axes)


PLAIN = {type(None), str, int}


def _is_plain(words: tuple[Any, ...]) -> bool:
    """Whether equal ones mean the same: True and 1.0 are equal to 1, -0.0 to 0.0."""
    kinds = {*map(type, words)} - PLAIN
    return not kinds or (kinds == {tuple} and all(_is_plain(word) for word in words if type(word) is tuple))


@dataclass(frozen=True, slots=True)
class _Form:
    """What the arguments mean, whatever the sizes of x."""

    fields: dict[str, Any]  # of the problem, but its sizes: `Problem.sized`
    widths: tuple[int, ...]  # of the dilated kernel
    x_axes: tuple[int, ...]
    back: tuple[int, ...]  # what undoes them
    kernel_axes: tuple[int, ...]

    @classmethod
    def of(
        cls,
        ndim: int,
        x_ndim: int,
        x_dtype: np.dtype[Any],
        kernel_shape: tuple[int, ...],
        kernel_dtype: np.dtype[Any],
        asked: np.dtype[Any] | None,
        has_bias: bool,
        memory: str,
        overflow: Any,
        mode: Any,
        boundary: Any,
        fill_value: Any,
        padding: Any,
        center: Any,
        stride: Any,
        dilation: Any,
        groups: Any,
        axes: Any,
        channel_axis: Any,
    ) -> "_Form":
        """Check all that needs no sizes."""
        if not isinstance(overflow, str) or overflow not in ("saturate", "wrap", "raise"):
            raise InvalidProblem(f"overflow must be 'saturate', 'wrap' or 'raise'; got {overflow!r}")
        if len(kernel_shape) not in (ndim, ndim + 2):
            raise InvalidProblem(
                f"a {ndim}-D correlation takes a filter of {ndim} axes or a layer of {ndim + 2}; "
                f"got a kernel of shape {kernel_shape}"
            )
        layer = len(kernel_shape) == ndim + 2
        groups = _integer(groups, "groups", 1)
        kernel_axes = tuple(range(len(kernel_shape)))
        if layer:
            x_axes, kernel_axes = _layer_axes(x_ndim, kernel_shape, ndim, axes, channel_axis)
            kernel_shape = tuple(kernel_shape[axis] for axis in kernel_axes)
        else:
            if groups != 1:
                raise InvalidProblem(
                    f"groups={groups} needs a layer, a kernel of {ndim + 2} axes; got a filter of shape {kernel_shape}"
                )
            channel = None if channel_axis is None else read_axis(channel_axis, x_ndim, "channel_axis")
            spatial = read_axes(axes, x_ndim, ndim, channel)
            x_axes = (*(axis for axis in range(x_ndim) if axis not in spatial), *spatial)
        taps = kernel_shape[len(kernel_shape) - ndim :]
        if 0 in taps or (0 in kernel_shape and not (layer and kernel_shape[1] == 0)):
            raise InvalidProblem(f"the kernel must have at least one tap; got shape {kernel_shape}")
        dilations = per_axis(dilation, ndim, "dilation", 1)
        dilations = tuple(d if k > 1 else 1 for d, k in zip(dilations, taps, strict=True))  # one tap has none between
        widths = tuple(d * (k - 1) + 1 for d, k in zip(dilations, taps, strict=True))
        steps, rules = per_axis(stride, ndim, "stride", 1), read_boundary(boundary, ndim)
        pads = read_pads(mode, padding, center, widths, ndim)
        touched = any(rule is Boundary.CONSTANT and any(pair) for rule, pair in zip(rules, pads, strict=True))
        fill = read_fill(fill_value, x_dtype)
        fields = {
            "op": "forward",
            "kernel_shape": kernel_shape,
            "x_dtype": x_dtype,
            "kernel_dtype": kernel_dtype,
            "out_dtype": result_dtype(asked, x_dtype, kernel_dtype, math.prod(kernel_shape[layer:])),
            "has_bias": has_bias,
            "overflow": overflow,
            "pads": pads,
            "boundary": rules,
            "fill_value": fill if touched else 0,
            "stride": steps,
            "dilation": dilations,
            "groups": groups,
            "memory": memory,
        }
        return cls(fields, widths, x_axes, tuple(sorted(range(x_ndim), key=x_axes.__getitem__)), kernel_axes)


@lru_cache(maxsize=1024)
def _kept_form(chars: str, *given: Any) -> _Form:
    """A form, kept; `chars` tell dtypes apart that are equal, as those of long and long long."""
    return _Form.of(*given)


def forget() -> None:
    """Forget what was kept of arguments."""
    _kept_form.cache_clear()


def _layer_axes(
    x_ndim: int, kernel_shape: tuple[int, ...], ndim: int, axes: Any, channel_axis: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How a layer's x (and out) and its kernel lie to canonical order."""
    if axes is not None:
        raise InvalidProblem(
            f"a layer takes no axes; got axes={axes!r}; move the axes of x, or use a filter of {ndim} axes"
        )
    batched = x_ndim == ndim + 2
    order: tuple[int, ...] = tuple(range(x_ndim))
    kernel_order: tuple[int, ...] = tuple(range(len(kernel_shape)))
    if channel_axis is not None:
        at = read_axis(channel_axis, x_ndim, "channel_axis")
        if at == x_ndim - 1:
            order = (*order[:batched], x_ndim - 1, *order[batched:-1])
            kernel_order = (kernel_order[-1], kernel_order[-2], *kernel_order[:-2])
        elif at != batched:
            raise InvalidProblem(
                f"channel_axis of a layer must be -1, or {int(batched)} (channels first); got {channel_axis!r}"
            )
    return order, kernel_order


def _require_channels(x_shape: tuple[int, ...], form: _Form) -> None:
    """Raise where the channels of x, kernel and groups do not fit one another."""
    groups, (c_out, per_group, *taps) = form.fields["groups"], form.fields["kernel_shape"]
    c_in = x_shape[form.x_axes[len(x_shape) - len(taps) - 1]]
    if c_in != per_group * groups or c_out % groups:
        raise InvalidProblem(
            f"x has {c_in} channels and the kernel {per_group} per group with {groups} groups and {c_out} outputs; "
            f"x needs {per_group * groups} channels, and outputs a multiple of groups; "
            "for channels last say channel_axis=-1"
        )


def _out_spatial(sizes: tuple[int, ...], form: _Form, colours: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Output sizes, and strides that reach no further than the outputs.

    Raises where the kernel does not fit or an empty axis has no samples to extend; `colours` are the samples of an axis
    that may be meant for them, or 0.
    """
    fields, out, reach = form.fields, [], []
    axes = zip(sizes, form.widths, fields["pads"], fields["boundary"], fields["stride"], strict=True)
    for n, width, (before, after), rule, step in axes:
        if n == 0 and rule is not Boundary.CONSTANT:
            raise InvalidProblem(f"boundary={rule.value!r} needs samples to extend; got x with spatial shape {sizes}")
        padded = n + before + after
        room = padded - width + 1
        if room < 1 and not (room == 0 and n == 0):
            pads, taps = fields["pads"], fields["kernel_shape"][-len(sizes) :]
            how = f"padding={pads}" if any(map(any, pads)) else "mode='valid'"
            raise InvalidProblem(
                f"{how} needs the kernel to fit inside x; "
                f"got kernel {taps}{f', {form.widths} dilated,' if form.widths != taps else ''} and x {sizes}; "
                "pad x or use mode='same'"
                + (f"; if the last axis of x, of {colours}, holds colours, say channel_axis=-1" if colours else "")
            )
        if padded > LARGEST or width > LARGEST:
            raise InvalidProblem(
                f"an axis of {n} samples padded to {padded}, under a kernel {width} wide, is larger than any memory"
            )
        reach.append(min(step, max(room, 1)))  # a longer one takes the first output too, and no other
        out.append(-(-room // step))
    return tuple(out), tuple(reach)
