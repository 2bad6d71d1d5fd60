"""Where the samples of a call lie: axes merged, `Task` of kernels/samples.cuh filled, and how the work is cut."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from convengine.boundary import Boundary
from convengine.problem import Problem
from convengine_cupy.variants import COLUMNS

__all__ = ["MOST_AXES", "TASK", "Layout", "merged", "task"]

MOST_AXES = 8  # of a batch, once those that are walked as one are merged
WARPS_AT_ONCE = 4224  # of an H100: 132 multiprocessors that hold some 32 warps of these registers
MOST_ROWS = 128  # of a strip: with a kernel of 9 rows, 6% of x is read twice, and then often from the cache
LEAST_ROWS = 16

RULES = (Boundary.CONSTANT, Boundary.EDGE, Boundary.REFLECT, Boundary.SYMMETRIC, Boundary.WRAP)  # as `enum Rule` has it

TASK = np.dtype(
    [
        *((name, np.int64, MOST_AXES) for name in ("batch", "x_batch", "out_batch")),
        *((name, np.int64, 3) for name in ("size", "out_size", "before", "x_stride", "out_stride")),
        *((name, np.int64) for name in ("inner", "x_inner", "out_inner")),
        *((name, np.int64, 3) for name in ("step", "dilation", "taps", "rule")),
        *((name, np.int64) for name in ("rows", "bands", "chunks", "total")),
    ]
)

Axis: TypeAlias = tuple[int, int, int]  # size, and strides of x and out in samples


@dataclass(frozen=True, slots=True)
class Layout:
    """A call's axes: z, y, x, the batch with its fastest axis first, and the one that lies between samples of x's.

    Strides are in samples. The three spatial axes have size 1 where the problem lacks them.
    """

    size: tuple[int, int, int]
    out_size: tuple[int, int, int]
    before: tuple[int, int, int]
    x_stride: tuple[int, int, int]
    out_stride: tuple[int, int, int]
    step: tuple[int, int, int]
    dilation: tuple[int, int, int]
    taps: tuple[int, int, int]
    rule: tuple[int, int, int]
    batch: tuple[Axis, ...]
    inner: Axis = field(default=(1, 0, 0))

    @classmethod
    def of(
        cls, problem: Problem, x_strides: Sequence[int], out_strides: Sequence[int], within_rows: bool = True
    ) -> "Layout":
        """Arrange the axes of a problem whose arrays have these strides, in samples; an inner one only if allowed."""
        lacking, outer = 3 - problem.ndim, len(problem.batch)
        batch = merged(list(zip(problem.batch, x_strides[:outer], out_strides[:outer], strict=True)))
        steps = zip(problem.stride, problem.out_spatial, strict=True)
        dilations = zip(problem.dilation, problem.kernel_spatial, strict=True)
        plain = cls(
            size=_three(1, problem.spatial),
            out_size=_three(1, problem.out_spatial),
            before=_three(0, [before for before, _ in problem.pads]),
            x_stride=_three(0, x_strides[outer:]),
            out_stride=_three(0, out_strides[outer:]),
            step=_three(1, [s if n > 1 else 1 for s, n in steps]),
            dilation=_three(1, [d if k > 1 else 1 for d, k in dilations]),
            taps=_three(1, problem.kernel_spatial),
            rule=_three(0, [RULES.index(rule) for rule in problem.boundary]),
            batch=batch,
        )
        return (plain._with_inner() if within_rows else plain)._with_rows(lacking)

    def _with_inner(self) -> "Layout":
        """Walk a batch axis that lies between the samples of a row, as channels that lie last, with the row."""
        along = abs(self.x_stride[2])
        finer = [axis for axis in self.batch if 0 < abs(axis[1]) < along]
        if not finer or self.size[2] < 2:
            return self
        inner = min(finer, key=lambda axis: abs(axis[1]))
        return replace(self, inner=inner, batch=tuple(axis for axis in self.batch if axis is not inner))

    def _with_rows(self, lacking: int) -> "Layout":
        """Take the fastest axis of a batch of signals for the rows of an image."""
        if lacking < 2 or not self.batch:
            return self
        (n, x_stride, out_stride), *batch = self.batch

        def rows(values: tuple[int, int, int], value: int) -> tuple[int, int, int]:
            return values[0], value, values[2]

        return replace(
            self,
            size=rows(self.size, n),
            out_size=rows(self.out_size, n),
            x_stride=rows(self.x_stride, x_stride),
            out_stride=rows(self.out_stride, out_stride),
            batch=tuple(batch),
        )

    @property
    def images(self) -> int:
        """Of the batch, without what is walked as rows or within them."""
        return math.prod(axis[0] for axis in self.batch)


def _three(missing: int, values: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (*(missing,) * (3 - len(values)), *values)
    return z, y, x


def merged(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Batch axes, the fastest first, those of one sample left out, neighbours taken as one where the strides allow it.

    Examples
    --------
    >>> merged([(2, 60, 600), (3, 20, 20), (1, 5, 7), (4, 5, 5)])
    ((12, 5, 5), (2, 60, 600))
    """
    found: list[Axis] = []
    for n, x, out in reversed(axes):
        if n == 1:
            continue
        if found and (x, out) == (found[-1][0] * found[-1][1], found[-1][0] * found[-1][2]):
            found[-1] = (n * found[-1][0], *found[-1][1:])
        else:
            found.append((n, x, out))
    return tuple(found)


def task(layout: Layout, rolling: bool, sum_bytes: int) -> np.ndarray[Any, Any]:
    """Fill the structure, of which there is one; `total` is the number of warps or of threads."""
    made = np.zeros((), TASK)
    for name in ("size", "out_size", "before", "x_stride", "out_stride", "step", "dilation", "taps", "rule"):
        made[name] = getattr(layout, name)
    made["inner"], made["x_inner"], made["out_inner"] = layout.inner
    made["batch"] = 1
    for i, axis in enumerate(layout.batch):
        made["batch"][i], made["x_batch"][i], made["out_batch"][i] = axis
    if rolling:
        chunks, bands, rows = _cut(layout, sum_bytes)
        made["chunks"], made["bands"], made["rows"] = chunks, bands, rows
        made["total"] = chunks * bands * layout.images
    else:
        made["total"] = math.prod(layout.out_size) * layout.inner[0] * layout.images
    return made


def _cut(layout: Layout, sum_bytes: int) -> tuple[int, int, int]:
    """Strips across, strips down, and rows of each; it changes no bit of the results."""
    chunks = -(-layout.out_size[2] * layout.inner[0] // COLUMNS[sum_bytes])
    apart = layout.dilation[1]
    height = -(-layout.out_size[1] // apart)
    strips = max(WARPS_AT_ONCE // (chunks * apart * layout.images), 1)
    rows = min(max(-(-height // strips), LEAST_ROWS, 2 * layout.taps[1]), MOST_ROWS, height)
    return chunks, apart * -(-height // rows), rows
