"""Filters as one launch of a CUDA kernel of our own: rolling strips, or one thread for each output.

Nothing here knows of devices: `load` makes a function of a source, and `xp` is the array module. Sums add their taps in
row-major order in either kernel, so that an output's bits follow from its samples and the taps alone. Separable
filters go by strips always, for the same reason.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from convengine.factoring import Factors
from convengine.plugin import finish
from convengine.problem import Problem
from convengine_cupy import layout
from convengine_cupy.layout import Layout
from convengine_cupy.variants import COLUMNS, THREADS, Variant

__all__ = [
    "MOST_SEEN",
    "Filter",
    "Found",
    "Launch",
    "answered",
    "in_samples",
    "prepare",
    "prepare_there",
    "refusal",
    "rolls",
    "rolls_separably",
    "temporaries",
    "writes_results",
]

WARPS = 4
MOST_TAPS = 256  # that are unrolled, and lie among the parameters of a launch
MOST_HEIGHT = 16  # rows of sums that a lane keeps
MOST_SHARED = 13  # taps across whose samples a lane shares between them; any number where it keeps one row of sums
MOST_COLUMN = 32  # rows of sums of a separable kernel, which has registers to spare
REACH = 256  # samples of a row beyond a strip
PLACES = 2**30  # along an axis, for 32-bit arithmetic
MOST_SEEN = 64
MOST_STRIPS = 2**31 - 1  # and outputs that are counted in 32 bits

Array: TypeAlias = np.ndarray[Any, Any]
Launch: TypeAlias = Callable[[tuple[int], tuple[int], tuple[Any, ...]], None]  # grid, block, arguments
Found: TypeAlias = tuple[Variant, int, Array]  # what is compiled, blocks, the structure `Arguments`


def refusal(problem: Problem) -> str:
    """Why it does not do this problem; empty if it does."""
    if problem.is_layer:
        return "filters only"
    if problem.sum_dtype.kind == "c":
        return "sums of real numbers only"
    return ""


def rolls(problem: Problem) -> bool:
    """Whether a problem may go by strips, as far as its shape tells; channels that lie last may yet reach too far."""
    height, width = (1, *problem.kernel_spatial)[-2:]
    reach = (width - 1) * problem.dilation[-1]
    pads = [sum(pair) for pair in problem.pads]
    short = all(n + pad < PLACES for n, pad in zip(problem.spatial, pads, strict=True))
    small = height <= MOST_HEIGHT and height * width <= MOST_TAPS and reach <= REACH
    return problem.ndim < 3 and set(problem.stride) == {1} and small and short


def rolls_separably(problem: Problem) -> bool:
    """Whether a problem may go by strips, once its kernel is a column and a row."""
    height, width = problem.kernel_spatial
    rows, columns = problem.out_spatial
    few = math.prod(problem.batch) * rows * -(-columns // min(COLUMNS.values())) <= MOST_STRIPS
    return few and height <= MOST_COLUMN and rolls(replace(problem, kernel_shape=(1, width)))


def writes_results(problem: Problem) -> bool:
    """Whether the kernel rounds by itself; what may have to raise an error is left to `plugin.finish`."""
    if problem.out_dtype == problem.sum_dtype:
        return True
    if problem.out_dtype.kind == "f":
        return problem.sum_dtype.kind == "f"
    return problem.is_integer and problem.overflow in ("saturate", "wrap") and problem.out_dtype.kind in "iu"


def temporaries(problem: Problem) -> int:
    """Bytes beside x and out: what `finish` makes of the sums, where it is needed."""
    return 0 if writes_results(problem) else 6 * math.prod(problem.out_shape) * problem.sum_dtype.itemsize


@dataclass(frozen=True, slots=True)
class Filter:
    """A kernel of taps, on the host, if it came from there, as parameters of a launch, and on the device."""

    problem: Problem
    parameters: Array | None
    taps: Any
    separable: bool
    bias: Any
    load: Callable[[Variant], Launch]
    xp: Any
    seen: dict[Any, Found | tuple[()]] = field(default_factory=dict)  # what was launched for arrays that lay like these

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x: one launch, and no waiting unless `finish` has errors to look for."""
        return answered(self.problem, x, out, self._correlate, self.xp)

    def _correlate(self, problem: Problem, x: Any, out: Any) -> None:
        """Launch, once unless more batch axes than a launch takes are strewn over memory."""
        together = COLUMNS[problem.sum_dtype.itemsize] // 32
        place = x.shape, x.strides, out.strides, out.data.ptr % (together * out.itemsize) == 0
        if (found := self.seen.get(place)) is None:
            if len(self.seen) >= MOST_SEEN:
                self.seen.clear()
            found = self.seen[place] = self._launch(problem, x, out, aligned=place[-1])
        if found:
            variant, blocks, arguments = found
            self.load(variant)((blocks,), (variant.threads,), (x, out, self.taps, arguments))
            return
        one = replace(problem, x_shape=x.shape[1:], out_shape=out.shape[1:])
        for image, target in zip(x, out, strict=True):
            self._correlate(one, image, target)

    def _launch(self, problem: Problem, x: Any, out: Any, aligned: bool) -> Found | tuple[()]:
        """What to launch for arrays that lie like these; nothing if there are too many axes for one launch."""
        strides = in_samples(x), in_samples(out)
        found = Layout.of(problem, *strides)
        if self.separable and not self._is_near(found):
            found = Layout.of(problem, *strides, within_rows=False)
        if len(found.batch) > layout.MOST_AXES:
            return ()
        variant, work = self._variant(found, out.dtype, aligned)
        blocks = -(-int(work["total"]) // (WARPS if variant.kernel == "rolling" else THREADS))
        return variant, blocks, self._arguments(variant, work)

    def _is_near(self, found: Layout) -> bool:
        """Whether a strip reaches all samples that it needs, and 32 bits count them."""
        inner, reach = found.inner[0], (found.taps[2] - 1) * found.dilation[2]
        pads = sum(self.problem.pads[-1])
        return reach * inner <= REACH and (found.size[2] + pads) * inner < PLACES and found.out_size[1] < PLACES

    def _variant(self, found: Layout, out_dtype: np.dtype[Any], aligned: bool) -> tuple[Variant, Array]:
        """Strips where they fit, else a thread for each output; and the work."""
        total, separable = self.problem.sum_dtype, self.separable
        dtypes = self.problem.x_dtype, total, out_dtype
        saturate = self.problem.overflow == "saturate"
        _, height, width = found.taps
        step = found.dilation[2] * found.inner[0]
        if separable or (self.parameters is not None and rolls(self.problem) and self._is_near(found)):
            work = layout.task(found, True, total.itemsize)
            if separable or work["total"] <= MOST_STRIPS:
                aligned = aligned and _is_aligned(found, COLUMNS[total.itemsize] // 32)
                fits = width <= MOST_SHARED or separable or height == 1
                shared = step == 1 and fits and (aligned or width > MOST_SHARED)
                return Variant("rolling", *dtypes, saturate, height, width, step, shared, separable), work
        work = layout.task(found, False, total.itemsize)
        return Variant("general", *dtypes, saturate, wide=bool(work["total"] > MOST_STRIPS)), work

    def _arguments(self, variant: Variant, work: Array) -> Array:
        """The structure `Arguments` of a kernel's file."""
        total, parameters = self.problem.sum_dtype, self.parameters if variant.kernel == "rolling" else None
        fields: list[tuple[Any, ...]] = [("task", layout.TASK)]
        if parameters is not None:
            fields.append(("taps", total, parameters.size))
        fields += [("bias", total), ("fill", self.problem.x_dtype)]
        made = np.zeros((), np.dtype(fields, align=True))
        made["task"], made["fill"] = work, self.problem.fill_value
        if parameters is not None:
            made["taps"] = parameters
        if self.bias is not None:
            made["bias"] = self.bias[0]
        return made


def answered(problem: Problem, x: Any, out: Any, correlate: Callable[[Problem, Any, Any], None], xp: Any) -> Any:
    """Have results or sums written where they may be written, and do what is left: rounding, a copy to `out`."""
    usable = out is not None and not xp.may_share_memory(x, out) and _is_whole(out)
    result = out if usable else xp.empty(problem.out_shape, problem.out_dtype)
    if math.prod(problem.out_shape):
        direct = writes_results(problem)
        total = result if direct else xp.empty(problem.out_shape, problem.sum_dtype)
        correlate(problem, x if _is_whole(x) else xp.ascontiguousarray(x), total)
        if not direct:
            finish(problem, total, None, result, xp=xp)
    if out is not None and result is not out:
        out[...] = result
    return result if out is None else out


def in_samples(array: Any) -> Sequence[int]:
    """Strides in samples, of an array where they are whole."""
    return [stride // array.itemsize for stride in array.strides]


def _is_whole(array: Any) -> bool:
    """Whether strides are multiples of a sample's size; the fields of a record need not be."""
    return all(stride % array.itemsize == 0 for stride in array.strides)


def _is_aligned(found: Layout, together: int) -> bool:
    """Whether a lane may write its outputs of a row at once, if it may do so in the first row."""
    strides = [found.out_stride[1], *(axis[2] for axis in found.batch)]
    return found.out_stride[2] == 1 and all(stride % together == 0 for stride in strides)


def prepare(
    problem: Problem,
    kernel: Any,
    bias: Any,
    load: Callable[[Variant], Launch],
    xp: Any,
    factors: Factors | None = None,
) -> Filter:
    """Bring a host kernel to where `xp` computes, in the sum's dtype; `factors` of rank 1 for one that is separable."""
    taps = np.ascontiguousarray(kernel.astype(problem.sum_dtype))
    parameters = np.concatenate([factors.columns[0], factors.rows[0]]) if factors else taps.ravel()
    own_bias = None if bias is None else np.array(bias)
    return Filter(problem, parameters, xp.asarray(taps), factors is not None, own_bias, load, xp)


def prepare_there(problem: Problem, kernel: Any, load: Callable[[Variant], Launch], xp: Any) -> Filter:
    """Take a kernel that is where `xp` computes: a thread for each output; parameters lie on the host."""
    return Filter(problem, None, xp.ascontiguousarray(kernel.astype(problem.sum_dtype)), False, None, load, xp)
