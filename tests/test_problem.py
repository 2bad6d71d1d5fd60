"""What is read off a kernel: bounds that hold, and no finer than a choice needs. What problems of one form share."""

import math
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import convengine as ce
from convengine import prices, registry
from convengine.api import DEFAULTS, OPERATIONS
from convengine.native import values
from convengine.native.keeping import Key
from convengine.problem import KernelFacts, Problem, kept, lazy
from convengine.reading import forget, read
from convengine.testing.cases import covering_cases


@pytest.mark.parametrize("exponent", [-1050, -3, 0, 4, 900])
def test_sums_of_floats_are_rounded_up_to_powers_of_two(exponent):
    power = math.ldexp(1.0, exponent)
    for value, bound in ((power, power), (math.nextafter(power, math.inf), 2 * power)):
        facts = KernelFacts.of(np.array([-value]), 1)
        assert (facts.abs_sum, facts.norm) == (bound, bound)


def test_sums_of_integers_are_exact():
    assert KernelFacts.of(np.array([-3, 2**62]), 1).abs_sum == 2**62 + 3


def test_what_is_not_finite_stays_so():
    facts = KernelFacts.of(np.array([np.inf, 1.0]), 1)
    assert facts.abs_sum == math.inf
    assert not facts.finite


def looked_at(kernel, ndim):
    """The same facts, by their definitions."""
    rows = kernel.reshape(1 if kernel.ndim == ndim else len(kernel), -1)
    sizes = [[abs(value) for value in row] for row in rows.tolist()]
    signs = []
    for axis in range(kernel.ndim - ndim, kernel.ndim):
        flipped = np.flip(kernel, axis)
        is_odd = all(
            one == -other for one, other in zip(kernel.ravel().tolist(), flipped.ravel().tolist(), strict=True)
        )
        signs.append("even" if (flipped == kernel).all() else "odd" if is_odd else "")
    return {
        "symmetry": tuple(signs),
        "box": bool(kernel.size) and len(set(kernel.ravel().tolist())) == 1,
        "abs_sum": max((sum(row) for row in sizes), default=0),
        "norm": max((math.sqrt(math.fsum(value * value for value in row)) for row in sizes), default=0),
        "smallest": min((min(row, default=0) for row in sizes), default=0),
        "nonnegative": kernel.dtype.kind != "c" and bool((kernel >= 0).all()),
    }


KERNELS = [
    np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]),
    np.full((3, 4), 7),
    np.array([[0, 255], [255, 0]]),
    np.array([[1], [0], [1]]),
    np.arange(24).reshape(2, 3, 4),
    np.zeros((2, 2)),
    np.ones((1, 1, 1)),
    np.array([0.5, -0.0, -0.5]),
    np.array([3.0, 1e-20]),
    np.array([1, 2, 3, 1]),
    np.array([1, 2, 0, 2, -1]),
]


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "uint64", "float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_facts_are_as_defined(kernel, dtype):
    kernel = (np.abs(kernel) if dtype[0] == "u" else kernel).astype(dtype)
    layers = np.stack([kernel, 2 * kernel])[:, None], np.stack([[kernel, kernel[::-1]], [kernel, kernel]])
    for ndim, given in ((kernel.ndim, kernel), *((kernel.ndim, layer) for layer in layers)):
        facts, wanted = KernelFacts.of(given, ndim), looked_at(given, ndim)
        assert {name: getattr(facts, name) for name in ("symmetry", "box", "nonnegative")} == {
            name: wanted[name] for name in ("symmetry", "box", "nonnegative")
        }
        assert facts.finite
        if kernel.dtype.kind in "iu":
            assert (facts.abs_sum, facts.norm) == (wanted["abs_sum"], wanted["norm"])
            assert (type(facts.abs_sum), facts.smallest) == (int, wanted["smallest"])
        else:
            for name in ("abs_sum", "norm"):
                assert getattr(facts, name) / 2 <= wanted[name] * (1 + 1e-12) <= getattr(facts, name) * (1 + 2e-12)
            assert facts.smallest == min(wanted["smallest"], 1e-12)


def test_integers_that_float64_does_not_hold():
    near = np.array([2**60, 2**60 + 1])
    facts = KernelFacts.of(near, 1)
    assert (facts.box, facts.symmetry) == (False, ("",))
    assert facts.abs_sum == 2**61 + 1
    assert KernelFacts.of(np.array([2**52, 2**52 - 1]), 1).symmetry == ("",)


def test_facts_do_not_depend_on_the_order_of_bytes():
    for dtype in ("f2", "f4", "f8", "i4", "c8"):
        kernel = np.arange(-4, 5).reshape(3, 3).astype(dtype)
        assert KernelFacts.of(kernel.astype(kernel.dtype.newbyteorder("S")), 2) == KernelFacts.of(kernel, 2)


def test_properties_that_are_kept_say_what_they_are():
    assert Problem.ndim.__doc__ == "Number of spatial axes."  # of all problems of a form
    assert Problem.spatial.__doc__ == "Sizes of x along the spatial axes."


