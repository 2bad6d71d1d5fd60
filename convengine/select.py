"""Chooses: offers become the cheapest plan within memory and error limits, cached; and can say why.

Deterministic: the same problem, kernel facts and options give the same choice; ties break by name.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convengine import registry
from convengine.config import Options
from convengine.errors import BackendError, InvalidProblem, NoBackend
from convengine.plugin import WORKERS, Declined, Filter, Offer, Plan, Refusal
from convengine.problem import KernelFacts, Problem

__all__ = ["ENTRY_BYTES", "Cache", "Candidate", "Decision", "Prepared", "clear_cache", "decide", "prepare"]

log = logging.getLogger("convengine")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One offer of one backend."""

    backend: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for a problem and why: candidates by cost, and every refusal."""

    problem: Problem
    candidates: tuple[Candidate, ...]
    refusals: tuple[tuple[str, str, str], ...]  # (backend, method or "", reason)

    @property
    def chosen(self) -> Candidate:
        """The cheapest candidate; NoBackend with every refusal if there is none."""
        self.require()
        return self.candidates[0]

    def require(self) -> None:
        """Raise NoBackend with every refusal if there is no candidate."""
        if not self.candidates:
            raise NoBackend(self.explain_none())

    def explain_none(self) -> str:
        """Text of the NoBackend error."""
        lines = [f"no backend can run {self.problem}"]
        lines += [f"  {name}{f' ({method})' if method else ''}: {reason}" for name, method, reason in self.refusals]
        return "\n".join(lines)


class Cache:
    """A locked LRU bounded by bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

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


ENTRY_BYTES = 4096  # charged to a cache entry beside its arrays: keys, dataclasses, dictionaries
_decisions = Cache(8 << 20)
_prepared = Cache(256 << 20)


def clear_cache() -> None:
    """Forget every decision and prepared kernel."""
    _decisions.clear()
    _prepared.clear()


def decide(problem: Problem, facts: KernelFacts, options: Options) -> Decision:
    """Ask the backends that may run, and order their offers by cost."""
    key = problem, facts, options
    decision: Decision | None = _decisions.get(key)
    if decision is None:
        decision = _ask(problem, facts, options)
        _decisions.put(key, decision, ENTRY_BYTES)
    return decision


def require_usable(problem: Problem, options: Options) -> None:
    """Raise NoBackend where the backends asked for are not installed or not usable, though nothing is to be summed."""
    asked = _installed(options)
    reasons = [(name, "", registry.info(name).reason) for name in asked if not registry.info(name).usable]
    if len(reasons) == len(asked):
        raise NoBackend(Decision(problem, (), tuple(reasons)).explain_none())


def _installed(options: Options) -> tuple[str, ...]:
    """The backends that may run; NoBackend for a name that is not installed."""
    installed = registry.names()
    asked = options.backend or installed
    if unknown := [name for name in asked if name not in installed]:
        raise NoBackend(
            f"no backend is called {', '.join(map(repr, unknown))}; installed: {', '.join(installed) or 'none'}; "
            "see ce.backends()"
        )
    return asked


def _ask(problem: Problem, facts: KernelFacts, options: Options) -> Decision:
    asked = _installed(options)
    candidates, refusals = _offers(problem, facts, options, asked)
    if options.backend and not candidates:
        able, _ = _offers(problem, facts, options, [name for name in registry.names() if name not in asked])
        others = ", ".join(dict.fromkeys(candidate.backend for candidate in able)) or "none"
        refusals.append(("backends that can", "", others))
    return Decision(problem, tuple(candidates), tuple(refusals))


def _offers(
    problem: Problem, facts: KernelFacts, options: Options, asked: Any
) -> tuple[list[Candidate], list[tuple[str, str, str]]]:
    candidates: list[Candidate] = []
    refusals: list[tuple[str, str, str]] = []
    token = WORKERS.set(options.workers)
    try:
        for name in sorted(asked):
            try:
                answer = _priced(registry.get(name).offers(problem, facts))
            except Exception as error:  # noqa: BLE001  # a plug-in's fault is its own refusal, not the user's crash
                answer = Refusal(f"failed while pricing: {type(error).__name__}: {error}")
            if isinstance(answer, Refusal):
                refusals.append((name, "", answer.reason))
                continue
            for offer in answer:
                if reason := _limit(offer, options):
                    refusals.append((name, offer.method, reason))
                else:
                    candidates.append(Candidate(name, offer))
    finally:
        WORKERS.reset(token)
    candidates.sort(key=lambda candidate: (candidate.offer.seconds, candidate.backend, candidate.offer.method))
    return candidates, refusals


