"""Chooses: offers become the cheapest plan within memory and error limits, cached; and can say why.

Deterministic: the same problem, kernel facts and options give the same choice; ties break by name.
"""

import logging
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from convengine import prices, registry
from convengine.config import Options
from convengine.errors import BackendError, InvalidProblem, NoBackend
from convengine.native import cpu
from convengine.plugin import TRANSFER, WORKERS, Backend, Declined, Filter, Offer, Plan, Refusal, look_for, workers
from convengine.problem import KernelFacts, Problem

__all__ = [
    "ENTRY_BYTES",
    "Cache",
    "Candidate",
    "Decision",
    "Prepared",
    "clear_decisions",
    "decide",
    "filter_of",
    "measured",
    "prepare",
    "require",
]

log = logging.getLogger("convengine")


class Candidate(NamedTuple):
    """One offer of one backend, and the seconds that it is expected to take."""

    backend: str
    offer: Offer
    seconds: float


Refused = tuple[str, str, str]  # a backend, its method or "", the reason


class Decision:
    """What was chosen for a problem and why: candidates by cost, and every refusal.

    Of backends that say that they cannot be cheaper than the first candidate, nobody asks for more until somebody wants
    to know.
    """

    __slots__ = ("_all", "_ask", "first", "problem")

    def __init__(
        self,
        problem: Problem,
        candidates: Sequence[Candidate],
        refusals: Sequence[Refused],
        ask: Callable[[], tuple[Sequence[Candidate], Sequence[Refused]]] | None = None,
    ) -> None:
        self.problem = problem
        self.first = candidates[0] if candidates else None
        self._all = tuple(candidates), tuple(refusals)
        self._ask = ask

    def _complete(self) -> tuple[tuple[Candidate, ...], tuple[Refused, ...]]:
        with _asking:
            if self._ask is not None and self.first is not None:
                candidates, refusals = self._ask()
                names = self.first.backend, self.first.offer.method
                others = (one for one in candidates if (one.backend, one.offer.method) != names)
                self._all, self._ask = ((self.first, *others), tuple(refusals)), None
            return self._all

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All, the cheapest first."""
        return (self._all if self._ask is None else self._complete())[0]

    @property
    def refusals(self) -> tuple[Refused, ...]:
        """Why others cannot."""
        return (self._all if self._ask is None else self._complete())[1]

    def numbers(self) -> Iterator[int]:
        """Those of the candidates, in their order."""
        if self.first is not None:
            yield 0
            yield from range(1, len(self.candidates))

    def candidate(self, number: int) -> Candidate:
        """The candidate of a number."""
        return self.chosen if number == 0 else self.candidates[number]

    @property
    def chosen(self) -> Candidate:
        """The cheapest candidate; NoBackend with every refusal if there is none."""
        self.require()
        assert self.first is not None
        return self.first

    def require(self) -> None:
        """Raise NoBackend with every refusal if there is no candidate."""
        if self.first is None:
            raise NoBackend(self.explain_none())

    def explain_none(self) -> str:
        """Text of the NoBackend error."""
        lines = [f"no backend can run {self.problem}"]
        lines += [f"  {name}{f' ({method})' if method else ''}: {reason}" for name, method, reason in self.refusals]
        return "\n".join(lines)


_asking = threading.RLock()  # a wrapping backend may ask for the choice of a part


def _ask_anew() -> None:
    """Take a lock of its own: a forked child may find this one in the hands of a thread that it lacks."""
    global _asking
    _asking = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ask_anew)


class Cache:
    """A locked LRU bounded by bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Start empty with a lock of its own: a forked child may find both in the hands of a thread that it lacks."""
        self._lock = threading.Lock()
        self._entries = OrderedDict()
        self.used = 0

    def get(self, key: Hashable) -> Any:
        """Return the entry and mark it used; None if there is none."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: Hashable, value: Any, size: int) -> None:
        """Store an entry of `size` bytes and drop the least used ones over the limit."""
        with self._lock:
            if key in self._entries:
                self.used -= self._entries.pop(key)[1]
            self._entries[key] = value, size
            self.used += size
            while self.used > self.limit and len(self._entries) > 1:
                self.used -= self._entries.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._entries.clear()
            self.used = 0


