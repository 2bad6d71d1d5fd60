"""Measures what offers cost on this machine, and how good the choice made of them is."""

import json
import math
import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from convengine import config, prices
from convengine.api import DEFAULTS, clear_cache, find
from convengine.errors import BackendError, InvalidProblem, NoBackend
from convengine.native import cpu
from convengine.plugin import WORKERS, Declined, Filter
from convengine.prices import Key, Prices, Series
from convengine.reading_gradients import Like
from convengine.running import Prepared, filter_of
from convengine.select import Candidate
from convengine.tables import ratio_text, seconds_text, table

__all__ = ["Case", "Check", "Tuning", "Verdict", "check", "tune"]

Array = np.ndarray[Any, Any]

FACTOR = 6.0  # times as long as the cheapest offer, an offer is not measured: it will not be chosen
CALL = 0.25  # seconds; a call that would take longer is not measured
SAMPLE = 0.004  # seconds that a case is timed for, at least
LEAST, SLOW = 3, 0.02  # calls; seconds of a call from which on one says enough
LIAR = 5.0  # an offer so many times too cheap is reported

# Samples along an axis and taps along an axis, for 1, 2 and 3 axes.
SIZES = {
    1: (64, 512, 4096, 32768, 262144, 2097152),
    2: (16, 32, 64, 128, 256, 512, 1024, 2048),
    3: (8, 16, 32, 64, 128),
}
WIDTHS = {
    1: (1, 3, 9, 31, 63, 127, 255, 511, 1023, 4095),
    2: (1, 3, 5, 7, 11, 15, 23, 31, 47, 63, 127, 191, 255),
    3: (1, 2, 3, 5, 7, 11, 15),
}
DTYPES = {1: ("float32", "float64"), 2: ("float32", "float64", "uint8"), 3: ("float32", "float64", "uint8")}


@dataclass(frozen=True, slots=True)
class Case:
    """A problem to time: "same" size, mirrored borders; a kernel without structure, or a separable one."""

    shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    dtype: str
    workers: int
    separable: bool = True

    def __str__(self) -> str:
        sizes = ["x".join(map(str, shape)) for shape in (self.shape, self.kernel_shape)]
        kind = " separable" if self.separable and len(self.shape) == 2 else ""
        return f"{self.dtype} {sizes[0]} * {sizes[1]}{kind}, {self.workers} thread{'s' * (self.workers > 1)}"

    def kernel(self) -> Array:
        """The taps: the product of vectors without structure, where all methods can show themselves."""
        rng = np.random.default_rng(math.prod(self.kernel_shape))
        if self.dtype == "uint8":
            if not self.separable:
                return rng.integers(-3, 4, self.kernel_shape).astype(np.int8)
            factors = [rng.choice([-1, 1, 2], size).astype(np.int8) for size in self.kernel_shape]
        else:
            if not self.separable:
                return rng.uniform(-1, 1, self.kernel_shape).astype(self.dtype)
            factors = [rng.uniform(0.5, 1, size).astype(self.dtype) for size in self.kernel_shape]
        kernel: Array = factors[0]
        for factor in factors[1:]:
            kernel = np.multiply.outer(kernel, factor)
        return kernel

    def samples(self) -> Array:
        """Samples of x."""
        rng = np.random.default_rng(len(self.shape))
        count = math.prod(self.shape)
        short = rng.integers(0, 256, min(count, 1 << 20))
        return np.resize(short, count).reshape(self.shape).astype(self.dtype)

    def prepared(self, **options: Any) -> Prepared:
        """What the engine makes of it."""
        said = config.current(workers=self.workers).updated(**options)
        like = Like(self.shape, np.dtype(self.dtype), "host")
        keywords = DEFAULTS | {"mode": "same", "boundary": "reflect"}
        call, _ = find(f"corr{len(self.shape)}d", like, self.kernel(), keywords, None, said)
        assert call.prepared is not None
        return call.prepared


def _grid() -> list[Case]:
    """The problems that are measured for the tables."""
    counts = sorted({1, cpu.available_workers()})
    return [
        Case((n,) * ndim, (k,) * ndim, dtype, workers)
        for ndim in SIZES
        for dtype in DTYPES[ndim]
        for workers in counts
        for n in SIZES[ndim]
        for k in WIDTHS[ndim]
        if k <= 2 * n and n**ndim * dtype_bytes(dtype) <= 1 << 25
    ]


