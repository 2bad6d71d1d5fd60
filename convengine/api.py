"""The public operations: read the arguments, choose and prepare, run.

A call goes api -> select -> running -> backend -> kernel. What depends only on the problem and the
kernel's content is kept in `_calls`, so that a repeated call does none of it again. What a repeated
call on plain arrays says is kept in `_warm`, too, which leads to the prepared filter in one step.
"""

import warnings
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.ma import MaskedArray

from convengine import config, libraries, missing, recall, running, select
from convengine.arguments import read_array, weak_kind
from convengine.cache import Cache
from convengine.call import Call
from convengine.config import Options
from convengine.docstrings import document
from convengine.errors import InvalidProblem
from convengine.reading import forget, read
from convengine.reading_gradients import read_grad_input, read_grad_kernel
from convengine.region import Cut

__all__ = [
    "DEFAULTS",
    "GRADIENTS",
    "OPERATIONS",
    "SOME",
    "check_out_type",
    "clear_cache",
    "conv1d",
    "conv2d",
    "conv3d",
    "corr1d",
    "corr2d",
    "corr3d",
    "find",
    "memory_of",
    "new_call",
    "run_gradient",
    "warn_channels",
]


class Kind(NamedTuple):
    """What tells the operations apart."""

    ndim: int
    flip: bool
    op: Literal["forward", "grad_input", "grad_kernel"]


OPERATIONS = {f"{kind}{n}d": Kind(n, kind == "conv", "forward") for kind in ("corr", "conv") for n in (1, 2, 3)}
GRADIENTS = {
    **{f"{name}_grad_input": kind._replace(op="grad_input") for name, kind in OPERATIONS.items()},
    **{f"{name}_grad_kernel": kind._replace(op="grad_kernel") for name, kind in OPERATIONS.items()},
}
KINDS = OPERATIONS | GRADIENTS
DEFAULTS: dict[str, Any] = {
    "bias": None,
    "mode": None,
    "boundary": "constant",
    "fill_value": 0,
    "padding": None,
    "center": None,
    "stride": 1,
    "dilation": 1,
    "groups": 1,
    "axes": None,
    "channel_axis": None,
    "conjugate": False,
    "dtype": None,
    "overflow": "saturate",
}
PROPAGATE, NOTHING = "propagate", 0  # defaults of the next, known by identity
# Keywords that leave out samples, or results; gradients have none.
SOME = ("nan_policy", "mask", "min_weight", "region")


class Operation(Protocol):
    """The signature that all six operations share."""

    __name__: str
    __qualname__: str

    def __call__(
        self,
        x: Any,
        kernel: Any,
        *,
        bias: Any = None,
        mode: str | None = None,
        boundary: Any = "constant",
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
        nan_policy: str = "propagate",
        mask: Any = None,
        min_weight: float = 0,
        region: Any = None,
        out: Any = None,
        backend: Any = None,
        workers: int | None = None,
    ) -> Any:
        """Correlate or convolve."""


def memory_of(x: Any) -> str:
    """Where the samples of x are, as a Problem says it; what stands for an x that is not at hand says so itself."""
    if isinstance(said := getattr(x, "memory", None), str):
        return said
    return f"cuda:{x.device.id}" if hasattr(x, "__cuda_array_interface__") else "host"


def new_call(
    name: str, first: Any, second: Any, keywords: dict[str, Any], out: Any, options: Options, copy: bool = True
) -> Call:
    """Read the arguments and prepare the filter: the cold path."""
    ndim, flip, op = KINDS[name]
    explicit = keywords["dtype"] is not None or out is not None
    if op == "forward":
        reading = read(ndim, flip, first, second, **keywords, out=out, memory=memory_of(first))
        return Call.of(reading, options, explicit=explicit, copy=copy)
    if op == "grad_input":
        reading = read_grad_input(ndim, flip, first, second, **keywords, out=out, memory=memory_of(first))
        return Call.of(reading, options, explicit=explicit)
    reading = read_grad_kernel(ndim, flip, first, second, **keywords, out=out, memory=memory_of(first))
    rank = len(reading.problem.kernel_shape)
    return Call.of(
        reading,
        options,
        explicit=explicit,
        flipped=tuple(range(rank - ndim, rank)) if flip else (),
        conjugated="c" in (first.dtype.kind, reading.kernel.dtype.kind) and not keywords["conjugate"],
    )


_calls = Cache(256 << 20)  # by everything that a call says but the samples of x


_warm = recall.table(("", *(value for word, value in DEFAULTS.items() if word != "bias"), None, None))


def _content(value: Any) -> Any:
    """A hashable that stands for a kernel's or bias's content, dtype and shape; TypeError where there is none."""
    if isinstance(value, np.ndarray) and not isinstance(value, MaskedArray):
        return value.shape, value.dtype.str, value.tobytes()
    if value is None:
        return None
    if weak_kind(value):
        return repr(value)  # tells 1, 1.0 and True apart, and float's repr is exact
    raise TypeError


