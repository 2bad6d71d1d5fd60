"""Separable filters and boxes at every level: bounds, borders, steps, NaN and infinity, bits, choice."""

import numpy as np
import pytest

import convengine as ce
from convengine import filters
from convengine.testing import Case, oracle, runner

BOUNDARIES = ["constant", "edge", "reflect", "symmetric", "wrap"]


def methods(x, kernel, workers=None, name="corr2d", **keywords):
    """The compiled methods by name without the level: "direct", "separable rank 1", "box"."""
    given = runner.methods("cython", Case("here", name, x, kernel, keywords), workers=workers)
    return {method.name.rpartition(", ")[0]: method for method in given}


def assert_proven(wanted, x, kernel, name="corr2d", **keywords):
    """A method is offered, and every method is within its bound."""
    fractions = runner.examine("cython", Case("here", name, x, kernel, keywords))
    assert any(method.startswith(wanted) for method in fractions), fractions


def product(height, width, dtype, seed=0):
    rng = np.random.default_rng(seed)
    column, row = rng.standard_normal(height), rng.standard_normal(width)
    if np.dtype(dtype).kind in "iu":
        column, row = np.rint(3 * column), np.rint(3 * row)
        column[0] = row[0] = 1
    return np.multiply.outer(column, row).astype(dtype)


def cross(height, width, dtype):
    rng = np.random.default_rng(1)
    kernel = np.zeros((height, width))
    kernel[:, width // 2] = rng.standard_normal(height)
    kernel[height // 2] += rng.standard_normal(width)
    return kernel.astype(dtype)


WIDTHS = [
    (3, 3),
    (2, 9),
    (9, 2),
    (5, 5),
    (4, 7),
    (7, 9),
    (3, 11),
    (4, 13),
    (5, 15),
    (3, 16),
    (3, 17),
    (4, 33),
    (3, 70),
    (40, 3),
]


@pytest.mark.parametrize("shape", WIDTHS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_every_width_around_the_vectors(level, dtype, shape):
    rng = np.random.default_rng(2)
    kernel = product(*shape, np.int8 if dtype == np.int16 else dtype)
    for width in (shape[1], shape[1] + 1, 15 + shape[1], 129 + shape[1], 700):
        for height in (shape[0], shape[0] + 3, shape[0] + 6):
            x = (rng.standard_normal((height, width)) * 99).astype(dtype)
            assert_proven("separable rank 1", x, kernel)
            boundary = BOUNDARIES[(width + height) % 5]
            assert_proven("separable rank 1", x, kernel, mode="same", boundary=boundary, fill_value=3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 5), (7, 9), (3, 40), (19, 18)], ids=str)
def test_two_products(level, dtype, shape):
    x = np.random.default_rng(3).standard_normal((50, 333)).astype(dtype)
    for boundary in BOUNDARIES:
        assert_proven("separable rank 2", x, cross(*shape, dtype), mode="same", boundary=boundary)
    assert_proven("separable rank 2", x, filters.log(2).astype(dtype), mode="full")


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 4), (5, 1)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, (3, 1), (1, 5)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stride_and_dilation(level, stride, dilation, dtype):
    x = np.random.default_rng(4).standard_normal((37, 130)).astype(dtype)
    for shape in ((3, 3), (2, 9), (9, 5), (3, 20)):
        for boundary in ("reflect", "constant"):
            steps = {"stride": stride, "dilation": dilation, "boundary": boundary, "fill_value": 0.5}
            assert_proven("separable rank 1", x, product(*shape, dtype), mode="same", **steps)


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_interleaved_channels(level, dtype, channels):
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((21, 230, channels)) * 50).astype(dtype)
    for shape in ((3, 5), (5, 20)):
        kernel = product(*shape, np.int8 if dtype == np.uint8 else dtype)
        for keywords in ({"mode": "same", "boundary": "wrap"}, {"stride": 2, "dilation": 2}):
            assert_proven("separable rank 1", x, kernel, channel_axis=-1, **keywords)
    if dtype == np.uint8:
        assert_proven("box", x, np.full((3, 9), 2, np.uint8), channel_axis=-1, mode="same", boundary="edge")