def _priced(answer: Any) -> list[Offer] | Refusal:
    """Return a backend's answer, or raise TypeError for what is none."""
    if isinstance(answer, Refusal):
        return answer
    if not isinstance(answer, list | tuple):
        raise TypeError(f"offers must be a list or a Refusal; got {type(answer).__name__}")
    for offer in answer:
        if not isinstance(offer, Offer):
            raise TypeError(f"an offer must be an Offer; got {type(offer).__name__} {offer!r}")
        if not offer.seconds >= 0:
            raise ValueError(f"an offer's seconds must be a number of at least 0; got {offer.seconds!r}")
    return list(answer)


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
    declined: list[tuple[str, str, str]] = field(default_factory=list)
    _filters: dict[int, Filter | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x, into out if given."""
        token = WORKERS.set(self.options.workers)
        try:
            for number, candidate in enumerate(self.decision.candidates):
                prepared = self._filters[number] if number in self._filters else self._prepare(number)
                if prepared is None:
                    continue
                try:
                    return self._run(candidate, prepared, x, out)
                except Declined as reason:
                    log.debug("%s (%s) declined: %s", candidate.backend, candidate.offer.method, reason)
                    self._note(candidate, str(reason))
            self.decision.require()
            raise NoBackend("\n".join([f"no backend can run {self.decision.problem}", *self._refusals()]))
        finally:
            WORKERS.reset(token)

    def check_result(self, result: Any) -> None:
        """Raise BackendError unless a filter's own result has the problem's shape and dtype."""
        problem, got = self.decision.problem, (getattr(result, "shape", None), getattr(result, "dtype", None))
        if got != (problem.out_shape, problem.out_dtype):
            raise BackendError(
                f"backend {self.used.backend!r} failed on {problem}: its filter must return out or an array of "
                f"{problem.out_dtype} {problem.out_shape}; got {type(result).__name__}"
                + (f" of {got[1]} {got[0]}" if got[0] is not None else "")
            )

    def _run(self, candidate: Candidate, prepared: Filter, x: Any, out: Any) -> Any:
        if log.isEnabledFor(level := logging.INFO if self.options.verbose else logging.DEBUG):
            log.log(level, "%s: %s (%s)", self.decision.problem, candidate.backend, candidate.offer.method)
        return _guarded(candidate.backend, self.decision.problem, lambda: prepared(x, out))

    def _prepare(self, number: int) -> Filter | None:
        """Plan and prepare one candidate; None if it declines this kernel."""
        candidate = self.decision.candidates[number]
        with self._lock:
            if number in self._filters:
                return self._filters[number]
            try:
                plan = _plan(self.decision.problem, candidate, self.options)
                prepared: Filter | None = _guarded(
                    candidate.backend, self.decision.problem, lambda: plan.prepare(self.kernel, self.bias)
                )
            except Declined as reason:
                self._note(candidate, str(reason))
                prepared = None
            self._filters[number] = prepared
            return prepared

    def _note(self, candidate: Candidate, reason: str) -> None:
        row = candidate.backend, candidate.offer.method, f"declined: {reason}"
        if row not in self.declined:
            self.declined.append(row)

    def _refusals(self) -> list[str]:
        return [f"  {name} ({method}): {reason}" for name, method, reason in (*self.decision.refusals, *self.declined)]

    @property
    def used(self) -> Candidate:
        """The first candidate that has not declined."""
        declined = {(name, method) for name, method, _ in self.declined}
        left = [c for c in self.decision.candidates if (c.backend, c.offer.method) not in declined]
        return left[0] if left else self.decision.chosen


def _guarded(name: str, problem: Problem, work: Callable[[], Any]) -> Any:
    """Run a backend's code; what is no user's error becomes a BackendError that carries the whole context."""
    try:
        return work()
    except (Declined, InvalidProblem, NoBackend, OverflowError, MemoryError):
        raise
    except Exception as error:
        raise BackendError(f"backend {name!r} failed on {problem}: {type(error).__name__}: {error}") from error


def _plan(problem: Problem, candidate: Candidate, options: Options) -> Plan:
    def solve(subproblem: Problem) -> Plan:
        return _Subplan(subproblem, options, without=candidate.backend)

    backend = registry.get(candidate.backend)
    plan: Plan = _guarded(candidate.backend, problem, lambda: backend.plan(problem, candidate.offer, solve))
    return plan


@dataclass(frozen=True)
class _Subplan:
    """What `solve` gives a wrapping backend: the engine's own choice for a subproblem, among the other backends."""

    problem: Problem
    options: Options
    without: str

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        kernel = np.ascontiguousarray(kernel)
        others = tuple(name for name in registry.names() if name != self.without)
        options = Options(**{**_as_dict(self.options), "backend": others})
        return prepare(self.problem, kernel, bias, options)


def _as_dict(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__slots__}


def prepare(
    problem: Problem, kernel: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None, options: Options
) -> Prepared:
    """Return the prepared filter for this kernel's content, from the cache where it stands already."""
    key = problem, kernel.tobytes(), bias.tobytes() if bias is not None else None, options
    prepared: Prepared | None = _prepared.get(key)
    if prepared is None:
        facts = KernelFacts.of(kernel, problem.ndim)
        decision = decide(problem, facts, options)
        prepared = Prepared(decision, facts, options, kernel.copy(), None if bias is None else bias.copy())
        # A prepared kernel costs what its backend offered: spectra and packed taps are of that order.
        size = ENTRY_BYTES + 2 * kernel.nbytes + (decision.candidates[0].offer.memory if decision.candidates else 0)
        _prepared.put(key, prepared, size)
    return prepared
