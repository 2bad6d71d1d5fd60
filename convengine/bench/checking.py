"""Holding results against the exact sum: an independent computation in float64, and the proven bounds of both."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine.bench.contest import Bound
from convengine.bench.tasks import Array, Task
from convengine.testing.bounds import fft_constant, gamma, unit_roundoff

__all__ = ["Reference", "require"]

DIRECT_PRODUCTS = 4e9  # up to here scipy.ndimage sums directly, in some seconds; beyond, an FFT in float64


@dataclass(frozen=True, slots=True)
class Reference:
    """The exact result of a task within `error`, and what its bounds need.

    Attributes
    ----------
    value, scale : array
        The result and |x| corr |kernel|, in float64; integers not yet saturated, and without a scale.
    error : array or float
        How far `value` may lie from the exact sum.
    largest, norm, kernel : float, float, array
        max |x|; ||x||_2 * ||kernel||_2 of the padded array; the kernel in float64.
    """

    value: Array
    scale: Array | None
    error: Any
    largest: float
    norm: float
    kernel: Array

    @classmethod
    def of(cls, task: Task, x: Array, kernel: Array) -> "Reference":
        """Compute it, with one thread and without the engine."""
        wide, weights = x.astype(np.float64), kernel.astype(np.float64)
        # The overloads know literal modes only, and a task holds one as a str.
        padded = np.pad(wide, task.pads, mode=task.boundary)  # type: ignore[call-overload]
        norm = float(np.linalg.norm(padded) * np.linalg.norm(weights))
        u = unit_roundoff("float64")
        rounding = gamma(task.taps, u)
        directly = task.products <= DIRECT_PRODUCTS
        value = _summed(task, wide, padded, weights, directly)
        size = float(np.prod([2 * n for n in padded.shape], dtype=float))
        transformed = 0.0 if directly else fft_constant(size, "float64") * norm
        largest = float(np.abs(wide).max())
        if not task.is_float:
            if not directly:
                if transformed >= 0.5:
                    raise ValueError(f"{task}: the reference's error of {transformed:.2g} does not allow to round it")
                value = np.rint(value)
            return cls(value, None, 0.0, largest, norm, weights)
        scale = _summed(task, np.abs(wide), np.abs(padded), np.abs(weights), directly)
        # Each term of the scale is positive, so that its rounding is relative; an FFT's is not.
        scale = np.maximum(scale, 0) / (1 - rounding) + transformed
        error = rounding * scale if directly else transformed
        return cls(value, scale, error, largest, norm, weights)

    def allowed(self, bound: Bound, dtype: str) -> Array:
        """How far a result in a float dtype may lie from `value`."""
        assert self.scale is not None
        other = 0.0  # what an exact sum with the factors differs by from one with the kernel
        if bound.factors is not None:
            other = self.largest * float(np.abs(np.outer(*bound.factors) - self.kernel).sum())
        method = np.maximum(bound.componentwise * (self.scale + other), bound.normwise * self.norm)
        underflow = self.kernel.size * float(np.finfo(dtype).smallest_subnormal)
        allowed: Array = method + other + self.error + underflow
        return allowed


def _summed(task: Task, x: Array, padded: Array, kernel: Array, directly: bool) -> Array:
    from scipy import ndimage, signal

    summed: Array
    if directly:
        summed = ndimage.correlate(x, kernel, mode="constant" if task.boundary == "constant" else "mirror")
    else:
        summed = signal.oaconvolve(padded, np.flip(kernel), mode="valid")
    return summed


def require(task: Task, reference: Reference, result: Array, bound: Bound) -> float:
    """Return the largest error of a result as a fraction of what is allowed; AssertionError if that is past 1."""
    if result.shape != task.shape or result.dtype != task.dtype:
        raise AssertionError(f"the result must be {task.dtype} {task.shape}; got {result.dtype} {result.shape}")
    if task.is_float:
        with np.errstate(invalid="ignore"):
            error = np.abs(result - reference.value)
            fractions = np.where(error == 0, 0.0, error / reference.allowed(bound, task.dtype))
        fractions[np.isnan(error)] = np.inf
    else:
        info = np.iinfo(task.dtype)
        fractions = np.where(result == np.clip(reference.value, info.min, info.max), 0.0, np.inf)
    largest = float(fractions.max())
    if largest > 1:
        index = np.unravel_index(int(fractions.argmax()), fractions.shape)
        place = tuple(int(i) for i in index)
        raise AssertionError(
            f"result {place} must be {reference.value[index]:.9g}; got {result[index]:.9g}, {largest:.3g} times what"
            f" its bound allows; {np.count_nonzero(fractions > 1)} of {fractions.size} are beyond theirs"
        )
    return largest
