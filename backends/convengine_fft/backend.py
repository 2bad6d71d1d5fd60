"""The fft backend as the engine sees it: what it refuses, and its price for the rest."""

import math
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

from convengine import adjoint
from convengine.plugin import API, BackendInfo, Offer, Plan, Refusal, Solve, workers
from convengine.problem import KernelFacts, Problem
from convengine_fft.exactness import exact_limit, largest_sample
from convengine_fft.tiling import Tiling, candidates, error_factor

__all__ = ["Backend"]

METHOD = "overlap-save, tile "
JUDGED = 255  # an offer for a wide dtype must at least serve bytes; the call judges the samples


class Backend:
    """Overlap-save over tiles with scipy.fft, through whatever transforms the user has set there."""

    name = "fft"
    api = API

    def info(self) -> BackendInfo:
        """Usable where SciPy is installed."""
        if find_spec("scipy") is None:
            return BackendInfo(False, "SciPy is not installed (pip install scipy)")
        return BackendInfo(True, version=f"scipy {version('scipy')}")

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offer the fastest tile, and the fastest of those that need a quarter of its memory or less."""
        return adjoint.offers(problem, facts, self.forward_offers)

    def forward_offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offers for a forward problem."""
        if reason := _refusal(problem, facts):
            return Refusal(reason)
        tilings = candidates(problem)
        if problem.is_integer:
            limits = {tiling: exact_limit(problem, facts, tiling) for tiling in tilings}
            least = min(largest_sample(problem), JUDGED)
            tilings = [tiling for tiling in tilings if limits[tiling] >= least]
            if not tilings:
                return Refusal(
                    f"integers must come out exact; float64 transforms do for a kernel of 2-norm {facts.norm:.4g} and "
                    f"sum|kernel| = {facts.abs_sum}, with samples up to {max(limits.values())} only, not {least}"
                )
        fast = _fastest(problem, tilings)
        lean = [tiling for tiling in tilings if 4 * _held(problem, tiling) <= _held(problem, fast)]
        return [_offer(problem, tiling) for tiling in ([fast, _fastest(problem, lean)] if lean else [fast])]

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Plan the tile that the offer names; SciPy loads here."""
        return adjoint.plan(problem, offer, self.forward_offers, _plan)


def _plan(problem: Problem, offer: Offer) -> Plan:
    from convengine_fft.overlap_save import OverlapSave

    tile = tuple(map(int, offer.method.removeprefix(METHOD).split("x")))
    return OverlapSave(problem, Tiling.of(problem, tile))


def _refusal(problem: Problem, facts: KernelFacts) -> str:
    if find_spec("scipy") is None:
        return "SciPy is not installed (pip install scipy)"
    if problem.memory != "host":
        return f"runs on arrays in host memory, not {problem.memory}"
    if not facts.finite:
        return "the kernel holds NaN or infinity, which a transform would spread over whole tiles"
    return ""


def _fastest(problem: Problem, tilings: Sequence[Tiling]) -> Tiling:
    """Fastest for one image and one worker: a batch and more workers must give the bits of each image alone."""
    return min(tilings, key=lambda tiling: (tiling.seconds(problem, 1, 1), tiling.tile))


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


def _held(problem: Problem, tiling: Tiling) -> int:
    """Memory of one tile and the kernel's spectrum."""
    return tiling.tile_bytes(problem) + tiling.spectrum_bytes(problem)
