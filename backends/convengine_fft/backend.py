"""The fft backend as the engine sees it: what it refuses, and its price for the rest.

Filters of one and two axes run on compiled tiles (compiled.py). The rest, complex samples, layers, three axes and
kernels wider than those tiles, goes through scipy.fft (overlap_save.py), which offers to do any other problem too.
"""

import math
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from convengine import adjoint
from convengine.native import cpu
from convengine.plugin import API, BackendInfo, Offer, Plan, Refusal, Solve, is_installed, workers
from convengine.problem import KernelFacts, Problem
from convengine_fft import compiled, pricing
from convengine_fft.exactness import JUDGED, exact_limit, largest_sample
from convengine_fft.tiling import Tiling, candidates, compute_dtype, error_factor

__all__ = ["Backend"]

METHOD = "overlap-save, tile "


class Backend:
    """Overlap-save over tiles, compiled or with scipy.fft, through whatever transforms the user has set there."""

    name = "fft"
    api = API

    def info(self) -> BackendInfo:
        """Usable where SciPy is installed."""
        if not is_installed("scipy"):
            return BackendInfo(False, "SciPy is not installed (pip install scipy)")
        try:
            level = compiled.chosen_level(cpu.asked_level())
        except RuntimeError as error:
            return BackendInfo(False, str(error))
        return BackendInfo(True, version=f"scipy {version('scipy')}", isa=level)

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offer the fastest compiled tile; else SciPy's fastest, and another that needs a quarter of its memory."""
        return adjoint.offers(problem, facts, self.forward_offers)

    def forward_offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offers for a forward problem."""
        if reason := _refusal(problem, facts):
            return Refusal(reason)
        offers = compiled.offers(problem, facts)
        if offers and compiled.takes_all(problem, facts, offers[0]):
            return offers  # SciPy's transforms are slower and need more memory
        least = min(largest_sample(problem), JUDGED) if problem.is_integer else 0

        def fastest(most: float = math.inf) -> Tiling | None:
            found = candidates(problem, most)
            return next((one for one in found if not least or _limit(problem, facts, one) >= least), None)

        if (fast := fastest()) is not None:
            offers.append(_offer(problem, fast))
            offers += [_offer(problem, lean)] if (lean := fastest(fast.size // 4)) else []
        if not offers:
            most = max(_limit(problem, facts, tiling) for tiling in candidates(problem))
            return Refusal(
                f"integers must come out exact; float64 transforms do for a kernel of 2-norm {facts.norm:.4g} and "
                f"sum|kernel| = {facts.abs_sum}, with samples up to {most} only, not {least}"
            )
        return offers

    def least_seconds(self, problem: Problem) -> float:
        """What transforms of the least that holds the kernel would take, if every sample of theirs were a result."""
        if problem.op != "forward":
            return 0.0
        outputs, item = math.prod(problem.out_shape), compute_dtype(problem).itemsize
        length, rate = compiled.least_tile(problem)
        if problem.is_layer:
            outputs //= problem.channels[1]
        return pricing.least(item, problem.kernel_spatial, outputs, workers(), length, rate)

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Plan the tile that the offer names."""
        return adjoint.plan(problem, offer, self.forward_offers, _plan)


def _plan(problem: Problem, offer: Offer) -> Plan:
    tile = tuple(map(int, offer.method.split()[-1].split("x")))
    tiling = Tiling.of(problem, tile)
    if offer.method.startswith(compiled.METHOD):
        return compiled.CompiledTiles(problem, tiling, compiled.chosen_level(cpu.asked_level()))
    from convengine_fft.overlap_save import OverlapSave  # loads SciPy

    return OverlapSave(problem, tiling)


def _limit(problem: Problem, facts: KernelFacts, tiling: Tiling) -> int:
    per_group = problem.channels[0] // problem.groups
    return exact_limit(problem, facts, tiling, error_factor(tiling.size, per_group, np.dtype(np.float64)))


def _refusal(problem: Problem, facts: KernelFacts) -> str:
    if not is_installed("scipy"):
        return "SciPy is not installed (pip install scipy)"
    try:
        compiled.chosen_level(cpu.asked_level())
    except RuntimeError as error:
        return str(error)
    if problem.memory != "host":
        return f"runs on arrays in host memory, not {problem.memory}"
    if not facts.finite:
        return "the kernel holds NaN or infinity, which a transform would spread over whole tiles"
    return ""


def _offer(problem: Problem, tiling: Tiling) -> Offer:
    exact, share = problem.is_integer, workers()
    per_group = problem.channels[0] // problem.groups
    return Offer(
        method=f"{METHOD}{tiling}",
        seconds=tiling.seconds(problem, math.prod(problem.batch), share),
        memory=tiling.memory(problem, share),
        error=0.0 if exact else error_factor(tiling.size, per_group, problem.sum_dtype),
        normwise=not exact,
    )
