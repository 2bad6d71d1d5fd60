"""What each argument means by itself: arrays, axes, borders, dtypes, the bias; every check of one stands here."""

import math
import operator
from typing import Any

import numpy as np
from numpy.ma import MaskedArray

from convengine.boundary import Boundary
from convengine.errors import InvalidProblem
from convengine.problem import is_integer

FLOATS = ("float16", "float32", "float64", "complex64", "complex128")
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
    return tuple(read_integer(item, name, least) for item in values)


def read_shape(value: Any, name: str) -> tuple[int, ...]:
    """Return a shape as a tuple of integers; one integer is a shape of one axis."""
    return tuple(read_integer(size, name, 0) for size in (value if _is_sequence(value) else (value,)))


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def read_integer(value: Any, name: str, least: int) -> int:
    """Return a whole number that is not below the least allowed."""
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
            return tuple([(width - 1, width - 1) for width in widths])
        case "same":
            if center is None:
                return tuple([(width // 2, width - 1 - width // 2) for width in widths])
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
    return tuple((read_integer(pair[0], "padding", 0), read_integer(pair[1], "padding", 0)) for pair in pairs)


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
    axis = read_integer(value, name, -ndim)
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


def result_dtype(asked: np.dtype[Any] | None, x: np.dtype[Any], kernel: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype of results that are no exact integers: explicit, else NumPy's promotion."""
    natural = np.result_type(x, kernel)
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
