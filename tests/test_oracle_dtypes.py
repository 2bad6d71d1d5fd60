"""The oracle's dtypes and values: what sums and results are in, integers past their range, NaN and infinity."""

import numpy as np
import pytest
from oracle_answers import final, same

from convengine.testing.oracle import reference

# ---- dtypes ----

f2, f4, f8, c8, c16 = np.float16, np.float32, np.float64, np.complex64, np.complex128
u1, i1, i2, u2, i4, i8, u8 = np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64


@pytest.mark.parametrize(
    ("x", "kernel", "dtype", "result", "total"),
    [
        (f4, f4, None, f4, f4),
        (f4, f8, None, f8, f8),
        (f2, f2, None, f2, f4),
        (f2, [0.5], None, f2, f4),
        (f4, [0.5], None, f4, f4),
        (f4, [2], None, f4, f4),
        (f4, [True], None, f4, f4),
        (f4, [1j], None, c8, c8),
        (f8, [1j], None, c16, c16),
        (i1, [0.5], None, f8, f8),
        (np.bool_, [0.5], None, f8, f8),
        (u1, [1j], None, c16, c16),
        (c8, [0.5], None, c8, c8),
        (f4, [np.float64(0.5)], None, f8, f8),  # a NumPy scalar is not weak
        (i2, f2, None, f4, f4),
        (i4, f4, None, f8, f8),
        (c8, f8, None, c16, c16),
        (f4, f4, f8, f8, f8),
        (f8, f8, f4, f4, f8),
        (f4, f4, f2, f2, f4),
        (f4, f4, c8, c8, c8),
        (f4, [0.5], f8, f8, f8),
        (u1, u1, f4, f4, f4),
        (i4, i4, f4, f4, f8),
        (i1, [2], f4, f4, f8),
        (u1, f4, u1, u1, f4),
        (f4, f4, i4, i4, f8),
        (f2, f2, u1, u1, f4),
        # Integers: int32 where dtypes and taps prove that it cannot overflow.
        (u1, u1, None, i4, i8),
        (np.bool_, np.bool_, None, i4, i8),
        (np.bool_, [True], None, i4, i8),
        (i2, i2, None, i4, i8),
        (u2, u2, None, i8, i8),
        (i1, [2], None, i8, i8),
        (u8, u1, None, i8, i8),
        (i4, i4, u8, u8, i8),
        (i8, i8, i1, i1, i8),
    ],
)
def test_dtypes(x, kernel, dtype, result, total):
    kernel = kernel if isinstance(kernel, list) else np.ones(1, kernel)
    answer = reference("corr1d", np.ones(3, x), kernel, dtype=dtype)
    assert (answer.dtype, answer.sum_dtype, answer.final.dtype) == (result, total, result)


def test_the_integer_dtype_depends_on_the_number_of_taps():
    # int16 * int16 is at most 2**30: one tap proves int32, two (over the taps or the channels of a group) do not.
    x = np.zeros((2, 4), i2)
    assert final("corr1d", x, np.zeros(1, i2)).dtype == i4
    assert final("corr1d", x, np.zeros(2, i2)).dtype == i8
    assert final("corr1d", x, np.zeros((2, 2, 1), i2)).dtype == i8
    assert final("corr1d", x, np.zeros((2, 1, 1), i2), groups=2).dtype == i4
    assert final("corr1d", x, np.zeros(1, i2), bias=7).dtype == i4
    # uint8 * uint8 over 33025 taps stays below 2**31 by 33022, over 33026 it does not.
    wide = np.zeros((0, 33026), u1), np.zeros((1, 33026), u1)
    assert final("corr2d", wide[0][:, :33025], wide[1][:, :33025], mode="full").dtype == i4
    assert final("corr2d", *wide, mode="full").dtype == i8


def test_operands_are_converted_to_the_sums_dtype():
    third = 1 / 3
    assert reference("corr1d", np.ones(1, f4), [third]).value[0] == f4(third)
    assert reference("corr1d", np.ones(1, f4), [third], dtype=f8).value[0] == third
    assert reference("corr1d", np.ones(1, f2), [third]).value[0] == f2(third)
    assert reference("corr1d", np.ones(1, f4), [1], bias=third).value[0] == 1 + np.longdouble(f4(third))
    assert reference("corr1d", np.array([2**53 + 1]), [1.0]).value[0] == 2**53
    assert reference("corr1d", np.array([2**53 + 1]), [1]).value[0] == 2**53 + 1


