"""The compiled tiles of the fft backend, at every level: the bound by each tile's own norm, borders, exactness."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from itertools import product
from typing import Any

import numpy as np
import pytest
from convengine_fft import compiled
from convengine_fft.tiling import Tiling

import convengine as ce
from convengine import roots
from convengine.fft_error import pair_error_factor
from convengine.native import cpu
from convengine.testing import bounds
from convengine.testing.oracle import reference

LEVELS = [level for level in cpu.levels() if level in compiled.compiled_levels()]
LENGTHS = list(roots.RADICES)
INF, NAN = np.inf, np.nan
Force = Callable[..., None]


@pytest.fixture(params=LEVELS, autouse=True)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run every test at each level; the plan cache knows nothing of the environment."""
    monkeypatch.setenv("CONVENGINE_ISA", request.param)
    ce.clear_cache()
    yield request.param
    ce.clear_cache()


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Force:
    """Cut every problem into tiles of the size called for."""

    def force(*size: int) -> None:
        monkeypatch.setattr(compiled, "tilings", lambda problem, costs: iter([Tiling.of(problem, size)]))
        monkeypatch.setattr(compiled, "seconds", lambda *_: 0.0)
        ce.clear_cache()

    return force


def fft(name: str, x: Any, kernel: Any, *, workers: int = 1, **keywords: Any) -> Any:
    return getattr(ce, name)(x, kernel, backend="fft", workers=workers, **keywords)


def offer_of(name: str, x: Any, kernel: Any, **keywords: Any) -> Any:
    chosen = ce.explain(x, kernel, op=name, backend="fft", workers=1, **keywords).chosen
    assert chosen is not None
    assert chosen.offer.method.startswith("fft tile ")
    return chosen.offer


def hold(name: str, x: Any, kernel: Any, **keywords: Any) -> float:
    """The largest error as a fraction of the bound that the offer proves; the check itself fails beyond 1."""
    expected = reference(name, x, kernel, **keywords)
    bound = bounds.normwise(expected, offer_of(name, x, kernel, **keywords).error)
    return bounds.check(fft(name, x, kernel, **keywords), expected, bound)