def dtype_bytes(dtype: str) -> int:
    """Bytes of a sample."""
    return np.dtype(dtype).itemsize


def _ready(prepared: Prepared, candidate: Candidate) -> Filter | None:
    """The filter of one candidate; None where it declines."""
    try:
        return filter_of(prepared, candidate)
    except (Declined, NoBackend, BackendError):
        return None


def _seconds(filter_: Filter, x: Array, out: Array, workers: int, sample: float = SAMPLE) -> float | None:
    """The least seconds of a call; None where it declines these samples."""
    token = WORKERS.set(workers)
    try:
        filter_(x, out)
        times: list[float] = []
        stop = perf_counter() + sample
        while len(times) < LEAST or perf_counter() < stop:
            start = perf_counter()
            filter_(x, out)
            times.append(perf_counter() - start)
            if times[-1] > SLOW:
                break
    except Declined:
        return None
    finally:
        WORKERS.reset(token)
    return min(times)


def _worth(candidates: Sequence[Candidate]) -> Iterator[Candidate]:
    """Those that may be chosen, and would not take all day."""
    if candidates:
        cheapest = min(candidate.offer.seconds for candidate in candidates)
        for candidate in candidates:
            price = candidate.offer.seconds
            if price <= max(FACTOR * cheapest, 30e-6) and price <= CALL:
                yield candidate


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a method's offers are worth: measured over offered, over all problems of one kind.

    Attributes
    ----------
    backend, method, dtype : str
    ndim : int
    threaded : bool
        Whether with all CPUs, or one.
    low, middle, high : float
        The least, the median and the largest quotient.
    """

    backend: str
    method: str
    ndim: int
    dtype: str
    threaded: bool
    low: float
    middle: float
    high: float

    @property
    def is_lie(self) -> bool:
        """Whether it is far cheaper on paper than in fact."""
        return self.middle > LIAR


@dataclass(frozen=True)
class Tuning:
    """What `tune` found; prints as a table.

    Attributes
    ----------
    prices : Prices
        The tables.
    verdicts : tuple of Verdict
        What the backends' own offers are worth.
    file : Path or None
        Where the tables were stored.
    seconds : float
        What measuring took.
    """

    prices: Prices
    verdicts: tuple[Verdict, ...]
    file: Path | None
    seconds: float

    @property
    def lies(self) -> tuple[Verdict, ...]:
        """Offers that are more than five times too cheap in the median."""
        return tuple(verdict for verdict in self.verdicts if verdict.is_lie)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        names = Verdict.__slots__
        verdicts = [{name: getattr(one, name) for name in (*names, "is_lie")} for one in self.verdicts]
        return {"file": self.file and str(self.file), "seconds": self.seconds, "verdicts": verdicts}

    def __repr__(self) -> str:
        rows = [
            [
                one.backend,
                one.method,
                f"{one.ndim}-D {one.dtype}",
                "all" if one.threaded else "one",
                *map(ratio_text, (one.low, one.middle, one.high)),
                "too cheap: its offers are not to be believed" if one.is_lie else "",
            ]
            for one in self.verdicts
        ]
        header = ["backend", "method", "arrays", "threads", "least", "measured/offered", "most", ""]
        where = f"stored in {self.file}" if self.file else "not stored"
        return f"{table(header, rows)}\n{len(self.prices.series)} tables in {self.seconds:.0f} s, {where}"


def tune(*, save: bool = True, largest: int | None = None, progress: Callable[[float], None] | None = None) -> Tuning:
    """Measure what every method costs on this machine, and let automatic choice go by it.

    Takes about a minute; leave the machine alone meanwhile. The result is stored in the user's cache directory
    (CONVENGINE_CACHE names another), for this CPU, instruction set level and number of CPUs, and read by every
    process that starts from then on.

    Parameters
    ----------
    save : bool, optional
        Whether to store it; else it holds for this process.
    largest : int, optional
        Samples of the largest arrays to measure, for a quick look; larger ones are then priced as these. Default: some
        millions.
    progress : callable, optional
        Called with the share that is done, 0 to 1, after each problem.

    Returns
    -------
    Tuning
        Prints as a table of what the backends' offers are worth; `lies` are those far too cheap.

    Raises
    ------
    InvalidProblem
        If `largest` leaves nothing to measure.
    OSError
        If the cache directory can't be written to; what was measured holds for this process all the same.

    See Also
    --------
    explain : Shows the prices of a problem.

    Examples
    --------
    >>> import convengine as ce
    >>> tuning = ce.tune(save=False, largest=256)
    >>> sorted({verdict.backend for verdict in tuning.verdicts})[:2]
    ['cython', 'fft']
    >>> from convengine import prices
    >>> prices.use(None)  # and back to those that were in force
    >>> ce.clear_cache()
    """
    start = perf_counter()
    file = prices.cache_file() if save else None
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)  # what can't be stored shows now, not after a minute
    found: dict[Key, dict[tuple[float, float], float]] = defaultdict(dict)
    grid = [case for case in _grid() if largest is None or math.prod(case.shape) <= largest]
    if not grid:
        raise InvalidProblem(f"largest must allow some arrays, of 256 samples at least; got {largest!r}")
    for number, case in enumerate(grid):
        for key, at, quotient in _measured(case):
            found[key][at] = quotient
        if progress is not None:
            progress((number + 1) / len(grid))
    series = {key: _series(points) for key, points in found.items()}
    made = Prices(series, "measured")
    verdicts = tuple(
        Verdict(*key, low=min(values), middle=median(values), high=max(values))
        for key, points in sorted(found.items())
        for values in [list(points.values())]
    )
    prices.use(made)
    clear_cache()
    if file is not None:
        _write(file, made)
    return Tuning(made, verdicts, file, perf_counter() - start)


def _measured(case: Case) -> Iterator[tuple[Key, tuple[float, float], float]]:
    prepared = case.prepared()
    problem = prepared.decision.problem
    x = case.samples()
    out = np.empty(problem.out_shape, problem.out_dtype)
    for candidate in _worth(prepared.decision.candidates):
        key = prices.key_of(candidate.backend, problem, candidate.offer.method, case.workers)
        filter_ = None if key is None else _ready(prepared, candidate)
        seconds = None if filter_ is None else _seconds(filter_, x, out, case.workers)
        if key is not None and seconds is not None and candidate.offer.seconds > 0:
            yield key, prices.sizes_of(problem), seconds / candidate.offer.seconds


def _series(points: dict[tuple[float, float], float]) -> Series:
    """A table of the points; where nothing was measured, the nearest point's value."""
    sizes, widths = (tuple(sorted({at[axis] for at in points})) for axis in (0, 1))
    logs = []
    for size in sizes:
        row = []
        for width in widths:
            # In steps of the grid, about: sizes count for half, since a method's cost changes less along them.
            nearest = min(points, key=lambda at: abs(at[1] - width) + 0.5 * abs(at[0] - size))
            row.append(math.log2(points[nearest]))
        logs.append(tuple(row))
    return Series(sizes, widths, tuple(logs))


