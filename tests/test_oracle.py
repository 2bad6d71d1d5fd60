"""The oracle against others' answers and the definition's loops; the bounds against planted errors; the cases' promises."""

import ast
import subprocess
import sys
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings

import convengine.testing
from convengine.testing import bounds, cases, oracle
from convengine.testing.arguments import BOUNDARIES, read
from convengine.testing.oracle import pad, reference
from convengine.testing.strategies import problems

RNG_SEED = 20
X = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
K = [[0, 1], [2, 3]]


def final(*arguments, **keywords):
    return reference(*arguments, **keywords).final


def same(actual, expected):
    """Equal in dtype, shape and every value."""
    np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.fixture
def rng():
    return np.random.default_rng(RNG_SEED)


# ---- answers that others give ----


def test_the_books_example():
    same(final("corr2d", X, K), np.array([[19, 25], [37, 43]]))
    same(final("conv2d", X, K), np.array([[5, 11], [23, 29]]))


def test_the_books_edge_detector():
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    edges = np.zeros((6, 7))
    edges[:, 1], edges[:, 5] = 1, -1
    same(final("corr2d", x, [[1.0, -1.0]]), edges)
    same(final("corr2d", x.T, [[1.0, -1.0]]), np.zeros((8, 5)))


@pytest.mark.parametrize("word", BOUNDARIES)
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_pad_is_numpys(word, length):
    x = np.arange(10, 10 + length)
    for before, after in product((0, 1, 2, 7, 13), repeat=2):
        keywords = {"constant_values": -1} if word == "constant" else {}
        same(pad(x, [(before, after)], [word], -1), np.pad(x, (before, after), word, **keywords))


@pytest.mark.parametrize("words", list(product(BOUNDARIES, repeat=2)))
def test_pad_mixes_words_over_the_last_axes(words, rng):
    x = rng.integers(0, 100, (2, 3, 4))
    pads = [(5, 2), (1, 9)]
    expected = x
    for axis, (word, pair) in enumerate(zip(words, pads, strict=True), start=1):
        keywords = {"constant_values": 7} if word == "constant" else {}
        expected = np.pad(expected, [pair if a == axis else (0, 0) for a in range(3)], word, **keywords)
    same(pad(x, pads, words, 7), expected)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
def test_numpy_correlate_and_convolve(mode, k, rng):
    x, kernel = rng.integers(-9, 9, 11), rng.integers(-9, 9, k)
    same(final("corr1d", x, kernel, mode=mode), np.correlate(x, kernel, mode))
    same(final("conv1d", x, kernel, mode=mode), np.convolve(x, kernel, mode))
    z, kernel = x * (1 - 2j), kernel * (3 + 1j)
    same(final("corr1d", z, kernel, mode=mode, conjugate=True), np.correlate(z, kernel, mode))
    same(final("conv1d", z, kernel, mode=mode), np.convolve(z, kernel, mode))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (4, 3), (1, 5)])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize(("boundary", "theirs"), [("constant", "fill"), ("symmetric", "symm"), ("wrap", "wrap")])
def test_scipy_convolve2d(shape, mode, boundary, theirs, rng):
    x, kernel = rng.integers(-9, 9, (6, 7)), rng.integers(-9, 9, shape)
    expected = scipy.signal.convolve2d(x, kernel, mode, theirs, 4)
    same(final("conv2d", x, kernel, mode=mode, boundary=boundary, fill_value=4), expected)


@pytest.mark.parametrize(
    ("boundary", "theirs"),
    [("constant", "constant"), ("edge", "nearest"), ("reflect", "mirror"), ("symmetric", "reflect"), ("wrap", "wrap")],
)
def test_scipy_ndimage_correlate(boundary, theirs, rng):
    x, kernel = rng.integers(-9, 9, (4, 5, 6)), rng.integers(-9, 9, (2, 3, 4))
    expected = scipy.ndimage.correlate(x, kernel, mode=theirs, cval=4)
    same(final("corr3d", x, kernel, mode="same", boundary=boundary, fill_value=4), expected)
    # The third axis as a batch axis, and the first two in the other order.
    expected = scipy.ndimage.correlate(x, kernel[:, :, :1].swapaxes(0, 1), mode=theirs, cval=4)
    options = {"mode": "same", "boundary": boundary, "fill_value": 4, "axes": (1, 0)}
    same(final("corr2d", x, kernel[:, :, 0], **options), expected)


# ---- the definition, term by term ----


