"""Every installed backend against the oracle: errors as fractions of their proven bounds, refusals with reasons."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convengine import registry
from convengine.errors import InvalidProblem, NoBackend
from convengine.tables import fraction_text, table

if TYPE_CHECKING:
    from convengine.testing import Case
    from convengine.testing.runner import Result

__all__ = ["BackendReport", "CrosscheckReport", "crosscheck"]

SHOWN = 4  # kinds of refusal of one backend that the printed report shows


@dataclass(slots=True)
class BackendReport:
    """How one backend did.

    Attributes
    ----------
    backend : str
        Its name.
    reason : str
        Why it was not run; empty where it was.
    cases : int
        How many it answered.
    fractions : dict of str to float
        Largest error of each method as a fraction of its proven bound; 0 for integers.
    refused : Counter of str
        How often it refused with which reason.
    failures : dict of str to str
        What failed, by case id.
    """

    backend: str
    reason: str = ""
    cases: int = 0
    fractions: dict[str, float] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """Largest error of any method as a fraction of its proven bound."""
        return max(self.fractions.values(), default=0.0)

    @property
    def methods(self) -> list[str]:
        """What ran, without the details behind a method's first comma: the tile, the instruction set."""
        return sorted({name.partition(",")[0] for name in self.fractions if name})

    def add(self, result: "Result") -> None:
        """Count one result."""
        if result.outcome == "refused":
            self.refused[result.reason] += 1
            return
        self.cases += 1
        for method, fraction in result.fractions.items():
            self.fractions[method] = max(self.fractions.get(method, 0.0), fraction)
        if result.outcome == "failed":
            self.failures[result.case] = result.reason

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "backend": self.backend,
            "reason": self.reason,
            "cases": self.cases,
            "methods": dict(self.fractions),
            "largest": self.largest,
            "refused": dict(self.refused),
            "failures": dict(self.failures),
        }


@dataclass(frozen=True, slots=True)
class CrosscheckReport:
    """How every backend did, `backends`; prints as a table, with the refusals and failures below it."""

    backends: tuple[BackendReport, ...]

    @property
    def ok(self) -> bool:
        """Whether something ran and nothing failed; a refusal is no failure."""
        return any(one.cases for one in self.backends) and not any(one.failures for one in self.backends)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"ok": self.ok, "backends": [one.to_dict() for one in self.backends]}

    def __repr__(self) -> str:
        header = ["backend", "methods", "cases", "refused", "largest error / bound", "failures"]
        lines = [table(header, [_row(one) for one in self.backends])]
        lines += [f"not usable: {one.backend}: {one.reason}" for one in self.backends if one.reason]
        for one in self.backends:
            lines += [f"failed: {text}" for text in one.failures.values()]
        for one in self.backends:
            lines += _refused(one)
        return "\n".join(lines)


def _row(one: BackendReport) -> list[str]:
    if one.reason:
        return [one.backend, "not usable", "", "", "", ""]
    refused, failures = one.refused.total(), len(one.failures)
    largest = fraction_text(one.largest) if one.fractions else ""
    return [one.backend, "; ".join(one.methods), str(one.cases), str(refused), largest, str(failures)]


def _refused(one: BackendReport) -> list[str]:
    """The commonest kinds of refusal, a line each."""
    kinds = _kinds(one.refused).most_common()
    lines = [f"refused {count} times, as here: {reason}" for reason, count in kinds[:SHOWN]]
    if len(kinds) > SHOWN:
        rest = sum(count for _, count in kinds[SHOWN:])
        lines.append(f"refused {rest} times, by {one.backend}, for {len(kinds) - SHOWN} other reasons: see to_dict()")
    return lines


def _kinds(refused: Counter[str]) -> Counter[str]:
    """Reasons counted as one where only their numbers differ; the first stands for its kind."""
    from convengine.testing.runner import kind

    first: dict[str, str] = {}
    kinds: Counter[str] = Counter()
    for reason, count in refused.items():
        kinds[first.setdefault(kind(reason), reason)] += count
    return kinds


def crosscheck(
    *,
    backends: str | Sequence[str] | None = None,
    cases: "Sequence[Case] | None" = None,
    progress: Callable[[int, int], object] | None = None,
) -> CrosscheckReport:
    """Run every backend on a covering selection of problems, and hold each answer against the oracle.

    Every method that a backend offers for a problem is run, not only the one that it would choose. The oracle computes
    from the definition, in wider arithmetic, and shares no code with the engine; bounds are proven ones, without a
    factor to be safe; integers, NaN and infinities must be exact.

    Parameters
    ----------
    backends : str or sequence of str, optional
        Which; default all that are installed.
    cases : sequence of convengine.testing.Case, optional
        The problems; default `convengine.testing.covering_cases()`, in which every pair of dtype, mode, boundary,
        stride, layout and so on meets, and simple filters, which more backends can do.
    progress : callable, optional
        Called as ``progress(done, total)`` after each problem.

    Returns
    -------
    CrosscheckReport
        Prints as a table; `ok`, `backends`, `to_dict()`. A backend that fails is reported, not raised.

    Raises
    ------
    NoBackend
        If no backend of a name is installed.

    Notes
    -----
    Bounds: of direct sums gamma(m) * corr(|x|, |kernel|) with m taps (Higham 2002, Accuracy and Stability of Numerical
    Algorithms, section 3.1), of an FFT a constant times ||x||_2 * ||kernel||_2 (Percival 2003, Math. Comp. 72). A
    fraction of 1 is the largest error that the proof allows.

    Examples
    --------
    >>> import convengine as ce
    >>> from convengine.testing import covering_cases
    >>> report = ce.crosscheck(backends="cython", cases=covering_cases()[:20])
    >>> report.ok, report.backends[0].cases, report.backends[0].largest <= 1
    (True, 20, True)
    """
    from convengine.testing import covering_cases, subjects  # the oracle loads only when it is asked
    from convengine.testing.runner import attempt, expected

    reports = [BackendReport(name, _unusable(name)) for name in _asked(backends)]
    cases = [*covering_cases(), *subjects.simple().values()] if cases is None else cases
    if all(report.reason for report in reports):
        cases = []
    for done, case in enumerate(cases, start=1):
        answer = expected(case)
        for report in reports:
            if not report.reason:
                report.add(attempt(report.backend, case, answer))
        if progress is not None:
            progress(done, len(cases))
    return CrosscheckReport(tuple(reports))


def _asked(backends: str | Sequence[str] | None) -> list[str]:
    installed = registry.names()
    asked = installed if backends is None else [backends] if isinstance(backends, str) else list(backends)
    if not all(isinstance(name, str) for name in asked):
        raise InvalidProblem(f"backends must be a name or a sequence of names, see ce.backends(); got {backends!r}")
    if unknown := [name for name in asked if name not in installed]:
        raise NoBackend(
            f"no backend is called {', '.join(map(repr, unknown))}; installed: {', '.join(installed) or 'none'};"
            " see ce.backends()"
        )
    return sorted(set(asked))


def _unusable(name: str) -> str:
    info = registry.info(name)
    return "" if info.usable else info.reason or "its info says so, without a reason"
