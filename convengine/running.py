"""Runs what was chosen: prepares kernels, turns to the next candidate where one declines, keeps and compares times."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from convengine import registry, select
from convengine.cache import Cache
from convengine.config import Options
from convengine.errors import BackendError, InvalidProblem, NoBackend
from convengine.plugin import WORKERS, Declined, Filter, Plan, workers
from convengine.problem import KernelFacts, Problem
from convengine.select import Candidate, Decision, Refused

__all__ = ["Prepared", "filter_of", "forget", "measured", "prepare"]

log = logging.getLogger("convengine")
UNSURE = 5.0  # times as long as the first, a candidate may be expected to take and still be measured
MOST_MEASURED = 5  # candidates
MOST_CALLS, MEASURING = 10, 0.02  # of each: calls, seconds
TIME_BYTES = 512  # charged to a time
_times = Cache(1 << 20)  # the least seconds that a method took for a problem, with so many workers


def forget() -> None:
    """Forget what methods took."""
    _times.clear()


@dataclass
class Prepared:
    """A kernel prepared for a problem by the chosen backend, with the others to turn to if that one declines."""

    decision: Decision
    facts: KernelFacts
    options: Options
    kernel: np.ndarray[Any, Any]
    bias: np.ndarray[Any, Any] | None
    excluded: frozenset[str] = frozenset()
    declined: list[Refused] = field(default_factory=list)
    _filters: dict[int, Filter | None] = field(default_factory=dict)
    _order: tuple[int, ...] = ()  # of the candidates, once their times are measured
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def _numbers(self) -> Iterable[int]:
        """The candidates by number, the one to turn to first first."""
        return self._order or self.decision.numbers()

    @property
    def nbytes(self) -> int:
        """Bytes held: the kernel, and what the filters made of it (as they say, else as was offered)."""
        made = [(self.decision.candidate(number), one) for number, one in list(self._filters.items()) if one]
        return self.kernel.nbytes + int(sum(getattr(one, "nbytes", of.offer.memory) for of, one in made))

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x, into out if given."""
        token = None if self.options.workers is None else WORKERS.set(self.options.workers)
        try:
            if self.options.measure and not self._order:
                self._measure(x, out)
            for number in self._numbers:
                candidate = self.decision.candidate(number)
                prepared = self._filters[number] if number in self._filters else self._prepare(number)
                if prepared is None:
                    continue
                try:
                    return self._run(candidate, prepared, x, out)
                except Declined as reason:
                    log.debug("%s (%s) declined: %s", candidate.backend, candidate.offer.method, reason)
                    self._note(candidate, str(reason))
            self.decision.require()
            reasons = [*self.decision.refusals, *self.declined]
            if self.options.backend:
                reasons.append(select.able(self.decision.problem, self.facts, self.options))
            raise NoBackend(Decision(self.decision.problem, (), reasons).explain_none())
        finally:
            if token is not None:
                WORKERS.reset(token)

    @property
    def settled(self) -> Filter | None:
        """The filter that a call turns to first; None while none is prepared, or where it declined before."""
        for number in self._numbers:
            candidate = self.decision.candidate(number)
            if number not in self._filters:
                return None
            if (prepared := self._filters[number]) is not None:
                return prepared if candidate is self.used else None
        return None

    def check_result(self, result: Any) -> None:
        """Raise BackendError unless a filter's own result has the problem's shape and dtype."""
        problem, got = self.decision.problem, (getattr(result, "shape", None), getattr(result, "dtype", None))
        if got != (problem.result_shape, problem.result_dtype):
            raise BackendError(
                f"backend {self.used.backend!r} failed on {problem}: its filter must return out or an array of "
                f"{problem.result_dtype} {problem.result_shape}; got {type(result).__name__}"
                + (f" of {got[1]} {got[0]}" if got[0] is not None else "")
            )

    def _measure(self, x: Any, out: Any) -> None:
        """Time the likeliest candidates on these samples, and turn to the fastest first from now on."""
        with self._lock:
            if self._order or not self.decision.candidates:
                return
            candidates = self.decision.candidates
            likely = [number for number, one in enumerate(candidates) if one.seconds <= UNSURE * candidates[0].seconds]
            times = {number: found for number in likely[:MOST_MEASURED] if (found := self._time(number, x, out))}
            rest = [number for number in range(len(candidates)) if number not in times]
            order = *sorted(times, key=lambda number: times[number]), *rest
            problem, refusals = self.decision.problem, self.decision.refusals
            ordered = Decision(problem, [candidates[number] for number in order], refusals)
            if not self.excluded:
                select.remember(problem, self.facts, self.options, ordered)
            self._order = order

    def _time(self, number: int, x: Any, out: Any) -> float | None:
        """The least seconds of a candidate's calls; None where it declines."""
        candidate = self.decision.candidate(number)
        prepared = self._filters[number] if number in self._filters else self._prepare(number)
        if prepared is None:
            return None
        try:
            stop = perf_counter() + MEASURING
            self._run(candidate, prepared, x, out)  # what it does once: threads, memory
            for _ in range(MOST_CALLS):
                self._run(candidate, prepared, x, out)
                if perf_counter() > stop:
                    break
        except Declined as reason:
            self._note(candidate, str(reason))
            return None
        return measured(self.decision.problem, candidate, workers())

    def _run(self, candidate: Candidate, prepared: Filter, x: Any, out: Any) -> Any:
        if self.options.verbose or log.isEnabledFor(logging.DEBUG):
            text = f"{self.decision.problem}: {candidate.backend} ({candidate.offer.method})"
            _tell(text, bool(self.options.verbose))
        start = perf_counter()
        result = _guarded(candidate.backend, self.decision.problem, lambda: prepared(x, out))
        _note_time(self.decision.problem, candidate, perf_counter() - start)
        return result

    def _prepare(self, number: int) -> Filter | None:
        """Plan and prepare one candidate; None if it declines this kernel."""
        candidate = self.decision.candidate(number)
        prepared: Filter | None = None
        try:
            plan = _plan(self.decision.problem, candidate, self.options, self.excluded)
            prepared = _guarded(candidate.backend, self.decision.problem, lambda: plan.prepare(self.kernel, self.bias))
            if prepared is not None and candidate.offer.normwise and self._is_nonnegative():
                prepared = Nonnegative(prepared)
        except Declined as reason:
            self._note(candidate, str(reason))
        return self._filters.setdefault(number, prepared)  # no lock: of two threads that prepare at once, one is kept

    def _is_nonnegative(self) -> bool:
        """Whether samples that are not negative have results that are not."""
        problem = self.decision.problem
        fill, real = problem.fill_value, problem.sum_dtype.kind == "f" and problem.memory == "host"
        return real and self.facts.nonnegative and fill >= 0 and (self.bias is None or bool((self.bias >= 0).all()))

    def _note(self, candidate: Candidate, reason: str) -> None:
        row = candidate.backend, candidate.offer.method, f"declined: {reason}"
        if row not in self.declined:
            self.declined.append(row)

    @property
    def used(self) -> Candidate:
        """The first candidate that has not declined."""
        declined = {(name, method) for name, method, _ in self.declined}
        for number in self._numbers:
            candidate = self.decision.candidate(number)
            if (candidate.backend, candidate.offer.method) not in declined:
                return candidate
        return self.decision.chosen


