"""Plans and explanations: what would run, and why; a prepared filter to keep; what is installed."""

import os
import platform
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from convengine import config, recall, registry, select
from convengine._version import __version__
from convengine.api import DEFAULTS, GRADIENTS, OPERATIONS, check_out_type, find, memory_of, new_call, warn_channels
from convengine.arguments import check_dtype, read_array, refuse_library
from convengine.errors import InvalidProblem
from convengine.native import cpu
from convengine.plugin import BackendInfo, Offer
from convengine.problem import Problem
from convengine.reading_gradients import Like
from convengine.region import Cut
from convengine.running import measured
from convengine.tables import bytes_text, seconds_text, table

__all__ = ["Explanation", "PlannedFilter", "backends", "explain", "plan", "show_config"]


ATOMS = {str, int, float, complex, bool, type(None)}  # types of values that nobody can change


def _rank(name: str, known: Iterable[str]) -> int:
    """Number of spatial axes of an operation; InvalidProblem for an unknown name."""
    if not isinstance(name, str) or name not in known:
        raise InvalidProblem(f"the operation must be one of {', '.join(known)}; got {name!r}")
    return int(name[4])


def _keywords(given: dict[str, Any], *more: str) -> dict[str, Any]:
    for name in given:
        if name not in DEFAULTS and name not in more:
            raise TypeError(f"unexpected keyword {name!r}; an operation takes {', '.join((*DEFAULTS, *more))}")
    return DEFAULTS | given


def _like(x: Any) -> Like:
    """What an operation would make of x, by its shape and dtype; what is no array may have just these."""
    if isinstance(x, np.ndarray | np.generic) or not (hasattr(x, "shape") and hasattr(x, "dtype")):
        x = read_array(x, "x")
        if type(x) is np.ndarray:
            return Like(x.shape, x.dtype, "host")
    refuse_library(x, "x")
    dtype = np.dtype(x.dtype)
    check_dtype(dtype, "x")
    return Like(tuple(x.shape), dtype.newbyteorder("="), memory_of(x))


