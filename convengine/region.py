"""Part of a result: the samples of x that it needs, and the same operation on these alone."""

from typing import Any, NamedTuple

import numpy as np

from convengine.boundary import Boundary, source
from convengine.errors import InvalidProblem
from convengine.reading import read
from convengine.reading_gradients import Like

__all__ = ["Cut"]


class Cut(NamedTuple):
    """How to compute a part of a result.

    Attributes
    ----------
    parts : tuple
        One slice, or array of positions, for each axis of x: ``x[parts[0]][:, parts[1]]`` and so on is
        what is needed.
    keywords : dict
        Those of the operation on it.
    kept : tuple of slice
        What of its result is asked for: all but along axes where nothing is.
    """

    parts: tuple[Any, ...]
    keywords: dict[str, Any]
    kept: tuple[slice, ...]

    @classmethod
    def of(
        cls, ndim: int, flip: bool, shape: tuple[int, ...], kernel_shape: Any, region: Any, keywords: dict[str, Any]
    ) -> "Cut":
        """Read the region of an operation's result; `keywords` holds every one that says what to compute."""
        # Only shapes matter here: dtypes and values are made up, the operation itself will look at them.
        values = {"bias": None, "fill_value": 0, "conjugate": False, "dtype": None, "overflow": "saturate"}
        kernel = np.broadcast_to(np.zeros((), np.bool_), kernel_shape)
        x = Like(shape, np.dtype(np.float64), "host")
        reading = read(ndim, flip, x, kernel, **(keywords | values), out=None, memory="host")
        problem = reading.problem
        parts: list[Any] = [slice(None)] * len(shape)
        kept: list[slice] = [slice(None)] * len(shape)
        pads, strides = [], []
        for number, (axis, part) in enumerate(zip(reading.x_axes[-ndim:], _slices(region, ndim), strict=True)):
            n, count, stride = shape[axis], problem.out_spatial[number], problem.stride[number]
            chosen = _range(part, count)
            if not chosen:  # nothing is asked for: one result, or what there is of none, and then nothing of it
                kept[axis] = slice(0, 0)
                chosen = range(min(count, 1))
            width = problem.dilation[number] * (problem.kernel_spatial[number] - 1) + 1
            before, after = problem.pads[number]
            start = -before
            stop = n + after
            if chosen:
                start, stop = stride * chosen[0] - before, stride * chosen[-1] - before + width
            inside = start >= 0 and stop <= n
            if inside or problem.boundary[number] is Boundary.CONSTANT or not n:
                parts[axis] = slice(min(max(start, 0), n), max(min(stop, n), 0))
                pads.append((min(max(-start, 0), stop - start), min(max(stop - n, 0), stop - start)))
            else:
                parts[axis] = source(problem.boundary[number], np.arange(start, stop, dtype=np.intp), n)
                pads.append((0, 0))
            strides.append(stride * chosen.step)
        said = keywords | {"mode": None, "center": None, "padding": tuple(pads), "stride": tuple(strides)}
        if not problem.is_layer:
            said["axes"] = reading.x_axes[-ndim:]  # said, so that nobody takes a narrow part for colours
        return cls(tuple(parts), said, tuple(kept))

    def samples(self, x: Any) -> Any:
        """The part of x that is needed: a view, but along axes where the region meets a border that repeats samples."""
        x = x[tuple(part if isinstance(part, slice) else slice(None) for part in self.parts)]
        for axis, part in enumerate(self.parts):
            if not isinstance(part, slice):
                x = x[(slice(None),) * axis + (part,)]
        return x

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return any(part != slice(None) for part in self.kept)


def _slices(region: Any, ndim: int) -> tuple[slice, ...]:
    parts = (region,) if isinstance(region, slice) else region
    if not isinstance(parts, tuple | list) or len(parts) != ndim or not all(isinstance(part, slice) for part in parts):
        raise InvalidProblem(
            f"region must hold {ndim} slices of the result, one per spatial axis, such as np.s_["
            f"{', '.join(['10:20'] * ndim)}]; got {region!r}"
        )
    return tuple(parts)


def _range(part: slice, count: int) -> range:
    """The results that a slice names."""
    try:
        chosen = range(*part.indices(count))
    except (TypeError, ValueError) as error:
        raise InvalidProblem(f"region must hold slices of integers; got {part} ({error})") from None
    if chosen.step < 1:
        raise InvalidProblem(f"region must hold slices with a step of at least 1; got {part}; flip the result instead")
    return chosen
