"""What offers really cost: corrections of the backends' own prices, measured by `convengine tune`.

A backend prices an offer by a model of its method. How far that is off depends on the machine and on the problem's
size in ways that no short formula follows. So the quotient of measured and offered time is kept as a table over array
size and kernel width, for each method, number of axes, dtype, and one thread or more; between its points the logarithm
is interpolated. The project ships tables for instruction set levels; `convengine tune` measures this machine's own.
"""

import json
import math
import os
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from convengine.config import raw_environment, raw_name
from convengine.native import cpu, values
from convengine.plugin import Offer
from convengine.problem import Problem, kept, kept_by_form, kept_by_kind

__all__ = ["VERSION", "Prices", "Series", "cache_file", "current", "forget", "key_of", "sizes_of", "use"]

VERSION = 1  # of the file; another one is not read
END = re.compile(r"( rank)? \d+(x\d+)*$")  # of a method's name, before a comma: its rank, or its tile

MOST = 64  # of a logarithm
FOLDER = raw_name("CONVENGINE_CACHE")

Key = tuple[str, str, int, str, bool]


@dataclass(frozen=True, slots=True)
class Series:
    """One method's quotients, measured over offered, over a grid.

    Attributes
    ----------
    sizes, widths : tuple of float
        Logarithms, base 2, of the samples along an axis and of the taps along an axis, ascending.
    logs : tuple of tuple of float
        Logarithms, base 2, of the quotients, a row for each size.
    """

    sizes: tuple[float, ...]
    widths: tuple[float, ...]
    logs: tuple[tuple[float, ...], ...]

    def at(self, size: float, width: float) -> float:
        """The quotient there; beyond the grid that of its edge."""
        return float(2 ** values.between(self.sizes, self.widths, self.logs, size, width))


Lowering = tuple[float, tuple[Series, ...]]


@lru_cache(maxsize=1024)
def _family(method: str) -> str:
    """A method's name without level, rank and tile."""
    return END.sub("", method.partition(",")[0])


@kept_by_kind
def _kind(problem: Problem) -> str:
    """What stands for the dtypes; empty where no table knows the problem."""
    summed, samples = problem.sum_dtype, problem.x_dtype
    if problem.op != "forward" or problem.is_layer or problem.memory != "host":
        return ""
    if summed.kind == "c" or (summed.kind != "f" and samples.itemsize > 2):
        return ""
    return f"float{8 * summed.itemsize}" if summed.kind == "f" else f"(u)int{8 * samples.itemsize}"


def key_of(backend: str, problem: Problem, method: str, workers: int) -> Key | None:
    """Which series prices an offer; None for what no table knows: layers, gradients, complex and wide integer sums."""
    name = _kind(problem)
    return (backend, _family(method), problem.ndim, name, workers > 1) if name else None


@kept_by_form
def _width(problem: Problem) -> float:
    return math.log2(max(math.prod(problem.kernel_shape), 1)) / problem.ndim


@kept
def sizes_of(problem: Problem) -> tuple[float, float]:
    """Where a problem lies on the grids: samples of all results and taps, as those along one axis of a cube."""
    return math.log2(max(math.prod(problem.out_shape), 1)) / problem.ndim, _width(problem)


@dataclass(frozen=True, slots=True)
class Prices:
    """Every series, and where they are from.

    Attributes
    ----------
    series : mapping
        By backend, method, number of axes, dtype and whether there is more than one thread.
    origin : str
        "offered" where there are none, "shipped", or the file that they were read from.
    lowering : mapping
        The least quotient and the series by which some offer is cheaper than it says: by backend, number of axes,
        dtype, and whether there is more than one thread.
    """

    series: Mapping[Key, Series] = field(default_factory=dict)
    origin: str = "offered"
    lowering: Mapping[tuple[str, int, str, bool], Lowering] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        found: dict[tuple[str, int, str, bool], Lowering] = {}
        for (backend, _, ndim, dtype, threaded), series in self.series.items():
            if (least := min((value for row in series.logs for value in row), default=0.0)) < 0:
                before, others = found.get((backend, ndim, dtype, threaded), (1.0, ()))
                # A little less: what is interpolated may be rounded.
                found[backend, ndim, dtype, threaded] = min(before, 2 ** (least - 1e-9)), (*others, series)
        object.__setattr__(self, "lowering", found)

    def seconds(self, backend: str, problem: Problem, offer: Offer, workers: int) -> float:
        """What an offer is expected to take."""
        return self.pricing(problem, workers).seconds(backend, offer)

    def pricing(self, problem: Problem, workers: int) -> "Pricing":
        """What offers for a problem are expected to take."""
        return Pricing(self, _kind(problem), problem.ndim, workers > 1, problem)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "version": VERSION,
            "series": [
                {
                    "backend": backend,
                    "method": method,
                    "ndim": ndim,
                    "dtype": dtype,
                    "threaded": threaded,
                    "sizes": [round(value, 4) for value in series.sizes],
                    "widths": [round(value, 4) for value in series.widths],
                    "logs": [[round(value, 2) for value in row] for row in series.logs],
                }
                for (backend, method, ndim, dtype, threaded), series in sorted(self.series.items())
            ],
        }

    @classmethod
    def from_dict(cls, values: Any, origin: str) -> "Prices":
        """Read what `to_dict` wrote; ValueError for anything else."""
        try:
            if type(values["version"]) is not int or values["version"] != VERSION:
                raise ValueError(f"it is of version {values['version']!r}, not {VERSION}")
            return cls({_key(entry): _series(entry) for entry in values["series"]}, origin)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from None


