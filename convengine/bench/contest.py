"""What a library brings to a comparison: its ways of computing a task, each with a proven bound of its error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from convengine.bench.tasks import Array, Task
from convengine.testing.bounds import fft_constant, gamma, unit_roundoff

__all__ = ["Bound", "Job", "Library", "Route", "Run", "direct", "either", "exact", "fft", "thread_counts"]


@dataclass(frozen=True, slots=True)
class Bound:
    """How far results may lie from the exact sum.

    Attributes
    ----------
    componentwise, normwise : float
        Factors of |x| corr |kernel|, at each place, and of ||x||_2 * ||kernel||_2; the larger product bounds the error.
        Integers are exact: both 0.
    factors : tuple of lists of float, optional
        The column and the row that were applied instead of the kernel.
    """

    componentwise: float = 0.0
    normwise: float = 0.0
    factors: tuple[list[float], list[float]] | None = None


def exact() -> Bound:
    """Integers, or nothing rounded."""
    return Bound()


def direct(task: Task, terms: int | None = None, factors: Sequence[Array] | None = None) -> Bound:
    """Any sum of products, in any order; `terms` where it is not one for each tap."""
    if not task.is_float:
        return exact()
    applied = None if factors is None else (factors[0].tolist(), factors[1].tolist())
    return Bound(gamma(terms or task.taps, unit_roundoff(task.dtype)), factors=applied)


def fft(task: Task) -> Bound:
    """Any product of spectra, of blocks or of the whole: none is longer than twice the padded array along an axis."""
    if not task.is_float:
        return exact()
    size = float(np.prod([2 * (n + k) for n, k in zip(task.shape, task.kernel_shape, strict=True)], dtype=float))
    return Bound(normwise=fft_constant(size, task.dtype))


def either(task: Task) -> Bound:
    """For a library that chooses by itself, and does not tell."""
    return Bound(direct(task).componentwise, fft(task).normwise)


@dataclass(slots=True)
class Job:
    """A task with its arrays, in the process of a library."""

    task: Task
    x: Array
    kernel: Array
    out: Array
    threads: int

    def padded(self) -> Array:
        """X with its border around it, for libraries that have only "valid"."""
        # The overloads know literal modes only, and a task holds one as a str.
        return np.pad(self.x, self.task.pads, mode=self.task.boundary)  # type: ignore[call-overload, no-any-return]


@dataclass(slots=True)
class Run:
    """A way of computing, set up: what is called, and what it says of itself."""

    call: Callable[[], Any]
    bound: Bound
    result: Callable[[Any], Any] = field(default=lambda returned: returned)  # the array that `call` computed
    method: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """A way of computing a task.

    Attributes
    ----------
    name : str
        The function, and what was set: "filter2D, 2 threads".
    start : callable
        Sets up and returns a `Run`.
    rate : float
        Multiply-adds a second, of the right order of magnitude, by which a call that would take too long is seen before
        it is made; 0 where the time does not grow with them.
    """

    name: str
    start: Callable[[], Run]
    rate: float = 0.0


class Library(Protocol):
    """A library in its own process. Modules of libraries import theirs within functions: the parent reads them too."""

    def version(self) -> str:
        """Import the library; its name and version."""

    def routes(self, job: Job) -> list[Route] | str:
        """The ways that may be the fastest, or why there is none."""


def thread_counts(threads: int) -> list[tuple[int, str]]:
    """All threads and one, which on small arrays is often faster, each with what to call it."""
    return [(count, f"{count} thread{'s' * (count > 1)}") for count in ([threads, 1] if threads > 1 else [1])]