@pytest.mark.parametrize("shape", [(13, 17), (3, 50)], ids=str)
def test_kernels_much_larger_than_x(level, shape):
    rng = np.random.default_rng(6)
    for boundary in BOUNDARIES:
        x = rng.standard_normal((3, 2)).astype(np.float32)
        assert_proven("separable rank 1", x, product(*shape, np.float32), mode="full", boundary=boundary)
        x = rng.integers(0, 99, (3, 2), np.uint8)
        assert_proven("box", x, np.ones(shape, np.uint8), mode="same", boundary=boundary)
    assert_proven("box", np.zeros((0, 7), np.uint8), np.ones((2, 3), np.uint8), padding=(3, 2), fill_value=2)


def test_batch_bias_conversions_and_layouts(level):
    rng = np.random.default_rng(7)
    room = rng.standard_normal((3, 40, 150))
    kernel = product(5, 9, np.float32)
    assert_proven("separable rank 1", room.astype(np.float32), kernel, bias=0.5, mode="same")
    for dtype in (np.uint8, np.int16, np.float16):
        x = (np.abs(room) * 40).astype(dtype)
        out = {"dtype": np.int8} if dtype == np.uint8 else {}
        assert_proven("separable rank 1", x, kernel, mode="same", boundary="symmetric", **out)
        assert_proven("separable rank 1", x[:, ::-1, ::-2], kernel)
        assert_proven("separable rank 1", x.transpose(0, 2, 1), kernel)
    whole = np.full((7, 9), -2, np.int8)
    x = (room * 50).astype(np.int16)
    for keywords in ({"bias": -7}, {"dtype": np.uint8}, {"dtype": np.int8, "overflow": "wrap"}, {"mode": "full"}):
        assert_proven("box", x, whole, **keywords)
    assert_proven("box", x[:, ::-2, ::-1], whole)


@pytest.mark.parametrize("shape", [(1, 2), (1, 40), (2, 1), (40, 1), (5, 7), (13, 21)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint16])
def test_boxes(level, dtype, shape):
    x = np.random.default_rng(8).integers(0, 99, (47, 600)).astype(dtype)
    for boundary in BOUNDARIES:
        assert_proven("box", x, np.full(shape, 3, np.uint8), mode="same", boundary=boundary, fill_value=9)
    assert_proven("box", x[0], np.full(shape[1] + 1, 3, np.int8), name="corr1d", mode="full")


def test_boxes_at_the_ends_of_their_dtypes(level):
    for shape in ((3, 4), (2, 1), (1, 2)):
        x = np.full((9, 40), (2**63 - 1) // np.prod(shape), np.int64)
        x[2:5] *= -1
        assert_proven("box", x, np.ones(shape, np.int8))


def poisoned(shape, dtype, seed=9):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    for value in (np.nan, np.inf, -np.inf):
        for _ in range(4):
            x[rng.integers(shape[0]), rng.integers(shape[1])] = value
    return x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_and_infinity_reach_exactly_their_outputs(level, dtype):
    x = poisoned((30, 400), dtype)
    tails = np.exp(-np.square(np.arange(-10.0, 11.0)))  # whose products underflow
    holes = product(5, 9, dtype)
    holes[2], holes[:, 4] = 0, 0
    kernels = [product(5, 5, dtype), holes, np.multiply.outer(tails, tails).astype(dtype), cross(7, 9, dtype)]
    for kernel in kernels:
        for keywords in ({"boundary": "wrap"}, {"dilation": 2, "stride": (1, 2), "fill_value": np.inf}):
            assert_proven("separable", x, kernel, mode="same", **keywords)


def test_outputs_beside_nan_keep_their_bits(level):
    """A row that holds NaN is computed twice; what NaN does not reach stays as it was."""
    x = np.random.default_rng(10).standard_normal((40, 900)).astype(np.float32)
    other = x.copy()
    other[20, 450] = np.nan
    for kernel in (product(5, 9, np.float32), cross(7, 9, np.float32)):
        plain, beside = (next(m for n, m in methods(y, kernel).items() if n != "direct")(y) for y in (x, other))
        reached = np.isnan(beside)
        assert reached.sum() == kernel.size
        np.testing.assert_array_equal(plain[~reached], beside[~reached])


def test_columns_that_overflow_are_summed_directly(level):
    """A column sum passes the largest float where the direct sum, by small taps, does not."""
    big = np.finfo(np.float32).max
    x = np.zeros((30, 300), np.float32)
    x[10:13, 100] = big
    kernel = np.multiply.outer([1, 1, 1, 1], [2.0**-9, 2.0**-3, 2.0**3]).astype(np.float32) * np.float32(0.3)
    reference = oracle.reference("corr2d", x, kernel, mode="same")
    found = methods(x, kernel, mode="same")
    y = found["separable rank 1"](x)
    assert np.isinf(y).any() == np.isinf(reference.final).any()
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(reference.final))


