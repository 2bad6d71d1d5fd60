"""The compiled tiles: which problems they serve, at what price, and their plan."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from itertools import starmap
from typing import TYPE_CHECKING, Any

import numpy as np

from convengine import native
from convengine.boundary import pad_indices
from convengine.fft_error import pair_error_factor
from convengine.native import cpu
from convengine.native.codes import CODES, OVERFLOWS
from convengine.plugin import Declined, Filter, Offer, require_magnitude, workers
from convengine.problem import KernelFacts, Problem, kept_by_kind
from convengine.roots import RADICES, Stage, bends, stages
from convengine_fft.exactness import EXACT, JUDGED, exact_limit, largest_sample
from convengine_fft.pricing import Costs
from convengine_fft.repair import Repair
from convengine_fft.tiling import Tiling, compute_dtype, dense, widths

if TYPE_CHECKING:
    from convengine_fft import tiles

__all__ = ["METHOD", "CompiledTiles", "chosen_level", "compiled_levels", "offers"]

METHOD = "fft tile "
LEVELS = ("avx512", "avx2", "baseline", "arm64")

# Measured on 2 cores of AMD Zen 4, 2026-11, one worker: the least CPU time of whole calls on 24 tiles of each length in
# RADICES, kernels a fifth as wide, other programs beside. The rest of the model is in pricing.pyx.
RATES = {  # 5 N log2 N a second, forward and back, as far as the second-level cache goes
    "avx512": {"f4": 80e9, "f8": 40e9},
    "avx2": {"f4": 62e9, "f8": 32e9},
    "baseline": {"f4": 31e9, "f8": 16e9},
    "arm64": {"f4": 31e9, "f8": 16e9},  # not measured: the baseline's, of the same vector width
}
FASTEST = {size: max(rates[f"f{size}"] for rates in RATES.values()) for size in (4, 8)}
LENGTHS = {1: sorted({a * b for a in RADICES for b in (a, 2 * a) if b in RADICES}), 2: sorted(RADICES)}


@cache
def compiled_levels() -> tuple[str, ...]:
    """ISA levels that this installation holds, best first."""
    return tuple(level for level in LEVELS if find_spec(f"convengine_fft.tiles_{level}_f4") is not None)


@cache
def chosen_level(asked: str) -> str:
    """The level to run; `asked` is what CONVENGINE_ISA holds. Cached: virtual machines answer CPUID slowly."""
    return native.isa_level(compiled_levels())


def sides(size: int) -> tuple[int, int]:
    """Rows and columns of a signal's tile."""
    half = (size.bit_length() - 1) // 2
    return 1 << half, size >> half