UNSURE = 5.0  # times as long as the first, a candidate may be expected to take and still be measured
MOST_MEASURED = 5  # candidates
MOST_CALLS, MEASURING = 10, 0.02  # of each: calls, seconds
TIME_BYTES = 512  # charged to a time
ENTRY_BYTES = 4096  # charged to a cache entry beside its arrays: keys, dataclasses, dictionaries
_decisions = Cache(8 << 20)
_times = Cache(1 << 20)  # the least seconds that a method took for a problem, with so many workers


def clear_decisions() -> None:
    """Forget what was chosen, what it took, and what it should take."""
    _decisions.clear()
    _times.clear()
    prices.forget()
    look_for.cache_clear()


def decide(problem: Problem, facts: KernelFacts, options: Options) -> Decision:
    """Ask the backends that may run, and order their offers by cost."""
    key = problem, facts, options
    decision: Decision | None = _decisions.get(key)
    if decision is None:
        decision = _ask(problem, facts, options)
        _decisions.put(key, decision, ENTRY_BYTES)
    return decision


def require(problem: Problem, options: Options) -> None:
    """Raise NoBackend where no backend would run the problem, without a kernel to prepare."""
    nothing = np.zeros(problem.kernel_shape, problem.kernel_dtype)
    decide(problem, KernelFacts.of(nothing, problem.ndim), options).require()


def _installed(options: Options) -> tuple[str, ...]:
    """The backends that may run; NoBackend for a name that is not installed."""
    installed = registry.names()
    asked = options.backend
    if asked is None:
        return installed
    if unknown := [name for name in asked if name not in installed]:
        raise NoBackend(
            f"no backend is called {', '.join(map(repr, unknown))}; installed: {', '.join(installed) or 'none'}; "
            "see ce.backends()"
        )
    return asked


def _ask(problem: Problem, facts: KernelFacts, options: Options) -> Decision:
    asked = _installed(options)
    candidates, refusals, left = _offers(problem, facts, options, asked)
    if options.backend and not candidates:
        refusals.append(_able(problem, facts, options))
    return Decision(
        problem, candidates, refusals, partial(_all_offers, problem, facts, options, asked) if left else None
    )


def _all_offers(
    problem: Problem, facts: KernelFacts, options: Options, asked: Sequence[str]
) -> tuple[list[Candidate], list[Refused]]:
    installed = registry.names()  # by now, others may be
    candidates, refusals, _ = _offers(problem, facts, options, [n for n in asked if n in installed], hopeless=True)
    return candidates, [*refusals, *((name, "", "is no longer installed") for name in asked if name not in installed)]


def _able(problem: Problem, facts: KernelFacts, options: Options) -> Refused:
    """The line of an error that names the backends that could run what those asked for could not."""
    others = [name for name in registry.names() if name not in (options.backend or ())]
    able, _ = _all_offers(problem, facts, options, others)
    return "backends that can", "", ", ".join(dict.fromkeys(candidate.backend for candidate in able)) or "none"


