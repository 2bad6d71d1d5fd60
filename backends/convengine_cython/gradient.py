"""The plan of the kernel's gradient: sums of x with dy by the compiled tiles, put together and rounded once.

A complex sum is four real ones: the planes of x and the streams of dy are (re, im) of each channel, and the gradient's
parts are re*re - im*im and re*im + im*re. This is the promoted product of NumPy, NaN and infinity included.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from convengine.plugin import finish
from convengine.problem import Problem
from convengine_cython.layout import Borders, code, element, three

if TYPE_CHECKING:
    from convengine_cython import compiled

__all__ = ["KernelGradientPlan"]


@dataclass(frozen=True, slots=True)
class GradientLayout:
    """A problem in the terms of the compiled gradient."""

    batch: tuple[int, ...]
    borders: Borders
    out: tuple[int, ...]
    widths: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    ndim: int
    groups: int
    channels: int  # input channels of a group
    outputs: int  # output channels of a group
    parts: int  # real numbers to a number of the sum
    x_real: bool  # though the sum is complex
    dy_real: bool
    x_code: int
    dy_code: int
    element: np.dtype[Any]  # of the sum
    fill: np.ndarray[Any, Any]  # (parts,)

    @classmethod
    def of(cls, problem: Problem) -> "GradientLayout":
        """Lay a problem out."""
        summed = problem.sum_dtype
        c_in, c_out = problem.channels
        fill = np.array([problem.fill_value], summed)
        return cls(
            batch=problem.batch,
            borders=Borders.of(problem),
            out=three(problem.out_spatial, 1),
            widths=three(problem.kernel_spatial, 1),
            stride=three(problem.stride, 1),
            dilation=three(problem.dilation, 1),
            ndim=problem.ndim,
            groups=problem.groups,
            channels=c_in // problem.groups,
            outputs=c_out // problem.groups,
            parts=2 if summed.kind == "c" else 1,
            x_real=summed.kind == "c" and problem.x_dtype.kind != "c",
            dy_real=summed.kind == "c" and problem.out_dtype.kind != "c",
            x_code=code(problem.x_dtype),
            dy_code=code(problem.out_dtype),
            element=element(summed),
            fill=fill.view(element(summed)),
        )


@dataclass(frozen=True, slots=True)
class KernelGradientPlan:
    """The gradient of one problem's kernel by direct sums, on one level."""

    problem: Problem
    level: str

    def prepare(self, dy: Any, bias: None = None) -> "KernelGradientFilter":
        """Hold the gradient of the output, of any strides, without a copy."""
        layout = GradientLayout.of(self.problem)
        module = import_module(f"convengine_cython.kernels_{self.level}_{layout.element.str[1:]}")
        return KernelGradientFilter(self.problem, module.KernelGradient(layout), dy)


@dataclass(frozen=True, slots=True, eq=False)
class KernelGradientFilter:
    """A gradient of the output, to be met with x."""

    problem: Problem
    sums: "compiled.KernelGradient"
    dy: Any

    @property
    def nbytes(self) -> int:
        """Bytes of the gradient of the output, which it keeps alive."""
        return int(self.dy.nbytes)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Compute the kernel's gradient from x, canonical, any strides, into out."""
        problem = self.problem
        summed = problem.sum_dtype
        parts = self.sums(x, self.dy)
        # Overflow and infinity less infinity are what the sum is.
        with np.errstate(over="ignore", invalid="ignore"):
            total = parts[0] if len(parts) == 1 else np.add.reduce(parts, axis=0, dtype=parts.dtype)
            if summed.kind == "c":
                total = _complex(total, summed)
        return finish(problem, total.reshape(problem.kernel_shape), None, out)


def _complex(total: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """(groups, 2 outputs, 2 channels, ...) real -> (groups, outputs, channels, ...) complex."""
    groups, streams, planes, *kernel = total.shape
    pairs = total.reshape(groups, streams // 2, 2, planes // 2, 2, *kernel)
    combined = np.empty((groups, streams // 2, planes // 2, *kernel), dtype)
    combined.real = pairs[:, :, 0, :, 0] - pairs[:, :, 1, :, 1]
    combined.imag = pairs[:, :, 0, :, 1] + pairs[:, :, 1, :, 0]
    return combined
