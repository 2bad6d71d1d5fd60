"""Chooses: offers become the cheapest plan within memory and error limits, cached; and can say why.

Deterministic: the same problem, kernel facts and options give the same choice; ties break by name.
"""

import logging
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from convengine import prices, registry
from convengine.cache import ENTRY_BYTES, Cache
from convengine.config import Options
from convengine.errors import NoBackend
from convengine.native import cpu
from convengine.native.keeping import Key
from convengine.plugin import TRANSFER, WORKERS, Backend, Offer, Refusal, look_for
from convengine.problem import KernelFacts, Problem

__all__ = [
    "Candidate",
    "Decision",
    "Refused",
    "able",
    "decide",
    "forget",
    "remember",
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


_decisions = Cache(8 << 20)


def forget() -> None:
    """Forget what was chosen, and what it should take."""
    _decisions.clear()
    prices.forget()
    look_for.cache_clear()


def decide(problem: Problem, facts: KernelFacts, options: Options) -> Decision:
    """Ask the backends that may run, and order their offers by cost."""
    key = Key(problem, facts, options)
    decision: Decision | None = _decisions.get(key)
    if decision is None:
        decision = _ask(problem, facts, options)
        _decisions.put(key, decision, ENTRY_BYTES)
    return decision


def remember(problem: Problem, facts: KernelFacts, options: Options, decision: Decision) -> None:
    """Give this decision from now on."""
    _decisions.put(Key(problem, facts, options), decision, ENTRY_BYTES)


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
        refusals.append(able(problem, facts, options))
    return Decision(
        problem, candidates, refusals, partial(_all_offers, problem, facts, options, asked) if left else None
    )


def _all_offers(
    problem: Problem, facts: KernelFacts, options: Options, asked: Sequence[str]
) -> tuple[list[Candidate], list[Refused]]:
    installed = registry.names()  # by now, others may be
    candidates, refusals, _ = _offers(problem, facts, options, [n for n in asked if n in installed], hopeless=True)
    return candidates, [*refusals, *((name, "", "is no longer installed") for name in asked if name not in installed)]


def able(problem: Problem, facts: KernelFacts, options: Options) -> Refused:
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
    for name, backend in registry.several(tuple(asked)):
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