@dataclass(frozen=True, slots=True, eq=False)
class Nonnegative:
    """A filter of taps that are not negative, whose method has a normwise bound only: it may err below zero.

    What errs there where no sample is negative becomes 0, which is no farther from the exact result.
    """

    filter: Filter

    @property
    def nbytes(self) -> int:
        """Bytes that its filter holds; AttributeError where it does not say."""
        return int(self.filter.nbytes)  # type: ignore[attr-defined]  # who asks for it expects that

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x."""
        result = self.filter(x, out)
        # fmin passes over NaN, which is neither: its results are NaN, and stay it
        if result.size and np.fmin.reduce(result, axis=None) < 0 and np.fmin.reduce(x, axis=None) >= 0:
            np.maximum(result, 0, out=result)
        return result


def _tell(text: str, verbose: bool) -> None:
    """Log at DEBUG; if `verbose`, at INFO, and on stderr where nobody listens to that, as in a plain script."""
    level = logging.INFO if verbose else logging.DEBUG
    if log.isEnabledFor(level) and log.hasHandlers():
        log.log(level, text)
    elif verbose:
        print(f"convengine: {text}", file=sys.stderr)


def _note_time(problem: Problem, candidate: Candidate, seconds: float) -> None:
    key = problem, candidate.backend, candidate.offer.method, workers()
    before = _times.get(key)
    if before is None or seconds < before:
        _times.put(key, seconds, TIME_BYTES)


def filter_of(prepared: Prepared, candidate: Candidate) -> Filter:
    """Plan and prepare any candidate of a decision, for whoever compares them; Declined where it does."""
    problem = prepared.decision.problem
    token = WORKERS.set(prepared.options.workers)
    try:
        plan = _plan(problem, candidate, prepared.options, prepared.excluded)
        made: Filter = _guarded(candidate.backend, problem, lambda: plan.prepare(prepared.kernel, prepared.bias))
    finally:
        WORKERS.reset(token)
    return made


def measured(problem: Problem, candidate: Candidate, count: int) -> float | None:
    """The least seconds that a candidate took so far with `count` workers; None if it has not run."""
    found: float | None = _times.get((problem, candidate.backend, candidate.offer.method, count))
    return found


def _guarded(name: str, problem: Problem, work: Callable[[], Any]) -> Any:
    """Run a backend's code; what is no user's error becomes a BackendError that carries the whole context."""
    try:
        return work()
    except (Declined, InvalidProblem, NoBackend, OverflowError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise BackendError(f"backend {name!r} failed on {problem}: {type(error).__name__}: {error}") from error


def _plan(problem: Problem, candidate: Candidate, options: Options, excluded: frozenset[str]) -> Plan:
    def solve(subproblem: Problem) -> Plan:
        return _Subplan(subproblem, options, excluded | {candidate.backend})

    backend = registry.get(candidate.backend)
    plan: Plan = _guarded(candidate.backend, problem, lambda: backend.plan(problem, candidate.offer, solve))
    return plan


@dataclass(frozen=True)
class _Subplan:
    """What `solve` gives a wrapping backend: the engine's own choice for a subproblem, among the other backends."""

    problem: Problem
    options: Options
    excluded: frozenset[str]  # the wrappers on the way here, so that wrappers of wrappers come to an end

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        asked = [name for name in self.options.backend or () if name not in self.excluded]
        others = tuple(asked or [name for name in registry.names() if name not in self.excluded])
        if not others:
            raise NoBackend(f"no backend is left that {', '.join(sorted(self.excluded))} could hand {self.problem} to")
        options = replace(self.options, backend=others)
        return prepare(self.problem, np.ascontiguousarray(kernel), bias, options, self.excluded)


def prepare(
    problem: Problem,
    kernel: np.ndarray[Any, Any],
    bias: np.ndarray[Any, Any] | None,
    options: Options,
    excluded: frozenset[str] = frozenset(),
    copy: bool = True,
) -> Prepared:
    """Choose, and return what prepares the kernel at its first call; `copy` it unless nobody will write to it.

    For op "grad_kernel", `kernel` is the gradient of the output: for one call, so it is neither looked at nor copied.
    """
    if problem.op == "grad_kernel":
        facts = KernelFacts.unknown(problem.ndim)
        return Prepared(select.decide(problem, facts, options), facts, options, kernel, None, excluded)
    facts = KernelFacts.of(kernel, problem.ndim)
    decision = select.decide(problem, facts, options)
    kernel = kernel.copy() if copy else np.ascontiguousarray(kernel)
    return Prepared(decision, facts, options, kernel, None if bias is None else bias.copy(), excluded)
