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
from functools import cache
from importlib.util import find_spec
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from convengine.errors import InvalidProblem
from convengine.low_rank import roundoff
from convengine.native import cpu
from convengine.problem import KernelFacts, Problem, kept_by_form

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
    "is_installed",
    "loaded_at_fork",
    "require_magnitude",
    "transfer_allowed",
    "workers",
]

API = 1  # a plug-in may say which version it was built for, by an attribute `api`

WORKERS: ContextVar[int | None] = ContextVar("convengine_workers", default=None)


TRANSFER: ContextVar[bool] = ContextVar("convengine_transfer", default=False)


def transfer_allowed() -> bool:
    """Whether the user allows copies between the host and a device, in `Backend.offers`.

    Returns
    -------
    bool
        Without it, a backend that runs elsewhere than where x is refuses.

    Examples
    --------
    >>> from convengine.plugin import transfer_allowed
    >>> transfer_allowed()  # outside of a choice
    False
    """
    return TRANSFER.get()


def workers() -> int:
    """Threads that the current call may use: what the user allowed, else every CPU this process may run on.

    Returns
    -------
    int
        At least 1. In `Backend.offers`, `Plan.prepare` and a filter's call it is what holds for the call that they
        belong to.

    Examples
    --------
    >>> from convengine.native import cpu
    >>> from convengine.plugin import workers
    >>> workers() == cpu.available_workers()  # outside of a call, for which the user may have said another number
    True
    """
    return WORKERS.get() or cpu.available_workers()


_loaded_at_forks: set[str] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: _loaded_at_forks.update(sys.modules))


def is_installed(name: str) -> bool:
    """Whether a module could be imported, without loading it; looked for once, and again after `clear_cache`.

    Parameters
    ----------
    name : str
        Of a top-level module.

    Returns
    -------
    bool

    Examples
    --------
    >>> from convengine.plugin import is_installed
    >>> is_installed("numpy"), is_installed("no_such_module")
    (True, False)
    """
    return name in sys.modules or look_for(name)


@cache
def look_for(name: str) -> bool:
    """Look for a module on the disk."""
    return find_spec(name) is not None


def loaded_at_fork(name: str) -> bool:
    """Whether this process was forked from one that had loaded a module, whose threads, if any, a fork lacks.

    Parameters
    ----------
    name : str
        Of the module, as in sys.modules.

    Returns
    -------
    bool
        True only in a forked child, for what its parent had loaded when it forked. A backend whose library keeps
        threads refuses or declines then.

    Examples
    --------
    >>> from convengine.plugin import loaded_at_fork
    >>> loaded_at_fork("numpy")  # this process was not forked
    False
    """
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

    Examples
    --------
    >>> from convengine.plugin import Offer
    >>> Offer("direct, avx512", seconds=2e-05, memory=0, error=1.8e-07)
    Offer(method='direct, avx512', seconds=2e-05, memory=0, error=1.8e-07, normwise=False)
    """

    method: str
    seconds: float
    memory: int
    error: float
    normwise: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, because: a value, not an exception.

    Attributes
    ----------
    reason : str
        One line, which carries the values; shown by `explain` and in the text of NoBackend.

    Examples
    --------
    >>> from convengine.plugin import Refusal
    >>> Refusal("runs on host arrays, not cuda:0").reason
    'runs on host arrays, not cuda:0'
    """

    reason: str


class Declined(Exception):
    """Raised by a plan or filter that meets in the kernel or in x what its method cannot take.

    Automatic choice then runs the next offer, and explain says so.

    Parameters
    ----------
    reason : str
        One line, as in a `Refusal`.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine.plugin import Declined
    >>> def prepare(kernel, bias=None):
    ...     if not np.isfinite(kernel).all():
    ...         raise Declined("the kernel holds NaN or infinity")
    >>> prepare(np.array([1.0, np.nan]))
    Traceback (most recent call last):
    ...
    convengine.plugin.Declined: the kernel holds NaN or infinity
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

    Examples
    --------
    >>> import convengine as ce
    >>> info = ce.backends()["cython"]
    >>> info.usable, info.device
    (True, 'cpu')
    >>> from convengine.plugin import BackendInfo
    >>> BackendInfo(usable=False, reason="needs a CUDA device; none is visible", device="")
    BackendInfo(usable=False, reason='needs a CUDA device; none is visible', version='', device='', isa='')
    """

    usable: bool
    reason: str = ""
    version: str = ""
    device: str = "cpu"
    isa: str = ""


