"""Gradients on the backend cupy: its forward methods put together by convengine.adjoint, with arrays like a device's.

The kernels of our own run as C++ on the host (see cuda_on_host.h), array operations in NumPy; a GPU is not needed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from convengine_cupy import backend, direct, elementwise, layers
from cuda_on_host import Library, Wanted
from device_arrays import (
    XP,
    Array,
    Device,
    as_user,
    as_user_gradient,
    bound_holds,
    canonical,
    facts_of,
    gradients,
    on_device,
)

from convengine import adjoint
from convengine.adjoint import of_input, of_kernel
from convengine.boundary import Boundary
from convengine.factoring import Promise, factor
from convengine.plugin import Offer, Refusal
from convengine.problem import KernelFacts, Problem
from convengine.reading import Reading
from convengine.testing.cases import Case
from convengine.testing.oracle import Reference


@dataclass(frozen=True)
class ForwardPlan:
    """What `backend.Plan` does, where there is no CuPy."""

    problem: Problem
    offer: Offer
    load: Any
    used: Counter[str]

    def prepare(self, kernel: Any, bias: Any = None) -> Any:
        method = self.offer.method
        self.used[method] += 1
        if method == backend.DIRECT and type(kernel) is Device:
            return direct.prepare_there(self.problem, kernel, self.load, XP)
        if method == backend.IMPLICIT:
            return layers.prepare(self.problem, kernel, bias, self.load, XP)
        if method in (backend.DIRECT, backend.SEPARABLE):
            promised = Promise(1, self.offer.error, self.offer.normwise)
            factors = factor(self.problem, kernel, promised) if method == backend.SEPARABLE else None
            return direct.prepare(self.problem, kernel, bias, self.load, XP, factors)
        return elementwise.prepare(self.problem, kernel, bias, method == backend.MATMUL, XP)


def kernels(op: str, problem: Problem, facts: KernelFacts) -> Sequence[Offer]:
    """Kernels of our own wherever there is one; real numbers have one always."""
    offers = backend.Backend()._forward(op)(problem, facts)
    ours = [offer for offer in offers if offer.method in (backend.DIRECT, backend.SEPARABLE, backend.IMPLICIT)]
    assert ours or problem.sum_dtype.kind == "c"
    return ours or offers


def by_arrays(op: str, problem: Problem, facts: KernelFacts) -> Sequence[Offer]:
    offers = backend.Backend()._forward(op)(problem, facts)
    return [offer for offer in offers if offer.method == backend.ELEMENTWISE]


def prepared(reading: Reading, load: Any, used: Counter[str], choice: Any = kernels) -> Any:
    problem = reading.problem
    offered = partial(choice, problem.op)
    facts = facts_of(reading) if problem.op == "grad_input" else KernelFacts.unknown(problem.ndim)
    answer = adjoint.offers(problem, facts, offered)
    assert not isinstance(answer, Refusal)
    offer = min(answer, key=lambda offer: offer.seconds)
    assert offer.error <= 1e-2 and offer.memory >= 0
    plan = adjoint.plan(problem, offer, offered, lambda one, chosen: ForwardPlan(one, chosen, load, used), xp=XP)
    return backend.Gradient(plan.prepare(reading.kernel), XP)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    asked = Wanted()
    for case, reading, _ in (*gradients(), *gradients("grad_kernel")):
        prepared(reading, asked.load, Counter())(canonical(reading, case.x))
    return Library(asked.variants, tmp_path_factory.mktemp("gradients"))


def test_input_gradients_lie_within_their_bounds(library: Library) -> None:
    seen: Counter[Any] = Counter()
    used: Counter[str] = Counter()
    for case, reading, expected in gradients():
        ready = prepared(reading, library.load, used)
        out = XP.empty(reading.problem.x_shape, reading.problem.x_dtype)
        assert ready(canonical(reading, case.x), out) is out
        bound_holds(case.id, as_user(reading, out), expected)
        problem = reading.problem
        seen.update(["all", problem.sum_dtype.kind, problem.ndim, problem.is_layer, *problem.boundary])
        seen.update(["strided"] * (max(problem.stride) > 1))
    assert seen["all"] >= 150
    assert all(seen[trait] >= 10 for trait in ("i", "f", "c", 1, 2, 3, True, False, "strided"))
    assert all(used[method] >= 20 for method in (backend.DIRECT, backend.IMPLICIT, backend.ELEMENTWISE))


def test_kernel_gradients_lie_within_their_bounds(library: Library) -> None:
    seen: Counter[Any] = Counter()
    used: Counter[str] = Counter()
    for case, reading, expected in gradients("grad_kernel"):
        ready = prepared(reading, library.load, used)
        out = XP.empty(reading.problem.kernel_shape, reading.problem.kernel_dtype)
        assert ready(canonical(reading, case.x), out) is out
        bound_holds(case.id, as_user_gradient(case, reading, out), expected)
        problem = reading.problem
        seen.update(["all", problem.sum_dtype.kind, problem.ndim, problem.is_layer, *problem.boundary])
    assert seen["all"] >= 120
    assert all(seen[trait] >= 10 for trait in ("i", "f", "c", 1, 2, 3, True, False))
    assert used[backend.DIRECT] >= 5 and used[backend.IMPLICIT] >= 50


def test_array_operations_give_the_same_gradients(library: Library) -> None:
    for case, reading, expected in (*gradients(), *gradients("grad_kernel")[::3]):
        got = prepared(reading, library.load, Counter(), by_arrays)(canonical(reading, case.x))
        bound_holds(case.id, as_user_gradient(case, reading, got), expected)


def test_a_gradient_may_be_written_over_what_it_is_made_of(library: Library) -> None:
    done = 0
    for case, reading, _ in gradients():
        problem = reading.problem
        if problem.x_shape == problem.out_shape and problem.x_dtype == problem.out_dtype:
            ready = prepared(reading, library.load, Counter())
            dy = on_device(np.array(canonical(reading, case.x)))
            expected = ready(dy).tobytes()
            assert ready(dy, dy) is dy
            assert dy.tobytes() == expected
            done += 1
    assert done >= 10


def test_no_call_changes_a_bit(library: Library) -> None:
    for case, reading, _ in (*gradients()[::5], *gradients("grad_kernel")[::5]):
        ready = prepared(reading, library.load, Counter())
        dy = canonical(reading, case.x)
        assert ready(dy).tobytes() == ready(dy).tobytes()
        assert type(ready(dy)) is Device


# ---- bugs that are planted


def unexchanged(problem: Problem, kernel: Array) -> Array:
    return kernel.reshape(problem.channels[0], -1, *problem.kernel_spatial) if problem.is_layer else kernel


def once(lines: Any, indices: Any, added: Any) -> None:
    lines[XP.asarray(indices)] += added  # of samples that come several times, only one is added


def upwards(indices: Any) -> Any:
    yield slice(0, len(indices)), slice(int(min(indices)), int(min(indices)) + len(indices))


BUGS = {"channels that are not exchanged": ("_exchanged", unexchanged)}
BUGS["a border that adds a sample once"] = ("_add_at", once)
BUGS["a border that is not folded"] = ("_add_at", lambda lines, indices, added: None)
BUGS["a border that is not turned round"] = ("_runs", upwards)


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(bug: str, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong = BUGS[bug]
    monkeypatch.setattr(of_input, name, wrong)

    def differs(case: Case, reading: Reading, expected: Reference) -> bool:
        try:
            got = prepared(reading, library.load, Counter(), by_arrays)(canonical(reading, case.x))
            bound_holds(case.id, as_user(reading, got), expected)
        except (AssertionError, ValueError):
            return True
        return False

    assert sum(differs(*entry) for entry in gradients()) >= 5


KERNEL_BUGS: dict[str, dict[str, Any]] = {
    "a stride that stays one": {"dilation": 1},
    "a dilation that stays one": {"stride": 1},
    "a border of another rule": {"boundary": Boundary.EDGE},
}


@pytest.mark.parametrize("bug", KERNEL_BUGS)
def test_a_bug_of_a_kernel_gradient_is_found(bug: str, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    right = of_kernel._as_forward
    (name, value), *_ = KERNEL_BUGS[bug].items()
    monkeypatch.setattr(of_kernel, "_as_forward", lambda p: replace(right(p), **{name: (value,) * p.ndim}))
    wrong = 0
    for case, reading, expected in gradients("grad_kernel")[::2]:
        try:
            got = prepared(reading, library.load, Counter(), by_arrays)(canonical(reading, case.x))
            bound_holds(case.id, as_user_gradient(case, reading, got), expected)
        except (AssertionError, ValueError):
            wrong += 1
    assert wrong >= 5
