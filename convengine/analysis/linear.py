"""An operation with its kernel as an affine map: read once, for the linear operator and the dense layer alike."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine import api
from convengine.analysis.question import check_keywords, operation_of, read_question
from convengine.arguments import check_dtype, read_array, read_kernel, read_shape
from convengine.errors import InvalidProblem
from convengine.reading import Reading
from convengine.reading_gradients import Like

__all__ = ["AffineMap", "read_map"]

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class AffineMap:
    """An operation on arrays of one shape, its kernel and keywords, and how the engine reads them."""

    op: str
    kernel: np.ndarray[Any, Any]  # a copy, as the user has it
    x_shape: tuple[int, ...]
    x_dtype: np.dtype[Any]
    keywords: dict[str, Any]
    reading: Reading

    def constant(self, **how: Any) -> np.ndarray[Any, Any]:
        """What an x of zeros gives: of the result's shape and dtype."""
        problem = self.reading.problem
        if self.reading.bias is None and problem.fill_value == 0:
            return np.zeros(self.reading.out_shape, problem.out_dtype)
        zeros = np.zeros(self.x_shape, self.x_dtype)
        result: np.ndarray[Any, Any] = getattr(api, self.op)(zeros, self.kernel, **self.keywords, **how)
        return result


def read_map(kernel: Any, x_shape: Any, op: Any, x_dtype: Any, keywords: dict[str, Any], stacklevel: int) -> AffineMap:
    """Read an operation with a kernel at hand, or raise where it is no affine map."""
    check_keywords(keywords)
    given = read_array(kernel, "kernel")
    try:
        samples = np.dtype(given.dtype if x_dtype is None else x_dtype).newbyteorder("=")
    except TypeError:
        raise InvalidProblem(f"x_dtype must be a NumPy dtype; got {x_dtype!r}") from None
    check_dtype(samples, "x_dtype")
    weights = np.array(read_kernel(kernel, samples, None))
    if not np.isfinite(weights).all():
        raise InvalidProblem("an operation is linear only if its kernel is finite; got NaN or infinity in the kernel")
    if weights.dtype.kind in "iu":
        _check_sums(weights)
    shape = read_shape(x_shape, "x_shape")
    name = operation_of(op, weights.ndim)
    reading = read_question(name, Like(shape, samples, "host"), weights, keywords, stacklevel + 1)
    if reading.problem.out_dtype.kind in "iu" and keywords.get("dtype") is not None:
        raise InvalidProblem(
            f"dtype={keywords['dtype']!r} would round and saturate, which is not linear; give a float dtype, or none: "
            "integers by integers are exact without it"
        )
    return AffineMap(name, weights, shape, samples, dict(keywords), reading)


def _check_sums(kernel: np.ndarray[Any, Any]) -> None:
    """Raise where weights may add up past int64, as they do where a border puts taps on one sample."""
    total = sum(abs(weight) for weight in kernel.ravel().tolist())
    if total > INT64_MAX:
        raise OverflowError(f"the sum of |kernel| is {total}, past int64; give a float kernel")