def normal(*shape: int, dtype: str = "f8", seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


# ---- the transform


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("tile", [pair for pair in product(LENGTHS, LENGTHS) if max(pair) <= 128], ids=str)
def test_every_tile_shape(tiles: Force, tile: tuple[int, int], dtype: str) -> None:
    # Tiles inside x, at each border, and partial ones.
    tiles(*tile)
    x = normal(*(5 * n // 2 for n in tile), dtype=dtype)
    assert hold("corr2d", x, normal(5, 6, dtype=dtype), mode="same", boundary="reflect") < 0.1


@pytest.mark.parametrize("tile", [(256, 16), (16, 256), (512, 32), (32, 512), (256, 512)], ids=str)
def test_long_tiles(tiles: Force, tile: tuple[int, int]) -> None:
    tiles(*tile)
    x = normal(*(9 * n // 8 for n in tile), dtype="f4")
    assert hold("corr2d", x, normal(2, 3, dtype="f4"), mode="full") < 0.1


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("log2", range(8, 17))
def test_every_length_of_a_signal(tiles: Force, log2: int, dtype: str) -> None:
    tiles(1 << log2)
    x = normal(5 << log2 >> 1, dtype=dtype)
    assert hold("conv1d", x, normal(9, dtype=dtype), mode="same", boundary="symmetric") < 0.1


def test_long_kernels(tiles: Force) -> None:
    tiles(262144)
    x, kernel = normal(300_000, dtype="f4"), normal(100_000, dtype="f4")
    assert offer_of("corr1d", x, kernel).method == "fft tile 262144"
    y, width = fft("corr1d", x, kernel), len(kernel)
    for i in (0, 1, 77_777, 162_144, 162_145, 200_000):
        exact = np.dot(x[i : i + width].astype("f8"), kernel.astype("f8"))
        assert abs(y[i] - exact) < 1e-6 * np.linalg.norm(x) * np.linalg.norm(kernel)


def test_a_kernel_wider_than_any_tile_is_left_to_scipy() -> None:
    methods = [row.method for row in ce.explain(np.ones((600, 600)), np.ones((513, 3)), backend="fft").rows]
    assert all(method.startswith("overlap-save") for method in methods)


def cosine(angle: Decimal) -> Decimal:
    term = total = Decimal(1)
    for n in range(1, 60, 2):
        term *= -angle * angle / (n * (n + 1))
        total += term
    return total


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_roots_are_as_near_as_the_proof_needs(dtype: str) -> None:
    made = roots.stages(512, np.dtype(dtype))[0][2].reshape(64, 7, 2)
    pi = Decimal("3.14159265358979323846264338327950288419716939937510")
    with localcontext(prec=45):
        for j, q in [(0, 1), (1, 1), (5, 3), (9, 7), (31, 5), (63, 7), (32, 4), (64 - 9, 1)]:
            angle = 2 * pi * j * q / 512
            re, im = cosine(angle), cosine(angle + pi / 2)
            off = (Decimal(float(made[j, q - 1, 0])) - re) ** 2 + (Decimal(float(made[j, q - 1, 1])) - im) ** 2
            assert off.sqrt() <= roots.root_error(np.dtype(dtype))


@pytest.mark.parametrize(("dtype", "digits"), [("f4", 24), ("f8", 53)])
@pytest.mark.parametrize("log2", [8, 14, 18])
def test_the_factor_is_percivals_times_the_root_of_five(dtype: str, digits: int, log2: int) -> None:
    with localcontext(prec=60):
        u = Decimal(2) ** -digits
        product = 1 + u * Decimal(5).sqrt()
        root = 1 + Decimal(roots.root_error(np.dtype(dtype)))
        exact = (((1 + u) * product * root) ** (3 * log2) * product - 1) * Decimal(5).sqrt()
        assert 1 < Decimal(pair_error_factor(2**log2, np.dtype(dtype))) / exact < 1 + Decimal(2) ** -10
        assert root < 1 + u * Decimal("0.75")


# ---- samples and outputs

# (function, shape of x, shape of the kernel, dtypes of both, keywords)
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], str, str, dict[str, Any]]] = {
    "batch": ("conv1d", (2, 3, 700), (4,), "f4", "f4", {"mode": "same"}),
    "full": ("conv2d", (60, 81), (5, 4), "f8", "f8", {"mode": "full"}),
    "fill": ("corr2d", (60, 81), (5, 4), "f4", "f4", {"mode": "same", "fill_value": 3}),
    "edge": ("corr2d", (60, 73), (3, 6), "f4", "f4", {"mode": "full", "boundary": "edge"}),
    "wrap": ("corr2d", (60, 73), (3, 6), "f4", "f4", {"mode": "full", "boundary": "wrap"}),
    "mixed rules": ("corr2d", (60, 73), (3, 6), "f8", "f8", {"mode": "full", "boundary": ("wrap", "reflect")}),
    "fill and mirror": (
        "corr2d", (40, 33), (3, 6), "f8", "f8",
        {"padding": 20, "boundary": ("constant", "reflect"), "fill_value": 2},
    ),
    "mirror and fill": ("corr2d", (40, 33), (3, 6), "f8", "f8", {"padding": 20, "boundary": ("symmetric", "constant")}),
    "long pads": ("corr1d", (5,), (4,), "f8", "f8", {"padding": [(223, 317)], "boundary": "symmetric"}),
    "pads of one sample": ("corr1d", (1,), (4,), "f8", "f8", {"padding": 99, "boundary": "reflect"}),
    "kernel larger than x": ("conv2d", (3, 4), (7, 9), "f8", "f8", {"mode": "same", "boundary": "reflect"}),
    "one tap": ("corr2d", (9, 50), (1, 1), "f4", "f4", {}),
    "one row": ("corr2d", (40, 300), (1, 30), "f4", "f4", {"mode": "same"}),
    "one column": ("corr2d", (300, 40), (30, 1), "f4", "f4", {"mode": "same"}),
    "stride": ("corr2d", (60, 81), (5, 3), "f8", "f8", {"stride": (3, 2), "mode": "same"}),
    "stride of rows": ("corr2d", (60, 81), (5, 3), "f8", "f8", {"stride": (3, 1), "mode": "same"}),
    "stride beyond the tile": ("corr1d", (2000,), (3,), "f8", "f8", {"stride": 701}),
    "dilation": ("conv2d", (60, 61), (3, 4), "f4", "f4", {"dilation": (4, 3), "mode": "same"}),
    "axes": ("corr2d", (70, 3, 60), (4, 5), "f8", "f8", {"axes": (2, 0)}),
    "colour": ("corr2d", (60, 70, 3), (4, 5), "f4", "f4", {"channel_axis": -1, "mode": "same"}),
    "half": ("corr2d", (60, 61), (5, 5), "f2", "f2", {"mode": "same"}),
    "half, wider": ("corr2d", (60, 61), (5, 5), "f2", "f2", {"dtype": "f8"}),
    "single to half": ("corr1d", (900,), (50,), "f4", "f4", {"dtype": "f4", "bias": 3.5}),
    "bytes by float": ("corr2d", (60, 61), (5, 5), "u1", "f4", {"mode": "same", "bias": -2}),
    "words by double": ("corr2d", (60, 61), (5, 5), "i2", "f8", {"mode": "same", "boundary": "wrap"}),
    "rounded to int8": ("corr2d", (60, 61), (5, 5), "f4", "f4", {"dtype": "i1", "bias": 100}),
}  # fmt: skip


@pytest.mark.parametrize("small", [False, True], ids=["tile as chosen", "small tiles"])
@pytest.mark.parametrize("case", CASES)
def test_every_output_is_within_the_proven_bound_of_the_oracle(tiles: Force, case: str, small: bool) -> None:
    name, shape, widths, dtype, kernel_dtype, keywords = CASES[case]
    x = (normal(*shape) * 50).astype(dtype)
    if small:
        tiles(*((256,) if name[4] == "1" else (32, 32)))
    hold(name, x, normal(*widths, dtype=kernel_dtype, seed=1), **keywords)


def test_out_and_x_of_any_strides(tiles: Force) -> None:
    tiles(32, 32)
    x, kernel = normal(161, 80), normal(3, 4, seed=1)
    view = x[::-2, ::-1].T
    view.flags.writeable = False
    out = np.full((78, 178), NAN)[:, ::-2]
    assert fft("corr2d", view, kernel, out=out[:, :78][::-1]).base is out.base
    expected = reference("corr2d", view, kernel)
    bounds.check(out[:, :78][::-1], expected, bounds.normwise(expected, offer_of("corr2d", view, kernel).error))
    assert np.isnan(out[:, 78:]).all()


def test_workers_batch_stride_and_layout_change_no_bit(tiles: Force) -> None:
    for size, x, kernel in [
        ((32, 64), normal(3, 150, 211, dtype="f4"), normal(6, 7, dtype="f4")),
        ((512,), normal(3, 5000, dtype="f4"), normal(99, dtype="f4")),
    ]:
        tiles(*size)
        name, keywords = f"corr{len(size)}d", {"mode": "same", "boundary": "reflect"}
        x[1] *= np.float32(2.0**80)
        together = fft(name, x, kernel, **keywords)
        for image, y in zip(x, together, strict=True):
            assert fft(name, image, kernel, workers=2, **keywords).tobytes() == y.tobytes()
        assert fft(name, np.asfortranarray(x), kernel, **keywords).tobytes() == together.tobytes()
        out = np.empty((*together.shape, 2), "f4")[..., 0]
        assert fft(name, x, kernel, out=out, workers=3, **keywords).tobytes() == together.tobytes()
        for stride in (2, 7, 90):
            strided = fft(name, x, kernel, stride=stride, **keywords)
            assert strided.tobytes() == together[(..., *[slice(None, None, stride)] * len(size))].tobytes()


# ---- scale


@pytest.mark.parametrize("bright", [1e12, 1e-12, 1e6, 1e-6, 0.0])  # beyond the range that goes unscaled, and in it
def test_the_bound_holds_by_the_norm_of_each_tile_alone(tiles: Force, bright: float) -> None:
    # The tile that shares a transform with a far brighter one is as accurate as if it stood alone.
    tiles(256)
    x, kernel = normal(4 * 241), normal(16, seed=1)
    x[256:482] *= bright
    x[482 + 15 :] *= bright
    y = fft("corr1d", x, kernel)
    assert fft("corr1d", np.repeat(x, 2)[::2], kernel).tobytes() == y.tobytes()
    error = np.abs(y - reference("corr1d", x, kernel).value)
    factor = pair_error_factor(256, np.dtype("f8"))
    for start in range(0, len(error), 241):
        block = slice(start, start + 241)
        assert error[block].max() <= factor * np.linalg.norm(x[start : start + 256]) * np.linalg.norm(kernel)


@pytest.mark.parametrize(
    ("shape", "tile", "kernel_shape"), [((960,), (256,), (17,)), ((100, 2000), (32, 512), (5, 33))]
)
def test_tiles_that_go_unscaled_have_the_same_bits_wherever_they_lie(
    tiles: Force, shape: tuple[int, ...], tile: tuple[int, ...], kernel_shape: tuple[int, ...]
) -> None:
    # Norms about a power of two, less than twice one another: a pair goes as it is, though each had its own scale.
    tiles(*tile)
    x = normal(*shape, dtype="f4") * np.linspace(1, 9, shape[-1], dtype="f4")
    kernel = normal(*kernel_shape, dtype="f4", seed=1)
    name = f"corr{len(shape)}d"
    y = fft(name, x, kernel)
    apart = np.zeros((*shape, 2), "f4")[..., 0]
    apart[...] = x
    assert fft(name, apart, kernel).tobytes() == y.tobytes()
    assert fft(name, np.asfortranarray(x), kernel).tobytes() == y.tobytes()
    assert fft(name, x[None], kernel, workers=1).tobytes() == y.tobytes()
    for power in (2.0**-20, 2.0**20, 2.0**90, 2.0**-90):  # common ones, and some beyond what goes as it is
        scaled = fft(name, x * np.float32(power), kernel)
        expected = reference(name, x * np.float32(power), kernel)
        bounds.check(scaled, expected, bounds.normwise(expected, offer_of(name, x, kernel).error))


def test_tiles_of_zeros_give_zeros_and_the_bias(tiles: Force) -> None:
    tiles(32, 32)
    x, kernel = normal(120, 120, dtype="f4"), normal(5, 5, dtype="f4", seed=1)
    x[:, 40:] = 0  # the second of a pair, both of a pair
    y = fft("corr2d", x, kernel, bias=2.5)
    assert (y[:, 56:] == 2.5).all()
    assert (y[:, :30] != 2.5).all()


@pytest.mark.parametrize(("x_scale", "kernel_scale"), [(1e38, 1e-30), (1e-38, 1e30), (1e30, 1.0), (1e-33, 1e-33)])
def test_large_and_small_magnitudes(x_scale: float, kernel_scale: float) -> None:
    x = normal(1000, dtype="f4") * np.float32(x_scale)
    x[[40, 600]] = NAN, INF  # the largest finite sample of the tile counts
    kernel = normal(5, dtype="f4", seed=1) * np.float32(kernel_scale)
    expected = reference("corr1d", x, kernel)
    bound = bounds.normwise(expected, offer_of("corr1d", x, kernel).error)
    half = np.longdouble(np.finfo("f4").smallest_subnormal) / 2  # a result among the subnormals is rounded once more
    bounds.check(fft("corr1d", x, kernel), expected, bound + half)


@pytest.mark.parametrize(("dtype", "x_scale", "kernel_scale"), [("f4", 2.0**-149, 2.0**120), ("f8", 2.0**-1074, 1.0)])
def test_subnormal_samples_count(dtype: str, x_scale: float, kernel_scale: float) -> None:
    x = (np.round(normal(500) * 9) * x_scale).astype(dtype)
    kernel = (np.round(normal(7, seed=1) * 9) * kernel_scale).astype(dtype)
    expected = np.convolve(np.round(normal(500) * 9), np.round(normal(7, seed=1) * 9)[::-1], "valid")
    y = fft("corr1d", x, kernel).astype(np.longdouble) / (np.longdouble(x_scale) * np.longdouble(kernel_scale))
    assert np.abs(y - expected).max() < 0.01


def test_the_largest_float_beside_one_neither_overflows_nor_smears() -> None:
    x = np.ones((40, 40), np.float32)
    x[20, 20] = 3.4e38
    assert np.isfinite(fft("corr2d", x, np.full((5, 5), 0.04, np.float32))).all()
    y = fft("corr2d", x, np.full((5, 5), 2, np.float32))  # 6.8e38 at the centre: infinite, as in the direct sum
    inside = np.zeros(y.shape, bool)
    inside[16:21, 16:21] = True
    np.testing.assert_array_equal(np.isposinf(y), inside)
    assert np.isfinite(y[~inside]).all()


# ---- NaN and infinity

SPOILED: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], str, dict[str, Any]]] = {
    "1d": ("corr1d", (2, 900), (5,), "f4", {"mode": "same", "boundary": "reflect", "bias": 2.0}),
    "2d": ("conv2d", (64, 75), (3, 4), "f8", {"mode": "full", "boundary": "wrap"}),
    "2d stride, dilation": ("corr2d", (64, 75), (3, 4), "f4", {"stride": (2, 5), "dilation": (1, 3), "mode": "same"}),
    "half": ("corr1d", (900,), (5,), "f2", {}),
}


