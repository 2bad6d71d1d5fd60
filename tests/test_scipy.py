"""The backend named scipy: each of SciPy's functions against the oracle, and when it is offered."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError
from typing import Any, Never

import numpy as np
import pytest
from convengine_scipy import Backend, backend
from convengine_scipy.ndimage import Correlate
from numpy.typing import NDArray

from convengine.api import DEFAULTS, OPERATIONS
from convengine.arguments import read_array
from convengine.plugin import Declined, Offer, Refusal
from convengine.problem import KernelFacts, Problem
from convengine.reading import Reading, read
from convengine.testing.bounds import check, componentwise
from convengine.testing.cases import Case, Seeded, assemble, draw_row
from convengine.testing.oracle import reference

Array = NDArray[Any]
METHODS = ("ndimage.correlate", "signal.correlate2d", "signal.correlate")
EPS = 2.0**-52  # the largest tap that ndimage drops


@cache
def cases() -> tuple[Case, ...]:
    """Problems of the sort that SciPy does; the tests of refusals see to the rest."""
    choose = Seeded(3)
    only = {
        "kind": ("filter", "batch", "axes", "colour"),
        "stride": (1,),
        "dilation": (1,),
        "shape": ("odd", "even", "one", "larger"),
        "layout": ("contiguous", "transposed", "reversed", "sliced", "readonly"),
    }
    drawn = (assemble(choose, draw_row(choose, only), f"{index:03d}-") for index in range(500))
    return tuple(case for case in drawn if np.asarray(case.x).size)


def reading_of(name: str, x: Any, kernel: Any, **keywords: Any) -> Reading:
    ndim, flip, _ = OPERATIONS[name]
    return read(ndim, flip, read_array(x, "x"), kernel, **(DEFAULTS | keywords), out=None, memory="host")


def answer_of(reading: Reading) -> list[Offer] | Refusal:
    answer = Backend().offers(reading.problem, KernelFacts.of(reading.kernel, reading.problem.ndim))
    return answer if isinstance(answer, Refusal) else list(answer)


def offered(reading: Reading) -> dict[str, Offer]:
    answer = answer_of(reading)
    return {} if isinstance(answer, Refusal) else {offer.method: offer for offer in answer}


def unneeded(problem: Problem) -> Never:
    raise AssertionError(f"no other backend is needed for {problem}")


def run(reading: Reading, offer: Offer, x: Any, out: Array | None = None) -> Array:
    """The filter's answer, in the user's order of axes."""
    kernel, bias = reading.kernel.copy(), None if reading.bias is None else reading.bias.copy()
    prepared = Backend().plan(reading.problem, offer, unneeded).prepare(kernel, bias)
    kernel.fill(77)  # what the filter keeps must be its own
    if bias is not None:
        bias.fill(77)
    answer = prepared(read_array(x, "x").transpose(reading.x_axes), out)
    assert out is None or answer is out
    return np.asarray(answer).transpose(np.argsort(reading.out_axes))


def compute(method: str, name: str, x: Any, kernel: Any, **keywords: Any) -> Array:
    reading = reading_of(name, x, kernel, **keywords)
    return run(reading, offered(reading)[method], x)


# ---- answers


@pytest.mark.parametrize("method", METHODS)
def test_every_answer_lies_within_its_bound(method: str) -> None:
    seen: Counter[str] = Counter()
    for case in cases():
        reading = reading_of(case.name, case.x, case.kernel, **case.keywords)
        if method not in (offers := offered(reading)):
            continue
        expected = reference(case.name, case.x, case.kernel, **case.keywords)
        try:
            got = run(reading, offers[method], case.x)
        except Declined:
            assert not np.isfinite(case.x).all() or reading.problem.is_integer, case.id
            seen["declined"] += 1
            continue
        try:
            assert check(got, expected, componentwise(expected)) <= 1
        except AssertionError as error:
            raise AssertionError(f"{case.id}: {error}") from error
        seen[f"{reading.problem.ndim}-D"] += 1
        seen[reading.problem.sum_dtype.kind] += 1
        rules = zip(reading.problem.boundary, reading.problem.pads, strict=True)
        seen.update({str(rule) for rule, pair in rules if any(pair)})
    ranks = {"2-D"} if method == "signal.correlate2d" else {"1-D", "2-D", "3-D"}
    boundaries = {
        "ndimage.correlate": {"constant", "edge", "reflect", "symmetric", "wrap"},
        "signal.correlate2d": {"constant", "symmetric", "wrap"},
        "signal.correlate": {"constant"},
    }[method]
    assert set(seen) == ranks | boundaries | {"i", "f", "c", "declined"}
    assert min(seen[key] for key in ranks | boundaries | {"i", "f", "c"}) >= 5


@pytest.mark.parametrize("method", METHODS)
def test_an_error_is_no_larger_than_the_offer_says(method: str) -> None:
    rng = np.random.default_rng(5)
    x, kernel = rng.standard_normal((9, 40), dtype=np.float32), rng.standard_normal((5, 7), dtype=np.float32)
    offer = offered(reading_of("corr2d", x, kernel, mode="same"))[method]
    assert offer.error == 35 * 2.0**-24 / (1 - 35 * 2.0**-24) and not offer.normwise
    expected = reference("corr2d", x, kernel, mode="same")
    error = np.abs(compute(method, "corr2d", x, kernel, mode="same") - expected.value)
    assert (error <= offer.error * expected.magnitude).all()
    assert error.max() > 0


@pytest.mark.parametrize("pads", [((1, 1), (1, 2)), ((2, 0), (0, 3)), ((0, 2), (3, 0))])
@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_ndimage_takes_every_origin_and_boundary(boundary: str, pads: Any) -> None:
    x, kernel = np.arange(20, dtype=np.int32).reshape(4, 5) ** 2, np.arange(1, 13).reshape(3, 4)
    keywords = {"padding": pads, "boundary": boundary}
    got = compute("ndimage.correlate", "corr2d", x, kernel, **keywords)
    np.testing.assert_array_equal(got, reference("corr2d", x, kernel, **keywords).final)


@pytest.mark.parametrize("boundary", ["constant", "symmetric", "wrap"])
@pytest.mark.parametrize(
    ("shape", "pads"),
    [
        ((4, 5), 0),
        ((3, 4), 0),
        ((3, 4), ((1, 1), (1, 2))),
        ((3, 4), ((2, 2), (3, 3))),
        ((3, 4), ((0, 1), (2, 0))),
        ((3, 4), ((2, 0), (3, 1))),
        ((1, 9), ((0, 0), (4, 4))),
        ((1, 9), ((0, 0), (8, 3))),
        ((9, 2), ((8, 8), (1, 0))),
    ],
)
def test_correlate2d_is_cut_where_the_pads_say(shape: tuple[int, int], pads: Any, boundary: str) -> None:
    x, kernel = np.arange(20).reshape(4, 5) ** 2, np.arange(1, 1 + np.prod(shape)).reshape(shape)
    keywords = {"padding": pads, "boundary": boundary, "fill_value": 7 if boundary == "constant" else 0}
    got = compute("signal.correlate2d", "corr2d", x, kernel, **keywords)
    np.testing.assert_array_equal(got, reference("corr2d", x, kernel, **keywords).final)


def test_a_two_dimensional_kernel_larger_than_x_is_never_swapped_with_it() -> None:
    x, kernel = np.array([[1.0, np.nan]]), np.arange(1.0, 7).reshape(1, 6)
    got = compute("signal.correlate2d", "corr2d", x, kernel, mode="full")
    np.testing.assert_array_equal(got, [[6, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan]])
    answer = answer_of(reading_of("corr2d", x, kernel, mode="full"))
    assert isinstance(answer, list) and [offer.method for offer in answer] == ["signal.correlate2d"]


@pytest.mark.parametrize("method", ["signal.correlate2d", "signal.correlate"])
def test_integers_are_exact_to_the_end_of_int64(method: str) -> None:
    x, kernel = np.array([[2**62 - 1, 2**62 - 2], [1, 1 - 2**62]]), [[1, 1], [0, 0]]
    got = compute(method, "corr2d", x, kernel, padding=1)
    np.testing.assert_array_equal(got, reference("corr2d", x, kernel, padding=1).final)
    assert got.max() == 2**63 - 3


@pytest.mark.parametrize("method", ["signal.correlate2d", "signal.correlate"])
def test_unsigned_integers_never_turn_into_floats(method: str) -> None:
    got = compute(method, "corr2d", np.full((2, 2), 2**62 + 1, np.uint64), np.array([[1]]))
    np.testing.assert_array_equal(got, np.full((2, 2), 2**62 + 1))


def test_a_fill_value_is_exact_to_the_end_of_int64() -> None:
    x = np.array([[1, 1]])
    got = compute("signal.correlate2d", "corr2d", x, [[1, 0]], padding=((0, 0), (1, 0)), fill_value=2**62 + 1)
    np.testing.assert_array_equal(got, [[2**62 + 1, 1]])


def test_ndimage_sums_integers_below_two_to_the_53_alone() -> None:
    most = 2**40
    kernel = np.array([[most - 1, 1]])
    x = np.array([[2**13 - 1, 1 - 2**13], [5, -7]])
    keywords: dict[str, Any] = {"padding": ((0, 0), (1, 0)), "boundary": "edge"}
    got = compute("ndimage.correlate", "corr2d", x, kernel, **keywords)
    np.testing.assert_array_equal(got, reference("corr2d", x, kernel, **keywords).final)
    x[0, 0] += 1
    with pytest.raises(Declined, match=f"samples reach 8192; with this kernel it is exact up to {2**13 - 1}"):
        compute("ndimage.correlate", "corr2d", x, kernel, **keywords)
    wider = np.array([[2**45, 2**45]])  # 255 * 2**46 passes 2**53
    answer = answer_of(reading_of("corr2d", x, wider, **keywords))
    assert isinstance(answer, Refusal)
    assert f"sums in float64, exact below 2**53; samples of 255 may reach {255 * 2**46}" in answer.reason


@pytest.mark.parametrize("method", METHODS)
def test_out_may_have_any_strides_and_is_returned(method: str) -> None:
    x, kernel = np.arange(48.0).reshape(2, 4, 6), np.arange(1.0, 10).reshape(3, 3)
    keywords: dict[str, Any] = {"mode": "same", "bias": 0.5}
    reading = reading_of("corr2d", x, kernel, **keywords)
    out = np.empty((6, 8, 2), np.float64)[::-1, ::2].T
    run(reading, offered(reading)[method], x, out)
    np.testing.assert_array_equal(out, reference("corr2d", x, kernel, **keywords).final)


# ---- NaN and infinity


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_reach_exactly_their_footprint(method: str, value: float) -> None:
    x, kernel = np.arange(42.0).reshape(6, 7), np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])
    x[2, 3] = value
    x[5, 6] = np.inf
    got = compute(method, "corr2d", x, kernel, mode="same")
    expected = reference("corr2d", x, kernel, mode="same")
    assert check(got, expected, componentwise(expected)) <= 1
    assert np.isfinite(got).sum() == 42 - 6 - 2


@pytest.mark.parametrize("method", METHODS)
def test_infinities_that_cancel_are_nan_without_a_warning(method: str) -> None:
    x = np.array([[np.inf, 1.0], [2.0, 3.0]])
    got = compute(method, "corr2d", x, [[1.0]], bias=-np.inf)
    np.testing.assert_array_equal(got, [[np.nan, -np.inf], [-np.inf, -np.inf]])


def test_ndimage_declines_nan_under_a_zero_tap_and_the_others_do_not() -> None:
    x, kernel = np.ones((4, 4)), np.array([[0.0, 1.0, 1.0]])
    assert compute("ndimage.correlate", "corr2d", x, kernel, mode="same")[0, 0] == 2
    x[1, 1] = np.inf
    with pytest.raises(Declined, match=r"x holds NaN or infinity, and ndimage\.correlate leaves out .* zero taps"):
        compute("ndimage.correlate", "corr2d", x, kernel, mode="same")
    for method in METHODS[1:]:
        got = compute(method, "corr2d", x, kernel, mode="same")
        np.testing.assert_array_equal(got[1], [np.inf, np.inf, np.nan, 2 - 1])


@pytest.mark.parametrize("method", METHODS)
def test_complex_infinities_are_declined(method: str) -> None:
    x = np.ones((3, 3), np.complex64)
    x[1, 1] = complex(np.inf, 1)
    with pytest.raises(Declined, match="x holds NaN or infinity"):
        compute(method, "corr2d", x, np.full((1, 1), 2 + 1j, np.complex64))


def test_a_complex_pass_forms_in_the_dtype_of_the_sum() -> None:
    x, kernel = np.array([1 + 1j], np.complex64), np.array([1 + (1 + 2**-30) * 1j])
    got = compute("ndimage.correlate", "corr1d", x, kernel)
    np.testing.assert_array_equal(got, [-(2**-30) + (2 + 2**-30) * 1j])


def test_a_one_dimensional_kernel_that_is_not_finite_is_refused_where_zeros_are_left_out() -> None:
    x, kernel = np.ones(4), np.array([1.0, np.inf])
    np.testing.assert_array_equal(compute("signal.correlate", "corr1d", x, kernel), [np.inf] * 3)
    answer = answer_of(reading_of("corr1d", x, kernel, mode="full"))
    assert isinstance(answer, Refusal) and "leaves its zeros out of the sum in 1-D" in answer.reason
    expected = reference("corr2d", x[None], kernel[None], mode="full")  # NaN where the infinite tap meets the border
    got = compute("signal.correlate", "corr2d", x[None], kernel[None], mode="full")
    assert check(got, expected, componentwise(expected)) == 0 and np.isnan(got[0, -1])


# ---- small taps


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_ndimage_refuses_taps_that_it_would_drop(dtype: Any) -> None:
    x = np.ones((3, 3), dtype)
    kernel = np.array([[EPS, 1.0]], dtype)
    answer = answer_of(reading_of("corr2d", x, kernel, padding=((0, 0), (0, 1)), boundary="edge"))
    assert isinstance(answer, Refusal)
    assert "ndimage.correlate drops taps up to 2.2e-16; the smallest tap is 2.2e-16" in answer.reason
    kept = np.array([[np.nextafter(EPS, 1)]], dtype)
    np.testing.assert_array_equal(compute("ndimage.correlate", "corr2d", x, kept), x * kept)


def test_ndimage_declines_small_taps_that_stand_beside_zeros() -> None:
    for kernel in (np.array([0, 1e-20, 1.0]), np.array([0, 1 + 1e-20j, 1.0])):
        with pytest.raises(Declined, match=r"drops taps up to 2\.2e-16; the kernel has one of 1e-20"):
            compute("ndimage.correlate", "corr1d", np.ones(5), kernel, mode="same")


# ---- refusals

X, K = np.ones((2, 5, 5)), np.ones((3, 3))


@pytest.mark.parametrize(
    ("kernel", "keywords", "reason"),
    [
        (np.ones((4, 2, 3, 3)), {}, "scipy has no layers, only 2-D filters; got a kernel of shape (4, 2, 3, 3)"),
        (K, {"stride": (1, 2)}, "scipy computes every output sample; got stride (1, 2)"),
        (K, {"dilation": 2}, "scipy has no dilated kernels; got dilation (2, 2)"),
        (
            K,
            {"padding": 3, "boundary": "wrap"},
            "ndimage.correlate gives as many samples as x has: pads must add up to width - 1; "
            "got pads ((3, 3), (3, 3)) and kernel (3, 3); "
            "signal.correlate2d pads by up to width - 1; got pads ((3, 3), (3, 3)) and kernel (3, 3); "
            "signal.correlate pads with zeros; got boundary wrap and fill value 0",
        ),
        (
            K,
            {"padding": 2, "boundary": ("edge", "wrap")},
            "ndimage.correlate gives as many samples as x has: pads must add up to width - 1; "
            "got pads ((2, 2), (2, 2)) and kernel (3, 3); "
            "signal.correlate2d takes one boundary for all axes; got edge, wrap; "
            "signal.correlate pads with zeros; got boundary edge, wrap and fill value 0",
        ),
        (
            np.ones((11, 1)),
            {"padding": ((6, 4), (0, 0)), "boundary": "reflect"},
            "ndimage.correlate is not safe with pads longer than the axis; got pads ((6, 4), (0, 0)) and x (5, 5); "
            "signal.correlate2d has no reflect boundary; "
            "signal.correlate pads with zeros; got boundary reflect and fill value 0",
        ),
        (
            np.ones((2, 2)) * 1j,
            {"mode": "same", "fill_value": np.nan},
            "ndimage.correlate needs a finite fill value beside zero taps and complex numbers; got nan; "
            "signal.correlate2d multiplies complex infinities unlike the textbook; "
            "kernel and fill value must be finite; "
            "signal.correlate pads with zeros; got boundary constant and fill value nan",
        ),
        (
            np.full((3, 3), np.nan),
            {"mode": "same", "boundary": "edge"},
            "ndimage.correlate drops taps that are NaN; the kernel must be finite; "
            "signal.correlate2d has no edge boundary; "
            "signal.correlate pads with zeros; got boundary edge and fill value 0",
        ),
        (
            np.ones((9, 9)),
            {"padding": ((8, 8), (8, 0)), "boundary": ("constant", "constant"), "fill_value": 0.5},
            None,
        ),
    ],
)
def test_refusals_say_what_each_function_lacks(kernel: Array, keywords: dict[str, Any], reason: str | None) -> None:
    answer = answer_of(reading_of("corr2d", X, kernel, **keywords))
    if reason is None:
        assert isinstance(answer, list) and [offer.method for offer in answer] == ["signal.correlate2d"]
    else:
        assert answer == Refusal(reason)


def test_other_ranks_than_two_are_not_for_correlate2d() -> None:
    answer = answer_of(reading_of("corr1d", np.ones(9), np.ones(3), padding=1, boundary=("reflect",), stride=1))
    assert isinstance(answer, list) and [offer.method for offer in answer] == ["ndimage.correlate"]
    refused = answer_of(reading_of("corr1d", np.ones(9), np.ones(3), padding=2, boundary="reflect"))
    assert isinstance(refused, Refusal) and "signal.correlate2d filters two axes; got 1" in refused.reason


def test_other_memories_are_refused() -> None:
    problem = replace(reading_of("corr2d", X, K, mode="same").problem, memory="cuda:0")
    refusal = Refusal("scipy runs on host arrays, not on cuda:0")
    assert Backend().offers(problem, KernelFacts.of(K, 2)) == refusal
    assert Backend().offers(replace(problem, op="grad_input"), KernelFacts.of(K, 2)) == refusal


def test_without_scipy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Never:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(backend, "is_installed", lambda name: False)
    monkeypatch.setattr(backend, "version", nowhere)
    assert answer_of(reading_of("corr2d", X, K)) == Refusal("scipy is not installed (pip install scipy)")
    info = Backend().info()
    assert not info.usable and info.reason == "scipy is not installed (pip install scipy)"


# ---- costs


def test_offers_and_info_load_no_scipy() -> None:
    code = """
