"""Layers as one launch of a CUDA kernel of our own, an implicit GEMM: which tile, what it costs, where arrays lie.

Nothing here knows of devices, as in direct.py. Every output adds its terms tap by tap, and channel by channel under
each tap: its bits follow from its samples and the kernel alone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from convengine.problem import Problem, kept
from convengine_cupy import layout
from convengine_cupy.direct import MOST_SEEN, Found, Launch, answered, in_samples
from convengine_cupy.layout import Layout
from convengine_cupy.variants import Tile, Variant

__all__ = ["TILES", "Filter", "blocks", "prepare", "refusal", "seconds", "sized", "tile_of"]

# For sums of four bytes; sums of eight have half the places. The larger, the less is read for each product.
TILES = (
    Tile(8, 8, 16, 16),
    Tile(8, 8, 8, 32),
    Tile(8, 4, 4, 64),
    Tile(4, 4, 16, 16),
    Tile(4, 4, 4, 64),
    Tile(4, 2, 8, 32),
    Tile(4, 2, 2, 128),
    Tile(4, 1, 1, 256),
    Tile(1, 1, 1, 256),
)
CHUNK = 8  # terms that are in shared memory at once
MOST_BLOCKS = 2**31 - 1
PLACES = 2**30  # along an axis, terms and outputs, for 32-bit arithmetic

# Not measured: of an H100, whose figures give 3.3e13 multiply-adds of float32 in a second, half of it in float64 and
# int32; int64 takes some eight instructions. Of these, seven in ten is what such kernels commonly reach.
MULTIPROCESSORS = 132
SUMS_PER_SECOND = {"float32": 2.3e13, "float64": 1.15e13, "int32": 1.15e13, "int64": 3e12}
# Instructions beside the multiply-adds, counted in the source: to bring a sample or a weight, and to read 16 bytes of
# shared memory.
BRING = 12
READ = 2
SECONDS_PER_CHUNK = 5e-7  # of a block by itself, at least: samples come, and all threads meet

Array: TypeAlias = np.ndarray[Any, Any]


def refusal(problem: Problem) -> str:
    """Why it does not do this problem; empty if it does."""
    if not problem.is_layer:
        return "layers only"
    if problem.sum_dtype.kind == "c":
        return "sums of real numbers only"
    if len(problem.batch) > layout.MOST_AXES:
        return f"at most {layout.MOST_AXES} batch axes; got {len(problem.batch)}"
    if not _tiles(problem):
        return f"more than {MOST_BLOCKS} tiles"
    return ""


def sized(tile: Tile, sum_bytes: int) -> Tile:
    """A tile for sums of this many bytes, which must leave a warp 32 places."""
    halved = tile._replace(each_position=max(tile.each_position * 4 // sum_bytes, 1))
    return halved if halved.positions >= 32 else tile


def blocks(problem: Problem, tile: Tile) -> int:
    """How many blocks compute a problem."""
    places = math.prod(problem.batch) * math.prod(problem.out_spatial)
    across = -(-(problem.channels[1] // problem.groups) // tile.channels)
    return -(-places // tile.positions) * across * problem.groups


def seconds(problem: Problem, tile: Tile) -> float:
    """What the multiply-adds take, or what one block does, however few there are."""
    return max(_busy(problem, tile), -(-problem.taps // CHUNK) * SECONDS_PER_CHUNK)


def _busy(problem: Problem, tile: Tile) -> float:
    """Seconds of the multiply-adds, those of tiles that reach beyond the outputs included, and of what they need.

    Multiprocessors that have nothing to do are counted: they work off one block after the other.
    """
    size = problem.sum_dtype.itemsize
    products = tile.each_channel * tile.each_position
    reads = -(-tile.each_channel * size // 16) + -(-tile.each_position * size // 16)
    others = READ * reads + BRING * (tile.channels + tile.positions) / tile.threads
    rounds = -(-blocks(problem, tile) // MULTIPROCESSORS)
    terms = -(-problem.taps // CHUNK) * CHUNK
    work = rounds * tile.channels * tile.positions * terms * (1 + others / products)
    return work * MULTIPROCESSORS / SUMS_PER_SECOND[problem.sum_dtype.name]


def _tiles(problem: Problem) -> list[Tile]:
    tiles = [sized(tile, problem.sum_dtype.itemsize) for tile in TILES]
    return [tile for tile in tiles if blocks(problem, tile) <= MOST_BLOCKS]


@kept
def tile_of(problem: Problem) -> Tile:
    """The tile that should take the least time; it changes no bit of the results."""
    return min(_tiles(problem), key=lambda tile: _busy(problem, tile))


def _is_wide(problem: Problem) -> bool:
    """Whether 32 bits are too few for places along an axis, terms, or outputs of a channel."""
    reaches = [n + sum(pair) for n, pair in zip(problem.spatial, problem.pads, strict=True)]
    places = math.prod(problem.batch) * math.prod(problem.out_spatial)
    return max(*reaches, problem.taps, places) >= PLACES


@dataclass(frozen=True, slots=True)
class Filter:
    """A kernel of taps, and the biases behind them, on the device."""

    problem: Problem
    taps: Any
    load: Callable[[Variant], Launch]
    xp: Any
    seen: dict[Any, Found] = field(default_factory=dict)  # what was launched for arrays that lay like these

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self.taps.nbytes)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x: one launch, and no waiting unless `finish` has errors to look for."""
        return answered(self.problem, x, out, self._correlate, self.xp)

    def _correlate(self, problem: Problem, x: Any, out: Any) -> None:
        place = x.strides, out.strides
        if (found := self.seen.get(place)) is None:
            if len(self.seen) >= MOST_SEEN:
                self.seen.clear()
            found = self.seen[place] = _launch(problem, in_samples(x), in_samples(out), out.dtype)
        variant, grid, arguments = found
        assert variant.tile
        self.load(variant)((grid,), (variant.tile.threads,), (x, out, self.taps, arguments))


