"""What the contract's tests are made of: the backend under examination, its answers, and how they are compared."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest

import convengine as ce
from convengine import registry
from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.bounds import gamma, unit_roundoff
from convengine.testing.cases import Case, covering_cases
from convengine.testing.gradient_cases import grad_input_cases, grad_kernel_cases
from convengine.testing.oracle import Reference
from convengine.testing.runner import (
    Answer,
    Method,
    answers,
    examine,
    expected,
    fetch,
    kind,
    methods,
    place,
    refusal,
    require_same_bits,
)

__all__ = ["SOURCES", "Examination", "laid_out", "outs", "overlapping", "problem"]


@cache
def _covering() -> dict[str, Case]:
    return {case.id: case for case in covering_cases()}


# Where a test's problems come from, by the name of its parameter.
SOURCES: Mapping[str, Callable[[], dict[str, Case]]] = {
    "covering": _covering,
    "simple": subjects.simple,
    "large": subjects.large,
    "small": subjects.small,
    "exact": subjects.exact,
    "poisoned": subjects.poisoned,
    "delicate": subjects.delicate,
    "wide_range": subjects.wide_range,
    "grad_input": grad_input_cases,
    "grad_kernel": grad_kernel_cases,
}


@cache
def problem(source: str, key: str) -> tuple[Case, Reference]:
    """One problem of a source, with the oracle's answer."""
    case = SOURCES[source]()[key]
    return case, expected(case)


class Examination:
    """One backend under examination.

    Attributes
    ----------
    name : str
        An installed backend's.
    level : str
        An instruction-set level to force, by CONVENGINE_ISA; empty: the best.
    options : dict
        For `convengine.options`, in force during every test.
    examples : int
        How many problems hypothesis draws.
    """

    name: str = ""
    level: str = ""
    options: ClassVar[dict[str, Any]] = {}
    examples: int = 100

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test that names a source of problems all of them."""
        for source in SOURCES.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(source, list(SOURCES[source]()))

    @pytest.fixture
    def installed(self) -> None:
        """Do nothing; override it for a backend that must first be made findable, or to set `name` and `level`."""

    @pytest.fixture(autouse=True)
    def _examination(self, installed: None) -> Iterator[None]:
        with self.examination():
            yield

    @contextmanager
    def examination(self) -> Iterator[None]:
        """Force the level and set the options; a broken backend fails the test, one that can't run here skips it."""
        with pytest.MonkeyPatch.context() as patch:
            if self.level:
                patch.setenv("CONVENGINE_ISA", self.level)
            ce.clear_cache()
            info = ce.backends().get(self.name)
            if info is None or isinstance(registry.get(self.name), registry.Broken):
                reason = info.reason if info else f"not installed; there are {', '.join(ce.backends())}"
                pytest.fail(f"the contract needs the backend {self.name!r}: {reason}")
            if not info.usable:
                pytest.skip(f"{self.name} can't run here: {info.reason}")
            with ce.options(**self.options):
                yield
        ce.clear_cache()

    def hold(self, case: Case, reference: Reference) -> None:
        """Hold every method against the oracle; skips the test where the backend refuses."""
        try:
            examine(self.name, case, reference)
        except ce.NoBackend as error:
            pytest.skip(kind(refusal(error)))

    def answers(self, case: Case, **changes: Any) -> dict[str, Answer]:
        """Answers of every method; skips the test where the backend refuses."""
        try:
            return answers(self.name, case, **changes)
        except ce.NoBackend as error:
            pytest.skip(kind(refusal(error)))

    def methods(self, case: Case, **changes: Any) -> tuple[Method, ...]:
        """Every method that the backend offers; skips the test where it refuses."""
        try:
            return methods(self.name, case, **changes)
        except ce.NoBackend as error:
            pytest.skip(kind(refusal(error)))

    def shared(self, *cases: Case) -> list[tuple[Any, ...]]:
        """(method, its answer to each case) of the methods that all cases have; skips the test where there is none."""
        given = [self.answers(case) for case in cases]
        common = [name for name in given[0] if all(name in one for one in given)]
        if not common:
            pytest.skip(f"{self.name} runs {cases[0].id} and its variant by different methods")
        return [(name, *(one[name] for one in given)) for name in common]

    def plain(self, case: Case) -> list[tuple[str, Answer]]:
        """The answers that promise no more error than a plain sum makes; skips the test where there is none."""
        reference = expected(case)
        limit = gamma(reference.taps, unit_roundoff(reference.sum_dtype))
        given = self.answers(case).items()
        found = [(name, a) for name, a in given if a.offer and not a.offer.normwise and a.offer.error <= limit]
        if not found:
            pytest.skip(f"{self.name} has no method that errs like a plain sum, which is exact here")
        return found

    def call(self, case: Case, **keywords: Any) -> Any:
        """The public function's answer, where it is; skips the test where the backend refuses."""
        keywords = {"x": place(self.name, case.x), "backend": self.name, **case.keywords, **keywords}
        try:
            return getattr(ce, case.name)(keywords.pop("x"), case.kernel, **keywords)
        except ce.NoBackend as error:
            pytest.skip(kind(refusal(error)))

    def on_host(self, case: Case) -> Case:
        """The case, where the backend takes host arrays; only there do NumPy arrays share memory."""
        if place(self.name, case.x) is not case.x:
            pytest.skip(f"{self.name} takes device arrays; this is of host memory")
        return case

    def require_out_written(self, case: Case) -> None:
        """Every method must write its answer to out, of any strides, and nothing beside it, and return out."""
        x, answers = place(self.name, case.x), self.answers(case)
        wanted = next(iter(answers.values())).value
        for layout, out, whole in outs(wanted.shape, wanted.dtype):
            given = place(self.name, out)
            for method in self.methods(case, out=given):
                if method.name not in answers:  # it declined
                    continue
                whole[...] = 77
                given[...] = 77
                self.require(method(x, given) is given, f"return the out ({layout}) that it was given")
                what = f"{self.name} ({method.name}): a new array, and out in {layout!r},"
                require_same_bits(answers[method.name].value, fetch(given), what)
                written = np.count_nonzero(whole != 77)
                beside = whole.size > out.size and written > out.size
                self.require(not beside, f"write the {out.size} samples of out alone; wrote {written}")

    def require(self, kept: bool, rule: str) -> None:
        """Fail with "NAME must ..." unless a rule is kept."""
        if not kept:
            raise AssertionError(f"{self.name} must {rule}")

    def require_same_bits(self, one: dict[str, Answer], other: dict[str, Answer], what: str) -> None:
        """Within each method that both have, every bit must agree; skips the test where they have none in common."""
        common = [name for name in one if name in other]
        if not common:
            pytest.skip(f"{self.name} runs {what} by different methods: {', '.join(one)}; {', '.join(other)}")
        for name in common:
            require_same_bits(one[name].value, other[name].value, f"{self.name} ({name}): {what}")

    def require_near(self, what: str, difference: Array, *allowed: Array) -> None:
        """Each part of a difference must be within the sum of some bounds."""
        limit = sum(allowed[1:], start=allowed[0])
        for part, most in ((difference.real, limit.real), (difference.imag, limit.imag)):
            beyond = np.abs(part) > most
            if beyond.any():
                at = tuple(int(i) for i in np.argwhere(beyond)[0])
                raise AssertionError(
                    f"{self.name}: {what} must differ by {most[at]:.3g} at most; got {abs(part[at]):.3g} at {at}"
                    f" ({np.count_nonzero(beyond)} of {beyond.size} values)"
                )


