"""The public operations: read the arguments, choose and prepare, run.

A call goes api -> select -> backend -> kernel. What depends only on the problem and the
kernel's content is kept in `_calls`, so that a repeated call does none of it again.
"""

import sys
import warnings
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.ma import MaskedArray

from convengine import config, select
from convengine.config import Options
from convengine.docstrings import document
from convengine.errors import InvalidProblem
from convengine.plugin import finish
from convengine.problem import Problem, largest_magnitude
from convengine.reading import Reading, read, read_array, weak_kind
from convengine.select import Prepared

__all__ = [
    "DEFAULTS",
    "OPERATIONS",
    "Call",
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
    "warn_channels",
]

INT64_MAX = 2**63 - 1
OPERATIONS = {f"{kind}{ndim}d": (ndim, kind == "conv") for kind in ("corr", "conv") for ndim in (1, 2, 3)}
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
        out: Any = None,
        backend: Any = None,
        workers: int | None = None,
    ) -> Any:
        """Correlate or convolve."""


@dataclass(frozen=True, slots=True)
class Call:
    """A reading with its prepared filter: all that a call with these arguments needs."""

    reading: Reading
    prepared: Prepared | None  # None where there is nothing to sum: no input channels
    identity: bool  # x and out lie in canonical order as they are
    integer_limits: tuple[tuple[int, int], ...]  # (sum |k|, |bias|) per output channel where dtypes prove nothing
    integer_most: int  # what a result may reach

    @property
    def nbytes(self) -> int:
        """Bytes that keeping this call holds."""
        return select.ENTRY_BYTES + self.reading.kernel.nbytes + (self.prepared.nbytes if self.prepared else 0)

    def run(self, x: Any, out: Any) -> Any:
        """Filter x, as the user holds it, into out or a new array."""
        reading = self.reading
        problem = reading.problem
        if self.integer_limits:
            _check_integer_range(x, problem, self.integer_limits, self.integer_most)
        if self.prepared is not None:
            self.prepared.decision.require()  # also where nothing is left to compute
        shape = reading.out_shape
        result = _new(x, problem, shape) if out is None else _checked_out(out, x, problem, shape)
        if result.size:
            view, target = x, result
            if not self.identity:
                view, target = x.transpose(reading.x_axes), result.transpose(reading.out_axes)
            if self.prepared is None:
                finish(problem, np.zeros(problem.out_shape, problem.sum_dtype), reading.bias, target)
            else:
                if not view.size:
                    view = _all_padding(problem)
                returned = self.prepared(view, target)
                if returned is not target:  # a filter may hand back an array of its own
                    self.prepared.check_result(returned)
                    target[...] = returned
        if out is None or result is out:
            return result
        out[...] = result
        return out


def _all_padding(problem: Problem) -> np.ndarray[Any, Any]:
    """What an x without samples is once it is padded: every sample the fill value."""
    return np.full(_nonempty(problem).x_shape, problem.fill_value, problem.x_dtype)


def _new(x: Any, problem: Problem, shape: tuple[int, ...]) -> Any:
    if problem.memory == "host":
        return np.empty(shape, problem.out_dtype)
    with x.device:
        return sys.modules["cupy"].empty(shape, problem.out_dtype)  # the library of x, so it is loaded


def _overlaps(out: Any, x: Any) -> bool:
    return isinstance(out, np.ndarray) and isinstance(x, np.ndarray) and np.may_share_memory(out, x)


def _overlaps_itself(out: np.ndarray[Any, Any]) -> bool:
    """Whether a step along one axis may meet what the axes of smaller steps reach."""
    reach = out.itemsize
    for step, size in sorted((abs(step), size) for step, size in zip(out.strides, out.shape, strict=True) if size > 1):
        if step < reach:
            return True
        reach += step * (size - 1)
    return False