def _launch(problem: Problem, x_strides: Sequence[int], out_strides: Sequence[int], out_dtype: np.dtype[Any]) -> Found:
    """What to launch for arrays with these strides, in samples."""
    channel = len(problem.batch)
    x_outer, out_outer = ([*strides[:channel], *strides[channel + 1 :]] for strides in (x_strides, out_strides))
    found = Layout.of(problem, x_outer, out_outer, within_rows=False)
    tile, x_dtype, total = tile_of(problem), problem.x_dtype, problem.sum_dtype
    outputs = problem.channels[1] // problem.groups
    numbers = {
        "x_channel": x_strides[channel],
        "out_channel": out_strides[channel],
        "inputs": problem.channels[0] // problem.groups,
        "outputs": outputs,
        "terms": problem.taps,
        "tiles": -(-outputs // tile.channels),
        "groups": problem.groups,
    }
    fields = [("task", layout.TASK), *((name, np.int64) for name in numbers), ("fill", x_dtype)]
    made = np.zeros((), np.dtype(fields, align=True))
    made["task"], made["fill"] = layout.task(found, False, total.itemsize), problem.fill_value
    for name, number in numbers.items():
        made[name] = number
    saturate = problem.overflow == "saturate"
    variant = Variant("layer", x_dtype, total, out_dtype, saturate, wide=_is_wide(problem), tile=tile)
    return variant, blocks(problem, tile), made


def prepare(problem: Problem, kernel: Any, bias: Any, load: Callable[[Variant], Launch], xp: Any) -> Filter:
    """Bring a kernel to where `xp` computes, in the sum's dtype: group by group, term by term, then the biases."""
    (inputs, outputs), groups = problem.channels, problem.groups
    apart = xp.asarray(kernel).reshape(groups, outputs // groups, inputs // groups, math.prod(problem.kernel_spatial))
    weights = apart.transpose(0, 3, 2, 1).astype(problem.sum_dtype).ravel()
    biases = xp.zeros(outputs, problem.sum_dtype) if bias is None else xp.asarray(bias).astype(problem.sum_dtype)
    return Filter(problem, xp.concatenate([weights, biases]), load, xp)
