"""The oracle against other libraries' answers, the definition's loops, and the rules of dtypes and errors."""

import ast
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings

import convengine.testing
from convengine.testing import cases
from convengine.testing.arguments import BOUNDARIES
from convengine.testing.oracle import pad, reference
from convengine.testing.strategies import problems

X = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
K = [[0, 1], [2, 3]]


def final(*arguments, **keywords):
    return reference(*arguments, **keywords).final


def same(actual, expected):
    """Equal in dtype, shape and every value."""
    np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


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
    options = {"stride": stride, "dilation": dilation, "groups": groups, "bias": bias}
    options |= {"padding": pads, "boundary": words}
    result = reference(f"{operation}{n}d", x, kernel, **options)
    same(result.value, expected.astype(np.longdouble))  # eighths times eighths: longdouble rounds nothing
    magnitude = loops(abs(x), abs(flipped), abs(bias), pads, words, stride, dilation, groups)
    same(result.magnitude, magnitude.astype(np.longdouble))
    assert (result.taps, result.has_bias) == (np.prod(k) * 4 // groups + 1, True)

    last = np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2))
    same(final(f"{operation}{n}d", *last, channel_axis=-1, **options), np.moveaxis(result.final, 1, -1))
    one = final(f"{operation}{n}d", x[1], kernel, **options)
    same(one, result.final[1])


def test_filters_take_every_other_axis_as_a_batch(rng):
    photo, kernel = rng.integers(0, 255, (6, 7, 3), np.uint8), rng.integers(-9, 9, (2, 3))
    planes = [scipy.ndimage.correlate(photo[..., c].astype(int), kernel)[1:, 1:-1] for c in range(3)]
    expected = np.stack(planes, axis=-1)
    same(final("corr2d", photo, kernel, channel_axis=-1), expected)
    same(final("corr2d", photo, kernel, channel_axis=2), expected)
    same(final("corr2d", photo, kernel, axes=(0, 1)), expected)
    same(final("corr2d", photo, kernel.T, axes=(-2, -3)), expected)
    same(final("corr2d", np.moveaxis(photo, -1, 0), kernel), np.moveaxis(expected, -1, 0))
    same(final("corr2d", photo.swapaxes(1, 2), kernel, channel_axis=1), expected.swapaxes(1, 2))
    same(final("corr1d", photo, kernel[0], axes=0), final("corr2d", photo, kernel[:1].T, channel_axis=-1))


def test_the_order_of_axes_is_that_of_every_keyword(rng):
    x, kernel = rng.integers(-9, 9, (8, 9)), rng.integers(-9, 9, (2, 3))
    options = {"stride": (1, 2), "dilation": (2, 1), "padding": ((1, 0), 4), "boundary": ("edge", "wrap")}
    swapped = {name: value[::-1] for name, value in options.items()}
    same(final("corr2d", x, kernel, axes=(1, 0), **options), final("corr2d", x, kernel.T, **swapped))


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
        ("must have groups * 2 channels and the kernel's 3 outputs must divide by groups; got 4 channels and groups=2",
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
        ("stride must be an int >= 1, or 1 of them; got 1.0", "corr1d", (5,), (3,), {"stride": 1.0}),
        ("must be an int >= 1, or 2 of them; got (1, 1, 1)", "corr2d", (5, 5), (3, 3), {"dilation": (1, 1, 1)}),
        ("center needs mode='same'; got mode=None", "corr1d", (5,), (3,), {"center": 1}),
        ("center must lie in the dilated kernel (3,); got 3", "corr1d", (5,), (3,), {"mode": "same", "center": 3}),
        ("for each of 1 axes; got 'mirror'", "corr1d", (5,), (3,), {"boundary": "mirror"}),
        ("for each of 1 axes; got ['edge', 'wrap']", "corr1d", (5,), (3,), {"boundary": ["edge", "wrap"]}),
        ("overflow must be one of saturate, wrap, raise; got 'clip'", "corr1d", (5,), (3,), {"overflow": "clip"}),
        ("bias must be one number or 2; got the shape (1,)", "corr1d", (1, 5), (2, 1, 3), {"bias": [1.0]}),
        ("bias must be one number or 1; got the shape (2,)", "corr1d", (5,), (3,), {"bias": [1.0, 2.0]}),
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


def test_one_bias_serves_all_channels():
    x, kernel = np.ones((1, 1)), np.ones((2, 1, 1))
    same(final("corr1d", x, kernel, bias=2), final("corr1d", x, kernel, bias=[2, 2]))
    same(final("corr1d", x[0], [1.0], bias=2), final("corr1d", x[0], [1.0], bias=[2]))


# ---- imports ----


def test_the_oracle_imports_nothing_of_the_engine():
    folder = Path(convengine.testing.__file__).parent
    for module in ("arguments", "oracle", "bounds", "cases", "strategies"):
        tree = ast.parse((folder / f"{module}.py").read_text())
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.startswith("convengine") and "convengine.testing." not in name]


def test_importing_testing_loads_neither_hypothesis_nor_scipy():
    code = "import sys, convengine.testing; print({'hypothesis', 'scipy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
    assert convengine.testing.strategies.problems is problems
    with pytest.raises(AttributeError, match="got 'oracles'"):
        convengine.testing.oracles  # noqa: B018