def _frozen(value: Any) -> Any:
    """A hashable that stands for a keyword's value; numbers with their type, since 1 == 1.0 == True."""
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if isinstance(value, bool | int | float | complex | np.generic):
        return type(value), repr(value)
    if isinstance(value, np.ndarray):
        return _content(value)
    return value


def _key(name: str, first: Any, second: Any, keywords: dict[str, Any], out: Any, options: Options) -> Any:
    """What tells this call from others; None where something in it has no content to compare or will not come again."""
    if KINDS[name].op == "grad_kernel":  # its second operand is data
        return None
    said = [(word, _frozen(v)) for word, v in keywords.items() if v is not DEFAULTS.get(word, ...) and word != "bias"]
    try:
        contents = _content(second), _content(keywords["bias"])
    except (TypeError, RecursionError):
        return None
    key = (
        name,
        first.shape,
        first.dtype,
        memory_of(first),
        *contents,
        *said,
        None if out is None else out.dtype,
        options,
    )
    try:
        hash(key)
    except TypeError:
        return None
    return key


def find(name: str, first: Any, second: Any, keywords: dict[str, Any], out: Any, options: Options) -> tuple[Call, Any]:
    """The call for these arguments, kept from before or new; and the key to keep a new one under, else None.

    `first` and `second` are x and kernel, in a gradient dy and kernel or x and dy; `keywords` holds every one that says
    what to compute.
    """
    key = _key(name, first, second, keywords, out, options)
    kept: Call | None = _calls.get(key) if key is not None else None
    if kept is not None:
        return kept, None
    return new_call(name, first, second, keywords, out, options), key


def _correlate(name: str, x: Any, kernel: Any, out: Any, backend: Any, workers: Any, keywords: dict[str, Any]) -> Any:
    if type(x) is not np.ndarray or type(kernel) is not np.ndarray or keywords["bias"] is not None or out is not None:
        other = libraries.adapter(x, kernel, keywords["bias"], out)
        if other is not None:
            return other.apply(name, x, kernel, keywords, out, backend, workers)
    drawn = config.standing()
    options = config.current(backend=backend, workers=workers, drawn=drawn)
    given, x = x, read_array(x, "x")
    if out is not None:
        check_out_type(out, x)
    ndim = OPERATIONS[name].ndim
    warned = x.ndim == ndim + 1 and warn_channels(ndim, x, kernel, keywords, stacklevel=4)
    call, key = find(name, x, kernel, keywords, out, options)
    result = _run(call, key, x, out)
    if key is None and not warned:
        bias, *words = keywords.values()
        recall.keep(_warm, call, given, kernel, out, bias, (name, *words, backend, workers), drawn)
    return result


def _some(
    name: str,
    x: Any,
    kernel: Any,
    out: Any,
    backend: Any,
    workers: Any,
    keywords: dict[str, Any],
    region: Any,
    mask: Any,
    nan_policy: Any,
    min_weight: Any,
) -> Any:
    """Part of the result, or of some of the samples."""
    ndim, flip, _ = OPERATIONS[name]
    omits = missing.check_policy(nan_policy) != "propagate"
    share = missing.check_weight(min_weight)
    library = libraries.adapter(x)
    if library is None:
        x = x if isinstance(x, MaskedArray) else read_array(x, "x")
        omits = omits and x.dtype.kind in "fc"  # integers have no NaN

    def operate(x: Any, kernel: Any, *, out: Any = None, **said: Any) -> Any:
        if region is None:
            return _OPERATIONS[name](x, kernel, out=out, backend=backend, workers=workers, **said)
        return _part(name, x, kernel, region, out, backend, workers, said)

    if mask is None and not omits and not isinstance(x, MaskedArray):
        return operate(x, kernel, out=out, **keywords)
    if library is not None:
        what = "mask" if mask is not None else "nan_policy"
        raise InvalidProblem(f"{what} needs a NumPy array; got {type(x).__name__}; replace what is missing first")

    def reading_of(x: Any, kernel: Any, said: dict[str, Any], out: Any) -> Any:
        return read(ndim, flip, x, kernel, **said, out=out, memory=memory_of(x))

    how = {"mask": mask, "nan_policy": nan_policy, "min_weight": share, "out": out}
    return missing.run(operate, reading_of, x, kernel, **how, **keywords)


