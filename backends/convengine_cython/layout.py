"""From a Problem to the numbers that the kernels take: three spatial axes, real planes and streams, packed taps.

A complex sum is a real one with twice the channels: the planes of x are (re, im) of each
channel, the streams of the output likewise, and a complex tap becomes the 2 x 2 block
[[re, -im], [im, re]]. This is the promoted product of NumPy, NaN and infinity included.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine.boundary import pad_indices
from convengine.native.codes import CODES, OVERFLOWS
from convengine.problem import Problem

__all__ = ["Borders", "Layout", "code", "element", "three"]


def element(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The real dtype of a sample's components."""
    return np.empty(0, dtype).real.dtype


def code(dtype: np.dtype[Any]) -> int:
    """The kernels' number for a component type."""
    return CODES[element(dtype).str[1:]]


def three(values: tuple[int, ...], first: int) -> tuple[int, ...]:
    """Numbers of three spatial axes: `first` for those that the problem lacks."""
    return (first,) * (3 - len(values)) + values


@dataclass(frozen=True, slots=True)
class Borders:
    """The samples of x on three spatial axes, and what stands around them."""

    sizes: tuple[int, ...]
    before: tuple[int, ...]
    maps: tuple[np.ndarray[Any, Any], ...]  # left and right index maps of the three axes

    @classmethod
    def of(cls, problem: Problem) -> "Borders":
        """Map the pads of a problem."""
        sizes = three(problem.spatial, 1)
        pads = ((0, 0),) * (3 - problem.ndim) + problem.pads
        rules = (problem.boundary[0],) * (3 - problem.ndim) + problem.boundary
        maps: list[np.ndarray[Any, Any]] = []
        for rule, n, (before, after) in zip(rules, sizes, pads, strict=True):
            maps += pad_indices(rule, n, before, after)
        return cls(
            sizes=sizes,
            before=tuple(before for before, _ in pads),
            maps=tuple(np.ascontiguousarray(indices, np.intp) for indices in maps),
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """A problem in the kernels' terms; `taps` and `bias` in the sum's real dtype."""

    batch: tuple[int, ...]
    sizes: tuple[int, ...]
    out: tuple[int, ...]
    widths: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    maps: tuple[np.ndarray[Any, Any], ...]  # left and right index maps of the three axes
    ndim: int
    layer: bool
    groups: int
    channels: int  # input channels of a group
    outputs: int  # output channels of a group
    x_parts: int
    out_parts: int
    x_code: int
    out_code: int
    overflow: int
    taps: np.ndarray[Any, Any]  # (groups, streams, planes, kz, ky, kx)
    bias: np.ndarray[Any, Any]  # (groups, streams)
    fill: np.ndarray[Any, Any]  # (x_parts,)

    @classmethod
    def of(cls, problem: Problem, kernel: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None) -> "Layout":
        """Lay a problem out with its kernel."""
        summed = problem.sum_dtype
        real = element(summed)
        groups = problem.groups
        c_in, c_out = problem.channels
        widths = three(problem.kernel_spatial, 1)
        taps = kernel.reshape(groups, c_out // groups, c_in // groups, *widths).astype(summed)
        added = np.zeros(c_out, summed) if bias is None else bias.astype(summed)
        added = added.reshape(groups, c_out // groups)
        x_parts, out_parts = 1, 1
        fill = np.array([problem.fill_value], summed)
        if summed.kind == "c":
            x_parts, out_parts = 1 + (problem.x_dtype.kind == "c"), 2
            taps = _complex_taps(taps, x_parts)
            added = np.stack([added.real, added.imag], axis=-1).reshape(groups, -1)
            fill = np.array([fill[0].real, fill[0].imag][:x_parts])
        borders = Borders.of(problem)
        return cls(
            batch=problem.batch,
            sizes=borders.sizes,
            out=three(problem.out_spatial, 1),
            widths=widths,
            stride=three(problem.stride, 1),
            dilation=three(problem.dilation, 1),
            before=borders.before,
            maps=borders.maps,
            ndim=problem.ndim,
            layer=problem.is_layer,
            groups=groups,
            channels=c_in // groups,
            outputs=c_out // groups,
            x_parts=x_parts,
            out_parts=out_parts,
            x_code=code(problem.x_dtype),
            out_code=code(problem.out_dtype),
            overflow=OVERFLOWS[problem.overflow],
            taps=np.ascontiguousarray(taps, real),
            bias=np.ascontiguousarray(added, real),
            fill=np.ascontiguousarray(fill, real),
        )


def _complex_taps(taps: np.ndarray[Any, Any], x_parts: int) -> np.ndarray[Any, Any]:
    """(groups, outputs, channels, ...) complex -> (groups, 2 outputs, x_parts channels, ...) real."""
    columns = [np.stack([taps.real, taps.imag], axis=2), np.stack([-taps.imag, taps.real], axis=2)][:x_parts]
    block = np.stack(columns, axis=4)  # (groups, outputs, 2, channels, x_parts, ...)
    groups, outputs, two, channels = block.shape[:4]
    return block.reshape(groups, outputs * two, channels * x_parts, *taps.shape[3:])