def test_sums_of_subnormals_are_exact(level):
    tiny = np.finfo(np.float32).smallest_subnormal
    x = np.random.default_rng(11).integers(-99, 99, (20, 90)).astype(np.float32)
    kernel = np.multiply.outer([1, 4, 6, 4, 1], [1, 2, 0, -2, -1]).astype(np.float32)
    y = methods(x, kernel)["separable rank 1"](x * tiny)
    np.testing.assert_array_equal(y, oracle.reference("corr2d", x, kernel).final * tiny)


def cases_of_bits():
    rng = np.random.default_rng(12)
    image = rng.standard_normal((200, 2300)).astype(np.float32)
    whole = rng.integers(0, 255, (300, 1100)).astype(np.uint8)
    yield image, product(9, 21, np.float32), {"mode": "same", "boundary": "reflect"}
    yield image, cross(9, 7, np.float32), {"mode": "same", "dilation": (2, 1)}
    yield whole, product(7, 5, np.int8), {"mode": "full", "stride": (1, 2)}
    yield whole, np.ones((15, 31), np.uint8), {"mode": "same", "boundary": "edge"}


@pytest.mark.parametrize("number", range(4))
def test_workers_batch_and_layout_change_no_bit(level, number):
    x, kernel, keywords = list(cases_of_bits())[number]
    name, alone = next((n, m) for n, m in methods(x, kernel, workers=1, **keywords).items() if n != "direct")
    wanted = alone(x)
    stack = np.stack([x[::-1], x])
    fortran = np.asfortranarray(x)
    for workers in (2, 3, 7):
        np.testing.assert_array_equal(methods(x, kernel, workers=workers, **keywords)[name](x), wanted)
    np.testing.assert_array_equal(methods(stack, kernel, **keywords)[name](stack)[1], wanted)
    np.testing.assert_array_equal(methods(fortran, kernel, **keywords)[name](fortran), wanted)


def test_large_results_go_past_the_caches(level):
    """Results of 16 MB and more are stored otherwise: aligned or not, the same bits."""
    x = np.random.default_rng(13).standard_normal((2100, 2053)).astype(np.float32)
    kernel = product(3, 5, np.float32)
    found = methods(x, kernel)["separable rank 1"]
    y = found(x)
    for rows in (slice(0, 50), slice(1000, 1101), slice(2000, 2100)):
        np.testing.assert_array_equal(
            y[rows.start : rows.stop - 2], methods(x[rows], kernel)["separable rank 1"](x[rows])
        )
    room = np.zeros(y.size * 4 + 64, np.uint8)
    for offset in (0, 4, 20):
        out = np.frombuffer(room, np.float32, y.size, offset).reshape(y.shape)
        np.testing.assert_array_equal(found(x, out), y)


def test_what_is_chosen(level):
    def chosen(kernel, dtype=np.float32, side=1500):
        x = np.empty((side, side), dtype)
        return ce.explain(x, kernel, backend="cython", mode="same").chosen.method

    assert chosen(np.full((3, 3), 0.1, np.float32) + np.eye(3, dtype=np.float32)) == f"direct, {level}"
    assert chosen(filters.gaussian(2.0)) == f"separable rank 1, {level}"
    assert chosen(filters.log(3.0).astype(np.float32)) == f"separable rank 2, {level}"
    assert chosen(filters.box(9)) == f"separable rank 1, {level}"
    assert chosen(np.ones((31, 31), np.uint8), np.uint8) == f"box, {level}"
    assert chosen(np.ones((3, 3), np.float32), side=8) == f"direct, {level}"


def test_strict_allows_no_second_product():
    x, kernel = np.zeros((900, 900), np.float32), filters.log(3.0).astype(np.float32)
    with ce.options(strict=True):
        explained = ce.explain(x, kernel, backend="cython")
    assert explained.chosen.method.startswith("direct")
    assert "normwise" in str(explained)


def test_a_gradient_of_the_input_is_separable_too():
    kernel = filters.gaussian(3.0).astype(np.float32)
    dy = np.random.default_rng(14).standard_normal((300, 400)).astype(np.float32)
    grown = (300 + kernel.shape[0] - 1, 400 + kernel.shape[1] - 1)
    fractions = runner.examine("cython", Case("here", "corr2d_grad_input", dy, kernel, {"x_shape": grown}))
    assert any(name.startswith("separable rank 1") for name in fractions)
