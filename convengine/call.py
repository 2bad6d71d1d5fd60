"""One call, ready to run: a reading of the arguments with its prepared filter, integer limits, and where results go."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from convengine import running, select
from convengine.boundary import most_copies
from convengine.cache import ENTRY_BYTES
from convengine.config import Options
from convengine.errors import InvalidProblem
from convengine.plugin import finish
from convengine.problem import Problem, largest_magnitude
from convengine.reading import Reading
from convengine.running import Prepared

__all__ = ["Call", "overlaps_itself"]

INT64_MAX = 2**63 - 1
LOW = np.uint64(2**32 - 1)
CHUNK = 1 << 16  # samples whose magnitudes are added up at once: they stay in the cache


@dataclass(slots=True)  # frozen, it would take three times as long to make
class Call:
    """A reading with its prepared filter: all that a call with these arguments needs.

    `reading.x_axes` are of the array that `run` is given, `reading.out_axes` and `out_shape` of its result, also for
    gradients.
    """

    reading: Reading  # its kernel is the prepared copy, so that a kept call keeps nothing of the user's alive
    prepared: Prepared | None  # None where there is nothing to sum: no input channels, or no samples in a gradient
    identity: bool  # x and out lie in canonical order as they are
    integer_limits: tuple[tuple[int, int], ...]  # (sum |k|, |bias|) per output channel where dtypes prove nothing
    integer_most: int  # what a result may reach
    flipped: tuple[int, ...] = ()  # canonical axes along which the result is written backwards
    conjugated: bool = False  # the result, once computed

    @classmethod
    def of(
        cls,
        reading: Reading,
        options: Options,
        *,
        explicit: bool,
        flipped: tuple[int, ...] = (),
        conjugated: bool = False,
        copy: bool = True,
    ) -> "Call":
        """Choose and prepare; `explicit`: the user named the result's dtype; `copy` the kernel, too."""
        problem = reading.problem
        forward, prepared = problem.op == "forward", None
        if problem.taps > 0 if forward else 0 not in (*problem.out_shape, *problem.result_shape):
            prepared = running.prepare(_nonempty(problem), reading.kernel, reading.bias, options, copy=copy)
        else:
            select.require(_one_channel(problem) if forward else _smallest(problem), options)
        identity = _in_order(reading.x_axes) and _in_order(reading.out_axes)
        limits, most = _integer_limits(problem, reading, explicit, prepared)
        held = prepared.kernel if prepared else np.empty(0, reading.kernel.dtype)
        return cls(Reading(problem, held, *reading[2:]), prepared, identity, limits, most, flipped, conjugated)

    @property
    def nbytes(self) -> int:
        """Bytes that keeping this call holds."""
        return ENTRY_BYTES + (self.prepared.nbytes if self.prepared else 0)

    def run(self, x: Any, out: Any) -> Any:
        """Filter x, as the user holds it, into out or a new array."""
        reading = self.reading
        problem = reading.problem
        if self.integer_limits:
            _check_integer_range(x, problem, self.integer_limits, self.integer_most)
        if self.prepared is not None:
            self.prepared.decision.require()  # also where nothing is left to compute
        shape = reading.out_shape
        result = _new(x, problem, shape) if out is None else _checked_out(out, (x, reading.kernel), problem, shape)
        if result.size:
            view, target = x, result
            if not self.identity:
                view, target = x.transpose(reading.x_axes), result.transpose(reading.out_axes)
            if self.flipped:
                target = np.flip(target, self.flipped)
            if self.prepared is None:
                xp = np if problem.memory == "host" else sys.modules["cupy"]
                finish(problem, xp.zeros(problem.result_shape, problem.sum_dtype), reading.bias, target, xp=xp)
            else:
                if not view.size:
                    view = _all_padding(problem)
                returned = self.prepared(view, target)
                if returned is not target:
                    self.settle(returned, target)
            if self.conjugated:
                np.conjugate(result, out=result)
        if out is None or result is out:
            return result
        out[...] = result
        return out

    def settle(self, returned: Any, target: Any) -> None:
        """Write to target what a filter handed back as an array of its own."""
        assert self.prepared is not None
        self.prepared.check_result(returned)
        target[...] = returned


@lru_cache(maxsize=256)
def _in_order(axes: tuple[int, ...]) -> bool:
    return axes == tuple(range(len(axes)))


def _all_padding(problem: Problem) -> np.ndarray[Any, Any]:
    """What an x without samples is once it is padded: every sample the fill value."""
    return np.full(_nonempty(problem).x_shape, problem.fill_value, problem.x_dtype)


def _new(x: Any, problem: Problem, shape: tuple[int, ...]) -> Any:
    if problem.memory == "host":
        return np.empty(shape, problem.result_dtype)
    with x.device:
        return sys.modules["cupy"].empty(shape, problem.result_dtype)  # the library of x, so it is loaded


def _overlaps(out: Any, x: Any) -> bool:
    return isinstance(out, np.ndarray) and isinstance(x, np.ndarray) and np.may_share_memory(out, x)


def overlaps_itself(out: np.ndarray[Any, Any]) -> bool:
    """Whether a step along one axis may meet what the axes of smaller steps reach."""
    if not out.size:  # NumPy gives an empty array steps of 0
        return False
    reach = out.itemsize
    for step, size in sorted((abs(step), size) for step, size in zip(out.strides, out.shape, strict=True) if size > 1):
        if step < reach:
            return True
        reach += step * (size - 1)
    return False


