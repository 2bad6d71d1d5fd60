"""convengine itself, by its public functions: the automatic choice, or a backend and a method that are forced."""

from collections.abc import Sequence
from typing import Any

import convengine as ce
from convengine import registry
from convengine._version import __version__
from convengine.bench.contest import Bound, Job, Route, Run
from convengine.planning import explain
from convengine.plugin import Backend, Offer, Plan, Refusal, Solve
from convengine.problem import KernelFacts, Problem

__all__ = ["Ours"]


class OnlyMethod:
    """Stands for a backend and passes on its offers of one method only."""

    def __init__(self, backend: Backend, method: str) -> None:
        self._backend, self._method, self.name = backend, method, backend.name

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Those whose name starts as the method does."""
        offers = self._backend.offers(problem, facts)
        if isinstance(offers, Refusal):
            return offers
        kept = [offer for offer in offers if offer.method.startswith(self._method)]
        others = ", ".join(repr(offer.method) for offer in offers)
        return kept or Refusal(f"has no method {self._method!r} for this; it has {others}")

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Pass on."""
        return self._backend.plan(problem, offer, solve)


class Ours:
    """A function of the public interface, called as a user calls it; `out` is given.

    Parameters
    ----------
    backend : str, optional
        The only one that may run.
    method : str
        How the name of the only method starts that it may run; empty: any.
    """

    def __init__(self, backend: str | None = None, method: str = "") -> None:
        self._backend, self._method = backend, method
        if backend and method and backend in registry.names():
            registry.stand_in(backend, OnlyMethod(registry.get(backend), method))

    def version(self) -> str:
        """Tell it."""
        return f"convengine {__version__}"

    def routes(self, job: Job) -> list[Route] | str:
        """The one way there is: what is chosen is part of what is timed."""
        how: dict[str, Any] = {"mode": "same", "boundary": job.task.boundary, "workers": job.threads}
        how |= {} if job.task.is_float else {"dtype": job.out.dtype}
        how |= {"backend": self._backend} if self._backend else {}
        explanation = explain(job.x, job.kernel, op=job.task.operation, **how)
        if explanation.chosen is None:
            return "; ".join(f"{row.backend} {row.status}" for row in explanation.rows if row.backend == self._backend)
        return [Route("", lambda: self._start(job, how))]

    def _start(self, job: Job, how: dict[str, Any]) -> Run:
        task, x, kernel, out = job.task, job.x, job.kernel, job.out
        function = getattr(ce, task.operation)

        def call() -> Any:
            return function(x, kernel, out=out, **how)

        call()
        chosen = explain(x, kernel, op=task.operation, **how).chosen
        assert chosen is not None and chosen.offer is not None  # it has just run
        offer = chosen.offer
        bound = Bound(normwise=offer.error) if offer.normwise else Bound(offer.error)
        return Run(call, bound, lambda returned: out, f"{chosen.backend}: {chosen.method}")