# ---- integers ----


def test_integer_overflow_keywords():
    x, kernel = np.array([-3, 100, 200, 1], i2), np.array([2, 1], i1)
    same(reference("corr1d", x, kernel).value, np.array([94, 400, 401], object))
    same(final("corr1d", x, kernel, dtype=u1), np.array([94, 255, 255], u1))
    same(final("corr1d", x, kernel, dtype=u1, overflow="wrap"), np.array([94, 144, 145], u1))
    same(final("corr1d", x, -kernel, dtype=i1, overflow="wrap"), np.array([-94, 112, 111], i1))
    same(final("corr1d", x, -kernel, dtype=u8, overflow="wrap"), np.array([2**64 - 94, 2**64 - 400, 2**64 - 401], u8))
    same(final("corr1d", x, kernel, dtype=i2, overflow="raise"), np.array([94, 400, 401], i2))
    with pytest.raises(OverflowError, match=r"uint8 holds 0 \.\. 255; got 400 under overflow='raise'"):
        reference("corr1d", x, kernel, dtype=u1, overflow="raise")


def test_sums_beyond_int64_are_refused_by_their_bound():
    big = np.array([2**62])
    assert reference("corr1d", big, [1], bias=2**62 - 1).value[0] == 2**63 - 1
    for kernel, bias in (([2], None), ([1], 2**62), ([-1, 1], None), ([1], -(2**62))):
        with pytest.raises(OverflowError, match=rf"within {2**63 - 1}; got .* = {2**63} in output channel 0"):
            reference("corr1d", big, kernel, bias=bias, mode="full")
    with pytest.raises(OverflowError, match=f"= {2**63} "):
        reference("corr1d", -big, [-2])
    with pytest.raises(OverflowError, match=f"= {2**63} in output channel 1"):
        reference("corr1d", big[None], np.array([[[1]], [[2]]]), dtype=i1, overflow="wrap")
    # The fill value counts only where something is filled.
    options = {"fill_value": 2**62, "mode": "full"}
    assert reference("corr1d", [1], [2], **options).value[0] == 2
    assert reference("corr1d", [1], [2, 0], boundary="edge", **options).value[0] == 2
    with pytest.raises(OverflowError, match=f"= {2**63} "):
        reference("corr1d", [1], [2, 0], **options)
    assert reference("corr1d", np.array([2**64 - 1], u8), np.zeros(1, u1)).value[0] == 0
    with pytest.raises(OverflowError, match=f"= {2**64 - 1} "):
        reference("corr1d", np.array([2**64 - 1], u8), np.ones(1, u1))


def test_a_bias_may_pass_the_default_dtype_only():
    x, kernel = np.ones(2, i1), np.ones(1, i1)
    same(final("corr1d", x, kernel, bias=2**31 - 2), np.full(2, 2**31 - 1, i4))
    with pytest.raises(OverflowError, match=f"within {2**31 - 1}; got .* = {2**31} "):
        reference("corr1d", x, kernel, bias=2**31 - 1)
    same(final("corr1d", x, kernel, bias=2**31 - 1, dtype=i8), np.full(2, 2**31))
    same(final("corr1d", x, kernel, bias=2**31 - 1, dtype=i4), np.full(2, 2**31 - 1, i4))


def test_floats_round_half_to_even_into_integers():
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 255.4, 300, -7, np.inf, -np.inf])
    same(final("corr1d", x, [1.0], dtype=u1), np.array([0, 2, 2, 0, 0, 255, 255, 0, 255, 0], u1))
    same(final("corr1d", x[:-2], [1.0], dtype=i1, overflow="wrap"), np.array([0, 2, 2, 0, -2, -1, 44, -7], i1))
    same(final("corr1d", x[-2:], [1.0], dtype=u8), np.array([2**64 - 1, 0], u8))
    same(final("corr1d", [-1.0, 2.0**70], [1.0], dtype=u8, overflow="wrap"), np.array([2**64 - 1, 0], u8))
    with pytest.raises(OverflowError, match=r"uint8 holds 0 \.\. 255; got 300"):
        reference("corr1d", x[5:7], [1.0], dtype=u1, overflow="raise")
    for overflow in ("wrap", "raise"):
        with pytest.raises(OverflowError, match=f"uint8 cannot hold infinite sums under overflow='{overflow}'"):
            reference("corr1d", x, [1.0], dtype=u1, overflow=overflow)
    with pytest.raises(ValueError, match="uint8 cannot hold NaN; got 2 of them"):
        reference("corr1d", [1.0, np.nan, np.nan], [1.0], dtype=u1)