class PlannedFilter:
    """An operation with its kernel prepared, for arrays of one shape and dtype; thread-safe and picklable.

    Made by `plan`. Attributes `backend` and `method` say what runs.
    """

    def __init__(self, name: str, x_like: Any, kernel: Any, options: config.Options, keywords: dict[str, Any]) -> None:
        said = _keywords(keywords)
        # A pickle must hold the kernel of now, not of then.
        own = type(kernel) is np.ndarray
        kernel = kernel.copy() if own else deepcopy(kernel)
        keywords = {word: value if type(value) in ATOMS else deepcopy(value) for word, value in keywords.items()}
        said |= keywords
        like = x_like if isinstance(x_like, Like) else _like(x_like)
        self._arguments = name, like, kernel, options, keywords
        self._call = new_call(name, like, kernel, said, None, options, copy=not own)
        if self._call.prepared is not None:
            self._call.prepared.decision.require()  # NoBackend now, not at the first frame

    _served: Any = None

    @property
    def backend(self) -> str:
        """Who computes; empty where there is nothing to sum."""
        return "" if self._call.prepared is None else self._call.prepared.used.backend

    @property
    def method(self) -> str:
        """By which method; empty where there is nothing to sum."""
        return "" if self._call.prepared is None else self._call.prepared.used.offer.method

    @property
    def problem(self) -> Problem:
        """The problem that this filter solves."""
        return self._call.reading.problem

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x; it must have the planned shape and dtype.

        Parameters
        ----------
        x : array
            Of the planned shape and dtype, any strides.
        out : array, optional
            Where to write; of the result's shape and dtype.

        Returns
        -------
        array
            `out`, or a new array.

        Raises
        ------
        InvalidProblem
            If x or out does not match; the text carries both shapes and dtypes.
        """
        served = None if self._served is None else self._served.run(x, out)
        if served is not None:
            return served
        x = read_array(x, "x")
        like = self._arguments[1]
        if out is not None:
            check_out_type(out, x)
        if x.shape != like.shape or x.dtype != like.dtype:
            raise InvalidProblem(
                f"this filter was planned for {like.dtype} {like.shape}; got {x.dtype} {x.shape}; plan another"
            )
        if out is not None and out.dtype.newbyteorder("=") != self.problem.out_dtype:
            raise InvalidProblem(f"out must be {self.problem.out_dtype}, as planned; got {out.dtype}")
        result = self._call.run(x, out)
        if self._served is None:  # once it has run, when it is known which filter serves
            self._served = recall.planned(self._call, like.shape, like.dtype)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return PlannedFilter, self._arguments

    def __repr__(self) -> str:
        how = "no sums"
        if self._call.prepared is not None:
            how = f"{self.backend}, {self.method}, some {seconds_text(self._call.prepared.used.seconds)} a call"
        return f"<convengine filter: {self.problem}; {how}>"


def plan(
    name: str, x_like: Any, kernel: Any, *, backend: Any = None, workers: int | None = None, **keywords: Any
) -> PlannedFilter:
    """Choose a backend and prepare a kernel once, for many arrays of one shape and dtype.

    Parameters
    ----------
    name : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}
        The operation.
    x_like : array
        Anything with the shape and dtype of the arrays to come; its samples are not looked at.
    kernel : array
        As for the operation; copied.
    backend, workers
        As for the operation.
    **keywords
        As for the operation, but `out`, which goes with each call.

    Returns
    -------
    PlannedFilter
        Callable: ``filter(x, out=None)``.

    Raises
    ------
    InvalidProblem, NoBackend
        As the operation.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> smooth = ce.plan("corr2d", np.empty((4, 4)), np.full((3, 3), 1 / 9), mode="same", boundary="edge")
    >>> for frame in np.ones((2, 4, 4)):
    ...     print(smooth(frame).sum().round(6))
    16.0
    16.0
    """
    ndim = _rank(name, OPERATIONS)
    like = _like(x_like)
    if like.ndim == ndim + 1:
        warn_channels(ndim, like, kernel, _keywords(keywords), stacklevel=3)
    return PlannedFilter(name, like, kernel, config.current(backend=backend, workers=workers), keywords)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an explanation."""

    backend: str
    method: str
    offer: Offer | None
    status: str  # "chosen", "possible", or the reason against it
    seconds: float | None = None  # what it is expected to take: the offer's, as corrected by `convengine tune`
    measured: float | None = None  # the least that it took so far, in this process

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        offer = self.offer
        return {
            "backend": self.backend,
            "method": self.method,
            "seconds": self.seconds,
            "measured": self.measured,
            "memory": offer and offer.memory,
            "error": offer and offer.error,
            "bound": offer and ("exact" if offer.error == 0 else "normwise" if offer.normwise else "componentwise"),
            "status": self.status,
        }


@dataclass(frozen=True)
class Explanation:
    """Which backend and method would run a problem, and why not the others; prints as a table."""

    problem: Problem
    rows: tuple[Row, ...]

    @property
    def chosen(self) -> Row | None:
        """The line that would run, or None."""
        return next((row for row in self.rows if row.status == "chosen"), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"problem": str(self.problem), "candidates": [row.to_dict() for row in self.rows]}

    def __repr__(self) -> str:
        lines = []
        for row in self.rows:
            cells = ["", "", ""]
            if row.offer is not None:
                kind = "normwise" if row.offer.normwise else "componentwise"
                error = "exact" if row.offer.error == 0 else f"{row.offer.error:.2g} {kind}"
                cells = [_time_text(row.seconds), bytes_text(row.offer.memory), error]
            lines.append([row.backend, row.method, cells[0], _time_text(row.measured), *cells[1:], row.status])
        header = ["backend", "method", "time", "measured", "memory", "error bound", ""]
        if not any(row.measured for row in self.rows):
            header, *lines = (line[:3] + line[4:] for line in (header, *lines))
        return f"{self.problem}\n" + table(header, lines)


