"""Gradients on the backend cupy: its forward methods put together by convengine.adjoint, with arrays like a device's.

The kernels of our own run as C++ on the host (see cuda_on_host.h), array operations in NumPy; a GPU is not needed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
from convengine_cupy import backend, device, direct, elementwise, layers
from convengine_cupy.variants import Variant
from cuda_on_host import COMPILER, Library
from device_arrays import XP, Array, Device, as_user, bound_holds, bound_of, canonical, facts_of, on_device

from convengine import adjoint
from convengine.adjoint import of_input, of_kernel
from convengine.api import DEFAULTS, GRADIENTS
from convengine.boundary import Boundary
from convengine.factoring import Promise, factor
from convengine.plugin import Offer, Refusal
from convengine.problem import KernelFacts, Problem
from convengine.reading import Reading, read_array
from convengine.reading_gradients import read_grad_input, read_grad_kernel
from convengine.testing.cases import Case
from convengine.testing.gradient_cases import grad_input_cases, grad_kernel_cases
from convengine.testing.oracle import Reference
from convengine.testing.oracle_gradients import gradient_reference

MISSING = device.missing() or device.missing_device(0)
WORK = 300_000  # products of one case, each some 20 ns on the host
Entry = tuple[Case, Reading, Reference]


def reading_of(case: Case) -> Reading:
    """The problem of a gradient; in the place of the kernel, an output's gradient is on the device."""
    kind, keywords = GRADIENTS[case.name], DEFAULTS | case.keywords
    first = read_array(case.x, "x")
    if kind.op == "grad_input":
        return read_grad_input(kind.ndim, kind.flip, first, case.kernel, out=None, memory="cuda:0", **keywords)
    dy = read_array(case.kernel, "dy")
    reading = read_grad_kernel(kind.ndim, kind.flip, first, dy, out=None, memory="cuda:0", **keywords)
    return reading._replace(kernel=on_device(reading.kernel))


@cache
def entries(op: str = "grad_input") -> tuple[Entry, ...]:
    cases = grad_input_cases() if op == "grad_input" else grad_kernel_cases()
    found = [(case, reading_of(case)) for case in cases.values()]
    return tuple(
        (case, reading, gradient_reference(*case[1:4], **case.keywords))
        for case, reading in found
        if 0 not in (*reading.problem.out_shape, *reading.problem.x_shape, *reading.problem.kernel_shape)
        and reading.problem.multiplications <= WORK
    )


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


class Wanted:
    """Stands for a library that is not compiled yet: notes which variants are asked for."""

    def __init__(self) -> None:
        self.variants: dict[Variant, None] = {}

    def load(self, variant: Variant) -> Any:
        self.variants[variant] = None
        if variant.kernel == "rolling" and variant.step == 1:  # which one it is, depends on where a result is allocated
            self.variants[replace(variant, adjacent=not variant.adjacent)] = None
        return lambda grid, block, arguments: arguments[1].fill(0)


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


def final(case: Case, reading: Reading, gradient: Array) -> Array:
    """What convengine.call makes of a kernel's gradient: the axes of the user, flipped and conjugated."""
    problem = reading.problem
    if problem.op == "grad_kernel":
        if GRADIENTS[case.name].flip:
            gradient = gradient[(..., *(slice(None, None, -1),) * problem.ndim)]
        if problem.sum_dtype.kind == "c" and not case.keywords.get("conjugate"):
            gradient = gradient.conj()
    return as_user(reading, gradient)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    if COMPILER is None:
        pytest.skip("needs a C++ compiler, g++ or clang++, on the PATH")
    asked = Wanted()
    for case, reading, _ in (*entries(), *entries("grad_kernel")):
        prepared(reading, asked.load, Counter())(canonical(reading, case.x))
    return Library(asked.variants, tmp_path_factory.mktemp("gradients"))


def test_input_gradients_lie_within_their_bounds(library: Library) -> None:
    seen: Counter[Any] = Counter()
    used: Counter[str] = Counter()
    for case, reading, expected in entries():
        ready = prepared(reading, library.load, used)
        out = on_device(np.empty(reading.problem.x_shape, reading.problem.x_dtype))
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
    for case, reading, expected in entries("grad_kernel"):
        ready = prepared(reading, library.load, used)
        out = on_device(np.empty(reading.problem.kernel_shape, reading.problem.kernel_dtype))
        assert ready(canonical(reading, case.x), out) is out
        bound_holds(case.id, final(case, reading, out), expected)
        problem = reading.problem
        seen.update(["all", problem.sum_dtype.kind, problem.ndim, problem.is_layer, *problem.boundary])
    assert seen["all"] >= 120
    assert all(seen[trait] >= 10 for trait in ("i", "f", "c", 1, 2, 3, True, False))
    assert used[backend.DIRECT] >= 5 and used[backend.IMPLICIT] >= 50


def test_array_operations_give_the_same_gradients(library: Library) -> None:
    for case, reading, expected in (*entries(), *entries("grad_kernel")[::3]):
        got = prepared(reading, library.load, Counter(), by_arrays)(canonical(reading, case.x))
        bound_holds(case.id, final(case, reading, got), expected)


def test_a_gradient_may_be_written_over_what_it_is_made_of(library: Library) -> None:
    done = 0
    for case, reading, _ in entries():
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
    for case, reading, _ in (*entries()[::5], *entries("grad_kernel")[::5]):
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

    assert sum(differs(*entry) for entry in entries()) >= 5


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
    for case, reading, expected in entries("grad_kernel")[::2]:
        try:
            got = prepared(reading, library.load, Counter(), by_arrays)(canonical(reading, case.x))
            bound_holds(case.id, final(case, reading, got), expected)
        except (AssertionError, ValueError):
            wrong += 1
    assert wrong >= 5


# ---- a GPU


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("op", ["grad_input", "grad_kernel"])
def test_a_gpu_gives_every_gradient_within_its_bound(op: str) -> None:
    import cupy

    for case, reading, expected in entries(op):
        problem, on_gpu = reading.problem, backend.Backend()
        offers = on_gpu.offers(problem, facts_of(reading) if op == "grad_input" else KernelFacts.unknown(problem.ndim))
        if isinstance(offers, Refusal):
            assert "past int64" in offers.reason
            continue
        kernel = reading.kernel if op == "grad_input" else cupy.asarray(reading.kernel.view(np.ndarray))
        x = cupy.asarray(canonical(reading, case.x).view(np.ndarray))
        for offer in offers:
            got = cupy.asnumpy(on_gpu.plan(problem, offer, None).prepare(kernel)(x))  # type: ignore[arg-type]  # unneeded
            bound = bound_of(problem, offer, expected)
            bound_holds(case.id, final(case, reading, on_device(got)), expected, bound)
