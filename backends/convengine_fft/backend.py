"""The fft backend as the engine sees it: what it refuses, and its price for the rest."""

import math
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from convengine.plugin import API, BackendInfo, Offer, Plan, Refusal, Solve, workers
from convengine.problem import KernelFacts, Problem
from convengine_fft.tiling import Tiling, candidates, error_factor

__all__ = ["Backend"]

METHOD = "overlap-save, tile "
EXACT = 2**53  # float64 holds every integer up to here


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
        if reason := _refusal(problem, facts):
            return Refusal(reason)
        tilings = candidates(problem)
        if problem.is_integer:
            errors = {tiling: _integer_error(problem, facts, tiling) for tiling in tilings}
            tilings = [tiling for tiling in tilings if errors[tiling] < 0.5]
            if not tilings:
                best = min(errors, key=lambda tiling: errors[tiling])
                return Refusal(
                    f"integers must come out exact; float64 transforms of tile {best} may err by {errors[best]:.2g}, "
                    f"not below 0.5, for {problem.x_dtype} samples and a kernel of 2-norm {facts.norm:.4g}"
                )
        fast = _fastest(problem, tilings)
        lean = [tiling for tiling in tilings if 4 * _held(problem, tiling) <= _held(problem, fast)]
        return [_offer(problem, tiling) for tiling in ([fast, _fastest(problem, lean)] if lean else [fast])]

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Plan the tile that the offer names; SciPy loads here."""
        from convengine_fft.overlap_save import OverlapSave

        tile = tuple(map(int, offer.method.removeprefix(METHOD).split("x")))
        return OverlapSave(problem, Tiling.of(problem, tile))


def _refusal(problem: Problem, facts: KernelFacts) -> str:
    if find_spec("scipy") is None:
        return "SciPy is not installed (pip install scipy)"
    if problem.op != "forward":
        return f"computes op='forward' only, not {problem.op!r}"
    if problem.memory != "host":
        return f"runs on arrays in host memory, not {problem.memory}"
    if not facts.finite:
        return "the kernel holds NaN or infinity, which a transform would spread over whole tiles"
    if problem.is_integer and (largest := _largest(problem) * int(facts.abs_sum)) >= EXACT:
        return (
            f"integers must come out exact; sums may reach {largest} (largest {problem.x_dtype} times sum|kernel| = "
            f"{facts.abs_sum}), not below 2**53 = {EXACT}, from where float64 rounds them"
        )
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


def _largest(problem: Problem) -> int:
    """Largest magnitude of an integer sample."""
    if problem.x_dtype.kind == "b":
        return 1
    info = np.iinfo(problem.x_dtype)
    return max(int(info.max), -int(info.min))


def _integer_error(problem: Problem, facts: KernelFacts, tiling: Tiling) -> float:
    """Proven error before rounding, of samples as large as their dtype allows."""
    index = (0,) * problem.ndim  # the first tile holds as many samples as any
    samples = math.prod(stop - start for start, stop in tiling.reads(problem, index))
    per_group = problem.channels[0] // problem.groups
    norm = _largest(problem) * math.sqrt(samples * per_group)
    return error_factor(tiling.size, per_group, np.dtype(np.float64)) * norm * facts.norm