class Pricing:
    """What offers for one problem are expected to take."""

    __slots__ = ("kind", "ndim", "prices", "problem", "threaded")

    def __init__(self, prices: Prices, kind: str, ndim: int, threaded: bool, problem: Problem) -> None:
        self.prices, self.kind, self.ndim, self.threaded, self.problem = prices, kind, ndim, threaded, problem

    def seconds(self, backend: str, offer: Offer) -> float:
        """What an offer of a backend should take."""
        if not self.kind:
            return offer.seconds
        found = self.prices.series.get((backend, _family(offer.method), self.ndim, self.kind, self.threaded))
        return offer.seconds if found is None else offer.seconds * found.at(*sizes_of(self.problem))

    def are_dearer(self, backend: str, seconds: float, cheapest: float) -> bool:
        """Whether offers of a backend that say so many seconds, or more, should take longer than another."""
        found = self.prices.lowering.get((backend, self.ndim, self.kind, self.threaded))
        if found is None or cheapest >= seconds:
            return cheapest < seconds
        lowest, lowering = found
        if cheapest < seconds * lowest:  # wherever the problem lies on the grids
            return True
        sizes = sizes_of(self.problem)
        return cheapest < seconds * min(1.0, *[series.at(*sizes) for series in lowering])


def _key(entry: dict[str, Any]) -> Key:
    return (
        str(entry["backend"]),
        str(entry["method"]),
        int(entry["ndim"]),
        str(entry["dtype"]),
        bool(entry["threaded"]),
    )


def _series(entry: dict[str, Any]) -> Series:
    sizes, widths = (np.asarray(entry[name], np.float64) for name in ("sizes", "widths"))
    logs = np.asarray(entry["logs"], np.float64)
    if not (sizes.ndim == widths.ndim == 1 and sizes.size and widths.size and logs.shape == (sizes.size, widths.size)):
        raise ValueError(f"a table of shape {logs.shape} does not fit {sizes.size} sizes and {widths.size} widths")
    ascending = (np.diff(sizes) > 0).all() and (np.diff(widths) > 0).all()
    if not (ascending and all((np.abs(values) <= MOST).all() for values in (sizes, widths, logs))):
        raise ValueError(f"its sizes must ascend, and all its numbers lie within {MOST}")
    return Series(tuple(sizes.tolist()), tuple(widths.tolist()), tuple(map(tuple, logs.tolist())))


def cache_file() -> Path:
    """Where this machine's prices are kept: in the user's cache, by CPU, level and number of CPUs."""
    if home := os.environ.get("CONVENGINE_CACHE"):
        folder = Path(home).expanduser()
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "convengine"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches" / "convengine"
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convengine"
    machine = re.sub(r"[^a-z0-9]+", "-", f"{cpu.name()} {_level()} {cpu.available_workers()}".lower()).strip("-")
    return folder / f"prices-{VERSION}-{machine}.json"


def _level() -> str:
    asked = cpu.asked_level()
    return asked if asked in cpu.levels() else cpu.levels()[0]


def current() -> Prices:
    """The prices in force: this machine's own, else those that are shipped for its level, else what is offered."""
    if _used:
        return _used[0]
    return _current(cpu.asked_level(), raw_environment.get(FOLDER), cpu.available_workers())


@lru_cache(maxsize=16)
def _current(*_: Any) -> Prices:
    file = None
    try:
        file = cache_file()
        return Prices.from_dict(json.loads(file.read_text(encoding="utf-8")), str(file))
    except ValueError as error:  # of JSON, too
        warnings.warn(f"{file} holds no prices ({error}); run 'convengine tune' again, or remove it", stacklevel=2)
    except (OSError, RuntimeError) as error:  # not measured yet, not to be read, no home: nothing keeps from computing
        if isinstance(error, RecursionError):
            warnings.warn(f"{file} holds no prices (lists in lists); remove it", stacklevel=2)
    shipped = files(__name__).joinpath(f"{_level()}.json")
    if not shipped.is_file():
        return Prices()
    return Prices.from_dict(json.loads(shipped.read_text(encoding="utf-8")), "shipped")


_used: list[Prices] = []  # what holds for this process in place of any file


def use(made: Prices | None) -> None:
    """Let these prices hold in this process; None: those of the files again."""
    _used[:] = [] if made is None else [made]


def forget() -> None:
    """Read the files anew, at the next choice."""
    _current.cache_clear()