def shape_of(tile: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tile."""
    return sides(*tile) if len(tile) == 1 else (tile[0], tile[1])


@kept_by_kind
def _has_tiles(problem: Problem) -> bool:
    return not problem.is_layer and problem.ndim < 3 and problem.sum_dtype.kind != "c"


@kept_by_kind
def least_tile(problem: Problem) -> tuple[int, float]:
    """The shortest tile for problems of its kind, and a rate that none exceeds; zeros where there are no tiles."""
    if not _has_tiles(problem):
        return 0, 0.0
    return LENGTHS[problem.ndim][0], FASTEST[compute_dtype(problem).itemsize]


def tilings(problem: Problem, costs: Costs) -> Iterator[Tiling]:
    """Tiles that can serve, the cheapest first: from the dilated kernel's width to the first that covers all.

    The order is that for one image and two workers: a batch and more workers must give the bits of each image alone.
    """
    samples = math.prod(problem.spatial)
    return starmap(Tiling, costs.tiles(LENGTHS[problem.ndim], widths(problem), dense(problem), samples))


@lru_cache(maxsize=16)
def costs_of(ndim: int, dtype: np.dtype[Any], level: str) -> Costs:
    """What tiles of a level cost, computed in a dtype."""
    return Costs(ndim, dtype.itemsize, RATES[level][dtype.str[1:]])


def seconds(problem: Problem, costs: Costs, tiling: Tiling, threads: int) -> float:
    """Estimated time of one call."""
    images, samples = math.prod(problem.batch), math.prod(problem.spatial)
    return costs.seconds(tiling.tile, tiling.outputs, tiling.counts, samples, images, threads)


def memory(problem: Problem, tiling: Tiling, threads: int) -> int:
    """Bytes beside x and out: tiles of each worker, spectrum and roots, and a tile's repair where x is not finite."""
    item = compute_dtype(problem).itemsize
    down, along = shape_of(tiling.tile)
    scratch = 2 * item * (down + 16) * (along + 16) + 96 * (down + along)
    repair = 0 if problem.is_integer else 8 * 17 * tiling.size
    return threads * scratch + item * tiling.size * (2 * (problem.ndim == 1) + 3) + repair


def limit(problem: Problem, facts: KernelFacts, tiling: Tiling) -> int:
    """Largest integer sample that comes out exact."""
    return exact_limit(problem, facts, tiling, pair_error_factor(tiling.size, np.dtype(np.float64)))


def offers(problem: Problem, facts: KernelFacts) -> list[Offer]:
    """Offer the fastest tile, if there is one."""
    if not _has_tiles(problem):
        return []
    level = chosen_level(cpu.asked_level())
    costs = costs_of(problem.ndim, compute_dtype(problem), level)
    least = min(largest_sample(problem), JUDGED) if problem.is_integer else 0
    able = tilings(problem, costs)
    if least:
        able = (tiling for tiling in able if limit(problem, facts, tiling) >= least)
    if (best := next(able, None)) is None:
        return []
    threads = workers()
    return [
        Offer(
            method=f"{METHOD}{best}",
            seconds=seconds(problem, costs, best, threads),
            memory=memory(problem, best, threads),
            error=0.0 if problem.is_integer else pair_error_factor(best.size, problem.sum_dtype),
            normwise=not problem.is_integer,
        )
    ]


def takes_all(problem: Problem, facts: KernelFacts, offer: Offer) -> bool:
    """Whether the tile of an offer declines no samples: integers may be larger than it computes exactly."""
    if not problem.is_integer or largest_sample(problem) <= JUDGED:  # else it would not have been offered
        return True
    tile = tuple(map(int, offer.method.split()[-1].split("x")))
    return limit(problem, facts, Tiling.of(problem, tile)) >= largest_sample(problem)


@dataclass(frozen=True, slots=True)
class TileLayout:
    """A problem in the terms of tiles.pyx, on two axes: a signal lies along the second."""

    x_code: int
    out_code: int
    overflow: int
    signal: bool
    integer: bool
    exponent: int
    sizes: tuple[int, ...]
    before: tuple[int, ...]
    maps: tuple[np.ndarray[Any, Any], ...]  # left and right index maps of both axes
    stride: tuple[int, ...]
    dense: tuple[int, ...]
    outputs: tuple[int, ...]
    reads: tuple[int, ...]
    counts: tuple[int, ...]
    numbers: np.ndarray[Any, Any]  # fill value and bias
    down: tuple[Stage, ...]
    along: tuple[Stage, ...]
    bends: np.ndarray[Any, Any] | None

    @classmethod
    def of(cls, problem: Problem, tiling: Tiling, exponent: int, bias: Any) -> "TileLayout":
        """Lay a problem out."""
        dtype, signal = compute_dtype(problem), problem.ndim == 1
        down, along = shape_of(tiling.tile)
        maps: list[np.ndarray[Any, Any]] = [np.empty(0, np.intp)] * (2 * signal)
        for rule, n, (before, after) in zip(problem.boundary, problem.spatial, problem.pads, strict=True):
            maps += [np.ascontiguousarray(indices, np.intp) for indices in pad_indices(rule, n, before, after)]

        def both(values: Sequence[int], first: int) -> tuple[int, ...]:
            return (first,) * signal + tuple(values)

        reads = [most - 1 + width for most, width in zip(tiling.outputs, widths(problem), strict=True)]
        return cls(
            x_code=CODES[problem.x_dtype.str[1:]],
            out_code=CODES[problem.out_dtype.str[1:]],
            overflow=OVERFLOWS[problem.overflow],
            signal=signal,
            integer=problem.is_integer,
            exponent=exponent,
            sizes=both(problem.spatial, 1),
            before=both([before for before, _ in problem.pads], 0),
            maps=tuple(maps),
            stride=both(problem.stride, 1),
            dense=both(dense(problem), 1),
            outputs=both(tiling.outputs, 1),
            reads=both(reads, 1),
            counts=both(tiling.counts, 1),
            numbers=np.array([problem.fill_value, 0 if bias is None else bias.item()], dtype),
            down=stages(down, dtype),
            along=stages(along, dtype),
            bends=bends(down, along, dtype) if signal else None,
        )

    @property
    def nbytes(self) -> int:
        """Bytes of its tables."""
        return sum(array.nbytes for array in self.maps) + (0 if self.bends is None else self.bends.nbytes)


@dataclass(frozen=True, slots=True)
class CompiledTiles:
    """The plan: a problem, cut into tiles of one size, on one level."""

    problem: Problem
    tiling: Tiling
    level: str

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Transform the kernel, scaled so that nothing over- or underflows."""
        problem, tiling, dtype = self.problem, self.tiling, compute_dtype(self.problem)
        if kernel.dtype.kind == "f" and not np.isfinite(kernel).all():  # a gradient, which was not looked at before
            raise Declined("the kernel holds NaN or infinity, which a transform would spread over whole tiles")
        most = self._exact(kernel, bias) if problem.is_integer else None
        exponent = norm_exponent(kernel.astype(dtype))
        placed = np.zeros(tiling.tile, dtype)
        comb = tuple(slice(0, width, d) for width, d in zip(widths(problem), problem.dilation, strict=True))
        placed[comb] = np.ldexp(kernel.astype(dtype), 1 - exponent - tiling.size.bit_length())
        module = import_module(f"convengine_fft.tiles_{self.level}_{dtype.str[1:]}")
        run: tiles.TileFilter = module.TileFilter(
            TileLayout.of(problem, tiling, exponent, bias),
            placed,
            problem.out_shape,
            problem.out_dtype,
            np.empty,
            Repair(problem, tiling, kernel.copy(), bias),
        )
        return run if most is None else Judged(problem, most, run)

    def _exact(self, kernel: Any, bias: Any) -> int | None:
        """Up to which magnitude samples come out exact; None where their dtype allows no larger ones."""
        problem = self.problem
        facts = KernelFacts.of(kernel, problem.ndim)
        most = limit(problem, facts, self.tiling)
        if bias is not None and facts.abs_sum:
            most = min(most, (EXACT - 1 - abs(bias.item())) // int(facts.abs_sum))
        if most < 0 or (bias is not None and abs(bias.item()) >= EXACT):
            raise Declined(f"float64 holds integers up to 2**53 exactly; the bias is {bias.item()}")
        return most if most < largest_sample(problem) else None


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A filter of integers that looks at the samples first: larger ones would not come out exact."""

    problem: Problem
    most: int
    run: Any

    @property
    def nbytes(self) -> int:
        """Bytes that its filter holds."""
        return int(self.run.nbytes)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x, or decline."""
        require_magnitude(x, self.problem.fill_value, self.most)
        return self.run(x, out)


def norm_exponent(kernel: np.ndarray[Any, Any]) -> int:
    """The exponent of the power of two just above a kernel's 2-norm, or one or two more."""
    peak = int(np.frexp(np.abs(kernel).max(initial=0))[1])
    return peak + int(np.frexp(np.linalg.norm(np.ldexp(kernel, -peak)))[1])