def _checked_out(out: Any, x: Any, problem: Problem, shape: tuple[int, ...]) -> Any:
    """Return `out` itself, or a new array to be copied into it where a kernel must not write straight there."""
    if out.shape != shape:
        raise InvalidProblem(f"out must have shape {shape}; got {out.shape}")
    if isinstance(out, np.ndarray):
        if not out.flags.writeable:
            raise InvalidProblem("out is read-only; pass a writable array")
        if _overlaps_itself(out):
            raise InvalidProblem(f"out of strides {out.strides} writes several results to one place; pass a copy")
        if not (out.dtype.isnative and out.flags.aligned) or _overlaps(out, x):
            return np.empty(shape, problem.out_dtype)
    return out


def _check_integer_range(x: Any, problem: Problem, limits: tuple[tuple[int, int], ...], most: int) -> None:
    """Raise OverflowError where max(|x|, |fill|) * sum|k| + |bias| passes `most`."""
    largest = max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0
    largest = max(largest, abs(int(problem.fill_value)))
    reach = max(largest * taps + bias for taps, bias in limits)
    if reach > most:
        past, advice = (
            ("int64", "dtype=float64 or smaller values")
            if most == INT64_MAX
            else (f"the int32 that {problem.x_dtype} by {problem.kernel_dtype} gives", "dtype=np.int64")
        )
        raise OverflowError(
            f"an integer result may reach {reach}, past {past}: |x| up to {largest}, sum of |kernel| up to "
            f"{max(taps for taps, _ in limits)}, |bias| up to {max(bias for _, bias in limits)}; give {advice}"
        )


def _integer_limits(
    problem: Problem, kernel: np.ndarray[Any, Any], bias: Any, explicit: bool
) -> tuple[tuple[tuple[int, int], ...], int]:
    """(sum |k|, |bias|) per output channel, and what they may reach; none where dtypes and kernel prove it already."""
    if not problem.is_integer:
        return (), 0
    # The default int32 follows from dtypes and taps; a bias may pass it, and never silently.
    most = INT64_MAX if explicit or bias is None else int(np.iinfo(problem.out_dtype).max)
    channels = problem.channels[1]
    rows = kernel.reshape(channels, -1) if kernel.size else np.zeros((channels, 0), np.int64)
    sums = [sum(abs(value) for value in row) for row in rows.tolist()]
    biases = [0] * len(sums) if bias is None else [abs(value) for value in bias.tolist()]
    limits = tuple(set(zip(sums, biases, strict=True)))
    reach = max((largest_magnitude(problem.x_dtype) * taps + extra for taps, extra in limits), default=0)
    return (limits, most) if reach > most else ((), most)


def memory_of(x: Any) -> str:
    """Where the samples of x are, as a Problem says it; what stands for an x that is not at hand says so itself."""
    if isinstance(said := getattr(x, "memory", None), str):
        return said
    return f"cuda:{x.device.id}" if hasattr(x, "__cuda_array_interface__") else "host"


def _prepare(ndim: int, flip: bool, x: Any, kernel: Any, keywords: dict[str, Any], out: Any, options: Options) -> Call:
    """Read the arguments and prepare the filter: the cold path."""
    reading = read(ndim, flip, x, kernel, **keywords, out=out, memory=memory_of(x))
    problem = reading.problem
    explicit = keywords["dtype"] is not None or out is not None
    if problem.taps:
        prepared = select.prepare(_nonempty(problem), reading.kernel, reading.bias, options)
    else:
        prepared = None
        select.require(_one_channel(problem), options)
    identity = reading.x_axes == reading.out_axes == tuple(range(len(reading.x_axes)))
    return Call(reading, prepared, identity, *_integer_limits(problem, reading.kernel, reading.bias, explicit))


def _one_channel(problem: Problem) -> Problem:
    """A layer without input channels, with one to a group: who would compute it."""
    lead, spatial = problem.batch, problem.spatial
    kernel_shape = (problem.kernel_shape[0], 1, *problem.kernel_spatial)
    return replace(problem, x_shape=(*lead, problem.groups, *spatial), kernel_shape=kernel_shape)


