"""The contract examines: a right backend in plain NumPy passes all of it, and each wrong one fails where it should."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from installing import installed

import convengine as ce
from convengine import missing, running, select, tuning
from convengine.region import Cut
from convengine.testing import covering_cases
from convengine.testing.contract import BackendContract
from convengine.testing.examination import SOURCES
from convengine.testing.runner import run

MUTANTS = Path(__file__).parent / "mutants"

# What catches each, and what the failure says.
CATCHES = [
    ("flipped", "test_worked_example", "loops of the book, .* must differ by"),
    ("flipped", "test_impulse_gives_the_kernel_back", "of an impulse, and the kernel, must differ by"),
    ("unconjugated", "test_covering_case_is_within_its_bound", "complex.* times the bound"),
    ("channels-swapped", "test_covering_case_is_within_its_bound", "-(layer|groups|depthwise).* times the bound"),
    ("shifted-by-one", "test_worked_example", "loops of the book, .* must differ by"),
    ("wrong-border", "test_covering_case_is_within_its_bound", "-(reflect|symmetric|mixed)-.* times the bound"),
    ("fill-forgotten", "test_covering_case_is_within_its_bound", "-(constant|mixed)-.* times the bound"),
    ("bias-forgotten", "test_covering_case_is_within_its_bound", "times the bound"),
    ("nan-smeared", "test_nan_and_infinity_reach_exactly_their_outputs", "got nan, inf times the bound"),
    ("infinity-turned-nan", "test_nan_and_infinity_reach_exactly_their_outputs", "must be -?inf .*got nan"),
    ("zero-taps-skipped", "test_nan_and_infinity_reach_exactly_their_outputs", "must be nan "),
    ("integer-wrapped", "test_integers_are_exact", r"integer-wrapped \(loops\) on int64"),
    ("integer-through-float", "test_integers_are_exact", r"integer-through-float \(loops\) on int64"),
    ("saturation-wrapped", "test_overflow_follows_its_rule", "'saturate', and the answer, .*got np.int8\\(127\\)"),
    ("overflow-not-raised", "test_overflow_follows_its_rule", "DID NOT RAISE.*OverflowError"),
    ("half-up", "test_ties_round_to_even", "halves rounded to even, .*to the bit"),
    ("stride-off-by-one", "test_stride_takes_every_so_many_outputs", "times the bound"),
    ("dilation-ignored", "test_dilated_kernel_is_one_with_zeros_between", "zeros between its taps, must differ by"),
    ("out-ignored", "test_out_is_written_and_returned", "'reversed', must agree to the bit; .*got.*77"),
    ("x-modified", "test_x_kernel_and_bias_are_left_alone", r"x before and after .*got np.float32\(nan\) and .*\(0"),
    ("workers-show", "test_workers_change_no_bit", "1 worker and 3 workers must agree to the bit"),
    ("batch-shows", "test_stack_has_the_bits_of_each_alone", "image 0 of a stack, and alone, must agree to the bit"),
    ("layout-assumed", "test_memory_layout_changes_no_bit", "contiguous arrays and Fortran order must agree"),
    ("buffer-shared", "test_many_threads_share_one_plan", "one thread, and thread . of eight, must agree"),
    ("answer-remembered", "test_plan_gives_the_bits_of_the_function", "answer-remembered on image must agree"),
    ("subnormals-flushed", "test_subnormals_are_kept", "sums of subnormals, .*got np.float32.* and np.float32.0.0. at"),
    ("summed-in-single", "test_covering_case_is_within_its_bound", "-float64.* times the bound"),
    ("seam-lost", "test_large_problem_is_within_its_bound", r"on image: output \(256, "),
    ("vector-tail-lost", "test_large_problem_is_within_its_bound", r"on image: output \(\d+, 2099\)"),
    ("boastful", "test_covering_case_is_within_its_bound", "times the bound"),
    ("everywhere", "test_unknown_memory_is_refused", "must refuse memory='nowhere:0'"),
    ("border-dropped", "test_input_gradient_is_within_its_bound", "-(edge|reflect|symmetric|wrap|mixed)-.* the bound"),
    ("border-dropped", "test_gradients_are_adjoint", "<dy, y>, and <gradient of x, x>, must differ"),
    ("gradient-flipped", "test_input_gradient_is_within_its_bound", "times the bound"),
    ("gradient-flipped", "test_gradients_are_derivatives", "along a step of x, and <gradient, step>, must differ"),
    (
        "image-lost",
        "test_kernel_gradient_is_within_its_bound",
        "-(batch|colour|layer|groups).* the bound",
    ),
    ("small-drowned", "test_bounds_are_kept_as_asked", "times the bound"),
    ("below-zero", "test_nonnegative_stays_so", "of at least 0 .*; got -"),
    ("greedy", "test_memory_is_within_its_offer", r"need \d+ bytes .* as offered; took \d+"),
    ("moody", "test_max_memory_is_a_limit", "offer loops for its"),
    ("shifted-by-one", "test_nothing_under_a_mask_shows", "far from what is missing, and the oracle,"),
    ("shifted-by-one", "test_region_is_that_part_of_the_whole", "times the bound"),
    ("discouraging", "test_no_offer_is_below_the_least", r"offer nothing below the least of .*, 1.0 s; got Offer"),
    ("unpriced", "test_offers_can_be_compared", "seconds, finite and above 0, .*seconds=0.0"),
]


@pytest.fixture(scope="module", autouse=True)
def _mutants() -> Iterator[None]:
    with installed(MUTANTS):
        yield


class TestToy(BackendContract):
    name = "toy"


def first_failure(contract: BackendContract, test: str) -> str | None:
    """Run one test of the contract with each of its parameters, as pytest does, until one fails; return its text."""
    method = getattr(contract, test)
    marked = {mark.args[0]: mark.args[1] for mark in getattr(method, "pytestmark", [])}
    values = [marked.get(name) or list(SOURCES[name]()) for name in inspect.signature(method).parameters]
    for arguments in product(*values):
        try:
            method(*arguments)
        except pytest.skip.Exception:
            continue
        except (Exception, pytest.fail.Exception) as error:
            return str(error)
    return None


@pytest.mark.parametrize(("name", "test", "text"), CATCHES, ids=[f"{name}-{test[5:30]}" for name, test, _ in CATCHES])
def test_a_mutant_fails(name: str, test: str, text: str) -> None:
    contract = BackendContract()
    contract.name = name
    with contract.examination():
        failure = first_failure(contract, test)
    assert failure is not None, f"{name} passes {test}"
    assert re.search(text, failure, re.DOTALL), failure


def test_every_mutant_is_found_and_examined() -> None:
    import mutant_backends

    assert {name for name, _, _ in CATCHES} == set(mutant_backends.MUTANTS) - {"underpriced"}  # whom tune finds
    assert set(ce.backends()) >= {"toy", *mutant_backends.MUTANTS}
    assert all(ce.backends()[name].usable for name in mutant_backends.MUTANTS)


def test_tune_finds_who_promises_too_much(own_prices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [tuning.Case((n, n), (k, k), "float32", 1) for n in (32, 64) for k in (3, 15)]
    monkeypatch.setattr(tuning, "_grid", lambda: sizes)
    x, kernel = sizes[-1].samples(), sizes[-1].kernel()
    with ce.options(backend=("cython", "underpriced"), workers=1):
        assert ce.explain(x, kernel).chosen.backend == "underpriced"
        found = ce.tune(save=False)
        assert [lie.backend for lie in found.lies] == ["underpriced"]
        assert "too cheap: its offers are not to be believed" in repr(found)
        assert ce.explain(x, kernel).chosen.backend == "cython"


def _late(cut: Cut) -> Cut:
    """A region that begins one sample late along the last axis."""
    *parts, last = cut.parts
    late = slice(last.start + 1, last.stop + 1) if isinstance(last, slice) and last != slice(None) else last
    return cut._replace(parts=(*parts, late))


def _as_zeros(right: Any) -> Any:
    """What is missing as zeros, in place of means."""

    def filled(operate: Any, reading: Any, known: Any, kernel: Any, gone: Any, keywords: Any, least: float) -> Any:
        _, *rest = right(operate, reading, known, kernel, gone, keywords, least)
        return operate(known, kernel, **keywords | {"bias": None, "dtype": None}).astype(np.float64), *rest

    return filled


# Faults of the engine: where, what takes its place; a backend that it shows on, the test that catches it, its text.
FAULTS = {
    "limits forgotten": (
        (select, "_limit", lambda right: lambda offer, options: ""),
        ("toy", "test_max_memory_is_a_limit", "leave loops out at max_memory"),
    ),
    "bounds forgotten": (
        (select, "_limit", lambda right: lambda offer, options: right(offer, replace(options, strict=None, rtol=None))),
        ("fft", "test_bounds_are_kept_as_asked", "for strict only if componentwise|half its rtol"),
    ),
    "dearest first": (
        (select, "_offers", lambda right: lambda *asked, **how: (right(*asked, **how)[0][::-1], [], False)),
        ("cython", "test_explain_tells_what_runs", "explained by expected time"),
    ),
    "last runs": (
        (running.Prepared, "_numbers", lambda right: property(lambda one: range(len(one.decision.candidates))[::-1])),
        ("cython", "test_explain_tells_what_runs", "shown with the time that it took|plan what it explains"),
    ),
    "times forgotten": (
        (running, "_note_time", lambda right: lambda *_: None),
        ("toy", "test_explain_tells_what_runs", "shown with the time that it took"),
    ),
    "negatives left": (
        (running.Prepared, "_is_nonnegative", lambda right: lambda one: False),
        ("fft", "test_nonnegative_stays_so", "of at least 0 .*; got -"),
    ),
    "region late": (
        (Cut, "of", lambda right: staticmethod(lambda *asked: _late(right(*asked)))),
        ("toy", "test_region_is_that_part_of_the_whole", "times the bound|shape"),
    ),
    "missing as zeros": (
        (missing, "_filled", _as_zeros),
        ("toy", "test_missing_samples_are_means", "with gaps, and without, must differ"),
    ),
    "NaN under a mask": (
        (missing, "_read_mask", lambda right: lambda mask, x: right(mask, x) & ~np.isnan(x)),
        ("toy", "test_nothing_under_a_mask_shows", "0 and nan under a mask must agree"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_choice_shows(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (owner, attribute, wrong), (name, test, text) = FAULTS[fault]
    monkeypatch.setattr(owner, attribute, wrong(getattr(owner, attribute)))
    contract = BackendContract()
    contract.name = name
    with contract.examination():
        failure = first_failure(contract, test)
    assert failure is not None, f"{name} passes {test}"
    assert re.search(text, failure, re.DOTALL), failure


def test_crosscheck_tells_the_right_from_the_wrong() -> None:
    cases = covering_cases()[:60]
    report = ce.crosscheck(backends=["toy", "flipped"], cases=cases)
    assert not report.ok
    flipped, toy = report.backends
    assert (toy.backend, toy.cases, toy.failures) == ("toy", 60, {})
    assert 0 < toy.largest <= 1
    assert flipped.cases == 60
    assert flipped.failures and all("flipped (loops) on" in text for text in flipped.failures.values())
    assert [result.outcome for result in run("flipped", cases)].count("failed") == len(flipped.failures)
    assert f"failed: {next(iter(flipped.failures.values()))}" in repr(report)


def test_the_contract_fails_a_backend_that_is_not_there() -> None:
    contract = BackendContract()
    contract.name = "absent"
    text = "needs the backend 'absent': not installed; there are .*toy"
    with pytest.raises(pytest.fail.Exception, match=text), contract.examination():
        pass
