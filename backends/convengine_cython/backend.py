"""Offers, prices and plans of the compiled direct kernels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Any

import numpy as np

from convengine import adjoint, native
from convengine.plugin import BackendInfo, Filter, Offer, Plan, Refusal, Solve, direct_error, workers
from convengine.problem import KernelFacts, Problem
from convengine_cython import dots
from convengine_cython.gradient import KernelGradientPlan
from convengine_cython.layout import Layout, element

__all__ = ["Backend"]

LEVELS = ("avx512", "avx2", "baseline", "arm64")

# Multiply-adds per second and worker, by level and element type of the sum, or of the rows of dot instructions. Rough:
# one 1024 x 1024 image, 7 x 7 taps, one worker (asv_bench/compare.py --rates), on 2 cores of AMD Zen 4, 2026-11. Too
# high for layers with few channels, strides, dilation and conversions, by up to 2, for dot instructions by up to 4; too
# low for nothing known.
RATES = {
    "avx512": {"f4": 45e9, "f8": 23e9, "i4": 36e9, "i8": 17e9, "u1": 170e9, "i2": 85e9},
    "avx2": {"f4": 28e9, "f8": 12e9, "i4": 28e9, "i8": 5e9, "i2": 52e9},
    "baseline": {"f4": 7e9, "f8": 3.6e9, "i4": 6e9, "i8": 2.6e9, "i2": 22e9},
    # not measured: the baseline's, of the same vector width; products of 16 bits take two instructions each
    "arm64": {"f4": 7e9, "f8": 3.6e9, "i4": 6e9, "i8": 2.6e9, "i2": 6e9},
}
CALL_SECONDS = 3e-6  # one call on a few samples, same machine
PARTS_BYTES = 32 << 20  # what sums of parts of a kernel's gradient may take together
SAMPLE_SECONDS = 0.25e-9  # per sample in and out beyond the arithmetic: memory traffic of one worker, same machine
BYTE_SECONDS = 0.06e-9  # the same by the byte, for samples of one and two


@cache
def compiled_levels() -> tuple[str, ...]:
    """ISA levels that this installation holds, best first."""
    return tuple(level for level in LEVELS if find_spec(f"convengine_cython.kernels_{level}_f4") is not None)


@cache
def chosen_level(asked: str | None) -> str:
    """The level to run; `asked` is what CONVENGINE_ISA holds. Cached: virtual machines answer CPUID slowly."""
    return native.isa_level(compiled_levels())


class Backend:
    """Direct sums in compiled loops, for every problem on host arrays."""

    name = "cython"
    api = 1

    def info(self) -> BackendInfo:
        """Version, CPU and the level in use; a level forced by CONVENGINE_ISA that cannot run is a reason not to."""
        try:
            level = chosen_level(os.environ.get("CONVENGINE_ISA"))
        except RuntimeError as error:
            return BackendInfo(usable=False, reason=str(error))
        return BackendInfo(usable=True, version=metadata.version("convengine"), isa=level)

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """One direct method on the best level."""
        if problem.op == "grad_input":
            return adjoint.offers(problem, facts, self.offers)
        if problem.memory != "host":
            return Refusal(f"runs on host arrays, not {problem.memory}")
        try:
            level = chosen_level(os.environ.get("CONVENGINE_ISA"))
        except RuntimeError as error:
            return Refusal(str(error))
        summed = element(problem.sum_dtype)
        products = problem.multiplications * (4 if problem.sum_dtype.kind == "c" else 1)
        threads = workers() if products > 1_000_000 else 1
        ins, outs = (float(np.prod(shape, dtype=float)) for shape in (problem.x_shape, problem.out_shape))
        traffic = (ins + outs) * SAMPLE_SECONDS
        row = dots.promised(problem, facts, level)
        if row is not None:
            traffic = (ins * problem.x_dtype.itemsize + outs * problem.out_dtype.itemsize) * BYTE_SECONDS
        work = max(products / RATES[level][row or summed.str[1:]], traffic)
        taps = problem.taps * problem.channels[1] * summed.itemsize
        scratch = threads * (1 << 20)
        if problem.op == "grad_kernel":  # sums of parts, up to 64 of them
            taps = min(64 * taps, max(PARTS_BYTES, taps))
        return [Offer(f"direct, {level}", CALL_SECONDS + work / threads, taps + scratch, direct_error(problem))]

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Plan by the level that the offer names."""
        if problem.op == "grad_kernel":
            return KernelGradientPlan(problem, _level(offer))
        return adjoint.plan(problem, offer, self.offers, lambda forward, chosen: DirectPlan(forward, _level(chosen)))


def _level(offer: Offer) -> str:
    return offer.method.removeprefix("direct, ")


@dataclass(frozen=True, slots=True)
class DirectPlan:
    """A direct method for one problem, on one level."""

    problem: Problem
    level: str

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Pack the kernel for the register tiles."""
        problem = self.problem
        promote = problem.sum_dtype.kind == "c" and problem.x_dtype.kind != "c" and not np.isfinite(kernel).all()
        if promote:  # 0 * inf of the promoted product is NaN, which a real x could not show
            problem = replace(problem, x_dtype=problem.sum_dtype)
        layout = Layout.of(problem, kernel, bias)
        if (by_dots := dots.prepared(problem, layout, self.level)) is not None:
            return by_dots
        module = import_module(f"convengine_cython.kernels_{self.level}_{element(problem.sum_dtype).str[1:]}")
        filter_ = module.DirectFilter(layout, problem.out_shape, problem.out_dtype, problem.x_dtype.itemsize, np.empty)
        if promote:
            return lambda x, out=None: filter_(x.astype(problem.x_dtype), out)
        return filter_  # type: ignore[no-any-return]  # a compiled class