def laid_out(array: Array) -> Iterator[tuple[str, Array]]:
    """The same values in other arrangements of memory, with their names."""
    yield "Fortran order", np.asfortranarray(array)
    yield "first axis last in memory", np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 0, -1)), -1, 0)
    yield "reversed", np.flip(np.flip(array).copy())
    sliced = np.zeros([2 * size + 1 for size in array.shape], array.dtype)[(slice(1, None, 2),) * array.ndim]
    sliced[...] = array
    yield "every other sample", sliced
    yield "swapped bytes", array.astype(array.dtype.newbyteorder())
    memory = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = np.ndarray(array.shape, array.dtype, memory.data, offset=1)
    unaligned[...] = array
    yield "unaligned", unaligned
    writable = array.copy()
    yield "writable", writable
    writable.setflags(write=False)
    yield "read-only", writable


def outs(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[tuple[str, Array, Array]]:
    """Arrays to write to, each with its name and with the array that it is a part of."""
    plain = np.zeros(shape, dtype)
    yield "contiguous", plain, plain
    yield "reversed", np.flip(plain), plain
    fortran = np.zeros(shape, dtype, order="F")
    yield "Fortran order", fortran, fortran
    whole = np.zeros([3 * size + 2 for size in shape], dtype)
    yield "every third sample", whole[(slice(1, -1, 3),) * len(shape)], whole


def overlapping(array: Array, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> tuple[Array, Array]:
    """A copy of an array, and another of a shape and dtype that begins `offset` bytes into its memory."""
    size = int(np.prod(shape)) * dtype.itemsize + offset
    memory = np.zeros(max(array.nbytes, size), np.uint8)
    inside: Array = np.ndarray(array.shape, array.dtype, memory.data)
    inside[...] = array
    return inside, np.ndarray(shape, dtype, memory.data, offset=offset)