def loops(x, kernel, bias, pads, words, stride, dilation, groups):
    """A layer's definition as nested loops over Fractions; x (N, C, *S) and kernel (D, C/groups, *K) as correlated."""
    for axis, (pair, word) in enumerate(zip(pads, words, strict=True), start=2):
        x = np.pad(x, [pair if a == axis else (0, 0) for a in range(x.ndim)], word)
    inputs, outputs = kernel.shape[1], len(kernel) // groups
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[2:], strict=True)]
    starts = [range(0, p - e + 1, s) for p, e, s in zip(x.shape[2:], extents, stride, strict=True)]
    y = np.empty((len(x), len(kernel), *map(len, starts)), object)
    for image, d, *place in np.ndindex(*y.shape):
        total = Fraction(0) if bias is None else Fraction(bias[d])
        for c, *tap in np.ndindex(*kernel.shape[1:]):
            at = [s * i + t * a for s, i, t, a in zip(stride, place, dilation, tap, strict=True)]
            total += Fraction(kernel[(d, c, *tap)]) * Fraction(x[(image, (d // outputs) * inputs + c, *at)])
        y[(image, d, *place)] = total
    return y


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("k", "stride", "dilation"),
    [((3,), (2,), (3,)), ((2, 3), (1, 2), (2, 1)), ((3, 2), (3, 1), (1, 3)), ((2, 1, 2), (1, 2, 1), (1, 1, 2))],
)
@pytest.mark.parametrize("operation", ["corr", "conv"])
def test_layers_are_the_loops(operation, groups, k, stride, dilation, rng):
    n = len(k)
    eighths = [rng.integers(-40, 40, shape) / 8 for shape in ((2, 4, *(5, 4, 3)[:n]), (4, 4 // groups, *k), (4,))]
    x, kernel, bias = eighths
    pads, words = [(1, 5), (0, 2), (3, 1)][:n], ["reflect", "wrap", "edge"][:n]
    flipped = np.flip(kernel, tuple(range(2, 2 + n))) if operation == "conv" else kernel
    expected = loops(x, flipped, bias, pads, words, stride, dilation, groups)
    options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": pads, "boundary": words, "bias": bias}
    result = reference(f"{operation}{n}d", x, kernel, **options)
    same(result.value, expected.astype(np.longdouble))  # eighths times eighths: longdouble rounds nothing
    magnitude = loops(abs(x), abs(flipped), abs(bias), pads, words, stride, dilation, groups)
    same(result.magnitude, magnitude.astype(np.longdouble))
    assert (result.taps, result.has_bias) == (np.prod(k) * 4 // groups + 1, True)

    last = np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2))
    same(final(f"{operation}{n}d", *last, channel_axis=-1, **options), np.moveaxis(result.final, 1, -1))
    one = final(f"{operation}{n}d", x[1], kernel, **options)
    same(one, result.final[1])


def test_center_lies_on_the_output_sample():
    x = np.arange(1, 6)
    for center in range(4):
        kernel = np.zeros(4, int)
        kernel[center] = 1
        same(final("corr1d", x, kernel, mode="same", center=center), x)
        same(final("conv1d", x, kernel[::-1], mode="same", center=(center,)), x)
    # The default of a dilated kernel, of three samples here, is its middle.
    same(final("corr1d", x, [1, 10], mode="same", dilation=2), np.array([20, 31, 42, 53, 4]))


def test_stride_is_subsampling(rng):
    x, kernel = rng.standard_normal((3, 9, 8)), rng.standard_normal((3, 2))
    for mode, stride in product(("valid", "same", "full"), ((2, 3), (4, 1), (20, 20))):
        every = final("corr2d", x, kernel, mode=mode)
        same(final("corr2d", x, kernel, mode=mode, stride=stride), every[:, :: stride[0], :: stride[1]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_convolution_is_correlation_with_the_flipped_kernel(case):
    n = int(case.name[4])
    kernel = case.kernel if isinstance(case.kernel, list) else np.asarray(case.kernel)
    first = case.keywords.get("channel_axis") is None or np.ndim(kernel) == n
    axes = range(np.ndim(kernel) - n, np.ndim(kernel)) if first else range(n)
    flipped = np.flip(kernel, tuple(axes))
    flipped = flipped.tolist() if isinstance(kernel, list) else flipped
    other = {"corr": "conv", "conv": "corr"}[case.name[:4]] + case.name[4:]
    one = reference(case.name, case.x, case.kernel, **case.keywords)
    two = reference(other, case.x, flipped, **case.keywords)
    same(one.final, two.final)
    assert (one.sum_dtype, one.taps) == (two.sum_dtype, two.taps)


def test_empty_arrays_give_what_the_formula_gives():
    assert final("corr1d", np.zeros((0, 5)), [1.0, 2.0]).shape == (0, 4)
    same(final("corr1d", np.zeros(0), [1.0, 2.0], mode="full", fill_value=3), np.array([9.0]))
    assert final("corr1d", np.zeros(0), [1.0, 2.0, 3.0], mode="same").shape == (0,)
    assert final("corr2d", np.zeros((0, 3)), np.ones((2, 2)), padding=1, stride=2).shape == (1, 2)
    bias = np.array([1.5, -2.0])
    y = final("corr1d", np.zeros((2, 0, 5)), np.zeros((2, 0, 3)), bias=bias)
    same(y, np.broadcast_to(bias[:, None], (2, 2, 3)))


def test_arrays_in_any_arrangement_and_unchanged(rng):
    x, kernel = rng.integers(-9, 9, (6, 7)).astype(np.int16), rng.integers(-9, 9, (3, 2)).astype(np.int16)
    expected = final("corr2d", x, kernel)
    for layout in ("fortran", "transposed", "reversed", "sliced", "readonly", "swapped"):
        arranged, k_arranged = cases._lay_out(x, layout), cases._lay_out(kernel, layout)
        before = arranged.tobytes()
        same(final("corr2d", arranged, k_arranged), expected)
        assert arranged.tobytes() == before


# ---- dtypes ----

f2, f4, f8, c8, c16 = np.float16, np.float32, np.float64, np.complex64, np.complex128
u1, i1, i2, u2, i4, i8, u8 = np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64, np.uint64
ARRAY = "array of the dtype"


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
        (i1, [2], f4, f4, f4),
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


# ---- invalid problems ----


@pytest.mark.parametrize(
    ("text", "name", "x", "kernel", "keywords"),
    [
        ("got 'corr4d'", "corr4d", (5,), (3,), {}),
        ("kernel (9, 9) does not fit x (5, 5)", "corr2d", (5, 5), (9, 9), {}),
        ("kernel (5,) does not fit x (4,)", "corr1d", (4,), (3,), {"dilation": 2}),
        ("does not fit x (2,) with pads [(1, 1)]", "corr1d", (2,), (5,), {"padding": 1}),
        ("does not fit x (0,)", "corr1d", (0,), (2,), {}),
        ("an empty axis has no samples for 'wrap'", "corr1d", (0,), (2,), {"mode": "full", "boundary": "wrap"}),
        ("kernel must have 2 axes (a filter) or 4 (a layer); got (3,)", "corr2d", (5, 5), (3,), {}),
        ("kernel must have 1 axes (a filter) or 3 (a layer); got ()", "corr1d", (5,), (), {}),
        ("kernel must not be empty; got (0,)", "corr1d", (5,), (0,), {}),
        ("kernel must not be empty; got (0, 2, 3)", "corr1d", (2, 5), (0, 2, 3), {}),
        ("a layer needs x of 2 or 3 axes; got (5,)", "corr1d", (5,), (1, 1, 3), {}),
        ("a layer takes no axes; got axes=1", "corr1d", (1, 5), (1, 1, 3), {"axes": 1}),
        ("channel_axis is None or -1; got 0", "corr1d", (1, 5), (3, 1, 1), {"channel_axis": 0}),
        ("x must have groups * 2 channels and the kernel's 3 outputs must divide by groups; got 4 channels and groups=2",
         "corr1d", (4, 5), (3, 2, 3), {"groups": 2}),
        ("got 3 channels and groups=1", "corr1d", (3, 5), (1, 2, 3), {}),
        ("groups needs a layer's kernel of 3 axes; got groups=2", "corr1d", (4, 5), (3,), {"groups": 2}),
        ("axes must be in x of 2 axes; got 2", "corr1d", (4, 5), (3,), {"axes": 2}),
        ("2 different axes beside the channel axis", "corr2d", (4, 5), (3, 3), {"axes": (0, -2)}),
        ("2 different axes beside the channel axis", "corr2d", (4, 5), (3, 3), {"channel_axis": -1}),
        ("got 'half'", "corr1d", (5,), (3,), {"mode": "half"}),
        ("mode or padding, not both; got 'same' and 1", "corr1d", (5,), (3,), {"mode": "same", "padding": 1}),
        ("padding must be an int >= 0, or 2 of them; got -1", "corr1d", (5,), (3,), {"padding": -1}),
        ("padding must have one entry for each of 2 axes; got (1,)", "corr2d", (5, 5), (3, 3), {"padding": (1,)}),
        ("stride must be an int >= 1, or 1 of them; got 0", "corr1d", (5,), (3,), {"stride": 0}),
        ("dilation must be an int >= 1, or 2 of them; got (1, 1, 1)", "corr2d", (5, 5), (3, 3), {"dilation": (1, 1, 1)}),
        ("center needs mode='same'; got mode=None", "corr1d", (5,), (3,), {"center": 1}),
        ("center must lie in the dilated kernel (3,); got 3", "corr1d", (5,), (3,), {"mode": "same", "center": 3}),
        ("for each of 1 axes; got 'mirror'", "corr1d", (5,), (3,), {"boundary": "mirror"}),
        ("for each of 1 axes; got ['edge', 'wrap']", "corr1d", (5,), (3,), {"boundary": ["edge", "wrap"]}),
        ("overflow must be one of saturate, wrap, raise; got 'clip'", "corr1d", (5,), (3,), {"overflow": "clip"}),
        ("bias must have the shape (2,); got ()", "corr1d", (1, 5), (2, 1, 3), {"bias": 1.0}),
        ("bias must have the shape (); got (1,)", "corr1d", (5,), (3,), {"bias": [1.0]}),
        ("bias must be real beside a float64 sum; got complex128", "corr1d", (5,), (3,), {"bias": 1j}),
    ],
)  # fmt: skip
def test_invalid_problems(text, name, x, kernel, keywords):
    with pytest.raises(ValueError) as error:
        reference(name, np.ones(x), np.ones(kernel), **keywords)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("text", "x", "kernel", "keywords"),
    [
        ("x must be of bools, integers, floats or complex numbers; got object", [None], [1], {}),
        ("got <U1", ["a"], [1], {}),
        (f"kernel must be of bools, integers, floats or complex numbers; got {np.dtype(np.longdouble)}", [1],
         np.ones(1, np.longdouble), {}),
        ("x must not be masked", np.ma.ones(3), [1.0], {}),
        ("dtype must be of integers, floats or complex; got bool", [1], [1], {"dtype": bool}),
        ("dtype must be of integers, floats or complex; got object", [1], [1], {"dtype": object}),
        ("dtype must be complex for complex128 sums; got float64", [1j], [1.0], {"dtype": float}),
        ("dtype must be complex for complex128 sums; got int64", [1], [1j], {"dtype": int}),
        ("bias must be whole numbers in an integer problem; got [0.5]", [1], [1], {"bias": 0.5}),
        ("bias must be whole numbers in an integer problem; got [nan]", [1], [1], {"bias": np.nan}),
        ("bias must be whole numbers in an integer problem; got [inf]", [1], [1], {"bias": np.inf}),
        ("bias must be whole numbers in an integer problem; got [1j]", [1], [1], {"bias": 1j}),
        ("fill_value must be exact in uint8; got 256", np.ones(1, u1), [1], {"fill_value": 256}),
        ("fill_value must be exact in uint8; got 0.5", np.ones(1, u1), [1], {"fill_value": 0.5}),
        ("fill_value must be exact in uint8; got nan", np.ones(1, u1), [1], {"fill_value": np.nan}),
        ("fill_value must be exact in float32; got 0.1", np.ones(1, f4), [1], {"fill_value": 0.1}),
        (f"fill_value must be exact in float64; got {2**53 + 1}", [1.0], [1], {"fill_value": 2**53 + 1}),
        (f"fill_value must be exact in int64; got {2**70}", [1], [1], {"fill_value": 2**70}),
        ("fill_value must be a number of float64; got 1j", [1.0], [1], {"fill_value": 1j}),
        ("fill_value must be a number of float64; got [0, 0]", [1.0], [1], {"fill_value": [0, 0]}),
    ],
)  # fmt: skip
def test_invalid_values(text, x, kernel, keywords):
    with pytest.raises(ValueError) as error:
        reference("corr1d", x, kernel, **keywords)
    assert text in str(error.value)


def test_exact_fill_values_and_whole_biases_pass():
    same(final("corr1d", np.ones(1, u1), [1, 1], padding=1, fill_value=2.0), np.array([3, 3]))
    same(final("corr1d", np.ones(1, f4), [1], padding=1, fill_value=np.nan), np.array([np.nan, 1, np.nan], f4))
    same(final("corr1d", np.ones(1, u1), np.ones(1, u1), bias=2.0), np.array([3], i4))


# ---- bounds ----


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
        weights = q.kernel.astype(oracle._promote(q, q.dtype)) if q.weak else q.kernel
        y = oracle._correlate(q, padded.astype(total), weights.astype(total))
        y = y + oracle._column(bias.astype(total), y.ndim)
    return oracle._final(q.restore(y), result, q.overflow)


@pytest.mark.parametrize("case", cases.covering_cases(), ids=lambda case: case.id)
def test_bounds_hold_for_sums_in_the_engines_dtype(case):
    answer = reference(case.name, case.x, case.kernel, **case.keywords)
    actual = summed(case)
    assert bounds.check(actual, answer, bounds.componentwise(answer)) <= 1
    constant = 0 if answer.sum_dtype.kind == "i" else bounds.gamma(2 * answer.taps, bounds.unit_roundoff(answer.sum_dtype))
    assert bounds.check(actual, answer, bounds.normwise(answer, constant)) <= 1
    assert bounds.check(answer.final, answer, bounds.componentwise(answer)) <= 1


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
    for text in (shown, " times the bound (1 of "):
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
    answer = reference("corr2d", X, K)
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
    infinite = reference("corr1d", [np.inf], [1.0], dtype=u1)
    with pytest.raises(AssertionError, match="must be inf .* got 254"):
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


# ---- cases, strategies, imports ----


def test_covering_cases_hold_every_allowed_pair():
    rows = list(cases.covering_rows(cases.Seeded(7)))
    held = {(a, row[a], b, row[b]) for row in rows for a, b in combinations(cases.TRAITS, 2)}
    for a, b in combinations(cases.TRAITS, 2):
        for value, other in product(cases.TRAITS[a], cases.TRAITS[b]):
            if cases._allowed({a: value}, b, other):
                assert (a, value, b, other) in held
            else:
                assert (a, value, b, other) not in held


def test_covering_cases_are_many_and_the_same_every_time():
    one, two = cases.covering_cases(), cases.covering_cases()
    assert 300 <= len(one) <= 400
    assert len({case.id for case in one}) == len(one)
    for a, b in zip(one, two, strict=True):
        assert (a.id, a.name, str(a.keywords)) == (b.id, b.name, str(b.keywords))
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.kernel, b.kernel)


def test_ids_say_where_nan_and_infinity_are():
    for case in cases.covering_cases():
        more = [case.keywords.get(name, 0) for name in ("bias", "fill_value")]
        poisoned = any(not np.isfinite(np.asarray(numbers)).all() for numbers in (case.x, case.kernel, *more))
        assert poisoned == case.id.endswith(("-nan", "-inf")), case.id


@settings(max_examples=100, deadline=None, derandomize=True)
@given(problems())
def test_every_drawn_problem_is_valid(case):
    answer = reference(case.name, case.x, case.kernel, **case.keywords)
    assert bounds.check(summed(case), answer, bounds.componentwise(answer)) <= 1


@settings(max_examples=20, deadline=None, derandomize=True)
@given(problems(values=["nan"], mode=["full", "same"], ndim=[1]))
def test_traits_narrow_what_is_drawn(case):
    assert case.name in ("corr1d", "conv1d") and case.id.endswith("-nan")
    assert case.keywords["mode"] in ("full", "same")


def test_traits_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"shape must be one that goes with .*'valid'.*; got \['larger'\]"):
        cases.draw_row(cases.Seeded(0), {"mode": ["valid"], "shape": ["larger"]})
    with pytest.raises(ValueError, match="traits are x_dtype, .*; got colour"):
        cases.draw_row(cases.Seeded(0), {"colour": ["red"]})


def test_the_oracle_imports_nothing_of_the_engine():
    folder = Path(convengine.testing.__file__).parent
    for module in ("arguments", "oracle", "bounds", "cases", "strategies"):
        tree = ast.parse((folder / f"{module}.py").read_text())
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.startswith("convengine") and not name.startswith("convengine.testing.")]


def test_importing_testing_loads_neither_hypothesis_nor_scipy():
    code = "import sys, convengine.testing; print({'hypothesis', 'scipy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
    assert convengine.testing.strategies.problems is problems
    with pytest.raises(AttributeError, match="got 'oracles'"):
        convengine.testing.oracles  # noqa: B018