def _part(
    name: str, x: Any, kernel: Any, region: Any, out: Any, backend: Any, workers: Any, keywords: dict[str, Any]
) -> Any:
    """A region of the result, from the samples that it needs."""
    ndim, flip, _ = OPERATIONS[name]
    warn_channels(ndim, x, kernel, keywords, stacklevel=5)
    cut = Cut.of(ndim, flip, tuple(x.shape), np.shape(kernel), region, keywords)
    samples = cut.samples(x)
    target = None if cut.is_empty else out
    result = _OPERATIONS[name](samples, kernel, out=target, backend=backend, workers=workers, **cut.keywords)
    if not cut.is_empty:
        return result
    result = result[cut.kept]
    if out is None:
        return result
    check_out_type(out, x)
    if keywords["dtype"] is not None and np.dtype(keywords["dtype"]) != out.dtype:
        raise InvalidProblem(f"dtype={keywords['dtype']} and out of dtype {out.dtype} disagree; give one of them")
    if tuple(out.shape) != tuple(result.shape):
        raise InvalidProblem(f"out must have shape {tuple(result.shape)}; got {tuple(out.shape)}")
    return out


def _run(call: Call, key: Any, x: Any, out: Any) -> Any:
    result = call.run(x, out)
    if key is not None:  # kept once it has run, when it is known what its filter holds
        _calls.put(key, call, call.nbytes)
    return result


def run_gradient(
    name: str, first: Any, second: Any, shape: Any, out: Any, backend: Any, workers: Any, keywords: dict[str, Any]
) -> Any:
    """Compute a gradient: `first` and `second` are dy and kernel, or x and dy."""
    is_input = GRADIENTS[name].op == "grad_input"
    keywords["x_shape" if is_input else "kernel_shape"] = shape
    other = libraries.adapter(first, second, keywords["bias"], out)
    if other is not None:
        return other.apply(name, first, second, keywords, out, backend, workers)
    options = config.current(backend=backend, workers=workers)
    first = read_array(first, "dy" if is_input else "x")
    if out is not None:
        check_out_type(out, first)
    call, key = find(name, first, second, keywords, out, options)
    return _run(call, key, first, out)


def check_out_type(out: Any, x: Any) -> None:
    """Raise unless out is an array of x's library; a masked one is not."""
    kind = np.ndarray if isinstance(x, np.ndarray) else type(x)
    if isinstance(out, MaskedArray) or not isinstance(out, kind):
        raise InvalidProblem(f"out must be an array of x's library, {type(x).__name__}; got {type(out).__name__}")


def warn_channels(ndim: int, x: Any, kernel: Any, keywords: dict[str, Any], stacklevel: int) -> bool:
    """Warn where a filter is about to run over what are probably colours; whether that was so."""
    unsaid = keywords["axes"] is None and keywords["channel_axis"] is None
    if not (x.ndim == ndim + 1 and x.shape[-1] in (3, 4) and unsaid and np.ndim(kernel) == ndim):
        return False
    warnings.warn(
        f"x of shape {x.shape} looks like an image with {x.shape[-1]} channels last, but its last axis is filtered "
        "as a spatial axis; say channel_axis=-1 for channels, or axes=... to silence this",
        stacklevel=stacklevel,
    )
    return True


def _operation(name: str) -> Operation:
    """Make one of the six public operations: they share one signature and differ in rank and flip."""

    def operation(
        x: Any,
        kernel: Any,
        *,
        bias: Any = None,
        mode: str | None = None,
        boundary: Any = "constant",
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
        nan_policy: str = PROPAGATE,
        mask: Any = None,
        min_weight: float = NOTHING,
        region: Any = None,
        out: Any = None,
        backend: Any = None,
        workers: int | None = None,
    ) -> Any:
        plain = mask is None and region is None and nan_policy is PROPAGATE and min_weight is NOTHING
        recalled = plain and _warm.run(
            x,
            kernel,
            out,
            bias,
            name,
            mode,
            boundary,
            fill_value,
            padding,
            center,
            stride,
            dilation,
            groups,
            axes,
            channel_axis,
            conjugate,
            dtype,
            overflow,
            backend,
            workers,
        )
        if plain and recalled is not None:
            return recalled
        keywords = {
            "bias": bias,
            "mode": mode,
            "boundary": boundary,
            "fill_value": fill_value,
            "padding": padding,
            "center": center,
            "stride": stride,
            "dilation": dilation,
            "groups": groups,
            "axes": axes,
            "channel_axis": channel_axis,
            "conjugate": conjugate,
            "dtype": dtype,
            "overflow": overflow,
        }
        if not plain or isinstance(x, MaskedArray):
            return _some(name, x, kernel, out, backend, workers, keywords, region, mask, nan_policy, min_weight)
        return _correlate(name, x, kernel, out, backend, workers, keywords)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = document(name)
    return operation


corr1d = _operation("corr1d")
corr2d = _operation("corr2d")
corr3d = _operation("corr3d")
conv1d = _operation("conv1d")
conv2d = _operation("conv2d")
conv3d = _operation("conv3d")
_OPERATIONS = {operation.__name__: operation for operation in (corr1d, corr2d, corr3d, conv1d, conv2d, conv3d)}


def clear_cache() -> None:
    """Forget every plan and prepared kernel.

    Examples
    --------
    >>> import convengine as ce
    >>> ce.clear_cache()
    """
    _warm.clear()
    _calls.clear()
    forget()
    select.forget()
    running.forget()
