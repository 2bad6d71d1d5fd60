"""Offers, prices and plans of the compiled kernels: direct, separable, box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convengine import adjoint, native
from convengine.factoring import Promise, factor, promise
from convengine.native import cpu
from convengine.plugin import BackendInfo, Filter, Offer, Plan, Refusal, Solve, direct_error, workers
from convengine.problem import KernelFacts, Problem, kept_by_kind
from convengine_cython import dots
from convengine_cython.gradient import KernelGradientPlan
from convengine_cython.layout import Layout, element

if TYPE_CHECKING:
    from convengine_cython import compiled

__all__ = ["Backend"]

LEVELS = ("avx512", "avx2", "baseline", "arm64")

# Multiply-adds per second and worker, by level and element type of the sum, or of the rows of dot instructions. Rough:
# one 1024 x 1024 image, 7 x 7 taps, one worker, on 2 cores of AMD Zen 4, 2026-11: "products" over "median" of
# convengine bench --sizes 1024 --widths 7 --dtypes float32,float64,int8,int64 --methods cython/direct
# --isa avx512,avx2,baseline --threads 1 --peers none --json -. Too high for layers with few channels, strides, dilation
# and conversions, by up to 2, for dot instructions by up to 4; too low for nothing known. float64 of AVX-512 by
# widths of 5 to 11 and two workers.
RATES = {
    "avx512": {"f4": 45e9, "f8": 20e9, "i4": 36e9, "i8": 17e9, "u1": 170e9, "i2": 85e9},
    "avx2": {"f4": 28e9, "f8": 12e9, "i4": 28e9, "i8": 5e9, "i2": 52e9},
    "baseline": {"f4": 7e9, "f8": 3.6e9, "i4": 6e9, "i8": 2.6e9, "i2": 22e9},
    # not measured: the baseline's, of the same vector width; products of 16 bits take two instructions each
    "arm64": {"f4": 7e9, "f8": 3.6e9, "i4": 6e9, "i8": 2.6e9, "i2": 6e9},
}
# The same of separable filters, products down and across; an output costs PASS_PRODUCTS more, in loads, stores and the
# strip between. Fitted to widths of 3 to 63, same image and machine; int32 with widening from int16. AVX-512 anew for
# float32 alone, widths of 7 to 31; float64 taken as half of it.
SEPARABLE_RATES = {
    "avx512": {"f4": 45e9, "f8": 22e9, "i4": 25e9, "i8": 12e9},
    "avx2": {"f4": 19e9, "f8": 10e9, "i4": 20e9, "i8": 5e9},
    "baseline": {"f4": 10e9, "f8": 5e9, "i4": 5e9, "i8": 2.5e9},
    "arm64": {"f4": 10e9, "f8": 5e9, "i4": 5e9, "i8": 2.5e9},  # not measured
}
PASS_PRODUCTS = 7
# Boxes, as BOX_PRODUCTS an output: running sums go one by one, at every level alike.
BOX_RATES = {"i4": 11e9, "i8": 7e9}
BOX_PRODUCTS = 8
TWO_PASSES_SECONDS = 4e-6  # one call of a method of two passes on a few samples, same machine
# At AVX-512, a row of floats is summed in vectors; but for layers, and on two axes for kernels whose loops are not
# unrolled, in tiles of four, the last one whole. A filter's row shorter than that takes NARROW times the products.
# Elsewhere it matters less.
VECTOR_BYTES = 64
NARROW = 1.4
UNROLLED = frozenset((k, k) for k in (1, 3, 5, 7, 9))
SERIAL_PRODUCTS = 600_000  # about as many does one thread alone: is_serial in cutting.pxi
KERNEL_COPIES = 6  # that looking at it, laying it out and packing it make, or less
CALL_SECONDS = 3e-6  # one call on a few samples, same machine
PARTS_BYTES = 32 << 20  # what sums of parts of a kernel's gradient may take together
SAMPLE_SECONDS = 0.25e-9  # per sample in and out beyond the arithmetic: memory traffic of one worker, same machine
BYTE_SECONDS = 0.06e-9  # the same by the byte, for samples of one and two


@cache
def compiled_levels() -> tuple[str, ...]:
    """ISA levels that this installation holds, best first."""
    return tuple(level for level in LEVELS if find_spec(f"convengine_cython.kernels_{level}_f4") is not None)


@cache
def chosen_level(asked: str) -> str:
    """The level to run; `asked` is what CONVENGINE_ISA holds. Cached: virtual machines answer CPUID slowly."""
    return native.isa_level(compiled_levels())


class Backend:
    """Compiled sums for every problem on host arrays: direct, and by fewer products where a filter's taps allow it."""

    name = "cython"
    api = 1

    def info(self) -> BackendInfo:
        """Version, CPU and the level in use; a level forced by CONVENGINE_ISA that cannot run is a reason not to."""
        try:
            level = chosen_level(cpu.asked_level())
        except RuntimeError as error:
            return BackendInfo(usable=False, reason=str(error))
        return BackendInfo(usable=True, version=metadata.version("convengine"), isa=level)

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """The direct method on the best level, and what the kernel's facts allow beside it."""
        if problem.op == "grad_input":
            return adjoint.offers(problem, facts, self.offers)
        if problem.memory != "host":
            return Refusal(f"runs on host arrays, not {problem.memory}")
        try:
            level = chosen_level(cpu.asked_level())
        except RuntimeError as error:
            return Refusal(str(error))
        size = _Size.of(problem)
        offers = [_direct(problem, facts, level, size)]
        if promised := promise(problem, facts):
            rate = SEPARABLE_RATES[level][_direct_kind(problem).element]
            seconds, memory = _two_passes(problem, promised.rank * sum(problem.kernel_spatial), rate, size)
            method = f"separable rank {promised.rank}, {level}"
            offers.append(Offer(method, seconds, memory, promised.error, promised.normwise))
        if _is_box(problem, facts):
            seconds, memory = _two_passes(problem, BOX_PRODUCTS, BOX_RATES[_direct_kind(problem).element], size)
            offers.append(Offer(f"box, {level}", seconds, memory, 0.0))
        return offers

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Plan by the method and level that the offer names."""
        if problem.op == "grad_kernel":
            return KernelGradientPlan(problem, _named(offer)[1])
        return adjoint.plan(problem, offer, self.offers, lambda forward, chosen: FilterPlan(forward, chosen))


class _Size(NamedTuple):
    """How much there is to do, and how many may do it."""

    samples: int  # of x
    outputs: int
    threads: int

    @classmethod
    def of(cls, problem: Problem) -> "_Size":
        return cls(math.prod(problem.x_shape), math.prod(problem.out_shape), workers())


def _direct(problem: Problem, facts: KernelFacts, level: str, size: _Size) -> Offer:
    """The direct method's offer."""
    kind = _direct_kind(problem)
    products: float = size.outputs * problem.taps * kind.products
    threads = size.threads if products > SERIAL_PRODUCTS else 1
    if kind.lanes and level == "avx512":
        products *= _columns(problem, kind.lanes)
    traffic = (size.samples + size.outputs) * SAMPLE_SECONDS
    row = dots.promised(problem, facts, level)
    if row is not None:
        moved = size.samples * problem.x_dtype.itemsize + size.outputs * problem.out_dtype.itemsize
        traffic = moved * BYTE_SECONDS
        products *= _grouped(problem, dots.GROUPS[row])
    work = max(products / RATES[level][row or kind.element], traffic)
    held = problem.taps * problem.channels[1] * kind.itemsize
    held = min(64 * held, max(PARTS_BYTES, held)) if problem.op == "grad_kernel" else KERNEL_COPIES * held
    return Offer("direct, " + level, CALL_SECONDS + work / threads, held + threads * (1 << 20), direct_error(problem))