def _write(file: Path, made: Prices) -> None:
    """Whole, or not at all: others may read, and write, meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}-", suffix=".partial")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as partial:
            json.dump(made.to_dict(), partial)
        Path(name).replace(file)
    except BaseException:  # Ctrl-C too: no half of a file stays
        with suppress(OSError):
            Path(name).unlink()
        raise


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for a problem, against the best that there was."""

    case: Case
    chosen: str
    best: str
    chosen_seconds: float
    best_seconds: float

    @property
    def ratio(self) -> float:
        """How many times as long as the best the choice takes; within 20 us they count as equal."""
        if self.chosen_seconds - self.best_seconds <= 20e-6:
            return 1.0
        return self.chosen_seconds / self.best_seconds


@dataclass(frozen=True)
class Check:
    """How good the automatic choice is, over problems that no table was made from; prints as a table."""

    choices: tuple[Choice, ...]

    @property
    def quantiles(self) -> tuple[float, float, float]:
        """The median, the 95th percentile and the largest of chosen over best."""
        ratios = sorted(choice.ratio for choice in self.choices)
        return ratios[len(ratios) // 2], ratios[math.ceil(0.95 * len(ratios)) - 1], ratios[-1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        fields = ("chosen", "best", "chosen_seconds", "best_seconds", "ratio")
        choices = [{"problem": str(one.case)} | {name: getattr(one, name) for name in fields} for one in self.choices]
        return {"quantiles": self.quantiles, "choices": choices}

    def __repr__(self) -> str:
        worst = sorted(self.choices, key=lambda choice: -choice.ratio)[:10]
        rows = [
            [
                str(one.case),
                one.chosen,
                seconds_text(one.chosen_seconds),
                one.best,
                seconds_text(one.best_seconds),
                f"{one.ratio:.2f}",
            ]
            for one in worst
            if one.ratio > 1
        ]
        middle, high, most = self.quantiles
        said = (
            f"{len(self.choices)} problems: chosen / best {middle:.2f} in the median, {high:.2f} at the 95th "
            f"percentile, {most:.2f} at worst"
        )
        header = ["problem", "chosen", "takes", "best", "takes", "ratio"]
        return f"{table(header, rows)}\n{said}" if rows else said


def _random_cases(count: int, seed: int) -> list[Case]:
    """Problems between the points of the grid: 1-D to 3-D, 16 to 4096 along an axis, kernels of 1 to 255."""
    rng = random.Random(seed)
    cases: list[Case] = []
    while len(cases) < count:
        ndim = rng.choice((1, 1, 2, 2, 2, 3))
        top = {1: 22, 2: 12, 3: 7.5}[ndim]
        shape = tuple(round(2 ** rng.uniform(4, top)) for _ in range(ndim))
        widest = {1: 255, 2: 255, 3: 15}[ndim]
        width = 2 ** rng.uniform(0, math.log2(widest))
        kernel = tuple(max(1, min(widest, round(width * 2 ** rng.uniform(-0.5, 0.5)))) for _ in range(ndim))
        if any(k > n for k, n in zip(kernel, shape, strict=True)):
            continue
        workers = rng.choice(sorted({1, cpu.available_workers()}))
        cases.append(Case(shape, kernel, rng.choice(("float32", "float64", "uint8")), workers, rng.random() < 0.3))
    return cases


def check(
    *, problems: int = 300, seed: int = 0, rounds: int = 3, progress: Callable[[float], None] | None = None
) -> Check:
    """Compare the automatic choice with the best of all offers, on random problems.

    Parameters
    ----------
    problems : int, optional
        How many: 1-D to 3-D, 16 to 4096 samples along an axis, kernels of 1 to 255, float32, float64 and uint8, with
        one thread and with all.
    seed : int, optional
        Which.
    rounds : int, optional
        How often a miss is measured again, chosen and best in turn; the least time of each counts.
    progress : callable, optional
        Called with the share that is done, 0 to 1, after each problem.

    Returns
    -------
    Check
        Prints as a table of the worst choices, with the median, the 95th percentile and the largest quotient.

    Examples
    --------
    >>> from convengine import tuning
    >>> tuning.check(problems=3).quantiles[0] < 2
    True
    """
    choices = []
    cases = _random_cases(problems, seed)
    for number, case in enumerate(cases):
        choices.append(_choice(case, rounds))
        if progress is not None:
            progress((number + 1) / len(cases))
    return Check(tuple(choices))


def _choice(case: Case, rounds: int) -> Choice:
    prepared = case.prepared()
    problem = prepared.decision.problem
    x, out = case.samples(), np.empty(problem.out_shape, problem.out_dtype)
    ready: dict[str, Filter] = {}
    times: dict[str, float] = {}
    first = ""
    cheapest = math.inf
    for candidate in sorted(prepared.decision.candidates, key=lambda candidate: candidate.seconds):
        if first and candidate.seconds > max(3 * FACTOR * cheapest, 100e-6):
            continue
        filter_ = _ready(prepared, candidate)
        took = None if filter_ is None else _seconds(filter_, x, out, case.workers)
        if filter_ is not None and took is not None:
            name = f"{candidate.backend} {candidate.offer.method}"
            ready[name], times[name] = filter_, took
            first = first or name
            cheapest = min(cheapest, took)
    best = min(times, key=lambda name: times[name])
    for _ in range(rounds if best != first and times[first] - times[best] > 20e-6 else 0):
        for name in (first, best):
            again = _seconds(ready[name], x, out, case.workers)
            times[name] = min(times[name], again or math.inf)
    return Choice(case, first, best, times[first], times[best])
