"""Runs every method of a backend on a problem, through the public API, and holds the answers against the oracle.

Shared by the contract, which needs pytest, and by `convengine.crosscheck`, which does not.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal

import numpy as np

from convengine import api, config, gradients, registry
from convengine.arguments import read_array
from convengine.call import Call
from convengine.errors import NoBackend
from convengine.plugin import Offer
from convengine.problem import KernelFacts, Problem
from convengine.running import Prepared
from convengine.select import Candidate, Decision
from convengine.testing.arguments import Array
from convengine.testing.bounds import check, componentwise, gamma, normwise, unit_roundoff
from convengine.testing.cases import Case
from convengine.testing.oracle import Reference, reference
from convengine.testing.oracle_gradients import gradient_reference

__all__ = [
    "Answer",
    "Method",
    "Result",
    "answers",
    "asked",
    "attempt",
    "bound",
    "examine",
    "expected",
    "fetch",
    "kind",
    "methods",
    "place",
    "refusal",
    "require_same_bits",
    "run",
]


@dataclass(frozen=True, slots=True)
class Method:
    """One way in which a backend can solve one problem.

    Attributes
    ----------
    name : str
        As explain names it; empty where there is nothing to sum, so that no backend runs.
    offer : Offer or None
        What the backend said of it.
    call : Call
        The public function's own call, with this method alone to choose.
    """

    name: str
    offer: Offer | None
    call: Call

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x as the public function does; NoBackend if the method declines."""
        return self.call.run(read_array(x, "x"), out)


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What one method answered, on the host."""

    offer: Offer | None
    value: Array


@dataclass(frozen=True, slots=True)
class Result:
    """How a backend did on one case.

    Attributes
    ----------
    backend, case : str
        Who, and the case's id.
    outcome : {"held", "refused", "failed"}
        Held: every method that answered is within its bound.
    fractions : dict of str to float
        Largest error of each method as a fraction of its proven bound.
    reason : str
        The refusal, or what failed.
    """

    backend: str
    case: str
    outcome: Literal["held", "refused", "failed"]
    fractions: dict[str, float]
    reason: str = ""


def place(backend: str, x: Any) -> Any:
    """Move x to where a backend runs, as its info says: a CUDA device or, as it is, the host."""
    if not registry.info(backend).device.startswith("cuda"):
        return x
    array = np.asarray(x)
    return import_module("cupy").asarray(array.astype(array.dtype.newbyteorder("=")))


def fetch(y: Any) -> Array:
    """Bring a result to the host."""
    host: Array = y.get() if hasattr(y, "__cuda_array_interface__") else np.asarray(y)
    return host


def methods(
    backend: str, case: Case, *, x: Any = None, out: Any = None, workers: int | None = None
) -> tuple[Method, ...]:
    """Every method that a backend offers for a case, in the order of its choice.

    Parameters
    ----------
    backend : str
        An installed backend.
    case : Case
        The problem.
    x : array, optional
        Stands for `case.x`: the same samples laid out otherwise, or placed on a device.
    out : array, optional
        As for the operation.
    workers : int, optional
        As for the operation.

    Returns
    -------
    tuple of Method
        One without an offer where there is nothing to sum.

    Raises
    ------
    NoBackend
        If the backend refuses.
    Exception
        Whatever the backend raises where it should refuse.
    """
    call = _call(backend, case, x, out, workers)
    if call.prepared is None:
        return (Method("", None, call),)
    prepared = call.prepared
    if not prepared.decision.candidates:
        # The engine takes an exception here for a refusal, so that others may run; an examination lets it show.
        registry.get(backend).offers(prepared.decision.problem, prepared.facts)
    prepared.decision.require()

    def alone(candidate: Candidate) -> Method:
        decision = Decision(prepared.decision.problem, (candidate,), prepared.decision.refusals)
        only = Prepared(decision, prepared.facts, prepared.options, prepared.kernel, prepared.bias)
        return Method(candidate.offer.method, candidate.offer, replace(call, prepared=only))

    return tuple(alone(candidate) for candidate in prepared.decision.candidates)


def asked(backend: str, case: Case) -> tuple[Problem, KernelFacts] | None:
    """What a backend is asked about a case; None where there is nothing to sum."""
    try:
        prepared = _call(backend, case, None, None, None).prepared
    except NoBackend:  # refused where there is nothing to sum
        return None
    return None if prepared is None else (prepared.decision.problem, prepared.facts)


def _function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(gradients if name in api.GRADIENTS else api, name)
    return found


def _call(backend: str, case: Case, x: Any, out: Any, workers: int | None) -> Call:
    x = read_array(place(backend, case.x) if x is None else x, "x")
    options = config.current(backend=backend, workers=workers)
    return api.find(case.name, x, case.kernel, api.DEFAULTS | case.keywords, out, options)[0]


def answers(backend: str, case: Case, *, x: Any = None, workers: int | None = None) -> dict[str, Answer]:
    """What every method of a backend answers, by name; the first is the one that the public function runs.

    Parameters
    ----------
    backend, case, x, workers
        As for `methods`.

    Returns
    -------
    dict of str to Answer
        Without the methods that declined.

    Raises
    ------
    NoBackend
        If the backend refuses, or all its methods decline.
    AssertionError
        If the public function's answer has not the bits of the first method's.
    """
    x = place(backend, case.x) if x is None else x
    offered = methods(backend, case, x=x, workers=workers)
    public = fetch(_function(case.name)(x, case.kernel, **case.keywords, backend=backend, workers=workers))
    found: dict[str, Answer] = {}
    for method in offered:
        try:
            found[method.name] = Answer(method.offer, fetch(method(x)))
        except NoBackend:  # it declined
            continue
    if not found:
        raise AssertionError(f"{backend} answers {case.id} by {case.name}, but each of its methods declines alone")
    name, first = next(iter(found.items()))
    require_same_bits(public, first.value, f"{case.name} and its method {name!r} of {backend} on {case.id}")
    return found


def require_same_bits(one: Array, other: Array, what: str) -> None:
    """Raise AssertionError unless two arrays agree in shape, dtype and every bit; any NaN is like any other."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        raise AssertionError(
            f"{what} must agree in shape and dtype; got {one.shape} {one.dtype} and {other.shape} {other.dtype}"
        )
    differ = _bits(one) != _bits(other)
    if differ.any():
        at = tuple(int(i) for i in np.argwhere(differ)[0][: one.ndim])
        raise AssertionError(
            f"{what} must agree to the bit; got {one[at]!r} and {other[at]!r} at {at}"
            f" ({np.count_nonzero(differ)} of {differ.size} parts differ)"
        )