def explain(
    x: Any, kernel: Any, *, op: str | None = None, backend: Any = None, workers: int | None = None, **keywords: Any
) -> Explanation:
    """Say which backend and method would compute an operation, at what price, and why not the others.

    Parameters
    ----------
    x, kernel
        As for the operation; x may be anything with a shape and a dtype.
    op : str, optional
        "corr2d" and so on. Default: correlation with a filter of the kernel's rank; a kernel of 4 or 5 axes is a layer.
        Also a gradient, "corr2d_grad_input" (x and kernel are dy and the kernel, and `x_shape` is a keyword) or
        "corr2d_grad_kernel" (they are x and dy; `kernel_shape`).
    backend, workers
        As for the operation.
    **keywords
        As for the operation, but those for missing samples, which take several sums: explain one of them.

    Returns
    -------
    Explanation
        Prints as a table; `chosen`, `rows`, `to_dict()`.

    Raises
    ------
    InvalidProblem
        As the operation.

    Examples
    --------
    >>> import numpy as np
    >>> import convengine as ce
    >>> ce.explain(np.empty((512, 512), np.float32), np.ones((3, 3), np.float32)).chosen.backend
    'cython'
    """
    options = config.current(backend=backend, workers=workers)
    if op is None:
        rank = np.ndim(kernel)
        op = f"corr{rank if rank <= 3 else rank - 2}d"
    ndim = _rank(op, (*OPERATIONS, *GRADIENTS))
    like = _like(x)
    if op in GRADIENTS:
        shape = "x_shape" if op.endswith("input") else "kernel_shape"
        if shape not in keywords:
            raise TypeError(f"a gradient needs the keyword {shape!r}, the shape of what it computes")
        said = _keywords(keywords, shape)
    else:
        region = keywords.pop("region", None)
        said = _keywords(keywords)
        warn_channels(ndim, like, kernel, said, stacklevel=3)
        if region is not None:  # as the operation does: another, on the part of x that it needs
            cut = Cut.of(ndim, OPERATIONS[op].flip, like.shape, np.shape(kernel), region, said)
            part = cut.samples(np.broadcast_to(np.zeros((), np.bool_), like.shape)).shape
            like, said = Like(part, like.dtype, like.memory), cut.keywords
    call, _ = find(op, like, kernel, said, None, options)
    if call.prepared is None:
        result = "the gradient is zero" if op in GRADIENTS else "the bias is the result"
        return Explanation(call.reading.problem, (Row("", "", None, f"there is nothing to sum: {result}"),))
    prepared = call.prepared
    decision = select.decide(prepared.decision.problem, prepared.facts, options)
    declined = {(name, method): reason for name, method, reason in prepared.declined}
    rows = []
    chosen = False
    for candidate in decision.candidates:
        status = declined.get((candidate.backend, candidate.offer.method))
        if status is None:
            status, chosen = ("possible", True) if chosen else ("chosen", True)
        took = measured(decision.problem, candidate, options.workers or cpu.available_workers())
        rows.append(Row(candidate.backend, candidate.offer.method, candidate.offer, status, candidate.seconds, took))
    rows += [Row(name, method, None, reason) for name, method, reason in decision.refusals]
    return Explanation(call.reading.problem, tuple(rows))


def _time_text(seconds: float | None) -> str:
    return "" if seconds is None else seconds_text(seconds)


def backends() -> dict[str, BackendInfo]:
    """Return every installed backend: usable or why not, version, device, instruction set.

    Returns
    -------
    dict of str to BackendInfo
        By name.

    Examples
    --------
    >>> import convengine as ce
    >>> ce.backends()["cython"].usable
    True
    """
    return {name: registry.info(name) for name in registry.names()}


class Config(str):
    """Text that shows itself unquoted."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def show_config() -> Config:
    """Return what this installation is, as text: versions, CPU, backends, options, environment.

    Returns
    -------
    str
        Shows itself in an interactive session.

    Examples
    --------
    >>> import convengine as ce
    >>> print(ce.show_config())  # doctest: +ELLIPSIS
    convengine ...
    """
    options = config.current()
    lines = [
        f"convengine {__version__}",
        f"Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}",
        f"CPU {cpu.name()}; levels {', '.join(cpu.levels())}; {cpu.available_workers()} workers",
        "options " + ", ".join(f"{name}={getattr(options, name)!r}" for name in options.__slots__),
        "environment "
        + (
            ", ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("CONVENGINE_"))
            or "-"
        ),
    ]
    rows = [
        [name, "usable" if found.usable else "not usable", found.version, found.device, found.isa, found.reason]
        for name, found in backends().items()
    ]
    return Config("\n".join([*lines, table(["backend", "", "version", "device", "isa", ""], rows)]))