def test_a_hash_does_not_leave_its_process():
    problem = ce.explain(np.ones(9), np.ones(3)).problem
    assert hash(problem) == hash(pickle.loads(pickle.dumps(problem)))
    assert b"_hash" not in pickle.dumps(problem)
    assert problem == pickle.loads(pickle.dumps(problem))
    assert {problem: 1}[replace(problem)] == 1
    assert replace(problem, groups=2) != problem and replace(problem, x_shape=(10,)).spatial == (10,)


def test_what_float64_does_not_hold_is_no_bound_of_0():
    facts = KernelFacts.of(np.array([1.5e308 + 1.5e308j, 1]), 1)
    assert (facts.abs_sum, facts.norm, facts.finite) == (math.inf, math.inf, True)


def test_kernels_of_nothing():
    assert KernelFacts.of(np.ones((0, 3)), 2).rank == 0
    assert KernelFacts.of(np.ones((0, 0, 3, 3)), 2).abs_sum == 0
    assert ce.corr2d(np.ones((0, 5, 5)), np.ones((0, 0, 3, 3))).shape == (0, 3, 3)


def test_kept_functions_of_one_name_are_two():
    problem = ce.explain(np.ones(9), np.ones(3)).problem

    def make(number):
        @kept
        def inner(problem):
            return number

        return inner

    one, two = make(1), make(2)
    assert [one(problem), two(problem), one(problem)] == [1, 2, 1]


def plain(problem):
    """The same problem, of no form."""
    return pickle.loads(pickle.dumps(problem))


def answers(problem, facts):
    """What every backend offers and at what price, and everything that a problem says of itself."""
    said = {name: getattr(problem, name) for name in dir(Problem) if isinstance(vars(Problem).get(name), lazy)}
    offers = {name: backend.offers(problem, facts) for name, backend in registry.all_backends()}
    book = prices.current()
    made = [(name, offer) for name, answer in offers.items() if isinstance(answer, list) for offer in answer]
    return said, offers, [book.seconds(name, problem, offer, 2) for name, offer in made]


def resized(array, more, axes):
    """Longer by so many samples, or shorter, along the last axes."""
    array = np.asarray(array)
    places = array.ndim - axes
    padded = np.pad(array, [(0, 0)] * places + [(0, max(more, 0))] * axes)
    return padded[(slice(None),) * places + (slice(min(more, 0) or None),) * axes]


def test_problems_of_one_form_or_kind_say_and_are_offered_what_others_are():
    forms, kinds, offered = Counter(), Counter(), Counter()
    for case in covering_cases():
        ndim, flip, _ = OPERATIONS[case.name]
        # The form is new to the first x of each kernel alone, the kind to the first kernel.
        for wider, more in ((0, 0), (0, 5), (0, -1), (0, -2), (0, -3), (1, 0), (1, 3), (-1, 0), (4, 6)):
            x, kernel = resized(case.x, more, np.ndim(case.x)), resized(case.kernel, wider, ndim)
            try:
                reading = read(ndim, flip, x, kernel, **(DEFAULTS | case.keywords), out=None, memory="host")
            except ce.InvalidProblem:  # as channels that do not fit any more
                continue
            problem, facts = reading.problem, KernelFacts.of(reading.kernel, ndim)
            if problem.taps == 0 or (np.isnan(problem.fill_value) and problem.x_dtype.kind == "c"):
                continue  # nothing to sum, which no backend is asked for; a complex NaN, which no copy is equal to
            alone = plain(problem)
            assert problem == alone and hash(problem) == hash(alone)
            assert answers(problem, facts) == answers(alone, facts), case.id
            forms[id(problem.__dict__.get("form"))] += 1
            kinds[id(problem.__dict__.get("kind"))] += 1
            offered[problem.op] += 1
    assert max(forms.values()) >= 3 and max(kinds.values()) >= 6 and offered["forward"] >= 1000


@pytest.mark.parametrize("dilation", [1, 2])
def test_what_was_read_before_changes_no_reading(dilation):
    kinds = Counter()
    for case in covering_cases():
        ndim, flip, _ = OPERATIONS[case.name]
        keywords = DEFAULTS | case.keywords | {"fill_value": 3, "dilation": dilation}

        def problem_of(kernel):
            try:
                return read(ndim, flip, np.asarray(case.x), kernel, **keywords, out=None, memory="host").problem  # noqa: B023
            except ce.InvalidProblem:  # as where the kernel does not fit
                return None

        kernels = [resized(case.kernel, more, ndim) for more in (0, 1, 30, *range(-1, -max(np.shape(case.kernel)), -1))]
        problems = [problem_of(kernel) for kernel in kernels]
        for kernel, problem in zip(kernels, problems, strict=True):
            forget()
            assert problem_of(kernel) == problem, case.id
        read_here = [problem.__dict__["kind"] for problem in problems if problem and "kind" in problem.__dict__]
        kinds[len({*map(id, read_here)})] += 1
    assert sum(kinds[n] for n in kinds if n > 1) >= 20, kinds


