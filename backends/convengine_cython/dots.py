"""Which integer filters run by dot instructions, and their taps packed for them.

An 8-bit row takes int8 taps, a 16-bit row int16 taps. All arithmetic is modulo 2**32, so a sum comes out exact if it
fits int32; that is proven from x's dtype and the kernel's values, whatever dtype the sum is declared to have. Integers
being exact, the choice between this and the plain sums changes no bits: it is no method of its own.
"""

from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from convengine.native import cpu
from convengine.plugin import Filter
from convengine.problem import KernelFacts, Problem, largest_magnitude
from convengine_cython.layout import Layout

if TYPE_CHECKING:
    from convengine_cython import compiled

__all__ = ["kind", "prepared", "promised"]

SHIFTS = {("u1", "i1"): 128, ("i2", "u2"): -32768}  # of samples in a row of the first type
GROUPS = {"u1": 4, "i2": 2}  # samples of a row of that type that one instruction multiplies
LIMIT = 2**31 - 1


@cache  # virtual machines answer CPUID slowly
def module_level(level: str) -> str:
    """The level of the modules to load: AVX-512's have a variant for CPUs with its dot instructions."""
    return "avx512vnni" if level == "avx512" and cpu.avx512_vnni() else level


def kind(problem: Problem, largest_tap: int, abs_sum: int, abs_bias: int, level: str) -> str | None:
    """The type of row that such a kernel may take, "u1" or "i2"; None where dot instructions do not do.

    `largest_tap` is the least n with all taps in -n-1 .. n.
    """
    if problem.is_layer or not problem.is_integer or largest_tap > 32767 or problem.x_dtype.itemsize > 2:
        return None
    if largest_magnitude(problem.x_dtype) * abs_sum + abs_bias > LIMIT:
        return None
    narrow = problem.x_dtype.itemsize == 1 and largest_tap <= 127
    return "u1" if narrow and module_level(level) == "avx512vnni" else "i2"


def promised(problem: Problem, facts: KernelFacts, level: str) -> str | None:
    """What `kind` will say at least, as far as a kernel's dtype and facts tell; a bias may still take it back."""
    if problem.op != "forward" or problem.kernel_dtype.kind not in "biu":
        return None
    largest, abs_sum = largest_magnitude(problem.kernel_dtype), int(facts.abs_sum)
    largest -= problem.kernel_dtype.kind == "i"  # as `kind` has it
    return kind(problem, min(abs_sum, largest), abs_sum, 0, level)


def prepared(problem: Problem, layout: Layout, level: str) -> Filter | None:
    """A filter by dot instructions for the layout of `problem`; None where they do not do."""
    if problem.is_layer or not problem.is_integer:
        return None
    taps, bias = layout.taps[0, 0, 0], int(layout.bias[0, 0])
    high, low = int(taps.max()), int(taps.min())
    largest = max(high, -low - 1, 0)
    abs_sum = int(np.abs(taps).sum()) if largest <= 32767 else 0
    chosen = kind(problem, largest, abs_sum, abs(bias), level)
    if chosen is None:
        return None
    row = np.dtype(chosen)
    shift = SHIFTS.get((chosen, problem.x_dtype.str[1:]), 0)
    start = (bias - shift * int(taps.sum())) % 2**32
    shifted = replace(
        layout,
        bias=np.array([start], np.uint32).view(np.int32),
        fill=(layout.fill + shift).astype(row),
    )
    module = import_module(f"convengine_cython.dots_{module_level(level)}_{chosen}")
    pack = partial(Packed.of, taps, GROUPS[chosen], layout.dilation[2], layout.stride[2])
    described = problem.out_shape, problem.out_dtype, problem.x_dtype.itemsize
    filter_: compiled.DotFilter = module.DotFilter(shifted, pack, *described, np.empty)
    return filter_


@dataclass(frozen=True, slots=True)
class Packed:
    """Taps in groups of adjacent samples, packed into 32 bits, twice: in groups that start and that end with a tap.

    Attributes
    ----------
    groups : int
        Of a kernel row.
    dense : bool
        Whether each group follows the one before it.
    phases, elements : array of shape (2, groups)
        Where a group starts in a row: the phase of the stride, and the element in that.
    taps : array of shape (2, kz * ky, groups)
        The lowest bits belong to the first sample.
    """

    groups: int
    dense: bool
    phases: np.ndarray[Any, Any]
    elements: np.ndarray[Any, Any]
    taps: np.ndarray[Any, Any]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.phases.nbytes + self.elements.nbytes + self.taps.nbytes

    @classmethod
    def of(cls, taps: np.ndarray[Any, Any], per: int, dilation: int, stride: int, inner: int) -> "Packed":
        """Pack taps (kz, ky, kx), `per` to a group, for rows with `inner` interleaved channels."""
        rows = taps.reshape(-1, taps.shape[-1])
        places = [divmod(column * dilation * inner, stride)[::-1] for column in range(taps.shape[-1])]
        starts = [_starts(places, per), [(f, -last) for f, last in _starts([(f, -e) for f, e in places], per)[::-1]]]
        starts[1] = [(phase, element - per + 1) for phase, element in starts[1]]
        packed = np.zeros((2, len(rows), len(starts[0])), np.uint32)
        bits = 32 // per
        for variant, found in enumerate(starts):
            holds: dict[tuple[int, int], int] = {}  # the first group that covers a place
            for number, (phase, first) in enumerate(found):
                for element in range(first, first + per):
                    holds.setdefault((phase, element), number)
            for column, (phase, element) in enumerate(places):
                group = holds[phase, element]
                samples = (rows[:, column].astype(np.int64) % 2**bits).astype(np.uint32)
                packed[variant, :, group] |= samples << np.uint32(bits * (element - found[group][1]))
        at = np.array(starts, np.intp)
        return cls(
            groups=len(starts[0]),
            dense=bool((at[:, :, 0] == 0).all() and (np.diff(at[:, :, 1]) == per).all()),
            phases=np.ascontiguousarray(at[:, :, 0]),
            elements=np.ascontiguousarray(at[:, :, 1]),
            taps=packed.view(np.int32),
        )


def _starts(places: list[tuple[int, int]], per: int) -> list[tuple[int, int]]:
    """The fewest groups that cover all places, phase by phase, each starting at the first place not covered yet."""
    found: list[tuple[int, int]] = []
    for phase, element in sorted(places):
        if not found or found[-1][0] != phase or element >= found[-1][1] + per:
            found.append((phase, element))
    return found
