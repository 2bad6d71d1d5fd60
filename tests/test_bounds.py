"""The bounds hold for sums in the engine's dtypes and are within reach; `check` catches planted errors."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from oracle_answers import same

from convengine.testing import bounds, cases, oracle
from convengine.testing.arguments import read
from convengine.testing.oracle import pad, reference
from convengine.testing.strategies import problems

u1, f2, f4, f8, c8, c16 = np.uint8, np.float16, np.float32, np.float64, np.complex64, np.complex128


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def test_unit_roundoff_and_gamma():
    assert [bounds.unit_roundoff(dtype) for dtype in (f2, f4, f8, c8)] == [2.0**-11, 2.0**-24, 2.0**-53, 2.0**-24]
    assert bounds.gamma(0, 2.0**-24) == 0
    assert Fraction(bounds.gamma(1, 0.25)) == Fraction(1, 3) + Fraction(-1, 3) / 2**54
    with pytest.raises(ValueError, match="n=16777216"):
        bounds.gamma(2**24, 2.0**-24)


def test_fft_constant_is_percivals():
    for size, dtype in product((2, 1024, 2**20), (f4, f8)):
        u, n = np.longdouble(bounds.unit_roundoff(dtype)), int(np.log2(size))
        roots = np.sqrt(np.longdouble(5)), np.sqrt(np.longdouble(2))
        wide = (1 + u) ** (3 * n) * (1 + u * roots[0]) ** (3 * n + 1) * (1 + u / roots[1]) ** (3 * n)
        # In longdouble, 1 + u keeps 40 bits of the float32's u, and 11 of the float64's.
        assert bounds.fft_constant(size, dtype) == pytest.approx(float(wide - 1), rel=1e-3 if dtype is f8 else 1e-8)
    assert bounds.fft_constant(1, f4) == pytest.approx(2.0**-24 * np.sqrt(5))


def test_componentwise_is_gamma_times_the_magnitude():
    x, kernel = np.array([1.5, -2.0, 0.25], f4), np.array([3.0, 4.0], f4)
    tiny, wide = np.longdouble(2.0**-149), np.longdouble(np.finfo(np.longdouble).eps) / 2
    for dtype, rounding in ((f4, 0), (f2, [2.0**-9, 2.0**-9])):
        bound = bounds.componentwise(reference("corr1d", x, kernel, bias=-1.0, dtype=dtype))
        magnitude = np.array([4.5 + 8 + 1, 6 + 1 + 1])
        expected = bounds.gamma(3, 2.0**-24) * magnitude + 3 * tiny + rounding
        assert (bound >= expected).all() and (bound <= expected + 4 * 3 * wide * magnitude).all()


def test_componentwise_bounds_each_part_of_a_complex_sum():
    answer = reference("corr1d", np.array([3 - 4j, 1j], c8), np.array([-2 + 5j, 7], c8))
    bound, gamma = bounds.componentwise(answer), bounds.gamma(4, 2.0**-24)
    expected = np.array([3 * 2 + 4 * 5 + 0, 3 * 5 + 4 * 2 + 7]) * gamma
    np.testing.assert_allclose([bound[0].real, bound[0].imag], expected.astype(np.longdouble), rtol=1e-10)


def test_componentwise_says_nothing_where_sums_may_overflow():
    answer = reference("corr1d", np.array([3e38, 1, -3e38], f4), np.array([1, 1], f4))
    assert np.isfinite(bounds.componentwise(answer)).all()
    answer = reference("corr1d", np.array([3e38, 3e38, -3e38, 1], f4), np.array([1, 1], f4))
    assert np.isinf(bounds.componentwise(answer)).tolist() == [True, True, False]
    assert bounds.check(np.array([np.inf, np.nan, -3e38], f4), answer, bounds.componentwise(answer)) < 1


def summed(case):
    """The same sums in the dtype that an engine would use, in the order of the taps."""
    q = read(case.name, case.x, case.kernel, **case.keywords)
    result, total = oracle._dtypes(q)
    if total.kind == "i":
        return reference(case.name, case.x, case.kernel, **case.keywords).final
    padded = pad(q.x, q.pads, q.boundary, q.fill)
    bias = np.zeros(len(q.kernel)) if q.bias is None else q.bias
    with np.errstate(all="ignore"):
        weights = q.kernel.astype(oracle.promote(q, q.dtype)) if q.weak else q.kernel
        y = oracle._correlate(q, padded.astype(total), weights.astype(total))
        y = y + oracle._column(bias.astype(total), y.ndim)
    return oracle.final(q.restore(y), result, q.overflow)


@pytest.mark.parametrize("case", cases.covering_cases(), ids=lambda case: case.id)
def test_bounds_hold_for_sums_in_the_engines_dtype(case):
    answer = reference(case.name, case.x, case.kernel, **case.keywords)
    actual = summed(case)
    assert bounds.check(actual, answer, bounds.componentwise(answer)) <= 1
    if answer.sum_dtype.kind != "i":
        constant = bounds.gamma(2 * answer.taps, bounds.unit_roundoff(answer.sum_dtype))
        assert bounds.check(actual, answer, bounds.normwise(answer, constant)) <= 1
    assert bounds.check(answer.final, answer, bounds.componentwise(answer)) <= 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problems())
def test_bounds_hold_for_drawn_problems(case):
    answer = reference(case.name, case.x, case.kernel, **case.keywords)
    assert bounds.check(summed(case), answer, bounds.componentwise(answer)) <= 1


def test_the_bound_is_within_reach():
    # Half of a unit is lost in every addition: 1 + u, rounded to 1, again and again.
    x = np.full(1000, 2.0**-24 * (1 - 2.0**-20), f4)
    x[0] = 1
    answer = reference("corr1d", x, np.ones(1000, f4))
    lossy = np.add.accumulate(x, dtype=f4)[-1:]
    assert 0.99 < bounds.check(lossy, answer, bounds.componentwise(answer)) <= 1


@pytest.mark.parametrize("dtype", [f4, f8, c8, c16])
@pytest.mark.parametrize("sign", [1, -1])
def test_check_catches_an_error_just_beyond_its_bound(dtype, sign, rng):
    x, kernel = rng.standard_normal((4, 5)), rng.standard_normal((2, 3))
    if np.dtype(dtype).kind == "c":
        x, kernel = x + 1j * x[::-1], kernel - 2j * kernel[:, ::-1]
    answer = reference("corr2d", x.astype(dtype), kernel.astype(dtype))
    bound = bounds.componentwise(answer)
    actual = answer.final.copy()
    part = actual.imag if actual.dtype.kind == "c" else actual
    part[2, 1] += sign * 2 * (bound[2, 1].imag if bound.dtype.kind == "c" else bound[2, 1])
    with pytest.raises(AssertionError) as error:
        bounds.check(actual, answer, bound)
    shown = f"output (2, 1) must be {answer.value[2, 1]!s} within {bound[2, 1]}; got {actual[2, 1]}, "
    for text in (shown, " times the bound; 1 of "):
        assert text in str(error.value)


def planted(actual, index, value):
    copy = actual.copy()
    copy[index] = value
    return copy


@pytest.mark.parametrize(
    ("index", "value"), [(0, 2.0), (0, -np.inf), (0, np.nan), (1, 1.0), (1, np.inf), (3, np.nan), (3, np.inf), (3, 1.0)]
)
def test_check_catches_nonfinite_values_out_of_place(index, value):
    answer = reference("corr1d", np.array([np.inf, np.nan, -np.inf, 0.5]), [1.0])
    for bound in (bounds.componentwise(answer), bounds.normwise(answer, 1e-3)):
        assert bounds.check(answer.final, answer, bound) == 0
        with pytest.raises(AssertionError, match=rf"output \({index},\) must be {answer.final[index]} .* got {value}"):
            bounds.check(planted(answer.final, index, value), answer, bound)


def test_check_holds_parts_of_complex_values_apart():
    answer = reference("corr1d", np.array([complex(np.nan, 1), 2]), [1.0])
    bound = bounds.componentwise(answer)
    assert bounds.check(answer.final, answer, bound) == 0
    with pytest.raises(AssertionError, match=r"output \(0,\)"):
        bounds.check(planted(answer.final, 0, complex(np.nan, 1)), answer, bound)
    with pytest.raises(AssertionError, match=r"output \(1,\)"):  # nothing but zeros in the imaginary sum
        bounds.check(planted(answer.final, 1, complex(2, 1e-300)), answer, bound)


def test_check_asks_for_shape_and_dtype():
    answer = reference("corr1d", np.ones(3, f4), [1.0])
    bound = bounds.componentwise(answer)
    with pytest.raises(AssertionError, match=r"\(\(3,\), dtype\('float32'\)\); got \(\(3,\), dtype\('float64'\)\)"):
        bounds.check(answer.final.astype(f8), answer, bound)
    with pytest.raises(AssertionError, match=r"got \(\(1, 3\)"):
        bounds.check(answer.final[None], answer, bound)


def test_check_asks_for_the_same_integers():
    answer = reference("corr2d", [[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]])
    assert bounds.check(answer.final, answer, bounds.componentwise(answer)) == 0
    with pytest.raises(AssertionError, match=r"output \(1, 0\) must be 37 within 0.0; got 38"):
        bounds.check(planted(answer.final, (1, 0), 38), answer, bounds.componentwise(answer))
    with pytest.raises(AssertionError, match=r"got 38"):
        bounds.check(planted(answer.final, (1, 0), 38), answer, bounds.normwise(answer, 1.0))


def test_check_of_no_values_is_zero():
    answer = reference("corr1d", np.zeros((0, 5)), [1.0])
    assert bounds.check(answer.final, answer, bounds.componentwise(answer)) == 0


def test_check_of_floats_rounded_to_integers():
    x = np.array([2.25, 2.5, 3.5, 300.0, -5.0])
    answer = reference("corr1d", x, [1.0], dtype=u1)
    bound = bounds.componentwise(answer)
    assert bounds.check(answer.final, answer, bound) == 0
    assert bounds.check(np.array([2, 3, 3, 255, 0], u1), answer, bound) == 0  # either side of a tie is within the bound
    for index, value in ((0, 3), (1, 4), (1, 1), (3, 254), (3, 44), (4, 1), (4, 251)):
        with pytest.raises(AssertionError, match=rf"output \({index},\) must be .* got {value}"):
            bounds.check(planted(answer.final, index, value), answer, bound)
    wide = np.full(5, 0.3)  # 2.25 +- 0.3 may round to 3, which takes 5/6 of the bound
    assert bounds.check(planted(answer.final, 0, 3), answer, wide) == pytest.approx(0.25 / 0.3)
    with pytest.raises(AssertionError, match=r"output \(1,\) must be 2.5 within 0.0; got 3"):  # exact ties go to even
        bounds.check(planted(answer.final, 1, 3), answer, np.zeros(5))
    assert bounds.check(planted(answer.final, 4, 1), answer, np.full(5, 6.0)) == pytest.approx(5.5 / 6)
    huge = reference("corr1d", np.array([3e38, 3e38], f4), np.ones(2, f4), dtype=u1)  # which may pass float32
    assert bounds.check(np.array([7], u1), huge, bounds.componentwise(huge)) == 0
    infinite = reference("corr1d", [np.inf], [1.0], dtype=u1)
    with pytest.raises(AssertionError, match=r"must be inf .* got 254"):
        bounds.check(np.array([254], u1), infinite, bounds.componentwise(infinite))


def test_check_of_floats_wrapped_into_integers():
    answer = reference("corr1d", np.array([300.0, 255.5, -0.75]), [1.0], dtype=u1, overflow="wrap")
    bound = bounds.componentwise(answer)
    for values in ([44, 0, 255], [44, 255, 255]):
        assert bounds.check(np.array(values, u1), answer, bound) == 0
    for index, value in ((0, 45), (0, 255), (1, 1), (1, 254), (2, 0)):
        with pytest.raises(AssertionError, match=rf"output \({index},\) must be .* got {value}"):
            bounds.check(planted(answer.final, index, value), answer, bound)


def test_check_of_sums_beyond_the_results_dtype():
    answer = reference("corr1d", np.array([65519, 65521, 1e6, -1e6], f4), [1.0], dtype=f2)
    same(answer.final, np.array([65504, np.inf, np.inf, -np.inf], f2))
    bound = bounds.componentwise(answer)
    assert bounds.check(answer.final, answer, bound) <= 1
    for index, value in ((0, np.inf), (1, 65504), (2, 65504), (3, np.inf), (3, -65504), (0, 65472)):
        with pytest.raises(AssertionError, match=rf"output \({index},\)"):
            bounds.check(planted(answer.final, index, value), answer, bound)


def test_normwise_is_the_constant_times_the_norms_of_each_image():
    x = np.array([[3.0, 4.0], [0.3, 0.4]])
    answer = reference("corr1d", x, [2.0], bias=1.0)
    expected = np.array([[10.0] * 2, [1.0] * 2]) * 1e-10
    expected = expected + 2.0**-53 * (abs(answer.value) + expected)
    np.testing.assert_allclose(bounds.normwise(answer, 1e-10), expected, rtol=1e-6)
    with pytest.raises(AssertionError, match=r"output \(1, 0\)"):  # an error that the brighter image would excuse
        bounds.check(planted(answer.final, (1, 0), answer.final[1, 0] + 5e-10), answer, bounds.normwise(answer, 1e-10))


def test_the_ffts_error_is_within_percivals_bound(rng):
    x, kernel = rng.standard_normal(1024 - 30).astype(f4), rng.standard_normal(31).astype(f4)
    answer = reference("conv1d", x, kernel, mode="full")
    actual = scipy.fft.irfft(scipy.fft.rfft(x, 1024) * scipy.fft.rfft(kernel, 1024), 1024)
    assert actual.dtype == f4
    bound = bounds.normwise(answer, bounds.fft_constant(1024, f4))
    assert 0 < bounds.check(actual, answer, bound) < 1
    with pytest.raises(AssertionError):
        bounds.check(np.roll(actual, 1), answer, bound)
