"""How to compute: options from keywords, the context, the process and the environment, in that order.

What to compute stands in keywords alone.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from convengine.errors import InvalidProblem

__all__ = ["SOURCES", "Options", "current", "options", "raw_environment", "raw_name", "set_options", "standing"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a problem may be computed; None means: not said.

    Attributes
    ----------
    backend : tuple of str, optional
        The only backends that may run, in no order of preference.
    workers : int, optional
        Threads a call may use.
    rtol : float, optional
        Largest proven error allowed, relative to ||x_block||_2 * ||kernel||_2.
    strict : bool, optional
        Allow only methods with a componentwise bound.
    max_memory : int, optional
        Bytes a call may use beside x and out.
    verbose : bool, optional
        Say what runs: to the logger `convengine` at INFO instead of DEBUG, or on stderr where nothing listens to that.
    measure : bool, optional
        Let the first call of a problem time the likeliest methods, and later ones take the fastest.
    transfer : bool, optional
        Let host arrays be copied to a device and results back, where that is asked for or the fastest.
    """

    backend: tuple[str, ...] | None = None
    workers: int | None = None
    rtol: float | None = None
    strict: bool | None = None
    max_memory: int | None = None
    verbose: bool | None = None
    measure: bool | None = None
    transfer: bool | None = None

    def updated(self, **values: Any) -> "Options":
        """Return a copy with the checked values that are not None."""
        said = {name: CHECKS[name](value) for name, value in values.items() if value is not None}
        return replace(self, **said) if said else self


def _backend(value: object) -> tuple[str, ...]:
    names = (value,) if isinstance(value, str) else value
    if not (isinstance(names, Sequence) and names and all(isinstance(name, str) and name for name in names)):
        raise InvalidProblem(f"backend must be a name or a sequence of names, see ce.backends(); got {value!r}")
    return tuple(names)


def _count(name: str, least: int, most: int) -> Any:
    def check(value: Any) -> int:
        try:
            number = int(value)
            if number != (float(value) if isinstance(value, str) else value) or value is True:
                raise ValueError
            if not least <= number <= most:
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise InvalidProblem(
                f"{name} must be an integer of at least {least}; got {value!r}; at most {most}"
            ) from None
        return number

    return check


def _rtol(value: Any) -> float:
    try:
        number = float(value)
        if not 0 <= number < float("inf"):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise InvalidProblem(f"rtol must be a finite number of at least 0; got {value!r}") from None
    return number


def _switch(name: str) -> Any:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

    def check(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in words:
            return words[value.lower()]
        raise InvalidProblem(f"{name} must be True or False; got {value!r}")

    return check


CHECKS: dict[str, Any] = {
    "backend": _backend,
    "workers": _count("workers", 1, 4096),
    "rtol": _rtol,
    "strict": _switch("strict"),
    "max_memory": _count("max_memory", 0, 2**63 - 1),
    "verbose": _switch("verbose"),
    "measure": _switch("measure"),
    "transfer": _switch("transfer"),
}
ENVIRONMENT = {f"CONVENGINE_{name.upper()}": name for name in CHECKS}

DEFAULT = Options()
_process = DEFAULT
_context: ContextVar[Options] = ContextVar("convengine_options", default=DEFAULT)
_environment_names = tuple(ENVIRONMENT)
# os.environ encodes every key at every look-up, which would cost more than a small call; the mapping under it does not.
raw_environment = getattr(os.environ, "_data", os.environ)
raw_name: Callable[[str], Any] = getattr(os.environ, "encodekey", str) if raw_environment is not os.environ else str
_raw_names = tuple(map(raw_name, ENVIRONMENT))
_decoded = getattr(os.environ, "decodevalue", str) if raw_environment is not os.environ else str

# Where `standing` looks, for compiled code that looks there itself.
SOURCES: dict[str, Any] = {
    "context": _context,
    "settings": globals(),
    "environment": raw_environment,
    "names": _raw_names,
}


@lru_cache(maxsize=64)
def _environment(values: tuple[Any, ...]) -> Options:
    said: dict[str, Any] = {}
    for variable, raw in zip(_environment_names, values, strict=True):
        if raw:
            name, value = ENVIRONMENT[variable], _decoded(raw)
            try:
                said[name] = CHECKS[name](tuple(map(str.strip, value.split(","))) if name == "backend" else value)
            except InvalidProblem as error:
                raise InvalidProblem(f"environment variable {variable}: {error}") from None
    return Options(**said)


@lru_cache(maxsize=256)
def _merged(*layers: Options) -> Options:
    said = {}
    for name in CHECKS:
        values = (getattr(layer, name) for layer in layers)
        said[name] = next((value for value in values if value is not None), None)
    return Options(**said)


@lru_cache(maxsize=256)
def _one(options: Options) -> Options:
    """Return the same object for equal options: what is kept for them is found by identity."""
    return options


def standing() -> tuple[Any, ...]:
    """Return what the options in force are drawn from: the context's, the process's, the environment's values."""
    return _context.get(), _process, *map(raw_environment.get, _raw_names)


def current(*, backend: Any = None, workers: Any = None, drawn: tuple[Any, ...] | None = None) -> Options:
    """Return the options in force: keywords beat the context, the context the process, the process the environment.

    `drawn` is what `standing` returned.
    """
    context, process, *values = drawn or standing()
    environment = _environment(tuple(values)) if any(values) else DEFAULT
    if backend is None and workers is None:
        if context is DEFAULT and process is DEFAULT:
            return environment
        keywords = DEFAULT
    else:
        keywords = DEFAULT.updated(backend=backend, workers=workers)
    return _merged(keywords, context, process, environment)


def _known(values: dict[str, Any]) -> dict[str, Any]:
    for name in values:
        if name not in CHECKS:
            raise InvalidProblem(f"unknown option {name!r}; the options are {', '.join(CHECKS)}")
    return values


@contextmanager
def options(**values: Any) -> Iterator[Options]:
    """Set how to compute, inside a with block.

    Safe in threads and async code: a context variable. Nested blocks add up; None says nothing.

    Parameters
    ----------
    **values
        backend, workers, rtol, strict, max_memory, verbose, measure, transfer: see `Options`.

    Yields
    ------
    Options
        What the block sets.

    Raises
    ------
    InvalidProblem
        For an unknown option or a value out of range.

    Examples
    --------
    >>> import convengine as ce
    >>> with ce.options(backend="cython", workers=1):
    ...     ce.corr1d([1, 2, 3], [1, 1])
    array([3, 5])
    """
    token = _context.set(_one(_context.get().updated(**_known(values))))
    try:
        yield _context.get()
    finally:
        _context.reset(token)


def set_options(**values: Any) -> None:
    """Set how to compute, for the whole process; None takes a setting back.

    Parameters
    ----------
    **values
        backend, workers, rtol, strict, max_memory, verbose, measure, transfer: see `Options`.

    Raises
    ------
    InvalidProblem
        For an unknown option or a value out of range.

    Examples
    --------
    >>> import convengine as ce
    >>> ce.set_options(workers=2)
    >>> ce.set_options(workers=None)
    """
    global _process
    cleared = {name: None for name, value in _known(values).items() if value is None}
    _process = _one(replace(_process, **cleared).updated(**values))
