"""What is timed: filters on arrays of given shapes, the same samples for every library."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

__all__ = ["DTYPES", "KINDS", "Task", "gaussian_weights", "sigma_of"]

Array = np.ndarray[Any, Any]
KINDS = ("image", "gaussian", "signal")
DTYPES = ("float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64")


def sigma_of(width: int) -> float:
    """The standard deviation that OpenCV takes for a Gaussian of this many taps."""
    return 0.3 * ((width - 1) * 0.5 - 1) + 0.8


def gaussian_weights(width: int) -> Array:
    """The taps of a Gaussian, their sum 1, in float64."""
    at = np.arange(width) - (width - 1) / 2
    weights = np.exp(-(at**2) / (2 * sigma_of(width) ** 2))
    normal: Array = weights / weights.sum()
    return normal


@dataclass(frozen=True, slots=True)
class Task:
    """One filter of one array, "same" size, in the array's dtype; integers saturate.

    Attributes
    ----------
    kind : {"image", "gaussian", "signal"}
        An image with a kernel of no structure, or with a Gaussian given as the plain two-dimensional array; their
        borders are "reflect". A signal with a kernel of no structure, zeros beyond its ends.
    shape, kernel_shape : tuple of int
        Of x and of the kernel.
    dtype : str
        Of x and of the result, and of the kernel if it is a float; kernels of integers are small, int8.
    """

    kind: str
    shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    dtype: str

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Task":
        """Make it from what `to_dict` gives, by way of JSON."""
        shapes = {name: tuple(values[name]) for name in ("shape", "kernel_shape")}
        return cls(values["kind"], dtype=values["dtype"], **shapes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        sizes = ["x".join(map(str, shape)) for shape in (self.shape, self.kernel_shape)]
        what = {"image": "", "gaussian": "Gaussian ", "signal": ""}[self.kind]
        return f"{self.dtype} {sizes[0]} * {what}{sizes[1]}"

    @property
    def is_float(self) -> bool:
        """Whether sums are rounded."""
        return np.dtype(self.dtype).kind == "f"

    @property
    def samples(self) -> int:
        """Of x, and of the result."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def taps(self) -> int:
        """Of the kernel."""
        return int(np.prod(self.kernel_shape, dtype=np.int64))

    @property
    def products(self) -> int:
        """Multiply-adds of the direct sum."""
        return self.samples * self.taps

    @property
    def nbytes(self) -> int:
        """Bytes of x; the result has as many."""
        return self.samples * np.dtype(self.dtype).itemsize

    @property
    def operation(self) -> str:
        """The function of convengine that computes it."""
        return f"corr{len(self.shape)}d"

    @property
    def boundary(self) -> str:
        """What lies beyond the edge, in numpy.pad's words."""
        return "constant" if self.kind == "signal" else "reflect"

    @property
    def pads(self) -> list[tuple[int, int]]:
        """Samples that the kernel needs beyond each edge."""
        return [(k // 2, k - 1 - k // 2) for k in self.kernel_shape]

    def arrays(self) -> tuple[Array, Array]:
        """Make x and the kernel.

        Integers lie within 4 of 0 or of 128, taps within 8 of 0 with a sum of 1: few results saturate, which would hide
        errors, and float32 holds all of them exactly, in which some libraries sum integers.
        """
        rng = np.random.default_rng(0)
        if self.is_float:
            x = rng.standard_normal(self.shape, np.float32).astype(self.dtype, copy=False)
            if self.kind == "gaussian":
                rows, columns = self.factors()
                kernel = np.outer(rows, columns)
            else:
                kernel = rng.standard_normal(self.kernel_shape) / np.sqrt(self.taps)
            return x, kernel.astype(self.dtype)
        middle = 128 if np.dtype(self.dtype).kind == "u" else 0
        x = rng.integers(middle - 4, middle + 5, self.shape, self.dtype)
        return x, _taps_of_sum_one(rng.integers(-8, 9, self.kernel_shape, np.int8))

    def factors(self) -> tuple[Array, Array]:
        """The column and the row whose outer product the kernel of a Gaussian is, in float64."""
        rows, columns = (gaussian_weights(width) for width in self.kernel_shape)
        return rows, columns


def _taps_of_sum_one(taps: Array) -> Array:
    """Bring integers of -8 to 8 to a sum of 1, one step each, one after the other, as long as it takes."""
    flat = taps.ravel()
    while missing := 1 - int(flat.sum(dtype=np.int64)):
        step = 1 if missing > 0 else -1
        movable = np.flatnonzero(np.abs(flat.astype(int) + step) <= 8)[: abs(missing)]
        flat[movable] += np.int8(step)
    return flat.reshape(taps.shape)
