"""The runner that contract and crosscheck share: bounds as offers state them, bits, refusals; and the report."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from installing import installed

import convengine as ce
from convengine import registry
from convengine.plugin import BackendInfo, Offer
from convengine.testing import Case, componentwise, covering_cases, gamma, normwise
from convengine.testing.runner import (
    answers,
    asked,
    attempt,
    bound,
    examine,
    expected,
    kind,
    methods,
    place,
    refusal,
    require_same_bits,
)

PLUGINS = Path(__file__).parent / "plugins"
X = np.random.default_rng(3).standard_normal((9, 40)).astype(np.float32)
CASE = Case("small", "corr2d", X, X[:3, :3].copy(), {"mode": "same"})
U = 2.0**-24


class TestBound:
    answer = expected(CASE)

    def offer(self, error: float, normwise: bool = False) -> Offer:
        return Offer("any", 1.0, 0, error, normwise)

    def test_a_plain_sum_has_the_componentwise_bound(self) -> None:
        np.testing.assert_array_equal(bound(self.offer(gamma(9, U)), self.answer), componentwise(self.answer))

    def test_an_offer_without_a_backend_has_it_too(self) -> None:
        np.testing.assert_array_equal(bound(None, self.answer), componentwise(self.answer))

    @pytest.mark.parametrize("factor", [1.5 * U, 4 * U, gamma(8, U)])
    def test_a_smaller_promise_is_held_to(self, factor: float) -> None:
        tighter = bound(self.offer(factor), self.answer)
        share = (componentwise(self.answer) - tighter) / self.answer.magnitude
        np.testing.assert_allclose(share.astype(float), gamma(9, U) - factor, rtol=1e-6)

    @pytest.mark.parametrize("factor", [gamma(9, U) * 1.01, 20 * gamma(9, U), 0.01])
    def test_a_larger_promise_allows_as_much_and_hardly_more(self, factor: float) -> None:
        wider = bound(self.offer(factor), self.answer)
        assert (wider >= factor * self.answer.magnitude).all()
        assert (wider <= (factor + 1.1 * U) * self.answer.magnitude * (1 + 1e-5) + 1e-37).all()

    def test_complex_parts_count_twice(self) -> None:
        answer = expected(CASE._replace(x=X + 1j * X))
        np.testing.assert_array_equal(bound(self.offer(gamma(18, U)), answer), componentwise(answer))

    def test_normwise(self) -> None:
        np.testing.assert_array_equal(bound(self.offer(1e-6, True), self.answer), normwise(self.answer, 1e-6))

    @pytest.mark.parametrize("norm", [False, True])
    def test_integers_have_none(self, norm: bool) -> None:
        answer = expected(Case("whole", "corr1d", np.arange(9), np.arange(3), {}))
        assert not bound(self.offer(0.0, norm), answer).any()


class TestSameBits:
    def test_nan_is_nan(self) -> None:
        other = np.array([0x7FC00001], np.uint32).view(np.float32)
        require_same_bits(np.array([np.nan], np.float32), other, "two NaN")

    @pytest.mark.parametrize(
        ("one", "other", "text"),
        [
            (np.zeros(3), np.zeros((3, 1)), r"in shape and dtype; got \(3,\) float64 and \(3, 1\) float64"),
            (np.zeros(3), np.zeros(3, int), r"got \(3,\) float64 and \(3,\) int64"),
            (
                np.zeros((2, 2)),
                np.array([[0, 0], [-0.0, 0]]),
                r"to the bit; got .*0.0.* and .*-0.0.* at \(1, 0\) \(1 of 4",
            ),
            (np.array([1j, 2]), np.array([1j, 2 + 1e-300j]), r"at \(1,\) \(1 of 4 parts differ\)"),
            (np.float32(1), np.nextafter(np.float32(1), np.float32(2)), r"at \(\) \(1 of 1 parts differ\)"),
        ],
    )
    def test_differences_are_told(self, one: np.ndarray, other: np.ndarray, text: str) -> None:
        with pytest.raises(AssertionError, match="these two must agree .*" + text):
            require_same_bits(np.asarray(one), np.asarray(other), "these two")


class TestRunner:
    def test_every_method_is_examined(self) -> None:
        names = [method.name for method in methods("cython", CASE)]
        assert names == [row.method for row in ce.explain(X, CASE.kernel, mode="same", backend="cython").rows]
        fractions = examine("cython", CASE)
        assert list(fractions) == names
        assert all(0 < fraction <= 1 for fraction in fractions.values())

    def test_nothing_to_sum_is_no_question_to_a_backend(self) -> None:
        case = Case("none", "corr1d", np.ones((0, 5)), np.ones((2, 0, 3)), {"bias": np.array([1.0, 2])})
        assert asked("cython", case) is None
        (answer,) = answers("cython", case).values()
        assert answer.offer is None
        assert answer.value.tolist() == [[1, 1, 1], [2, 2, 2]]

    def test_a_wrong_answer_fails_with_its_place(self) -> None:
        wrong = replace(expected(CASE), value=expected(CASE).value + 1)
        result = attempt("cython", CASE, wrong)
        assert result.outcome == "failed"
        assert result.reason.startswith(f"cython ({methods('cython', CASE)[0].name}) on small: output (")

    def test_a_backend_that_raises_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry.get("cython"), "plan", lambda *_: 1 / 0, raising=False)
        ce.clear_cache()
        result = attempt("cython", CASE)
        ce.clear_cache()
        assert result.outcome == "failed"
        assert "BackendError: backend 'cython' failed on forward corr2d (9, 40) * (3, 3)" in result.reason
        assert "ZeroDivisionError: division by zero" in result.reason

    def test_pricing_that_raises_is_no_refusal_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(registry.get("cython"), "offers", lambda *_: 1 / 0, raising=False)
        ce.clear_cache()
        result = attempt("cython", CASE)
        ce.clear_cache()
        assert (result.outcome, result.reason) == ("failed", "cython on small: ZeroDivisionError: division by zero")

    def test_a_refusal_keeps_its_reason(self) -> None:
        with installed(PLUGINS):
            result = attempt("foreign", CASE._replace(x=X + 1j))
        assert (result.outcome, result.fractions) == ("refused", {})
        assert result.reason == "foreign: does real numbers only, not complex64"

    def test_a_refusal_without_reasons_is_its_first_line(self) -> None:
        assert refusal(ce.NoBackend("no backend is called 'x'")) == "no backend is called 'x'"

    def test_reasons_of_one_kind(self) -> None:
        one = kind("a (tile 8x64): up to 3; a (tile 1x2): up to 1.5e+30; got (4, 3) and (9,)")
        assert one == kind("a (tile 16): up to 4; got (4, 3, 7) and (1, 2)") == "a (tile #): up to #; got (#) and (#)"

    def test_arrays_go_to_where_a_backend_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert place("cython", X) is X
        monkeypatch.setattr(registry, "info", lambda name: BackendInfo(usable=True, device="cuda:0"))
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(asarray=lambda array: ("on the device", array)))
        where, array = place("other", X.astype(">f4"))
        assert (where, array.dtype.isnative) == ("on the device", True)
        np.testing.assert_array_equal(array, X)


class TestCrosscheck:
    def test_every_installed_backend_by_default(self) -> None:
        cases = covering_cases()[:12]
        seen: list[tuple[int, int]] = []
        report = ce.crosscheck(cases=cases, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(number, 12) for number in range(1, 13)]
        assert [one.backend for one in report.backends] == list(ce.backends())
        assert report.ok
        for one in report.backends:
            info = ce.backends()[one.backend]
            assert one.reason == info.reason
            assert one.cases + one.refused.total() == (12 if info.usable else 0)
            assert 0 <= one.largest <= 1
            assert not one.failures
        assert json.loads(json.dumps(report.to_dict()))["ok"] is True

    def test_prints_as_a_table_with_the_reasons_below(self) -> None:
        layers = [case for case in covering_cases() if "-layer" in case.id][:5]
        with installed(PLUGINS):
            report = ce.crosscheck(backends=["foreign", "cython"], cases=layers)
        header, cython, foreign, reason = repr(report).splitlines()
        assert header.split("  ")[0] == "backend"
        assert cython.split()[:4] == ["cython", "direct", "5", "0"]
        assert foreign.split() == ["foreign", "0", "5", "0"]
        assert reason.startswith(
            "refused 5 times, as here: foreign: does filters only, not a layer with a kernel of shape ("
        )
        refused = report.to_dict()["backends"][1]["refused"]
        assert sum(refused.values()) == 5

    def test_nothing_that_ran_is_not_ok(self) -> None:
        layers = [case for case in covering_cases() if "-layer" in case.id][:2]
        with installed(PLUGINS):
            assert not ce.crosscheck(backends="foreign", cases=layers).ok

    def test_an_unknown_backend(self) -> None:
        with pytest.raises(ce.NoBackend, match=r"no backend is called 'warp'; installed: .*cython"):
            ce.crosscheck(backends=["cython", "warp"])

    def test_names_must_be_names(self) -> None:
        with pytest.raises(ce.InvalidProblem, match=r"backends must be a name .*; got \[3\]"):
            ce.crosscheck(backends=[3])
