"""What a backend is: the interface between the engine and its plug-ins, and what they share.

A backend is an object (or a class without arguments) named by an entry point of the group
``convengine.backends``. It is asked for offers, plans the chosen one, and the plan turns a
kernel into a filter. Three costs, three nouns: choosing (Plan), kernel work (Filter), array
work (the call).
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from convengine.errors import InvalidProblem
from convengine.native import cpu
from convengine.problem import KernelFacts, Problem

__all__ = [
    "API",
    "Backend",
    "BackendInfo",
    "Declined",
    "Filter",
    "Offer",
    "Plan",
    "Refusal",
    "Solve",
    "direct_error",
    "finish",
    "loaded_at_fork",
    "require_magnitude",
    "workers",
]

API = 1  # a plug-in may say which version it was built for, by an attribute `api`

WORKERS: ContextVar[int | None] = ContextVar("convengine_workers", default=None)


def workers() -> int:
    """Threads that the current call may use: what the user allowed, else every CPU this process may run on."""
    return WORKERS.get() or cpu.available_workers()


_loaded_at_forks: set[str] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _loaded_at_forks.update(sys.modules))


def loaded_at_fork(name: str) -> bool:
    """Whether this process was forked from one that had loaded a module, whose threads, if any, a fork lacks."""
    return name in _loaded_at_forks


@dataclass(frozen=True, slots=True)
class Offer:
    """Yes: by this method, in about this long.

    Attributes
    ----------
    method : str
        Short name, shown to users: "direct, avx512".
    seconds : float
        Expected time of one call, with the workers of the current context.
    memory : int
        Bytes beside x and out during a call.
    error : float
        Factor of the proven error bound; 0 is exact. The bound is componentwise,
        factor * (|x| corr |kernel|), or, where `normwise`, factor * ||x_block||_2 * ||kernel||_2.
    normwise : bool
        Which of the two bounds holds.
    """

    method: str
    seconds: float
    memory: int
    error: float
    normwise: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, because: a value, not an exception."""

    reason: str


class Declined(Exception):
    """Raised by a plan or filter that meets in the kernel or in x what its method cannot take.

    Automatic choice then runs the next offer, and explain says so.
    """


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What a backend is, on this machine.

    Attributes
    ----------
    usable : bool
        Whether it can run anything here.
    reason : str
        Why not; empty when usable.
    version, device, isa : str
        Of the library behind it; where it runs; its instruction set level. Empty where it has none.
    """

    usable: bool
    reason: str = ""
    version: str = ""
    device: str = "cpu"
    isa: str = ""


class Filter(Protocol):
    """A prepared kernel; thread-safe. It may say by `nbytes` what it holds, for the bound of the cache."""

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x, canonical, of the problem's shape and dtype, any strides; write to `out` if given, return it.

        For op "grad_input", x is the gradient of the output.
        """


class Plan(Protocol):
    """A chosen method for one problem."""

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Do the kernel's share of the work, once: transform, factor, pack. The kernel is copied if it is kept.

        `kernel` is canonical and contiguous; `bias` is None or an array (C_out,) in the sum's
        dtype (one number for a filter). For op "grad_kernel", `kernel` is the gradient of the output,
        of any strides; it changes from call to call, so that a filter may keep it without a copy.
        """


Solve: TypeAlias = Callable[[Problem], Plan]


@runtime_checkable
class Backend(Protocol):
    """A plug-in. It may also have `api` (int) and `info()` -> BackendInfo."""

    @property
    def name(self) -> str:
        """The name of its entry point."""

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Price the problem, or say why not. Cheap; loads nothing heavy."""

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Make the plan of one of its own offers. `solve` plans a subproblem on any other backend."""


def direct_error(problem: Problem) -> float:
    """Componentwise factor of any direct summation: gamma(m) (Higham 2002, section 3.1), 0 for integers.

    Complex products count twice the taps per component.
    """
    if problem.is_integer:
        return 0.0
    terms = problem.terms * (2 if problem.sum_dtype.kind == "c" else 1)
    u = float(np.finfo(problem.sum_dtype).eps) / 2
    return terms * u / (1 - terms * u)


def require_magnitude(x: Any, fill_value: Any, limit: int) -> None:
    """Decline where an integer sample is larger than a method computes exactly."""
    largest = max(abs(int(x.max())), abs(int(x.min())), abs(int(fill_value)))
    if largest > limit:
        raise Declined(f"samples reach {largest}; with this kernel it is exact up to {limit}")


def finish(problem: Problem, total: Any, bias: Any, out: Any = None, *, xp: Any = np) -> Any:
    """Add the bias to a sum, round once to the problem's dtype, and write the result.

    Parameters
    ----------
    problem : Problem
        Says dtypes and overflow rule.
    total : array of the problem's result_shape, or of a part of the result
        In the sum's dtype; may be overwritten.
    bias : array (C_out,) or None
        As given to `Plan.prepare`.
    out : array, optional
        Where to write.
    xp : module, optional
        The array library of `total`.

    Returns
    -------
    array
        `out`, or a new array.

    Raises
    ------
    InvalidProblem
        If NaN would have to become an integer.
    OverflowError
        If a value does not fit and the rule is "raise".
    """
    if bias is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # inf - inf is NaN: that is the sum
            total = total + xp.asarray(bias).reshape((-1,) + (1,) * problem.ndim if problem.is_layer else ())
    dtype = problem.result_dtype
    if dtype.kind in "biu" and total.dtype != dtype:
        total = _to_integer(total, dtype, problem.overflow, xp)
    with np.errstate(over="ignore", invalid="ignore"):  # float64 to float32 may become infinite: that is the rounding
        if out is None:
            return total.astype(dtype, copy=False)
        out[...] = total
    return out


def _to_integer(total: Any, dtype: np.dtype[Any], overflow: str, xp: Any) -> Any:
    info = np.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    if total.dtype.kind == "f":
        if bool(xp.isnan(total).any()):
            raise InvalidProblem(f"dtype={dtype} needs numbers; the result holds NaN; ask for a float dtype")
        total = xp.rint(total)
        if overflow == "wrap" and bool(xp.isinf(total).any()):
            raise OverflowError(f"overflow='wrap' cannot wrap an infinite result into {dtype}; use overflow='saturate'")
    held = np.iinfo(total.dtype if total.dtype.kind != "f" else dtype)  # CuPy compares only with what a dtype holds
    below, above = total < max(low, int(held.min)), total > min(high, int(held.max))
    if total.dtype.kind == "f":
        above = total >= float(high + 1)  # exact: a power of two, where `high` itself may not be a float
    if not bool((below | above).any()):
        return total.astype(dtype)
    if overflow == "raise":
        worst = total[below | above].ravel()[0]
        raise OverflowError(
            f"a result of {worst} does not fit dtype={dtype} ({low} .. {high}); use overflow='saturate'"
        )
    if overflow == "wrap":
        if total.dtype.kind == "f":  # fmod is exact, and a magnitude below 2**64 fits uint64
            remainder = xp.fmod(total, 2.0**64)
            magnitude = xp.abs(remainder).astype(np.uint64)
            total = xp.where(remainder < 0, ~magnitude + np.uint64(1), magnitude)
        return total.astype(dtype)
    return xp.where(above, high, xp.where(below, low, xp.where(below | above, 0, total).astype(dtype)))
