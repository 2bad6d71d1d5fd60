"""The contract of a backend: the exam that every plug-in sits, ours and others', through the public API.

All that a plug-in's tests need, with pytest::

    from convengine.testing.contract import BackendContract

    class TestMine(BackendContract):
        name = "mine"

No test needs to be overridden. What a backend refuses is skipped with its reason; what it answers must be right: within
the proven bound that its offer states, NaN and infinities in place, integers exact, and to the bit the same for any
workers, batch, memory layout, `out` and number of threads. Every method that it offers for a problem is examined, not
only the one that it would choose.
"""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import convengine as ce
from convengine import registry
from convengine.plugin import Offer, Refusal
from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.cases import Case
from convengine.testing.examination import SOURCES, Examination, laid_out, outs, overlapping
from convengine.testing.runner import (
    Answer,
    asked,
    bound,
    examine,
    expected,
    fetch,
    methods,
    place,
    refusal,
    require_same_bits,
)

__all__ = ["BackendContract"]


class BackendContract(Examination):
    """The exam of one backend: subclass it, name the backend, run pytest; `Examination` has the attributes.

    Examples
    --------
    >>> class TestCompiled(BackendContract):
    ...     name = "cython"
    """

    # ---- answers

    def test_worked_example(self) -> None:
        """Dive into Deep Learning, section 7.2: the first correlation, and the edge detector on rows and columns."""
        edge = np.ones((6, 8))
        edge[:, 2:6] = 0
        pair = np.array([[1.0, -1.0]])
        for case, wanted in (
            (Case("book", "corr2d", np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2), {}), [[19, 25], [37, 43]]),
            (Case("edge", "corr2d", edge, pair, {}), [[0, 1, 0, 0, 0, -1, 0]] * 6),
            (Case("transposed edge", "corr2d", edge.T, pair, {}), [[0] * 5] * 8),
        ):
            for name, answer in self.answers(case).items():
                what = f"{self.name} ({name}): {case.id}"
                np.testing.assert_allclose(answer.value, wanted, rtol=1e-14, atol=1e-14, err_msg=what)

    def test_covering_case_is_within_its_bound(self, covering: str) -> None:
        """Every pair of dtype, mode, boundary, stride, dilation, groups, layout and so on, against the oracle."""
        self.hold("covering", covering)

    def test_large_problem_is_within_its_bound(self, large: str) -> None:
        """Threads, bands, tiles and chunks, against the oracle."""
        self.hold("large", large)

    def test_integers_are_exact(self, exact: str) -> None:
        """Sums that no float holds, the ends of each dtype, overflow."""
        self.hold("exact", exact)

    def test_nan_and_infinity_reach_exactly_their_outputs(self, poisoned: str) -> None:
        """In x, kernel, bias and fill value: NaN, +inf and -inf where the direct sum has them, and nowhere else."""
        self.hold("poisoned", poisoned)

    def test_delicate_shape_is_within_its_bound(self, delicate: str) -> None:
        """Empty axes, pads and kernels much wider than x, one sample, one tap."""
        self.hold("delicate", delicate)

    def test_drawn_problems_are_within_their_bounds(self) -> None:
        """Problems that hypothesis draws, and makes simple where they fail."""
        hypothesis = pytest.importorskip("hypothesis", reason="problems are drawn by hypothesis (pip install hypothesis)")
        from convengine.testing.strategies import problems

        @hypothesis.settings(max_examples=self.examples, deadline=None, derandomize=True, database=None)
        @hypothesis.given(problems())
        def holds(case: Case) -> None:
            try:
                examine(self.name, case)
            except ce.NoBackend as error:
                hypothesis.event(refusal(error))

        holds()

    # ---- laws

    def test_impulse_gives_the_kernel_back(self, small: str) -> None:
        """A single one in x, mode="full": the kernel flipped for corr, as it is for conv."""
        case = subjects.small()[small]
        n = int(case.name[4])
        kernel = case.kernel[(0,) * (case.kernel.ndim - n)]
        x = np.zeros((7,) * n, case.x.dtype)
        x[(3,) * n] = 1
        case = Case(f"impulse-{small}", case.name, x, kernel, {"mode": "full"})
        wanted = np.zeros([6 + size for size in kernel.shape], kernel.dtype)
        wanted[tuple(slice(3, 3 + size) for size in kernel.shape)] = kernel if "conv" in case.name else np.flip(kernel)
        for name, answer in self.answers(case).items():
            what = f"{name} of an impulse, and the kernel,"
            self.require_near(what, answer.value - wanted, bound(answer.offer, expected(case)))

    def test_convolution_is_correlation_with_the_kernel_flipped(self, large: str) -> None:
        """Bit by bit, also for even kernels."""
        case = subjects.large()[large]
        n = int(case.name[4])
        first = 0 if case.keywords.get("channel_axis") == -1 else case.kernel.ndim - n
        flipped = np.flip(case.kernel, tuple(range(first, first + n)))
        other = case._replace(name=("conv" if "corr" in case.name else "corr") + case.name[4:], kernel=flipped)
        self.require_same_bits(self.answers(case), self.answers(other), "an operation, and the other on the flipped kernel")

    def test_sum_is_linear_in_x(self, small: str) -> None:
        """f(3*x + y) = 3*f(x) + f(y), where 3*x + y is exact."""
        case = subjects.small()[small]
        x, y = np.round(case.x), np.flip(np.round(case.x))
        parts = [case._replace(x=values.astype(case.x.dtype)) for values in (3 * x + y, x, y)]
        references = [expected(part) for part in parts]
        for name, *given in self.shared(*parts):
            limits = [bound(answer.offer, reference) for answer, reference in zip(given, references, strict=True)]
            whole, one, other = (answer.value.astype(limits[0].dtype) for answer in given)
            what = f"{name} of 3*x + y, and of x and y apart,"
            self.require_near(what, whole - (3 * one + other), limits[0], 3 * limits[1], limits[2])

    def test_shifted_x_gives_the_shifted_answer(self, small: str) -> None:
        """On a periodic x, along every spatial axis."""
        case = subjects.small()[small]
        n = int(case.name[4])
        case = case._replace(keywords={"mode": "same", "boundary": "wrap", "groups": case.keywords.get("groups", 1)})
        steps, axes = tuple(range(1, n + 1)), tuple(range(-n, 0))
        moved = case._replace(x=np.roll(case.x, steps, axes))
        for name, one, other in self.shared(case, moved):
            limits = np.roll(bound(one.offer, expected(case)), steps, axes), bound(other.offer, expected(moved))
            difference = np.roll(one.value, steps, axes).astype(limits[0].dtype) - other.value
            self.require_near(f"{name} of a shifted x, and its answer shifted,", difference, *limits)

    def test_stride_takes_every_so_many_outputs(self, small: str) -> None:
        """f(..., stride=s) == f(...)[::s]: bit by bit within a method, and within the bound by any."""
        case = subjects.small()[small]
        n = int(case.name[4])
        dense = self.answers(case)
        for stride in [(2,) * n, (3, 2, 1)[:n], (1000,) * n]:
            strided = case._replace(keywords=case.keywords | {"stride": stride})
            examine(self.name, strided)
            taken = (..., *(slice(None, None, step) for step in stride))
            for name, answer in self.answers(strided).items():
                if name in dense:
                    what = f"{self.name} ({name}) with stride {stride}, and without it, subsampled,"
                    require_same_bits(answer.value, dense[name].value[taken], what)

    def test_dilated_kernel_is_one_with_zeros_between(self, small: str) -> None:
        """f(k, dilation=d) = f(k with d - 1 zeros between its taps)."""
        case = subjects.small()[small]
        n = int(case.name[4])
        dilation = (2, 3, 4)[:n]
        widths = [d * (k - 1) + 1 for d, k in zip(dilation, case.kernel.shape[-n:], strict=True)]
        stuffed = np.zeros((*case.kernel.shape[:-n], *widths), case.kernel.dtype)
        stuffed[(..., *(slice(None, None, d) for d in dilation))] = case.kernel
        keywords = {"mode": "full", "boundary": "reflect", "groups": case.keywords.get("groups", 1)}
        dilated = case._replace(keywords=keywords | {"dilation": dilation})
        dense = case._replace(kernel=stuffed, keywords=keywords)
        given = [next(iter(self.answers(one).values())) for one in (dilated, dense)]
        limits = [bound(a.offer, expected(one)) for a, one in zip(given, (dilated, dense), strict=True)]
        difference = given[0].value.astype(limits[0].dtype) - given[1].value
        self.require_near(f"dilation {dilation}, and a kernel with zeros between its taps,", difference, *limits)

    # ---- the same bits, however it is computed

    def test_workers_change_no_bit(self, large: str) -> None:
        """1, 2, 3 and 5 workers."""
        case = subjects.large()[large]
        alone = self.answers(case, workers=1)
        for workers in (2, 3, 5):
            self.require_same_bits(alone, self.answers(case, workers=workers), f"1 worker and {workers} workers")

    def test_stack_has_the_bits_of_each_alone(self, large: str) -> None:
        """A batch of three images, and the three."""
        case = subjects.large()[large]
        images = [case.x, np.flip(case.x), np.roll(case.x, 1)]
        placing = {"axes": tuple(axis + 1 for axis in case.keywords["axes"])} if "axes" in case.keywords else {}
        together = self.answers(case._replace(x=np.stack(images), keywords=case.keywords | placing))
        for number, image in enumerate(images):
            slices = {name: Answer(answer.offer, answer.value[number]) for name, answer in together.items()}
            alone = self.answers(case._replace(x=image))
            self.require_same_bits(slices, alone, f"image {number} of a stack, and alone,")

    def test_memory_layout_changes_no_bit(self, large: str) -> None:
        """Of x and kernel: any strides, byte order and alignment; read-only; a row that stands for many."""
        case = subjects.large()[large]
        wanted = self.answers(case)
        for (layout, x), (_, kernel) in zip(laid_out(case.x), laid_out(case.kernel), strict=True):
            laid = self.answers(case._replace(kernel=kernel), x=place(self.name, x))
            self.require_same_bits(wanted, laid, f"contiguous arrays and {layout}")
        rows = np.broadcast_to(case.x[:1], case.x.shape)
        laid = self.answers(case, x=place(self.name, rows))
        self.require_same_bits(self.answers(case._replace(x=rows.copy())), laid, "contiguous arrays and a stride of 0")

    def test_plan_gives_the_bits_of_the_function(self, large: str) -> None:
        """Also from a pickle, and after another array."""
        case = subjects.large()[large]
        wanted, x = fetch(self.call(case)), place(self.name, case.x)
        planned = ce.plan(case.name, x, case.kernel, backend=self.name, **case.keywords)
        if (planned.backend, bool(planned.method)) != (self.name, True):
            raise AssertionError(f"a plan on {self.name} must say so, with its method; got {planned!r}")
        copy = pickle.loads(pickle.dumps(planned))
        require_same_bits(wanted, fetch(planned(x)), f"{self.name}: a function and its plan")
        planned(place(self.name, np.flip(case.x)))
        require_same_bits(wanted, fetch(planned(x)), f"{self.name}: a plan before and after another x")
        require_same_bits(wanted, fetch(copy(x)), f"{self.name}: a plan and its pickle")

    def test_plan_keeps_the_kernel_that_it_was_made_with(self) -> None:
        """Whatever happens to the array afterwards; its pickle too."""
        case = subjects.large()["layer"]
        wanted, x = fetch(self.call(case)), place(self.name, case.x)
        kernel, bias = case.kernel.copy(), case.keywords["bias"].copy()
        planned = ce.plan(case.name, x, kernel, backend=self.name, **case.keywords | {"bias": bias})
        kernel[...], bias[...] = 0, 0
        require_same_bits(wanted, fetch(planned(x)), f"{self.name}: a plan before and after its kernel was changed")
        copy = pickle.loads(pickle.dumps(planned))
        require_same_bits(wanted, fetch(copy(x)), f"{self.name}: a plan, and its pickle after its kernel was changed,")

    def test_many_threads_share_one_plan(self, large: str) -> None:
        """Eight Python threads at the same time, each with an array of its own."""
        case = subjects.large()[large]
        self.call(case)
        images = [place(self.name, np.roll(case.x, shift, axis=-1)) for shift in range(8)]
        planned = ce.plan(case.name, images[0], case.kernel, backend=self.name, **case.keywords)
        wanted = [fetch(planned(image)) for image in images]
        start = threading.Barrier(len(images), timeout=60)

        def run(image: Any) -> Array:
            start.wait()
            return fetch(planned(image))

        with ThreadPoolExecutor(len(images)) as threads:
            for number, result in enumerate(threads.map(run, images)):
                require_same_bits(wanted[number], result, f"{self.name}: one thread, and thread {number} of eight,")

    # ---- memory

    def test_out_is_written_and_returned(self, large: str) -> None:
        """By every method, for any strides; and nothing beside it."""
        case = subjects.large()[large]
        x, answers = place(self.name, case.x), self.answers(case)
        wanted = next(iter(answers.values())).value
        for layout, out, whole in outs(wanted.shape, wanted.dtype):
            given = place(self.name, out)
            for method in methods(self.name, case, out=given):
                if method.name not in answers:  # it declined
                    continue
                whole[...] = 77
                given[...] = 77
                if method(x, given) is not given:
                    raise AssertionError(f"{self.name} ({method.name}) must return the out of layout {layout!r} it was given")
                what = f"{self.name} ({method.name}): a new array, and out in {layout!r},"
                require_same_bits(answers[method.name].value, fetch(given), what)
                written = np.count_nonzero(whole != 77)
                if whole.size > out.size and written > out.size:
                    raise AssertionError(f"{self.name} ({method.name}) must write {out.size} samples of out; wrote {written}")

    def test_out_in_the_other_byte_order(self) -> None:
        """Is written and returned like any."""
        case = self.on_host(subjects.large()["layer"])
        wanted = self.call(case)
        out = np.zeros(wanted.shape, wanted.dtype.newbyteorder())
        returned = self.call(case, out=out)
        if returned is not out:
            raise AssertionError(f"{self.name} must return the byte-swapped out that it was given")
        require_same_bits(wanted, out.astype(wanted.dtype), f"{self.name}: a new array, and a byte-swapped out,")

    def test_out_may_overlap_x(self, large: str) -> None:
        """From the first sample of x, or from a later one."""
        case = self.on_host(subjects.large()[large])
        wanted = self.call(case)
        for offset in (0, 64):
            x, out = overlapping(case.x, wanted.shape, wanted.dtype, offset)
            self.call(case, x=x, out=out)
            require_same_bits(wanted, out, f"{self.name}: a new array, and out over x from byte {offset},")

    def test_out_may_overlap_the_kernel(self, large: str) -> None:
        """Which is copied in time."""
        case = self.on_host(subjects.large()[large])
        wanted = self.call(case)
        kernel, out = overlapping(case.kernel, wanted.shape, wanted.dtype, 0)
        self.call(case._replace(kernel=kernel), out=out)
        require_same_bits(wanted, out, f"{self.name}: a new array, and out over the kernel,")

    def test_x_kernel_and_bias_are_left_alone(self, large: str) -> None:
        """Writable, with NaN and infinities in x or without."""
        case = subjects.large()[large]
        for poison in (False, True):
            kernel, bias, x = case.kernel.copy(), np.array(case.keywords.get("bias", 0)), case.x.copy()
            if poison and x.dtype.kind in "fc":
                x.flat[[0, x.size // 2, x.size - 1]] = np.nan, np.inf, -np.inf
            placed = place(self.name, x)
            given = case.keywords | ({"bias": bias} if "bias" in case.keywords else {})
            before = [x.copy(), kernel.copy(), bias.copy()]
            self.answers(case._replace(kernel=kernel, keywords=given), x=placed)
            for name, old, new in zip(("x", "kernel", "bias"), before, (fetch(placed), kernel, bias), strict=True):
                require_same_bits(old, new, f"{self.name}: {name} before and after a call")

    # ---- numbers

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_subnormals_are_kept(self, dtype: str) -> None:
        """Not flushed to zero: their sums are exact."""
        tiny = np.finfo(dtype).smallest_subnormal
        x = np.arange(300, dtype=dtype) * tiny
        wanted = np.convolve(np.arange(300), [-1, 2, 1], "valid").astype(dtype) * tiny
        for name, answer in self.plain(Case("subnormals", "corr1d", x, np.array([1, 2, -1], dtype), {})):
            require_same_bits(wanted, answer.value, f"{self.name} ({name}): sums of subnormals, and those given,")

    @pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int64", "uint64"])
    def test_ties_round_to_even(self, dtype: str) -> None:
        """Sums of halves, which are exact, as integers."""
        x = np.arange(0 if dtype[0] == "u" else -60, 60, dtype=np.float64)
        wanted = np.rint(x[:-1] + x[1:] / 2).astype(dtype)
        for name, answer in self.plain(Case("ties", "corr1d", x, np.array([1, 0.5]), {"dtype": dtype})):
            require_same_bits(wanted, answer.value, f"{self.name} ({name}): halves rounded to even, and those given,")

    @pytest.mark.parametrize("kernel", [np.array([100, 100]), np.array([100.0, 100.0])], ids=["integers", "floats"])
    def test_overflow_follows_its_rule(self, kernel: Array) -> None:
        """Saturate, wrap, raise; and NaN becomes no integer."""
        x = np.array([1, 1, -1, -1, 0], np.int16)
        for overflow, wanted in (("saturate", [127, 0, -128, -100]), ("wrap", [-56, 0, 56, -100])):
            case = Case(overflow, "corr1d", x, kernel, {"dtype": "int8", "overflow": overflow})
            for name, answer in self.answers(case).items():
                what = f"{self.name} ({name}): overflow={overflow!r}, and the answer,"
                require_same_bits(np.array(wanted, np.int8), answer.value, what)
        with pytest.raises(OverflowError, match="200"):
            self.call(Case("raise", "corr1d", x, kernel, {"dtype": "int8", "overflow": "raise"}))
        with pytest.raises(ce.InvalidProblem, match="NaN"):
            self.call(Case("nan", "corr1d", np.array([1.0, np.nan]), kernel, {"dtype": "int8", "padding": 1}))

    @pytest.mark.parametrize(
        "bad", [np.ma.masked_array([1.0, 2.0], [0, 1]), np.array([1, 2], object)], ids=["masked", "object"]
    )
    def test_masked_and_object_arrays_are_refused(self, bad: Any) -> None:
        """A mask is never dropped, an object never guessed."""
        for x, kernel in ((bad, np.ones(1)), (np.ones(3), bad)):
            with pytest.raises(ce.InvalidProblem, match=r"masked|object"):
                ce.corr1d(x, kernel, backend=self.name)

    # ---- offers and refusals

    def test_offers_can_be_compared(self) -> None:
        """Positive times, bytes, bounds that say something, one name for each method; the same when asked again."""
        backend = registry.get(self.name)
        for case in [*SOURCES["covering"]().values(), *subjects.large().values()]:
            if (question := asked(self.name, case)) is None:
                continue
            offers, problem = backend.offers(*question), question[0]
            if (again := backend.offers(*question)) != offers:
                raise AssertionError(f"{self.name} must offer the same for {problem} again; got {offers}, {again}")
            if isinstance(offers, Refusal):
                if not offers.reason.strip() or "\n" in offers.reason:
                    raise AssertionError(f"{self.name} must refuse {problem} with one line of reason; got {offers.reason!r}")
                continue
            names = [offer.method for offer in offers]
            if not names or len(set(names)) < len(names):
                raise AssertionError(f"{self.name} must offer methods of different names, or refuse {problem}; got {names}")
            for offer in offers:
                self.require_comparable(offer, problem.is_integer, str(problem))

    def require_comparable(self, offer: Offer, exact: bool, problem: str) -> None:
        """Fail for an offer whose numbers say nothing."""
        rules = {
            "method, a line of text,": offer.method.strip() == offer.method != "" and "\n" not in offer.method,
            "seconds, finite and above 0,": 0 < offer.seconds < float("inf"),
            "memory, bytes below 2**63,": 0 <= offer.memory < 2**63,
            "error, 0 for integers and else below 1,": offer.error == 0 if exact else 0 <= offer.error < 1,
        }
        for rule, kept in rules.items():
            if not kept:
                raise AssertionError(f"{self.name} must offer {rule} for {problem}; got {offer}")

    def test_unknown_memory_is_refused(self) -> None:
        """Where x lies beyond reach, the reason names the place."""
        question = asked(self.name, subjects.small()["image"])
        if question is None:
            raise AssertionError("an image and a filter must be a question to every backend; got none")
        answer = registry.get(self.name).offers(replace(question[0], memory="nowhere:0"), question[1])
        if not isinstance(answer, Refusal) or "nowhere:0" not in answer.reason:
            raise AssertionError(f"{self.name} must refuse memory='nowhere:0', and name it; got {answer}")