def _nonempty(problem: Problem) -> Problem:
    """The problem whose filter serves: an x that is nothing but padding is handed over padded."""
    if 0 not in problem.spatial:
        return problem
    padded = tuple(n + before + after for n, (before, after) in zip(problem.spatial, problem.pads, strict=True))
    lead = problem.x_shape[: len(problem.x_shape) - problem.ndim]
    return replace(problem, x_shape=(*lead, *padded), pads=((0, 0),) * problem.ndim)


_calls = select.Cache(256 << 20)  # by everything that a call says but the samples of x


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


def _key(ndim: int, flip: bool, x: Any, kernel: Any, keywords: dict[str, Any], out: Any, options: Options) -> Any:
    """What tells this call from others; None where something in it has no content to compare."""
    said = [(name, _frozen(v)) for name, v in keywords.items() if v is not DEFAULTS[name] and name != "bias"]
    try:
        contents = _content(kernel), _content(keywords["bias"])
    except (TypeError, RecursionError):
        return None
    key = ndim, flip, x.shape, x.dtype, memory_of(x), *contents, *said, None if out is None else out.dtype, options
    try:
        hash(key)
    except TypeError:
        return None
    return key


def find(
    ndim: int, flip: bool, x: Any, kernel: Any, keywords: dict[str, Any], out: Any, options: Options
) -> tuple[Call, Any]:
    """The call for these arguments, kept from before or new; and the key to keep a new one under, else None."""
    key = _key(ndim, flip, x, kernel, keywords, out, options)
    kept: Call | None = _calls.get(key) if key is not None else None
    if kept is not None:
        return kept, None
    return _prepare(ndim, flip, x, kernel, keywords, out, options), key


def _correlate(
    ndim: int, flip: bool, x: Any, kernel: Any, out: Any, backend: Any, workers: Any, keywords: dict[str, Any]
) -> Any:
    options = config.current(backend=backend, workers=workers)
    x = read_array(x, "x")
    if out is not None:
        check_out_type(out, x)
    if x.ndim == ndim + 1:
        warn_channels(ndim, x, kernel, keywords, stacklevel=4)
    call, key = find(ndim, flip, x, kernel, keywords, out, options)
    result = call.run(x, out)
    if key is not None:  # kept once it has run, when it is known what its filter holds
        _calls.put(key, call, call.nbytes)
    return result


def check_out_type(out: Any, x: Any) -> None:
    """Raise unless out is an array of x's library; a masked one is not."""
    kind = np.ndarray if isinstance(x, np.ndarray) else type(x)
    if isinstance(out, MaskedArray) or not isinstance(out, kind):
        raise InvalidProblem(f"out must be an array of x's library, {type(x).__name__}; got {type(out).__name__}")


def warn_channels(ndim: int, x: Any, kernel: Any, keywords: dict[str, Any], stacklevel: int) -> None:
    """Warn where a filter is about to run over what are probably colours."""
    unsaid = keywords["axes"] is None and keywords["channel_axis"] is None
    if x.ndim == ndim + 1 and x.shape[-1] in (3, 4) and unsaid and np.ndim(kernel) == ndim:
        warnings.warn(
            f"x of shape {x.shape} looks like an image with {x.shape[-1]} channels last, but its last axis is filtered "
            "as a spatial axis; say channel_axis=-1 for channels, or axes=... to silence this",
            stacklevel=stacklevel,
        )


def _operation(name: str) -> Operation:
    """Make one of the six public operations: they share one signature and differ in rank and flip."""
    ndim, flip = OPERATIONS[name]

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
        out: Any = None,
        backend: Any = None,
        workers: int | None = None,
    ) -> Any:
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
        return _correlate(ndim, flip, x, kernel, out, backend, workers, keywords)

    operation.__name__ = operation.__qualname__ = name
    operation.__doc__ = document(name)
    return operation


corr1d = _operation("corr1d")
corr2d = _operation("corr2d")
corr3d = _operation("corr3d")
conv1d = _operation("conv1d")
conv2d = _operation("conv2d")
conv3d = _operation("conv3d")


def clear_cache() -> None:
    """Forget every plan and prepared kernel.

    Examples
    --------
    >>> import convengine as ce
    >>> ce.clear_cache()
    """
    _calls.clear()
    select.clear_decisions()