# ---- NaN and infinity ----


def test_nonfinite_samples_reach_exactly_their_footprint():
    x = np.zeros(9, f4)
    x[4] = np.nan
    assert np.isnan(final("corr1d", x, [1, 0, 2], mode="same")).nonzero()[0].tolist() == [3, 4, 5]
    assert np.isnan(final("corr1d", x, [1, 0, 2], mode="same", dilation=2)).nonzero()[0].tolist() == [2, 4, 6]
    x[4], x[0] = 0, np.nan
    assert np.isnan(final("corr1d", x, [1, 0, 2], mode="same", boundary="wrap")).nonzero()[0].tolist() == [0, 1, 8]
    x[0] = np.inf
    same(final("corr1d", x[:4], [-1, 0, 2], mode="full"), np.array([np.inf, np.nan, -np.inf, 0, 0, 0], f4))
    same(final("corr1d", [1.0], [1.0, 2.0], mode="full", fill_value=np.inf), np.array([np.inf, np.inf]))
    same(final("corr1d", [1.0], [0.0, 2.0], mode="full", fill_value=np.inf), np.array([np.nan, np.inf]))
    biased = final("corr1d", np.ones((1, 2)), np.ones((2, 1, 1)), bias=[np.nan, -np.inf])
    same(biased, np.array([[np.nan] * 2, [-np.inf] * 2]))
    assert np.isnan(final("corr1d", [np.inf, -np.inf], [1.0, 1.0])).all()


def test_complex_products_smear_nonfinite_parts():
    nan, inf = np.nan, np.inf
    value = final("corr1d", np.array([complex(nan, 1), complex(inf, 1)]), [1.0])
    same(value.view(float), np.array([nan, nan, inf, nan]))  # inf * 0 in the imaginary part
    same(final("corr1d", np.array([nan, inf]), [1.0], dtype=c8).view(f4), np.array([nan, nan, inf, nan], f4))
    value = final("corr1d", np.array([1 + 1j]), [complex(inf, 1)])
    same(value.view(float), np.array([inf, inf]))


def test_scales_leave_nonfinite_parts_out():
    answer = reference("corr1d", [3.0, np.nan, 4.0], [1.0, np.inf], mode="full")
    assert answer.norm_x == pytest.approx(5) and answer.norm_kernel == 1
    same(answer.magnitude, np.array([0, 3, 0, 4], np.longdouble))


def test_norms_are_of_each_padded_image_and_the_largest_kernel():
    x = np.array([[[3.0], [4.0]], [[0.0], [1.0]]])
    answer = reference("corr1d", x, np.array([[[1.0], [1.0]], [[6.0], [8.0]]]), padding=1, fill_value=2)
    same(answer.norm_x, np.sqrt(np.array([[[25 + 16]], [[1 + 16]]], np.longdouble)))
    assert answer.norm_kernel == 10
    batch = reference("corr1d", x, [2.0], axes=1)
    assert batch.norm_x.shape == (2, 1, 1) and batch.value.shape == (2, 2, 1)
    same(batch.norm_x.ravel(), np.array([5, 1], np.longdouble))


def test_complex_magnitudes_are_of_the_parts():
    x, kernel, bias = np.array([3 - 4j]), np.array([-2 + 5j]), 7 - 1j
    answer = reference("corr1d", x, kernel, bias=bias)
    assert answer.magnitude[0] == complex(3 * 2 + 4 * 5 + 7, 3 * 5 + 4 * 2 + 1)
    real = reference("corr1d", np.array([3.0]), np.array([-2.0]), dtype=c16)
    assert real.magnitude[0] == 6