import sys
import numpy as np
from convengine.api import DEFAULTS
from convengine.problem import KernelFacts
from convengine.reading import read
from convengine_scipy import Backend
x, kernel = np.ones((5, 5)), np.ones((3, 3))
reading = read(2, False, x, kernel, **DEFAULTS, out=None, memory="host")
assert len(Backend().offers(reading.problem, KernelFacts.of(kernel, 2))) == 2
assert Backend().info().version[0].isdigit()
assert not [name for name in sys.modules if name.partition(".")[0] == "scipy"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_wide_kernel_that_makes_a_huge_table_is_refused() -> None:
    """SciPy keeps the offsets of all taps for each way in which the kernel may lie in the border: 255**4 of them."""
    wide = reading_of("corr2d", np.ones((300, 300)), np.ones((255, 255)), mode="same")
    assert "table of offsets of 31.5 GiB" in Correlate().refusal(wide.problem, KernelFacts.of(wide.kernel, 2))
    narrow = reading_of("corr2d", np.ones((300, 20)), np.ones((255, 19)), mode="same")
    assert Correlate().refusal(narrow.problem, KernelFacts.of(narrow.kernel, 2)) == ""


def test_a_larger_problem_costs_more_time_and_memory() -> None:
    small = offered(reading_of("corr2d", np.ones((64, 64)), K, mode="same"))
    for larger in (
        offered(reading_of("corr2d", np.ones((64, 64)), np.ones((5, 5)), mode="same")),
        offered(reading_of("corr2d", np.ones((128, 64)), K, mode="same")),
        offered(reading_of("corr2d", np.ones((64, 64), complex), K.astype(complex), mode="same")),
    ):
        for method in METHODS:
            assert larger[method].seconds > small[method].seconds > 0
            assert larger[method].memory >= small[method].memory >= 64 * 64 * 8