@pytest.mark.parametrize("share", [0.001, 0.4], ids=["sparse", "dense"])
@pytest.mark.parametrize("spoilers", [(NAN,), (INF,), (INF, -INF), (NAN, INF, -INF)], ids=str)
@pytest.mark.parametrize("case", SPOILED)
def test_nan_and_infinity_reach_what_the_direct_sum_gives(
    tiles: Force, case: str, spoilers: tuple[float, ...], share: float
) -> None:
    name, shape, widths, dtype, keywords = SPOILED[case]
    rng = np.random.default_rng(5)
    x, kernel = normal(*shape, dtype=dtype), normal(*widths, dtype=dtype, seed=1)
    samples = x.reshape(-1)
    samples[rng.random(samples.size) < share] = spoilers[0]
    for spoiler in spoilers:
        samples[rng.integers(samples.size, size=2)] = spoiler
    taps = kernel.reshape(-1)
    taps[1::3] = 0  # 0 * inf is NaN, by either sign of zero
    taps[4::6] = -0.0
    tiles(*((256,) if name[4] == "1" else (16, 32)))
    hold(name, x, kernel, **keywords)


@pytest.mark.parametrize("fill", [NAN, INF, -INF])
def test_a_fill_that_is_not_finite_is_a_sample(fill: float) -> None:
    hold("corr2d", normal(60, 71), np.array([[1.0, 0.0, -1.0]] * 3), mode="full", fill_value=fill)