class Filter(Protocol):
    """A prepared kernel; thread-safe. It may say by `nbytes` what it holds, in bytes, for the bound of the cache.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine.plugin import Filter
    >>> def twice(x, out=None):
    ...     return np.multiply(x, 2, out=out)
    >>> prepared: Filter = twice  # of a kernel of one tap, 2
    >>> prepared(np.array([1, 10, 100]))
    array([  2,  20, 200])
    """

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x.

        Parameters
        ----------
        x : array of shape problem.samples_shape
            Canonical, in the dtype problem.samples_dtype; any strides; not to be changed. For op "grad_input" it is the
            gradient of the output.
        out : array of shape problem.result_shape, optional
            Where to write, in the dtype problem.result_dtype; any strides.

        Returns
        -------
        array
            `out`, or a new array.

        Raises
        ------
        Declined
            If the method cannot take these samples.
        """


class Plan(Protocol):
    """A chosen method for one problem.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> from convengine.plugin import finish
    >>> class Direct:
    ...     def __init__(self, problem):
    ...         self.problem = problem
    ...     def prepare(self, kernel, bias=None):
    ...         taps = kernel.astype(self.problem.sum_dtype)
    ...         return lambda x, out=None: finish(self.problem, np.correlate(x, taps), bias, out)
    >>> plan = Direct(ce.explain([1, 2, 4, 8], [1, -1]).problem)
    >>> plan.prepare(np.array([1, -1]))(np.array([1, 2, 4, 8]))
    array([-1, -2, -4])
    """

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Do the kernel's share of the work, once: transform, factor, pack.

        Parameters
        ----------
        kernel : array of shape problem.kernel_shape
            Canonical and contiguous; copied if it is kept. For op "grad_kernel" it is the gradient of the output, of
            any strides; it changes from call to call, so that a filter may keep it without a copy.
        bias : array (C_out,) or None
            In the sum's dtype; one number for a filter.

        Returns
        -------
        Filter

        Raises
        ------
        Declined
            If the method cannot take this kernel.
        """


Solve: TypeAlias = Callable[[Problem], Plan]


@runtime_checkable
class Backend(Protocol):
    """A plug-in. It may also have `api` (int), `info()` -> BackendInfo and `least_seconds(problem)` -> float.

    What `least_seconds` returns, no offer for the problem costs less, whatever the kernel and by as many workers as
    `workers` says. A backend that says so is not asked for offers where another's is cheaper than that, until somebody
    explains the choice or the other declines; 0 says nothing, and infinity that there are none.

    Examples
    --------
    >>> from convengine.plugin import Backend, Refusal
    >>> class Idle:
    ...     name = "idle"
    ...     def offers(self, problem, facts):
    ...         return Refusal(f"does nothing; got {problem.op}")
    ...     def plan(self, problem, offer, solve):
    ...         raise AssertionError("no offer was made")
    >>> isinstance(Idle(), Backend)
    True
    """

    @property
    def name(self) -> str:
        """The name of its entry point."""

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Price the problem, or say why not. Cheap; loads nothing heavy.

        Parameters
        ----------
        problem : Problem
            What is to be computed.
        facts : KernelFacts
            What the kernel's values allow.

        Returns
        -------
        list or tuple of Offer, or Refusal
            The same when asked again with the same workers.
        """

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Make the plan of one of its own offers.

        Parameters
        ----------
        problem : Problem
            As `offers` was asked.
        offer : Offer
            The one that was chosen.
        solve : Solve
            Plans a subproblem on any other backend.

        Returns
        -------
        Plan

        Raises
        ------
        Declined
            If the method cannot be had after all.
        """


def direct_error(problem: Problem) -> float:
    """Componentwise factor of any direct summation: gamma(m) (Higham 2002, section 3.1), 0 for integers.

    Complex products count twice the taps per component.

    Parameters
    ----------
    problem : Problem
        Its terms and the dtype of its sum decide.

    Returns
    -------
    float
        What an `Offer` states as its error.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> from convengine.plugin import direct_error
    >>> problem = ce.explain(np.ones(9, np.float32), np.ones(3, np.float32)).problem
    >>> round(direct_error(problem) * 2**24, 3)  # three terms, in units of the roundoff of float32
    3.0
    >>> direct_error(ce.explain([1, 2, 4], [1, -1]).problem)
    0.0
    """
    return _error_of_form(problem) if problem.op == "forward" else _error(problem)


def _error(problem: Problem) -> float:
    if problem.is_integer:
        return 0.0
    terms = problem.terms * (2 if problem.sum_dtype.kind == "c" else 1)
    u = roundoff(problem.sum_dtype)
    return terms * u / (1 - terms * u)


_error_of_form = kept_by_form(_error)  # the terms of a forward problem are its taps and a bias


def require_magnitude(x: Any, fill_value: Any, limit: int) -> None:
    """Decline where an integer sample is larger than a method computes exactly.

    Parameters
    ----------
    x : array of integers
        Not empty.
    fill_value : int
        The sample beyond a constant border, which counts, too.
    limit : int
        The largest magnitude that is allowed.

    Raises
    ------
    Declined
        If one is larger.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine.plugin import require_magnitude
    >>> require_magnitude(np.array([3, -7]), fill_value=0, limit=10)
    >>> require_magnitude(np.array([3, -70]), fill_value=0, limit=10)
    Traceback (most recent call last):
    ...
    convengine.plugin.Declined: samples reach 70; with this kernel it is exact up to 10
    """
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

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> from convengine.plugin import finish
    >>> problem = ce.explain(np.ones(4), np.ones(2), bias=1, dtype="uint8").problem
    >>> finish(problem, np.array([0.5, 1.5, 300.0]), bias=np.array([1.0]))
    array([  2,   2, 255], dtype=uint8)
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