def _checked_out(out: Any, operands: tuple[Any, ...], problem: Problem, shape: tuple[int, ...]) -> Any:
    """Return `out` itself, or a new array to be copied into it where a kernel must not write straight there."""
    if out.shape != shape:
        raise InvalidProblem(f"out must have shape {shape}; got {out.shape}")
    if isinstance(out, np.ndarray):
        if not out.flags.writeable:
            raise InvalidProblem("out is read-only; pass a writable array")
        if overlaps_itself(out):
            raise InvalidProblem(f"out of strides {out.strides} writes several results to one place; pass a copy")
        if not (out.dtype.isnative and out.flags.aligned) or any(_overlaps(out, operand) for operand in operands):
            return np.empty(shape, problem.result_dtype)
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
        what, with_what = {"forward": ("x", "kernel"), "grad_input": ("dy", "kernel"), "grad_kernel": ("x", "dy")}[
            problem.op
        ]
        raise OverflowError(
            f"an integer result may reach {reach}, past {past}: |{what}| up to {largest}, sum of |{with_what}| up to "
            f"{max(taps for taps, _ in limits)}, |bias| up to {max(bias for _, bias in limits)}; give {advice}"
        )


def _integer_limits(
    problem: Problem, reading: Reading, explicit: bool, prepared: Prepared | None
) -> tuple[tuple[tuple[int, int], ...], int]:
    """(sum |k|, |bias|) per result channel, and what they may reach; none where dtypes and kernel prove it already."""
    if not problem.is_integer:
        return (), 0
    bias, largest = reading.bias, largest_magnitude(problem.samples_dtype)
    # The default int32 follows from dtypes and taps; a bias may pass it, and never silently.
    most = INT64_MAX if explicit or bias is None else int(np.iinfo(problem.out_dtype).max)
    if bias is None and largest * largest_magnitude(reading.kernel.dtype) * problem.terms <= most:
        return (), most
    if problem.op == "forward" and prepared is not None and bias is None:
        sums = [int(prepared.facts.abs_sum)]  # the largest of all channels, exactly
    else:
        sums = _magnitude_sums(problem, reading.kernel)
    biases = [0] * len(sums) if bias is None else [abs(value) for value in bias.tolist()]
    limits = tuple(set(zip(sums, biases, strict=True)))
    reach = max((largest * taps + extra for taps, extra in limits), default=0)
    return (limits, most) if reach > most else ((), most)


def _magnitude_sums(problem: Problem, weights: np.ndarray[Any, Any]) -> list[int]:
    """Sum of |weights| that one result may meet, per channel of the result, exactly."""
    groups, (c_in, c_out) = problem.groups, problem.channels
    copies = 1
    match problem.op:
        case "forward":
            channels = weights.reshape(c_out, *weights.shape[problem.is_layer :])
        case "grad_input":  # all taps may meet at a sample, and at each of its copies in the border
            apart = weights.reshape(groups, c_out // groups, c_in // groups, *problem.kernel_spatial)
            channels = apart.swapaxes(1, 2).reshape(c_in, c_out // groups, *problem.kernel_spatial)
            for axis, (n, pair) in enumerate(zip(problem.spatial, problem.pads, strict=True)):
                copies *= most_copies(problem.boundary[axis], n, *pair)
        case "grad_kernel":
            batch = problem.batch
            channels = np.moveaxis(weights.reshape(*batch, c_out, *problem.out_spatial), len(batch), 0)
    return [copies * _magnitude_sum(channel) for channel in channels]


def _magnitude_sum(weights: np.ndarray[Any, Any]) -> int:
    """Sum of |weights|, exactly, piece by piece: out's gradient may be as large as x."""
    total, unsigned = 0, weights.dtype.kind in "bu"
    pieces: Iterable[Any] = np.nditer(weights, flags=["external_loop", "buffered", "zerosize_ok"], buffersize=CHUNK)
    for piece in pieces:
        # |int64's least| is itself, and 2**63 as uint64; halves of 32 bits add up without overflow.
        magnitudes = piece.astype(np.uint64) if unsigned else np.abs(piece.astype(np.int64)).view(np.uint64)
        total += int((magnitudes & LOW).sum()) + (int((magnitudes >> np.uint64(32)).sum()) << 32)
    return total


def _one_channel(problem: Problem) -> Problem:
    """A layer without input channels, with one to a group: who would compute it."""
    lead, spatial = problem.batch, problem.spatial
    kernel_shape = (problem.kernel_shape[0], 1, *problem.kernel_spatial)
    return replace(problem, x_shape=(*lead, problem.groups, *spatial), kernel_shape=kernel_shape)


def _smallest(problem: Problem) -> Problem:
    """A gradient without samples, as one of the kind that has them: who would compute it."""
    axes = zip(problem.kernel_spatial, problem.dilation, strict=True)
    lead = (1,) * len(problem.batch)
    c_in, c_out = problem.groups, problem.channels[1]
    return replace(
        problem,
        x_shape=(*lead, *((c_in,) if problem.is_layer else ()), *(d * (k - 1) + 1 for k, d in axes)),
        kernel_shape=(*((c_out, 1) if problem.is_layer else ()), *problem.kernel_spatial),
        out_shape=(*lead, *((c_out,) if problem.is_layer else ()), *(1,) * problem.ndim),
        pads=((0, 0),) * problem.ndim,
    )


def _nonempty(problem: Problem) -> Problem:
    """The problem whose filter serves: an x that is nothing but padding is handed over padded."""
    if 0 not in problem.spatial or problem.op == "grad_input":
        return problem
    padded = tuple(n + before + after for n, (before, after) in zip(problem.spatial, problem.pads, strict=True))
    lead = problem.x_shape[: len(problem.x_shape) - problem.ndim]
    return replace(problem, x_shape=(*lead, *padded), pads=((0, 0),) * problem.ndim)