def test_nan_and_infinity_as_integers() -> None:
    x, kernel = normal(80, 80, dtype="f4"), np.ones((3, 3), "f4")
    x[40, 40] = INF
    y = fft("corr2d", x, kernel, dtype="u1")
    assert (y[38:41, 38:41] == 255).all()
    assert y[0, 0] < 20
    with pytest.raises(OverflowError, match="uint8"):
        fft("corr2d", x, kernel, dtype="u1", overflow="raise")
    x[40, 40] = NAN
    with pytest.raises(ce.InvalidProblem, match="holds NaN"):
        fft("corr2d", x, kernel, dtype="u1")


def test_scipy_loads_for_the_repair_alone(level: str) -> None:
    code = """
import sys, numpy as np, convengine as ce
x = np.ones(99)
f = ce.plan("corr1d", x, np.ones(3), backend="fft")
f(x)
assert "scipy" not in sys.modules
x[5] = np.nan
assert np.isnan(f(x)).sum() == 3 and "scipy.fft" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={**os.environ, "CONVENGINE_ISA": level})


# ---- integers


@pytest.mark.parametrize(
    ("x_dtype", "kernel_dtype"), [("?", "?"), ("u1", "i1"), ("i2", "i2"), ("u4", "i1"), ("u1", "i8"), ("i4", "u2")]
)
def test_integers_are_exact(tiles: Force, x_dtype: str, kernel_dtype: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (2, 60, 61)).astype("?")
    if x_dtype != "?":
        x = np.where(x, np.iinfo(x_dtype).max, np.iinfo(x_dtype).min).astype(x_dtype)
    kernel = rng.integers(0, 2 if kernel_dtype == "?" else 50, (5, 4)).astype(kernel_dtype)
    tiles(16, 32)
    padded = {"mode": "same", "boundary": "wrap", "bias": 7}
    for keywords in ({}, padded, {"dtype": "u1", "stride": 2, "overflow": "wrap"}, {"dtype": "u1", "bias": -300}):
        offer = offer_of("conv2d", x, kernel, **keywords)
        assert (offer.error, offer.normwise) == (0, False)
        expected = reference("conv2d", x, kernel, **keywords).final
        np.testing.assert_array_equal(fft("conv2d", x, kernel, **keywords), expected)


def test_integers_are_exact_up_to_the_limit(tiles: Force, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convengine_fft.backend.candidates", lambda *_: [])  # SciPy's
    tiles(256)
    signs = np.random.default_rng(4).choice([-1, 1], 1000)
    kernel = signs[:24] * 2**20
    factor = pair_error_factor(256, np.dtype("f8")) * 16 * 2.0**20 * np.sqrt(24)
    limit = min(int(np.ceil(0.5 / factor)) - 1, (2**53 - 1) // (24 * 2**20))
    x = (signs * limit).astype(np.int32)
    np.testing.assert_array_equal(fft("corr1d", x, kernel), np.correlate(x.astype(np.int64), kernel))
    x[-1] = limit + 1
    with pytest.raises(ce.NoBackend, match=f"samples reach {limit + 1}; with this kernel it is exact up to {limit}"):
        fft("corr1d", x, kernel)


def test_a_bias_takes_from_what_float64_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convengine_fft.backend.candidates", lambda *_: [])
    x, kernel = np.arange(500).astype("u1"), np.ones(20, np.int64)
    for bias in (2**53 - 20 * 255 - 1, -(2**53) + 20 * 255 + 1):
        expected = np.convolve(x, kernel, "valid") + bias
        np.testing.assert_array_equal(fft("corr1d", x, kernel, bias=bias), expected)
    for bias in (2**53 - 20 * 100, 2**60):
        with pytest.raises(ce.NoBackend, match="exact"):
            fft("corr1d", x, kernel, bias=bias)


# ---- the offer


def test_a_worker_needs_little_memory() -> None:
    for dtype, width in product(("f4", "f8"), (15, 63, 127)):
        x, kernel = np.empty((4096, 4096), dtype), np.ones((width, width), dtype)
        problem = ce.plan("corr2d", x, kernel, backend="fft").problem
        tiling = Tiling.of(problem, tuple(map(int, offer_of("corr2d", x, kernel).method.split()[-1].split("x"))))
        alone, more = (compiled.memory(problem, tiling, threads) for threads in (1, 2))
        assert more - alone < 8 << 20


def test_tiles_are_chosen_without_regard_to_batch_and_workers() -> None:
    kernel = np.ones((21, 21), np.float32)
    offers = []
    for n, workers in product((1, 90), (1, 8)):
        chosen = ce.explain(np.empty((n, 400, 500), "f4"), kernel, backend="fft", workers=workers).chosen
        assert chosen is not None
        offers.append(chosen.offer)
    assert len({offer.method for offer in offers}) == 1
    assert offers[1].seconds < offers[0].seconds < offers[2].seconds


def test_kernels_of_one_row_or_column_get_smaller_tiles() -> None:
    def area(*shape: int) -> int:
        sides = offer_of("corr2d", np.empty((1000, 1000), "f4"), np.ones(shape, "f4")).method.split()[-1].split("x")
        return int(sides[0]) * int(sides[1])

    assert max(area(1, 61), area(61, 1)) < area(61, 61)


def test_the_level_that_was_forced_runs(level: str) -> None:
    assert ce.backends()["fft"].isa == level


def test_a_level_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVENGINE_ISA", "avx1024")
    ce.clear_cache()
    assert "'avx1024'" in ce.backends()["fft"].reason
    with pytest.raises(ce.NoBackend, match="'avx1024'"):
        ce.corr1d([1.0], [1.0], backend="fft")


@pytest.mark.parametrize(("shape", "widths"), [((500,), (31,)), ((90, 700), (9, 40)), ((5, 5), (5, 3))])
def test_the_tiles_that_are_priced_are_cut_as_those_that_run(shape: tuple[int, ...], widths: tuple[int, ...]) -> None:
    problem = ce.explain(np.ones(shape), np.ones(widths), mode="same", stride=2).problem
    costs = compiled.costs_of(problem.ndim, compiled.compute_dtype(problem), compiled.compiled_levels()[0])
    found = list(compiled.tilings(problem, costs))
    assert found and found == [Tiling.of(problem, tiling.tile) for tiling in found]
    prices = [compiled.seconds(problem, costs, tiling, 2) for tiling in found]
    assert prices == pytest.approx(sorted(prices), rel=1e-12)


def test_what_one_thread_does_alone_is_priced_so(level: str) -> None:
    def seconds(n: int, threads: int, images: int = 1) -> float:
        problem = ce.explain(np.zeros((images, n), np.float32), np.ones(59, np.float32)).problem
        costs = compiled.costs_of(1, np.dtype(np.float32), level)
        return compiled.seconds(problem, costs, Tiling.of(problem, (2048,)), threads)

    for n in (3000, 15 * 1990, 16 * 1990):  # 8 pairs of tiles: as many samples as SERIAL_SAMPLES in tiles.pyx
        assert seconds(n, 1) == seconds(n, 2)
    for n, images in ((16 * 1990 + 100, 1), (3000, 9)):
        assert seconds(n, 2, images) < 0.7 * seconds(n, 1, images)
