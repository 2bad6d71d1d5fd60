"""What the compiled tiles leave to Python: NaN and infinity, written over the results of the tiles that held them."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from convengine.plugin import finish
from convengine.problem import Problem
from convengine_fft.samples import read
from convengine_fft.tiling import Tiling, compute_dtype

__all__ = ["Repair"]

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """Overwrites the footprints of samples that are not finite; called with one flag per tile of each image."""

    problem: Problem
    tiling: Tiling
    kernel: Array
    bias: Array | None

    def __call__(self, x: Array, out: Array, flags: bytearray) -> None:
        """Repair the flagged tiles of out."""
        counts = (*self.problem.batch, *self.tiling.counts)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # infinite and NaN results are results
            for flagged in np.argwhere(np.frombuffer(flags, np.uint8).reshape(counts)):
                place = tuple(map(int, flagged))
                batch = len(self.problem.batch)
                self._overwrite(x[place[:batch]], out[place[:batch]], place[batch:])

    def _overwrite(self, image: Array, out: Array, index: tuple[int, ...]) -> None:
        # These load SciPy, which finite samples don't need.
        from convengine_fft.footprint import overwrite
        from convengine_fft.transform import Transform

        problem, tiling, dtype = self.problem, self.tiling, compute_dtype(self.problem)
        reads, writes = tiling.reads(problem, index), tiling.writes(problem, index)
        samples = read(image, reads, problem.boundary, problem.fill_value)
        tile = np.zeros((1, 1, *tiling.tile), dtype)
        corner: Any = (0, 0, *(slice(size) for size in samples.shape))
        tile[corner] = samples
        sums = np.zeros((1, 1, *tiling.tile), dtype)
        kernel = self.kernel.astype(dtype).reshape(1, 1, 1, *self.kernel.shape)
        overwrite(sums, tile, kernel, Transform(tiling.tile, problem.dilation, real=True))
        axes = zip(tiling.gives(problem, index), writes, problem.stride, strict=True)
        right: Any = (0, 0, *(slice(first * s - start, stop - start, s) for (start, stop), (first, _), s in axes))
        target: Any = tuple(slice(first, last) for first, last in writes)
        sums = sums[right]
        reached = ~np.isfinite(sums)
        values = finish(problem, sums[reached], self.bias)
        out[target][reached] = values