def _offers(
    problem: Problem, facts: KernelFacts, options: Options, asked: Sequence[str], hopeless: bool = False
) -> tuple[list[Candidate], list[Refused], bool]:
    """Ask backends; unless `hopeless`, not those that cannot be cheaper than another. Also whether any is left out."""
    candidates: list[Candidate] = []
    refusals: list[Refused] = []
    count = options.workers or cpu.available_workers()  # looked up once: every look asks the system
    token, copying = WORKERS.set(count), TRANSFER.set(bool(options.transfer))
    limited = options.strict or options.rtol is not None or options.max_memory is not None
    cheapest, left = math.inf, False
    try:
        pricing = prices.current().pricing(problem, count)
        for least, name, backend in _in_turn(problem, asked, hopeless):
            if least > 0 and pricing.are_dearer(name, least, cheapest):
                left = True
                continue
            try:
                answer = backend.offers(problem, facts)
                if not isinstance(answer, Refusal):
                    _check_offers(answer)
            except (Exception, SystemExit) as error:  # noqa: BLE001  # its own refusal, not the user's crash
                answer = Refusal(f"failed while pricing: {type(error).__name__}: {error}")
            if isinstance(answer, Refusal):
                refusals.append((name, "", answer.reason))
                continue
            if not answer:
                refusals.append((name, "", "made no offer"))
            for offer in answer:
                if limited and (reason := _limit(offer, options)):
                    refusals.append((name, offer.method, reason))
                else:
                    seconds = pricing.seconds(name, offer)
                    candidates.append(Candidate(name, offer, seconds))
                    cheapest = min(cheapest, seconds)
    finally:
        WORKERS.reset(token)
        TRANSFER.reset(copying)
    if len(candidates) > 1:
        candidates.sort(key=lambda candidate: (candidate.seconds, candidate.backend, candidate.offer.method))
    return candidates, refusals, left


def _in_turn(problem: Problem, asked: Sequence[str], hopeless: bool) -> list[tuple[float, str, Backend]]:
    """Backends by what they say that their offers cost at least: those that say nothing come first."""
    turns: list[tuple[float, str, Backend]] = []
    later: list[tuple[float, str, Backend]] = []
    for name in sorted(asked):
        backend = registry.get(name)
        says = None if hopeless else getattr(backend, "least_seconds", None)
        least = 0.0
        if says is not None:
            try:
                least = float(says(problem))
            except (Exception, SystemExit):  # as if it said nothing
                log.debug("%s failed to say what its offers cost at least", name, exc_info=True)
        (later if least > 0 else turns).append((least, name, backend))
    later.sort(key=itemgetter(0))
    return turns + later


def _check_offers(answer: Any) -> None:
    """Raise for what is no list of offers."""
    if not isinstance(answer, list | tuple):
        raise TypeError(f"offers must be a list or a Refusal; got {type(answer).__name__}")
    for offer in answer:
        if not isinstance(offer, Offer):
            raise TypeError(f"an offer must be an Offer; got {type(offer).__name__} {offer!r}")
        if not (offer.seconds >= 0 and offer.memory >= 0 and offer.error >= 0):
            raise ValueError(f"an offer's seconds, memory and error must be numbers of at least 0; got {offer}")


def _limit(offer: Offer, options: Options) -> str:
    if options.strict and offer.normwise:
        return "its error bound is normwise; strict=True allows only componentwise bounds"
    if options.rtol is not None and offer.error > options.rtol:
        return f"its proven error {offer.error:.2g} is above rtol={options.rtol:.2g}; a wider dtype errs less"
    if options.max_memory is not None and offer.memory > options.max_memory:
        return f"needs {offer.memory} bytes beside x and out; max_memory is {options.max_memory}"
    return ""


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
                reasons.append(_able(self.decision.problem, self.facts, self.options))
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
                _decisions.put((problem, self.facts, self.options), ordered, ENTRY_BYTES)
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
        if log.isEnabledFor(level := logging.INFO if self.options.verbose else logging.DEBUG):
            log.log(level, "%s: %s (%s)", self.decision.problem, candidate.backend, candidate.offer.method)
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
        return Prepared(decide(problem, facts, options), facts, options, kernel, None, excluded)
    facts = KernelFacts.of(kernel, problem.ndim)
    decision = decide(problem, facts, options)
    kernel = kernel.copy() if copy else np.ascontiguousarray(kernel)
    return Prepared(decision, facts, options, kernel, None if bias is None else bias.copy(), excluded)
