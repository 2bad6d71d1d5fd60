"""The immutable question: what is to be computed, its shape arithmetic, what a kernel's values allow.

A Problem holds no samples and is hashable. Shapes stand in canonical axis order, channels
first: x is (*batch, *spatial) for a filter and (*batch, C_in, *spatial) for a layer; the
kernel is (*K) or (C_out, C_in/groups, *K). Flip and conjugation have happened: this is
always correlation. A gradient is asked about the forward problem that it belongs to: `op` says which of its
three arrays is computed from the other two, and shapes and dtypes stay with their arrays.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache, update_wrapper
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from convengine.boundary import Boundary, most_copies
from convengine.low_rank import rank_of, separate
from convengine.native import keeping, values

__all__ = ["KernelFacts", "Problem", "integer_sum_dtype", "kept", "kept_by_form", "kept_by_kind", "sum_dtype"]

T = TypeVar("T")
INT32_MAX = 2**31 - 1


def as_counted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The integer dtype whose range `dtype` has: bool counts as uint8."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


@lru_cache(maxsize=64)
def largest_magnitude(dtype: np.dtype[Any]) -> int:
    """Largest absolute value of an integer dtype or bool."""
    info = np.iinfo(as_counted(dtype))
    return max(abs(int(info.min)), int(info.max))


@lru_cache(maxsize=1024)  # a handful of dtypes, asked about some hundred times for every new problem
def is_integer(*dtypes: np.dtype[Any]) -> bool:
    """Whether every dtype is an integer or bool."""
    return all(dtype.kind in "biu" for dtype in dtypes)


@lru_cache(maxsize=1024)
def integer_sum_dtype(x: np.dtype[Any], kernel: np.dtype[Any], taps: int) -> np.dtype[Any]:
    """int32 where `taps` products of these dtypes cannot pass it, else int64."""
    return np.dtype(np.int32 if largest_magnitude(x) * largest_magnitude(kernel) * taps <= INT32_MAX else np.int64)


@lru_cache(maxsize=1024)
def sum_dtype(x: np.dtype[Any], kernel: np.dtype[Any], out: np.dtype[Any]) -> np.dtype[Any]:
    """Floating or complex dtype in which a sum forms: the widest of the three, float16 as float32."""
    widest = np.result_type(x, kernel, out)
    return np.dtype(np.float32) if widest == np.float16 else widest


if TYPE_CHECKING:
    lazy = property
    by_form = property
    by_kind = property
else:
    lazy, by_form, by_kind = keeping.Lazy, keeping.ByForm, keeping.ByKind


@dataclass(frozen=True)
class Problem:
    """One correlation problem, without its samples.

    Attributes
    ----------
    op : {"forward", "grad_input", "grad_kernel"}
        What is computed: out from x and the kernel; x's gradient, in the place of x, from out's, in the place of out,
        and the kernel; or the kernel's from x and out's. Nothing is conjugated in any.
    x_shape, kernel_shape, out_shape : tuple of int
        In canonical axis order (module docstring).
    x_dtype, kernel_dtype, out_dtype : numpy.dtype
        Of what stands in these places; native byte order.
    has_bias : bool
        Whether one number per output channel is added.
    overflow : {"saturate", "wrap", "raise"}
        What a rounded value outside an integer out_dtype becomes.
    pads : tuple of (before, after)
        Samples added on each side of each spatial axis.
    boundary : tuple of Boundary
        The border rule of each spatial axis.
    fill_value : number
        The sample beyond a constant border; 0 where no rule is constant.
    stride, dilation : tuple of int
        Per spatial axis.
    groups : int
        Channel groups of a layer.
    memory : str
        Where x lives: "host", "cuda:0", "lazy".
    """

    op: Literal["forward", "grad_input", "grad_kernel"]
    x_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    x_dtype: np.dtype[Any]
    kernel_dtype: np.dtype[Any]
    out_dtype: np.dtype[Any]
    has_bias: bool
    overflow: str
    pads: tuple[tuple[int, int], ...]
    boundary: tuple[Boundary, ...]
    fill_value: Any
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    memory: str

    @by_kind
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.stride)

    @by_kind
    def is_layer(self) -> bool:
        """Whether the kernel has channel axes."""
        return len(self.kernel_shape) == len(self.stride) + 2

    @lazy
    def spatial(self) -> tuple[int, ...]:
        """Sizes of x along the spatial axes."""
        return self.x_shape[len(self.x_shape) - self.ndim :]

    @by_form
    def kernel_spatial(self) -> tuple[int, ...]:
        """Kernel widths, not dilated."""
        return self.kernel_shape[len(self.kernel_shape) - self.ndim :]

    @lazy
    def out_spatial(self) -> tuple[int, ...]:
        """Sizes of the output along the spatial axes."""
        return self.out_shape[len(self.out_shape) - self.ndim :]

    @lazy
    def batch(self) -> tuple[int, ...]:
        """Sizes of the batch axes (for a filter: every axis that is not spatial)."""
        return self.x_shape[: len(self.x_shape) - self.ndim - self.is_layer]

    @by_form
    def channels(self) -> tuple[int, int]:
        """(C_in, C_out); (1, 1) for a filter."""
        return (self.kernel_shape[1] * self.groups, self.kernel_shape[0]) if self.is_layer else (1, 1)

    @by_form
    def taps(self) -> int:
        """Products in one output sample."""
        return math.prod(self.kernel_shape[1:] if self.is_layer else self.kernel_shape)

    @by_kind
    def is_integer(self) -> bool:
        """Whether the sum is an exact integer."""
        return is_integer(self.x_dtype, self.kernel_dtype, self.out_dtype)

    @by_kind
    def sum_dtype(self) -> np.dtype[Any]:
        """Dtype in which the sum forms. Integer sums with a bias, and integer gradients, form in int64."""
        if self.is_integer:
            if self.has_bias or self.op != "forward":
                return np.dtype(np.int64)
            return integer_sum_dtype(self.x_dtype, self.kernel_dtype, self.taps)
        return sum_dtype(self.x_dtype, self.kernel_dtype, self.out_dtype)

    @lazy
    def result_shape(self) -> tuple[int, ...]:
        """Shape of what is computed."""
        return {"forward": self.out_shape, "grad_input": self.x_shape, "grad_kernel": self.kernel_shape}[self.op]

    @by_kind
    def result_dtype(self) -> np.dtype[Any]:
        """Dtype of what is computed."""
        return {"forward": self.out_dtype, "grad_input": self.x_dtype, "grad_kernel": self.kernel_dtype}[self.op]

    @lazy
    def samples_shape(self) -> tuple[int, ...]:
        """Shape of the array that a filter is called with: x, or out's gradient where x's is computed."""
        return self.out_shape if self.op == "grad_input" else self.x_shape

    @by_kind
    def samples_dtype(self) -> np.dtype[Any]:
        """Dtype of the array that a filter is called with."""
        return self.out_dtype if self.op == "grad_input" else self.x_dtype

    @lazy
    def terms(self) -> int:
        """The most numbers that one result adds up: products, and a bias."""
        match self.op:
            case "forward":
                return self.taps + self.has_bias
            case "grad_input":
                count = self.channels[1] // self.groups
                for axis in range(self.ndim):
                    apart = self.stride[axis] // math.gcd(self.stride[axis], self.dilation[axis])
                    count *= -(-self.kernel_spatial[axis] // apart)  # taps that meet at one padded sample
                    count *= most_copies(self.boundary[axis], self.spatial[axis], *self.pads[axis])
                return count
            case "grad_kernel":
                return math.prod(self.batch) * math.prod(self.out_spatial)

    @lazy
    def multiplications(self) -> int:
        """Products of the direct sum over all outputs; the gradients have the same."""
        return math.prod(self.out_shape) * self.taps

    @by_kind
    def _kind_hash(self) -> int:
        return hash(KIND(self))

    @by_form
    def _form_hash(self) -> int:
        return hash((self._kind_hash, self.kernel_shape, self.pads))

    @lazy
    def _hash(self) -> int:
        return hash((self._form_hash, self.x_shape, self.out_shape))

    def __hash__(self) -> int:
        return self._hash

    @classmethod
    def sized(cls, form: dict[str, Any], x_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> "Problem":
        """Make a problem of a form: of a dict of all its fields but these, and of its kind.

        The kind is a dict of all fields but these, the kernel's shape and the pads; all problems of a kind have kernels
        of as many axes, and sums of one dtype. What is `by_form` or `by_kind`, once it is computed for one of them, is
        there for the next.
        """
        made = cls.__new__(cls)
        made.__dict__.update(form, form=form, x_shape=x_shape, out_shape=out_shape)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Problem, tuple(getattr(self, name) for name in FIELDS)  # a hash holds in its own process alone

    def __str__(self) -> str:
        shape = f"{self.x_shape} * {self.kernel_shape}"
        other = self.out_dtype if self.op == "grad_kernel" else self.kernel_dtype
        words = [f"{self.op} corr{self.ndim}d {shape}", str(self.samples_dtype)]
        if other != self.samples_dtype:
            words.append(f"by {other}")
        if self.result_dtype != self.samples_dtype:
            words.append(f"to {self.result_dtype}")
        if any(before or after for before, after in self.pads):
            words.append("/".join(dict.fromkeys(self.boundary)))
        words += [f"{name} {value}" for name in ("stride", "dilation") if set(value := getattr(self, name)) != {1}]
        if self.groups != 1:
            words.append(f"groups {self.groups}")
        return " ".join(words)


NUMBERS = count()


def kept(function: Callable[[Problem], T]) -> Callable[[Problem], T]:
    """Keep what a function makes of a problem beside its fields: for what is asked again and again while one is priced.

    Parameters
    ----------
    function : callable
        Of a problem alone; what it returns must not be changed, and is not None.

    Returns
    -------
    callable
        The function, computed once for each problem.

    Examples
    --------
    >>> import convengine as ce
    >>> from convengine.problem import kept
    >>> @kept
    ... def widest(problem):
    ...     print("computed")
    ...     return max(problem.kernel_spatial)
    >>> problem = ce.explain([1.0, 2.0, 3.0], [1.0, 1.0]).problem
    >>> widest(problem), widest(problem)
    computed
    (2, 2)
    """
    return update_wrapper(keeping.Kept(function, _name(function)), function)


def kept_by_form(function: Callable[[Problem], T]) -> Callable[[Problem], T]:
    """Keep what a function makes of a problem for all problems of its form, which differ in sizes alone.

    Parameters
    ----------
    function : callable
        Of a problem alone, whatever the sizes of x and of the result; what it returns is not None.

    Returns
    -------
    callable
        The function, computed once for the problems of a form that the engine has read.

    Examples
    --------
    >>> import convengine as ce
    >>> from convengine.problem import kept_by_form
    >>> @kept_by_form
    ... def widest(problem):
    ...     print("computed")
    ...     return max(problem.kernel_spatial)
    >>> for n in (10, 20):
    ...     print(widest(ce.explain([1.0] * n, [1.0, 1.0]).problem))
    computed
    2
    2
    """
    return update_wrapper(keeping.KeptByForm(function, _name(function)), function)


def kept_by_kind(function: Callable[[Problem], T]) -> Callable[[Problem], T]:
    """Keep what a function makes of a problem for all problems of its kind: those that differ in shapes and pads alone.

    Parameters
    ----------
    function : callable
        Of a problem alone, whatever its shapes and pads; the number of axes may tell. What it returns is not None.

    Returns
    -------
    callable
        The function, computed once for the problems of a kind that the engine has read.

    Examples
    --------
    >>> import convengine as ce
    >>> from convengine.problem import kept_by_kind
    >>> @kept_by_kind
    ... def samples(problem):
    ...     print("computed")
    ...     return str(problem.x_dtype)
    >>> for n in (2, 3):
    ...     print(samples(ce.explain([1.0] * 10, [1.0] * n).problem))
    computed
    float64
    float64
    """
    return update_wrapper(keeping.KeptByKind(function, _name(function)), function)


def _name(function: Callable[[Problem], Any]) -> str:
    """What its results are kept under; others may be of the same name."""
    return f"{function.__module__}.{function.__qualname__} {next(NUMBERS)}"


FIELDS = tuple(field.name for field in fields(Problem))
KIND = attrgetter(*(name for name in FIELDS if name not in ("x_shape", "out_shape", "kernel_shape", "pads")))


@dataclass(frozen=True)
class KernelFacts:
    """What the values of a kernel allow; hashable, computed once per kernel content.

    The numbers are bounds; for integers they are exact. Those of floats, to within the rounding of sums in float64,
    are rounded up to powers of two, so that kernels much alike, as in the steps of a training, share their choice.

    Attributes
    ----------
    rank : int
        Matrix rank of a 2-D filter, to within the rounding of its dtype (1 means separable); 1 for a 1-D filter; 0 for
        zeros, and where not determined.
    symmetry : tuple of str
        Per spatial axis: "even", "odd" or "" under a flip of that axis; "" for integers that float64 does not hold.
    box : bool
        Whether all taps are equal; not for such integers.
    abs_sum : float or int
        Largest sum of absolute values over the output channels; an exact int for integers.
    norm : float
        Largest 2-norm over the output channels.
    finite, nonnegative : bool
        Whether all values are so.
    smallest : float
        Smallest absolute value of a tap, where it is below SMALL; SciPy's ndimage drops taps up to 2.2e-16.
    dropped : float
        Of a real filter of rank 1: the largest part of any tap that the factors of `low_rank.separate` miss; 0 where
        they meet every tap exactly, inf where they give a tap to a zero, and for other filters; also for those one tap
        wide, for which factors save nothing.
    """

    rank: int
    symmetry: tuple[str, ...]
    box: bool
    abs_sum: float | int
    norm: float
    finite: bool
    nonnegative: bool
    smallest: float = 0.0
    dropped: float = math.inf

    @lazy
    def _hash(self) -> int:
        return hash(FACTS(self))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return KernelFacts, FACTS(self)  # a hash holds in its own process alone

    @classmethod
    def unknown(cls, ndim: int) -> "KernelFacts":
        """Facts that allow the most, for weights not at hand; who relies on them must look at the weights later."""
        return cls(0, ("",) * ndim, box=False, abs_sum=0, norm=0.0, finite=True, nonnegative=False, smallest=1.0)

    @classmethod
    def of(cls, kernel: np.ndarray[Any, Any], ndim: int) -> "KernelFacts":
        """Read the facts off a canonical kernel with `ndim` spatial axes."""
        wide: Any = np.complex128 if kernel.dtype.kind == "c" else np.float64
        if kernel.dtype.char in "fd" and kernel.dtype.isnative:
            wide = kernel.dtype
        looked_at = np.ascontiguousarray(kernel, wide)
        filters = kernel.shape[0] if kernel.ndim > ndim else 1  # one for each output channel of a layer
        rows = looked_at.reshape(filters, looked_at.size // max(filters, 1))
        integer = is_integer(kernel.dtype)
        abs_sum: float | int
        shape = kernel.shape[kernel.ndim - ndim :]
        abs_sum, norm, smallest, largest, box, nonnegative, symmetry = values.look(rows, shape)
        finite = abs_sum < math.inf or bool(np.isfinite(looked_at).all())
        if not integer:
            abs_sum, norm, smallest = values.power_above(abs_sum), values.power_above(norm), min(smallest, SMALL)
        elif abs_sum < EXACT_SUM:
            abs_sum = int(abs_sum)
        else:
            magnitudes = [[abs(int(value)) for value in row] for row in kernel.reshape(rows.shape).tolist()]
            abs_sum = max((sum(row) for row in magnitudes), default=0)
            norm = max((math.sqrt(sum(value * value for value in row)) for row in magnitudes), default=0.0)
        held = not integer or kernel.dtype.itemsize < 8 or abs_sum < EXACT  # all that differ, differ as float64
        rank, dropped = 0, math.inf
        if finite and kernel.ndim == ndim and ndim < 3:
            rank = rank_of(looked_at, kernel.dtype, largest) if ndim == 2 else 1
            if rank == 1 and ndim == 2 and 1 not in shape and kernel.dtype.kind != "c":
                dropped = values.power_above(separate(kernel)[2])
        symmetry = symmetry if held else ("",) * ndim
        found = rank, symmetry, held and box, abs_sum, norm, finite, nonnegative, smallest, dropped
        facts = cls.__new__(cls)  # by __init__, a frozen class sets field by field, which takes three times as long
        facts.__dict__.update(zip(FACT_NAMES, found, strict=True))
        return facts


FACT_NAMES = tuple(field.name for field in fields(KernelFacts))
FACTS = attrgetter(*FACT_NAMES)


EXACT = 2**53
EXACT_SUM = 2**26  # whole numbers add up to less: no sum of theirs, or of their squares, is rounded in float64
SMALL = 1e-12  # no method minds taps of this size and more
