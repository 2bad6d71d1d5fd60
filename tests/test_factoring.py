"""Outer products in the place of kernels: found where a kernel was rounded, exact for integers, proven or declined."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose

from convengine import filters
from convengine.boundary import Boundary
from convengine.factoring import Promise, factor, promise
from convengine.low_rank import matrix_rank, roundoff, separate
from convengine.native import values
from convengine.plugin import Declined, direct_error
from convengine.problem import KernelFacts, Problem

SHARPEN = [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
LAPLACIAN = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
SOBEL = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
BINOMIAL = np.multiply.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])


def gaussian(height, width):
    def samples(size):
        return np.exp(-np.square(np.linspace(-2.5, 2.5, size)))

    kernel = np.multiply.outer(samples(height), samples(width))
    return kernel / kernel.sum()


def question(kernel, x_dtype=None, out_dtype=None, bias=False, **changes):
    x_dtype = np.dtype(x_dtype or kernel.dtype)
    natural = np.result_type(x_dtype, kernel.dtype)
    values = {
        "op": "forward",
        "x_shape": (500, 500),
        "kernel_shape": kernel.shape,
        "out_shape": (500, 500),
        "x_dtype": x_dtype,
        "kernel_dtype": kernel.dtype,
        "out_dtype": np.dtype(out_dtype or natural),
        "has_bias": bias,
        "overflow": "saturate",
        "pads": ((9, 9), (9, 9)),
        "boundary": (Boundary.REFLECT,) * 2,
        "fill_value": 0,
        "stride": (1, 1),
        "dilation": (1, 1),
        "groups": 1,
        "memory": "host",
    }
    return Problem(**values | changes)


def promised_and_factored(kernel, **keywords):
    problem = question(kernel, **keywords)
    promised = promise(problem, KernelFacts.of(kernel, 2))
    assert promised is not None
    return problem, promised, factor(problem, kernel, promised)


def exactly(values):
    return [[Fraction(float(value)) for value in row] for row in np.atleast_2d(values)]


def missed(kernel, factors):
    """|K - sum of products| of every tap, as fractions."""
    columns, rows = exactly(factors.columns), exactly(factors.rows)
    ranks = range(len(columns))
    return [
        [abs(tap - sum(columns[r][i] * rows[r][j] for r in ranks)) for j, tap in enumerate(line)]
        for i, line in enumerate(exactly(kernel))
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 3), (2, 9), (7, 5), (15, 31), (63, 63), (129, 301)])
def test_rounded_outer_products_have_rank_one(dtype, shape):
    kernel = gaussian(*shape).astype(dtype)
    assert matrix_rank(kernel) == 1
    column, row, dropped = separate(kernel)
    assert dropped <= 6 * roundoff(np.dtype(dtype)) * (1 if dtype == np.float32 else 4)
    assert np.abs(np.multiply.outer(column, row) - kernel).max() <= dropped * kernel.max()


def test_a_kernel_that_was_rounded_more_than_once_has_rank_one():
    kernel = gaussian(21, 21).astype(np.float32)
    kernel = (kernel / kernel.sum()) * np.float32(0.3)
    assert KernelFacts.of(kernel, 2).rank == 1


@pytest.mark.parametrize("kernel", [SHARPEN, LAPLACIAN, filters.log(1.5), filters.laplacian()], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_outer_products_have_rank_two(kernel, dtype):
    facts = KernelFacts.of(np.asarray(kernel, dtype), 2)
    assert (facts.rank, facts.dropped) == (2, math.inf)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, np.float64])
def test_whole_numbers_are_met_exactly(dtype):
    for kernel in (np.abs(SOBEL), BINOMIAL, np.full((5, 3), 7), np.multiply.outer([0, 6, 0], [4, 0, 10, 2])):
        facts = KernelFacts.of(np.asarray(kernel, dtype), 2)
        assert (facts.rank, facts.dropped) == (1, 0)


def test_signs_and_scales_are_met_exactly():
    for kernel in (np.array(SOBEL, np.float32), (BINOMIAL / 256).astype(np.float32), np.array(SOBEL) * 2.0**-900):
        column, row, dropped = separate(kernel)
        assert dropped == 0
        np.testing.assert_array_equal(np.multiply.outer(column, row), kernel)


def test_integers_that_no_product_gives_are_not_separable():
    nearly = BINOMIAL.copy()
    nearly[2, 2] += 1
    assert KernelFacts.of(nearly, 2).rank == 2
    assert separate(nearly)[2] == math.inf
    assert separate(np.array([[2**40, 2**41]]))[2] == math.inf  # not divided: products might pass int64


def whole_fit(matrix, scaled=True):
    """The outer product that was found, as fractions; None where none was."""
    matrix = np.ascontiguousarray(matrix, np.float64)
    column, row = np.empty(len(matrix)), np.empty(matrix.shape[1])
    if not values.whole_fit(matrix, scaled, column, row):
        return None
    return [[down * along for along in exactly(row)[0]] for down in exactly(column)[0]]


@pytest.mark.parametrize("exponent", [-1074, -1073, -900, -31, -1, 0, 1, 31, 900, 961, 992])
def test_multiples_of_a_power_of_two_are_met(exponent):
    rng = np.random.default_rng(exponent % 1000)
    for most in (1, 2, 5, 46340):  # whose squares are below 2**31
        column, row = rng.integers(-most, most + 1, 4), rng.integers(-most, most + 1, 3)
        matrix = np.ldexp(np.multiply.outer(column, row).astype(float), exponent)
        assert whole_fit(matrix) == exactly(matrix)
        matrix[rng.integers(4), rng.integers(3)] += np.ldexp(1.0, exponent)
        assert whole_fit(matrix) in (None, exactly(matrix))  # as where a factor was zeros


def test_where_whole_numbers_end():
    below, above = 2.0**31 - 1, 2.0**31 + 1
    assert whole_fit([[below, -below], [below, -below]]) == exactly([[below, -below], [below, -below]])
    assert whole_fit([[above, 1.0], [above, 1.0]]) is None
    assert whole_fit([[2.0**31] * 2] * 2) == exactly([[2.0**31] * 2] * 2)
    assert whole_fit([[2.0**31] * 2] * 2, scaled=False) is None
    assert whole_fit([[0.5, 1.0]] * 2, scaled=False) is None
    assert whole_fit([[0.1, 0.2]] * 2) is None
    assert whole_fit(np.zeros((2, 3))) == exactly(np.zeros((2, 3)))
    assert whole_fit([[math.nan, 1.0], [1.0, 1.0]]) is None
    assert whole_fit([[math.inf, 1.0], [1.0, 1.0]]) is None


def test_factors_are_not_looked_for_where_they_save_nothing():
    for shape in ((1, 9), (9, 1)):
        facts = KernelFacts.of(np.ones(shape), 2)
        assert (facts.rank, facts.dropped) == (1, math.inf)


@pytest.mark.parametrize("kernel", [np.zeros((3, 3)), np.zeros((3, 3), np.int8), np.full((3, 3), 5e-324)])
def test_nothing_is_said_of_zeros_and_underflow(kernel):
    assert matrix_rank(kernel) == 0


def test_random_kernels_have_full_rank():
    rng = np.random.default_rng(0)
    for shape in ((3, 3), (5, 8), (9, 9)):
        assert matrix_rank(rng.standard_normal(shape)) == min(shape)
        assert matrix_rank(rng.standard_normal(shape) + 1j) == min(shape)
    assert matrix_rank(rng.standard_normal((200, 200))) == 0  # not counted to the end


def test_tails_lost_to_underflow_leave_rank_one_without_a_bound_for_each_tap():
    tails = np.exp(-np.square(np.arange(-31.0, 32.0)) / 18)
    kernel = np.multiply.outer(tails, tails).astype(np.float32)
    assert (kernel == 0).any()
    facts = KernelFacts.of(kernel, 2)
    assert (facts.rank, facts.dropped) == (1, math.inf)
    promised = promise(question(kernel), facts)
    assert promised.normwise and promised.rank == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3, 3), (5, 9), (31, 17)])
@pytest.mark.parametrize("bias", [False, True])
def test_rank_one_keeps_its_promise_for_every_tap(dtype, shape, bias):
    kernel = gaussian(*shape).astype(dtype)
    problem, promised, factors = promised_and_factored(kernel, bias=bias)
    assert not promised.normwise
    assert factors.columns.dtype == factors.rows.dtype == dtype
    part = max(m / abs(k) for ms, ks in zip(missed(kernel, factors), exactly(kernel), strict=True)
               for m, k in zip(ms, ks, strict=True))  # fmt: skip
    terms, u = Fraction(sum(shape) + bias), Fraction(roundoff(problem.sum_dtype))
    gamma = terms * u / (1 - terms * u)
    assert gamma * (1 + part) + part <= Fraction(promised.error)
    assert part <= direct_error(problem)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_rank_two_keeps_its_promise_in_the_norm(dtype, sigma):
    kernel = filters.log(sigma).astype(dtype)
    problem, promised, factors = promised_and_factored(kernel)
    assert promised.normwise and promised.rank == 2
    rest = np.array(missed(kernel, factors)).astype(np.longdouble)
    norm = np.linalg.norm(kernel.astype(np.longdouble).ravel())
    magnitudes = np.einsum("ri,rj->ij", np.abs(factors.columns), np.abs(factors.rows)).astype(np.longdouble)
    terms, u = kernel.shape[0] + 2 * kernel.shape[1], roundoff(problem.sum_dtype)
    proven = terms * u / (1 - terms * u) * np.sqrt((magnitudes**2).sum()) + np.sqrt((rest**2).sum())
    assert proven <= promised.error * norm


def test_factors_are_scaled_against_overflow_and_underflow():
    for scale in (2.0**-20, 1.0, 2.0**100):
        _, _, factors = promised_and_factored((gaussian(9, 7) * scale).astype(np.float32))
        assert 7 / 2 <= np.abs(factors.rows).sum() <= 7


def test_integer_factors_are_integers():
    problem, promised, factors = promised_and_factored(BINOMIAL.astype(np.int8), x_dtype=np.uint8, out_dtype=np.int32)
    assert (promised.error, promised.normwise) == (0, False)
    assert factors.columns.dtype == factors.rows.dtype == problem.sum_dtype == np.int32
    np.testing.assert_array_equal(np.multiply.outer(factors.columns[0], factors.rows[0]), BINOMIAL)


@pytest.mark.parametrize(
    ("kernel", "keywords"),
    [
        (gaussian(5, 5).astype(np.float32), {"x_dtype": np.float64}),  # the sum is finer than the kernel's rounding
        (gaussian(5, 5).astype(np.float16), {"x_dtype": np.float32}),
        (np.random.default_rng(0).standard_normal((5, 5)), {}),
        (gaussian(2, 2), {}),  # saves nothing
        (gaussian(1, 9), {}),
        (filters.laplacian(), {}),
        (gaussian(5, 5), {"out_dtype": np.complex128}),
        (gaussian(5, 5), {"op": "grad_kernel"}),
        (np.array(LAPLACIAN), {}),
    ],
    ids=str,
)
def test_what_is_not_promised(kernel, keywords):
    assert promise(question(kernel, **keywords), KernelFacts.of(kernel, 2)) is None


def test_exact_factors_serve_finer_sums():
    kernel = (BINOMIAL / 256).astype(np.float32)
    _, promised, factors = promised_and_factored(kernel, x_dtype=np.float64)
    assert not promised.normwise
    np.testing.assert_array_equal(np.multiply.outer(factors.columns[0], factors.rows[0]), kernel)


def test_a_promise_that_is_not_kept_is_declined():
    kernel = np.random.default_rng(0).standard_normal((7, 7))
    for rank, normwise in ((1, False), (1, True), (2, True)):
        with pytest.raises(Declined, match="was promised"):
            factor(question(kernel), kernel, Promise(rank, 1e-12, normwise))
    with pytest.raises(Declined, match="no whole numbers"):
        factor(question(np.array(LAPLACIAN)), np.array(LAPLACIAN), Promise(1, 0.0, False))


def test_factors_of_large_taps():
    kernel = np.multiply.outer([1.0, 2.0, 3.1, 2.0], [1.0, 2.0, 3.0, 2.0, 1.0]) * 1e307  # whose squares overflow
    promised = promise(question(kernel), KernelFacts.of(kernel, 2))
    factors = factor(question(kernel), kernel, promised)
    assert_allclose(np.multiply.outer(factors.columns[0], factors.rows[0]), kernel, rtol=1e-14)


def test_factors_that_do_not_keep_a_promise_are_declined():
    kernel = gaussian(9, 9)
    promised = promise(question(kernel), KernelFacts.of(kernel, 2))
    with pytest.raises(Declined, match="was promised"):
        factor(question(kernel), kernel, replace(promised, error=promised.error / 4))


@pytest.mark.parametrize("tap", [math.nan, math.inf])
def test_what_is_not_finite_has_no_factors(tap):
    assert separate(np.array([[tap, 1.0], [2.0, 3.0]]))[2] == math.inf