def _bits(values: Array) -> Array:
    """The values as unsigned integers, one for each real part."""
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], axis=-1)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
    values = np.ascontiguousarray(values)
    return values.view(f"u{values.dtype.itemsize}")


def expected(case: Case) -> Reference:
    """The oracle's answer to a case."""
    answer = gradient_reference if case.name in api.GRADIENTS else reference
    return answer(case.name, case.x, case.kernel, **case.keywords)


def bound(offer: Offer | None, answer: Reference) -> Array:
    """Proven bound of each output's error, as the offer states it: normwise, or componentwise with its factor.

    Parameters
    ----------
    offer : Offer or None
        None for what the engine answers without a backend, the bias alone.
    answer : Reference
        The oracle's.

    Returns
    -------
    array
        For `convengine.testing.check`; zero for integers.
    """
    if offer is not None and offer.normwise:
        return normwise(answer, offer.error)
    plain = componentwise(answer)
    if offer is None or answer.sum_dtype.kind == "i":
        return plain
    u = unit_roundoff(answer.sum_dtype)
    parts = 2 if answer.sum_dtype.kind == "c" else 1
    surplus = offer.error - gamma(answer.taps * parts, u)
    if surplus > 0:  # as a plain sum of so many terms that its factor is the offer's
        roundings = offer.error / (u * (1 + offer.error))
        return componentwise(replace(answer, taps=math.ceil(roundings / parts)))
    return plain + surplus * answer.magnitude


def examine(backend: str, case: Case, answer: Reference | None = None) -> dict[str, float]:
    """Hold every method of a backend against the oracle.

    Parameters
    ----------
    backend : str
        An installed backend.
    case : Case
        The problem.
    answer : Reference, optional
        The oracle's, where it is at hand.

    Returns
    -------
    dict of str to float
        Largest error of each method as a fraction of its bound.

    Raises
    ------
    NoBackend
        If the backend refuses, or all its methods decline.
    AssertionError
        If an answer is beyond its bound; the text names backend, method and case.
    """
    answer = expected(case) if answer is None else answer
    fractions = {}
    for name, given in answers(backend, case).items():
        try:
            fractions[name] = check(given.value, answer, bound(given.offer, answer))
        except AssertionError as error:
            raise AssertionError(f"{backend} ({name}) on {case.id}: {error}") from None
    return fractions


def attempt(backend: str, case: Case, answer: Reference | None = None) -> Result:
    """Examine, and put what happens into a Result: whatever a backend raises is its failure, not the caller's."""
    try:
        return Result(backend, case.id, "held", examine(backend, case, answer))
    except NoBackend as error:
        return Result(backend, case.id, "refused", {}, refusal(error))
    except AssertionError as error:
        return Result(backend, case.id, "failed", {}, str(error))
    except Exception as error:  # noqa: BLE001  # an examination goes on after any failure
        return Result(backend, case.id, "failed", {}, f"{backend} on {case.id}: {type(error).__name__}: {error}")


def run(backend: str, cases: Iterable[Case]) -> list[Result]:
    """Examine a backend on cases, one result for each.

    Examples
    --------
    >>> from convengine.testing import covering_cases
    >>> {result.outcome for result in run("cython", covering_cases()[:10])}
    {'held'}
    """
    return [attempt(backend, case) for case in cases]


def refusal(error: NoBackend) -> str:
    """Why a backend refused, from the text that lists every refusal: "name: reason"."""
    first, *lines = str(error).splitlines()
    reasons = [line.strip() for line in lines if not line.startswith("  backends that can:")]
    return "; ".join(reasons) or first


def kind(reason: str) -> str:
    """A reason without its numbers, so that refusals of one kind can be counted.

    Examples
    --------
    >>> kind("fft (tile 8x64): only 2-D filters up to 1.5e3; got a kernel of shape (4, 3, 9)")
    'fft (tile #): only #-D filters up to #; got a kernel of shape (#)'
    """
    masked = re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "#", reason)
    return "; ".join(dict.fromkeys(re.sub(r"#((, |x)#)+,?|#,(?=\))", "#", part) for part in masked.split("; ")))