@pytest.mark.parametrize("boundary", ["constant", "reflect"])
def test_offers_know_of_axes_shorter_than_the_kernel(boundary):
    kernel = np.ones((5, 5))
    for shape in ((9, 9), (3, 9), (9, 4), (4, 3)):
        problem = ce.explain(np.ones(shape), kernel, mode="same", boundary=boundary).problem
        assert answers(problem, KernelFacts.of(kernel, 2)) == answers(plain(problem), KernelFacts.of(kernel, 2))


def test_what_is_equal_to_a_word_but_no_such_word_is_not_taken_for_it():
    x, kernel = np.ones((6, 6)), np.ones((3, 3))
    for said in ({}, {"dilation": (1, 1)}):
        ce.corr2d(x, kernel, stride=1, padding=1, fill_value=0, groups=1, **said)
    for wrong in ({"stride": True}, {"stride": 1.0}, {"padding": 1.0}, {"groups": True}, {"dilation": (1, True)}):
        with pytest.raises(ce.InvalidProblem):
            ce.corr2d(x, kernel, **({"padding": 1} | wrong))
    for fill in (0.0, -0.0, 0):
        problem = ce.explain(x, kernel, padding=1, fill_value=fill).problem
        assert math.copysign(1, problem.fill_value) == math.copysign(1, fill)


def test_a_stride_that_reaches_beyond_the_outputs_leaves_its_form_alone():
    for n, stride in ((20, 9), (3, 1), (20, 9)):
        problem = ce.explain(np.ones(n), np.ones(3), stride=9).problem
        assert problem.stride == (stride,) and problem.out_shape == (-(-(n - 2) // 9),)


def test_dtypes_that_are_equal_are_told_apart():
    def summed(n, dtype):
        return ce.corr1d(np.ones(n, int), np.ones(3, int), dtype=dtype)

    for n, dtype in ((5, np.longlong), (9, np.int64), (7, np.longlong), (6, np.ulonglong), (8, np.uint64)):
        assert summed(n, dtype).dtype.char == np.dtype(dtype).char
    noted = np.dtype(np.float32, metadata={"who": "first"})
    ones = np.ones(3, np.float32)
    ce.corr1d(np.ones(5, np.float32), ones, dtype=noted)
    ce.corr1d(np.ones(5, np.float32), ones, out=np.empty(3, noted))
    ce.corr1d(np.ones(5, np.float32).astype(noted), ones)
    problem = ce.explain(np.ones(9, np.float32), ones, dtype=np.float32).problem
    assert (problem.x_dtype.metadata, problem.out_dtype.metadata) == (None, None)
    both = ce.explain(np.ones(11, np.float32).astype(noted), ones.astype(noted)).problem
    assert both.out_dtype.metadata is None


def test_clear_cache_forgets_forms():
    first, second = (ce.explain(np.ones(n), np.ones(3)).problem for n in (8, 9))
    assert first.__dict__["form"] is second.__dict__["form"]
    ce.clear_cache()
    assert ce.explain(np.ones(10), np.ones(3)).problem.__dict__["form"] is not first.__dict__["form"]


class TestKey:
    def test_equal_parts(self):
        assert {Key(1, ("a", 2.0)): "found"}[Key(1, ("a", 2.0))] == "found"

    def test_other_parts(self):
        one = Key(1, "a")
        assert one != Key(1, "b")
        assert one != Key(1)
        assert one != (1, "a")
        assert Key(-1) != Key(-2)  # hash(-1) == hash(-2)

    def test_hashed_once(self):
        class Counted:
            hashes = 0

            def __hash__(self):
                self.hashes += 1
                return 7

        part = Counted()
        key = Key(part)
        assert {key: 1}[key] == 1
        assert part.hashes == 1

    def test_unhashable(self):
        with pytest.raises(TypeError, match="unhashable"):
            Key([])


class TestPowerAbove:
    @pytest.mark.parametrize("exponent", [-1022, -1021, -1, 0, 1, 52, 1023])
    def test_between_powers(self, exponent):
        power = math.ldexp(1.0, exponent)
        assert values.power_above(power) == power
        assert values.power_above(math.nextafter(power, 0)) == power
        assert values.power_above(math.nextafter(power, math.inf)) == (2 * power if exponent < 1023 else math.inf)

    def test_numbers_of_few_digits(self):
        least = math.ldexp(1.0, -1074)
        assert [values.power_above(n * least) / least for n in (1, 2, 3, 4, 5)] == [1, 2, 4, 4, 8]

    @pytest.mark.parametrize("value", [0.0, -1.5, math.inf, -math.inf])
    def test_others_stay(self, value):
        assert values.power_above(value) == value

    def test_nan(self):
        assert math.isnan(values.power_above(math.nan))