def _grouped(problem: Problem, group: int) -> float:
    """How many taps dot instructions take for each that there is: a row of them in groups, the last one whole."""
    width, held = problem.kernel_spatial[-1], -(-group // problem.dilation[-1])
    return -(-width // held) * group / width


def _columns(problem: Problem, lanes: int) -> float:
    """How many columns are summed for each that is asked for, at AVX-512."""
    columns, unit, slower = max(problem.out_spatial[-1], 1), lanes, 1.0
    if problem.is_layer:
        unit = 4 * lanes
    elif problem.ndim == 2 and problem.kernel_spatial not in UNROLLED:
        if columns < 4 * lanes:
            slower = NARROW
        else:
            unit = 4 * lanes
    return slower * -(-columns // unit) * unit / columns


class _DirectKind(NamedTuple):
    """What the direct method's price takes from a problem, whatever its shapes."""

    element: str  # type of the sums, or of their parts
    products: int  # of these, for one
    lanes: int  # of a vector of AVX-512; 0 where a row's last one costs no more than its share
    itemsize: int  # of an element


@kept_by_kind
def _direct_kind(problem: Problem) -> _DirectKind:
    summed, kind = element(problem.sum_dtype), problem.sum_dtype.kind
    tiled = kind == "f" and problem.op == "forward" and problem.ndim > 1
    return _DirectKind(
        element=summed.str[1:],
        products=4 if kind == "c" else 1,
        lanes=VECTOR_BYTES // summed.itemsize if tiled else 0,
        itemsize=summed.itemsize,
    )


def _two_passes(problem: Problem, products: int, rate: float, size: _Size) -> tuple[float, int]:
    """Seconds and bytes of a method that makes so many products of an output."""
    threads = size.threads if size.outputs * products > SERIAL_PRODUCTS else 1
    traffic = (size.samples + size.outputs) * SAMPLE_SECONDS
    work = max(size.outputs * (products + PASS_PRODUCTS) / rate, traffic)
    held = KERNEL_COPIES * problem.taps * problem.sum_dtype.itemsize
    return TWO_PASSES_SECONDS + work / threads, held + threads * (1 << 20)


def _is_box(problem: Problem, facts: KernelFacts) -> bool:
    """Whether running sums are exact and save something."""
    # Sums of samples are bounded only where they are multiplied by a tap that is not 0.
    return facts.box and facts.abs_sum > 0 and problem.taps > 1 and _takes_boxes(problem)


@kept_by_kind
def _takes_boxes(problem: Problem) -> bool:
    plain = problem.op == "forward" and not problem.is_layer and problem.ndim < 3 and problem.is_integer
    dense = set(problem.stride) == set(problem.dilation) == {1}
    return plain and dense


def _named(offer: Offer) -> tuple[str, str]:
    """The method and the level of an offer."""
    method, _, level = offer.method.rpartition(", ")
    return method, level


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """One method for one problem, on one level."""

    problem: Problem
    offer: Offer

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Pack the kernel for the register tiles; factor it where the method is separable."""
        problem, (method, level) = self.problem, _named(self.offer)
        promote = problem.sum_dtype.kind == "c" and problem.x_dtype.kind != "c" and not np.isfinite(kernel).all()
        if promote:  # 0 * inf of the promoted product is NaN, which a real x could not show
            problem = replace(problem, x_dtype=problem.sum_dtype)
        module = import_module(f"convengine_cython.kernels_{level}_{element(problem.sum_dtype).str[1:]}")
        layout = Layout.of(problem, kernel, bias)
        shared = layout, problem.out_shape, problem.out_dtype, problem.x_dtype.itemsize, np.empty
        if method.startswith("separable"):
            promised = Promise(int(method.split()[-1]), self.offer.error, self.offer.normwise)
            factors = factor(problem, kernel, promised)
            separable: compiled.SeparableFilter = module.SeparableFilter(*shared, factors.columns, factors.rows)
            return separable
        if method == "box":
            box: compiled.BoxFilter = module.BoxFilter(*shared)
            return box
        if (by_dots := dots.prepared(problem, layout, level)) is not None:
            return by_dots
        filter_: compiled.DirectFilter = module.DirectFilter(*shared)
        if promote:
            return lambda x, out=None: filter_(x.astype(problem.x_dtype), out)
        return filter_
