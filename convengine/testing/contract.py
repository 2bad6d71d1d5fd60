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

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import convengine as ce
from convengine import registry
from convengine.plugin import WORKERS, Offer, Refusal
from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.cases import Case
from convengine.testing.choice_laws import ChoiceLaws
from convengine.testing.examination import SOURCES, problem
from convengine.testing.gradient_laws import GradientLaws
from convengine.testing.laws import Laws
from convengine.testing.runner import asked, bound, examine, expected, kind, refusal, require_same_bits

__all__ = ["BackendContract"]


class BackendContract(Laws, ChoiceLaws, GradientLaws):
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
        squares = np.arange(9.0).reshape(3, 3), np.arange(4.0).reshape(2, 2)
        for case, printed in (
            (Case("book", "corr2d", *squares, {}), [[19, 25], [37, 43]]),
            (Case("edge", "corr2d", edge, pair, {}), [[0, 1, 0, 0, 0, -1, 0]] * 6),
            (Case("transposed edge", "corr2d", edge.T, pair, {}), [[0] * 5] * 8),
        ):
            for name, answer in self.answers(case).items():
                what = f"{name} of the {case.id}, and the result that is printed there,"
                self.require_near(what, answer.value - np.array(printed), bound(answer.offer, expected(case)))

    def test_covering_case_is_within_its_bound(self, covering: str) -> None:
        """Every pair of dtype, mode, boundary, stride, dilation, groups, layout and so on, against the oracle."""
        self.hold(*problem("covering", covering))

    def test_simple_filter_is_within_its_bound(self, simple: str) -> None:
        """Filters without steps, which a backend that refuses much may still do, against the oracle."""
        self.hold(*problem("simple", simple))

    def test_large_problem_is_within_its_bound(self, large: str) -> None:
        """Threads, bands, tiles and chunks, against the oracle."""
        self.hold(*problem("large", large))

    def test_integers_are_exact(self, exact: str) -> None:
        """Sums that no float holds, the ends of each dtype, overflow."""
        self.hold(*problem("exact", exact))

    def test_nan_and_infinity_reach_exactly_their_outputs(self, poisoned: str) -> None:
        """In x, kernel, bias and fill value: NaN, +inf and -inf where the direct sum has them, and nowhere else."""
        self.hold(*problem("poisoned", poisoned))

    def test_delicate_shape_is_within_its_bound(self, delicate: str) -> None:
        """Empty axes, pads and kernels much wider than x, one sample, one tap."""
        self.hold(*problem("delicate", delicate))

    def test_drawn_problems_are_within_their_bounds(self) -> None:
        """Problems that hypothesis draws, and makes simple where they fail."""
        hypothesis = pytest.importorskip("hypothesis", reason="it draws the problems (pip install hypothesis)")
        from convengine.testing.strategies import problems

        def holds(case: Case) -> None:
            try:
                examine(self.name, case)
            except ce.NoBackend as error:
                hypothesis.event(kind(refusal(error)))

        settings = hypothesis.settings(max_examples=self.examples, deadline=None, derandomize=True, database=None)
        settings(hypothesis.given(problems())(holds))()

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
        "bad", [np.ma.masked_array([1.0, 2.0], [False, True]), np.array([1, 2], object)], ids=["masked", "object"]
    )
    def test_masked_kernels_and_object_arrays_are_refused(self, bad: Any) -> None:
        """A mask is never dropped, an object never guessed; of x alone a mask says what is missing."""
        for x, kernel in ((bad, np.ones(1)), (np.ones(3), bad)):
            if isinstance(x, np.ma.MaskedArray):
                continue
            with pytest.raises(ce.InvalidProblem, match=r"masked|object"):
                ce.corr1d(x, kernel, backend=self.name)

    # ---- offers and refusals

    def test_offers_can_be_compared(self) -> None:
        """Positive times, bytes, bounds that say something, one name for each method; the same when asked again."""
        backend = registry.get(self.name)
        for case in [*SOURCES["covering"]().values(), *subjects.large().values()]:
            if (question := asked(self.name, case)) is None:
                continue
            offers, asked_for = backend.offers(*question), question[0]
            again = backend.offers(*question)
            self.require(again == offers, f"offer the same for {asked_for} again; got {offers}, then {again}")
            if isinstance(offers, Refusal):
                one_line = offers.reason.strip() != "" and "\n" not in offers.reason
                self.require(one_line, f"refuse {asked_for} with one line of reason; got {offers.reason!r}")
                continue
            names = [offer.method for offer in offers]
            different = bool(names) and len(set(names)) == len(names)
            self.require(different, f"refuse {asked_for}, or offer methods of different names; got {names}")
            for offer in offers:
                self.require_comparable(offer, asked_for.is_integer, str(asked_for))

    @pytest.mark.parametrize("workers", [1, 2, 16])
    def test_no_offer_is_below_the_least(self, workers: int) -> None:
        """What a backend says that its offers cost at least, they do, or it would not be asked where it is cheapest."""
        backend = registry.get(self.name)
        if (says := getattr(backend, "least_seconds", None)) is None:
            pytest.skip("says nothing of it, and is always asked")  # the method is optional
        token = WORKERS.set(workers)
        try:
            for case in [*SOURCES["covering"]().values(), *subjects.large().values()]:
                if (question := asked(self.name, case)) is None:
                    continue
                least, answer = says(question[0]), backend.offers(*question)
                for offer in () if isinstance(answer, Refusal) else answer:
                    within = 0 <= least <= offer.seconds
                    self.require(within, f"offer nothing below the least of {question[0]}, {least} s; got {offer}")
        finally:
            WORKERS.reset(token)

    def require_comparable(self, offer: Offer, exact: bool, problem: str) -> None:
        """Each number of an offer must say something."""
        rules = {
            "method, a line of text,": offer.method.strip() == offer.method != "" and "\n" not in offer.method,
            "seconds, finite and above 0,": 0 < offer.seconds < float("inf"),
            "memory, bytes below 2**63,": 0 <= offer.memory < 2**63,
            "error, 0 for integers and else below 1,": offer.error == 0 if exact else 0 <= offer.error < 1,
        }
        for rule, kept in rules.items():
            self.require(kept, f"offer {rule} for {problem}; got {offer}")

    def test_unknown_memory_is_refused(self) -> None:
        """Where x lies beyond reach, the reason names the place."""
        question = asked(self.name, subjects.small()["image"])
        assert question is not None  # there is something to sum
        answer = registry.get(self.name).offers(replace(question[0], memory="nowhere:0"), question[1])
        named = isinstance(answer, Refusal) and "nowhere:0" in answer.reason
        self.require(named, f"refuse memory='nowhere:0', and name it; got {answer}")
