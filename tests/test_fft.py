"""The fft backend with scipy.fft: the proven bound tile by tile, NaN and infinity in their footprint, integers exact or
refused. Its compiled tiles, which most of these problems would rather run on, are left out; test_fft_tiles.py has them.
"""

import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import scipy.fft
from convengine_fft import Backend, backend, compiled
from convengine_fft.samples import read
from convengine_fft.tiling import Tiling, candidates, error_factor

import convengine as ce
from convengine.boundary import Boundary
from convengine.plugin import Refusal
from convengine.problem import KernelFacts, Problem
from convengine.testing import bounds
from convengine.testing.oracle import pad, reference

Force = Callable[..., None]
INF, NAN = np.inf, np.nan


@pytest.fixture(autouse=True)
def _without_compiled_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compiled, "offers", lambda problem, facts: [])
    ce.clear_cache()
    yield
    ce.clear_cache()


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Force]:
    """Cut every problem into tiles of the size called for."""

    def force(*size: int) -> None:
        monkeypatch.setattr(backend, "candidates", lambda problem, most: [Tiling.of(problem, size)][: most == np.inf])
        ce.clear_cache()

    yield force
    ce.clear_cache()


def fft(name: str, x: Any, kernel: Any, *, workers: int = 1, **keywords: Any) -> Any:
    return getattr(ce, name)(x, kernel, backend="fft", workers=workers, **keywords)


def problem_of(name: str, x: Any, kernel: Any, **keywords: Any) -> Problem:
    return ce.plan(name, x, kernel, backend="fft", **keywords).problem


def offer_of(name: str, x: Any, kernel: Any, *, workers: int = 1, **keywords: Any) -> Any:
    chosen = ce.explain(x, kernel, op=name, backend="fft", workers=workers, **keywords).chosen
    assert chosen is not None
    return chosen.offer


def hold(name: str, x: Any, kernel: Any, **keywords: Any) -> float:
    """The largest error as a fraction of the bound that the offer proves; the check itself fails beyond 1."""
    expected = reference(name, x, kernel, **keywords)
    bound = bounds.normwise(expected, offer_of(name, x, kernel, **keywords).error)
    return bounds.check(fft(name, x, kernel, **keywords), expected, bound)


def normal(*shape: int, dtype: str = "f8", seed: int = 0) -> Any:
    rng = np.random.default_rng([seed, *shape])
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if dtype[0] == "c" else values).astype(dtype)


# (function, shape of x, shape of the kernel, dtypes of both, keywords, smallest tile)
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], str, str, dict[str, Any], tuple[int, ...]]] = {
    "1d": ("corr1d", (100,), (7,), "f8", "f8", {}, (8,)),
    "1d batch": ("conv1d", (2, 3, 70), (4,), "f4", "f4", {"mode": "same"}, (4,)),
    "2d full": ("conv2d", (30, 41), (5, 4), "f8", "f8", {"mode": "full"}, (8, 4)),
    "2d fill": ("corr2d", (30, 41), (5, 4), "f4", "f4", {"mode": "same", "fill_value": 3}, (8, 8)),
    "edge": ("corr2d", (20, 23), (3, 6), "f4", "f4", {"mode": "full", "boundary": "edge"}, (4, 8)),
    "mixed rules": ("corr2d", (20, 23), (3, 6), "f8", "f8", {"mode": "full", "boundary": ("wrap", "reflect")}, (4, 8)),
    "long pads": ("corr1d", (5,), (4,), "f8", "f8", {"padding": [(23, 17)], "boundary": "symmetric"}, (8,)),
    "kernel larger than x": ("conv2d", (3, 4), (7, 9), "f8", "f8", {"mode": "same", "boundary": "reflect"}, (8, 16)),
    "one wide": ("corr2d", (9, 50), (1, 1), "f4", "f4", {}, (1, 2)),
    "3d": ("corr3d", (9, 10, 11), (3, 2, 4), "f4", "f4", {"mode": "same", "boundary": "wrap"}, (4, 2, 4)),
    "stride": ("corr2d", (40, 41), (5, 3), "f8", "f8", {"stride": (3, 2), "mode": "same"}, (8, 8)),
    "stride beyond the tile": ("corr1d", (90,), (3,), "f8", "f8", {"stride": 11}, (4,)),
    "dilation": ("conv2d", (40, 41), (3, 4), "f4", "f4", {"dilation": (4, 3), "mode": "same"}, (16, 16)),
    "axes": ("corr2d", (20, 3, 30), (4, 5), "f8", "f8", {"axes": (2, 0)}, (8, 8)),
    "colour": ("corr2d", (20, 30, 3), (4, 5), "f4", "f4", {"channel_axis": -1, "mode": "same"}, (8, 8)),
    "layer": ("corr2d", (2, 6, 17, 19), (4, 6, 3, 5), "f4", "f4", {"bias": [1.0, -2.0, 3.0, 0.5]}, (4, 8)),
    "groups": (
        "conv2d", (2, 6, 17, 19), (4, 3, 3, 5), "f8", "f8",
        {"groups": 2, "stride": 2, "dilation": (2, 1), "mode": "same", "boundary": "edge"}, (8, 16),
    ),
    "depthwise 1d": ("corr1d", (4, 50), (4, 1, 7), "f4", "f4", {"groups": 4, "mode": "full"}, (8,)),
    "layer 3d": ("corr3d", (2, 6, 7, 8), (3, 2, 3, 2, 3), "f8", "f8", {"mode": "same"}, (4, 4, 4)),
    "complex": ("conv2d", (20, 23), (3, 6), "c16", "c16", {"mode": "same", "boundary": "wrap"}, (4, 8)),
    "complex64 layer": ("corr1d", (3, 40), (2, 3, 5), "c8", "c8", {"conjugate": True}, (8,)),
    "real by complex": ("corr1d", (60,), (5,), "f4", "c8", {"mode": "full"}, (8,)),
    "complex by real": ("corr1d", (60,), (5,), "c16", "f4", {"mode": "full"}, (8,)),
    "half": ("corr2d", (30, 31), (5, 5), "f2", "f2", {"mode": "same"}, (8, 8)),
    "half, wider": ("corr2d", (30, 31), (5, 5), "f2", "f2", {"dtype": "f8"}, (8, 8)),
    "bytes by float": ("corr2d", (30, 31), (5, 5), "u1", "f4", {"mode": "same"}, (8, 8)),
    "rounded to int8": ("corr2d", (30, 31), (5, 5), "f4", "f4", {"dtype": "i1", "bias": 100}, (8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("small", [False, True], ids=["one tile", "small tiles"])
@pytest.mark.parametrize("case", CASES)
def test_every_output_is_within_the_proven_bound_of_the_oracle(tiles: Force, case: str, small: bool) -> None:
    name, shape, widths, dtype, kernel_dtype, keywords, size = CASES[case]
    x = np.arange(np.prod(shape)).reshape(shape).astype("u1") if dtype == "u1" else normal(*shape, dtype=dtype)
    kernel = normal(*widths, dtype=kernel_dtype, seed=1)
    if small:
        tiles(*size)
        assert offer_of(name, x, kernel, **keywords).method == f"overlap-save, tile {'x'.join(map(str, size))}"
    hold(name, x, kernel, **keywords)


def test_small_tiles_are_really_several() -> None:
    for name, shape, widths, dtype, kernel_dtype, keywords, size in CASES.values():
        x, kernel = np.empty(shape, dtype), np.ones(widths, kernel_dtype)
        problem = problem_of(name, x, kernel, **keywords)
        assert np.prod(Tiling.of(problem, size).counts) > 1


@pytest.mark.parametrize("seed", range(40))
def test_a_tile_reads_what_padding_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(1, 4))
    image = rng.integers(1, 99, (2, *rng.integers(1, 6, ndim)))
    rules = [Boundary(str(word)) for word in rng.choice(list(Boundary), ndim)]
    starts = rng.integers(-8, 8, ndim)
    stops = starts + rng.integers(1, 10, ndim)
    padded = pad(image, [(8, 16)] * ndim, rules, 7)
    expected = padded[(..., *(slice(start + 8, stop + 8) for start, stop in zip(starts, stops, strict=True)))]
    np.testing.assert_array_equal(read(image, list(zip(starts, stops, strict=True)), rules, 7), expected)


def test_out_and_x_of_any_strides(tiles: Force) -> None:
    tiles(8, 8)
    x, kernel = normal(61, 40), normal(3, 4, seed=1)
    view = x[::-2, ::-1].T
    view.flags.writeable = False
    out = np.full((38, 58), NAN)[:, ::-2]
    assert fft("corr2d", view, kernel, out=out[:, :28][::-1]).base is out.base
    expected = reference("corr2d", view, kernel)
    bounds.check(out[:, :28][::-1], expected, bounds.normwise(expected, offer_of("corr2d", view, kernel).error))
    assert np.isnan(out[:, 28:]).all()


def test_the_bound_holds_by_the_norm_of_each_tile_alone(tiles: Force) -> None:
    # A tile beside one 1e12 times brighter is as accurate as if it stood alone.
    tiles(16)
    x, kernel = normal(240), normal(5, seed=1)
    x[:120] *= 1e12
    error = np.abs(fft("corr1d", x, kernel) - reference("corr1d", x, kernel).value)
    factor = error_factor(16, 1, np.dtype("f8"))
    starts = range(0, len(error), 12)
    limits = [factor * np.linalg.norm(x[start : start + 16]) * np.linalg.norm(kernel) for start in starts]
    for start, limit in zip(starts, limits, strict=True):
        assert error[start : start + 12].max() <= limit
    assert limits[-1] < 1e-12 < 1e-6 < limits[0]


@pytest.mark.parametrize(("dtype", "digits"), [("f4", 24), ("c8", 24), ("f8", 53), ("c16", 53)])
@pytest.mark.parametrize(("log2", "channels"), [(0, 1), (10, 1), (10, 65), (24, 300)])
def test_error_factor_is_percivals_with_pocketffts_roots(dtype: str, digits: int, log2: int, channels: int) -> None:
    factor = error_factor(2**log2, channels, np.dtype(dtype))
    with localcontext(prec=60):
        u = Decimal(2) ** -digits
        root = (u / Decimal(2).sqrt() if digits == 24 else 0) + Decimal("8.3") * Decimal(2) ** -53
        product = 1 + u * Decimal(5).sqrt()
        exact = ((1 + u) * product * (1 + root)) ** (3 * log2) * product * (1 + u) ** (channels - 1) - 1
        assert 1 < Decimal(factor) / exact < 1 + Decimal("2e-6")


@pytest.mark.parametrize("dtype", ["f4", "c8"])
@pytest.mark.parametrize(("x_scale", "kernel_scale"), [(1e38, 1e-30), (1e-38, 1e30), (1e30, 1.0), (1e-33, 1e-33)])
def test_large_and_small_magnitudes(tiles: Force, dtype: str, x_scale: float, kernel_scale: float) -> None:
    tiles(16)
    x = normal(100, dtype=dtype) * np.float32(x_scale)
    x[[40, 60]] = NAN, INF  # the largest finite sample of the tile counts
    kernel = normal(5, dtype=dtype, seed=1) * np.float32(kernel_scale)
    expected = reference("corr1d", x, kernel)
    bound = bounds.normwise(expected, offer_of("corr1d", x, kernel).error)
    half = np.longdouble(np.finfo("f4").smallest_subnormal) / 2  # a result among the subnormals is rounded once more
    bound = bound + (half if dtype == "f4" else half * (1 + 1j))
    bounds.check(fft("corr1d", x, kernel), expected, bound)


def test_the_largest_float_beside_one_neither_overflows_nor_smears() -> None:
    x = np.ones((40, 40), np.float32)
    x[20, 20] = 3.4e38
    y = fft("corr2d", x, np.full((5, 5), 0.04, np.float32))
    assert np.isfinite(y).all()
    y = fft("corr2d", x, np.full((5, 5), 2, np.float32))  # 6.8e38 at the centre: infinite, as in the direct sum
    inside = np.zeros(y.shape, bool)
    inside[16:21, 16:21] = True
    np.testing.assert_array_equal(np.isposinf(y), inside)
    assert np.isfinite(y[~inside]).all()


def test_output_channels_of_different_magnitude_are_scaled_apart() -> None:
    x, kernel = normal(2, 50, dtype="f4"), normal(3, 2, 5, dtype="f4", seed=1)
    kernel *= np.float32([1e30, 1.0, 1e-30])[:, None, None]
    y = fft("corr1d", x, kernel)
    factor = offer_of("corr1d", x, kernel).error
    for channel in range(3):  # each by its own norm
        expected = reference("corr1d", x, kernel[channel : channel + 1])
        bounds.check(y[channel : channel + 1], expected, bounds.normwise(expected, factor))


def test_zeros_give_zeros() -> None:
    np.testing.assert_array_equal(fft("corr1d", np.zeros(50, np.float32), np.zeros(3, np.float32)), np.zeros(48))


SPOILED: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], str, dict[str, Any]]] = {
    "1d": ("corr1d", (60,), (5,), "f4", {"mode": "same", "boundary": "reflect"}),
    "2d": ("conv2d", (24, 25), (3, 4), "f8", {"mode": "full", "boundary": "wrap"}),
    "2d stride, dilation": ("corr2d", (24, 25), (3, 4), "f4", {"stride": (2, 5), "dilation": (1, 3), "mode": "same"}),
    "layer, groups": ("corr2d", (2, 4, 14, 15), (4, 2, 3, 3), "f8", {"groups": 2, "boundary": "edge", "mode": "same"}),
    "complex": ("conv2d", (24, 25), (3, 4), "c16", {"mode": "same"}),
    "complex layer": ("corr1d", (3, 50), (2, 3, 4), "c8", {"mode": "full"}),
    "half": ("corr1d", (60,), (5,), "f2", {}),
}


@pytest.mark.parametrize("share", [0.004, 0.4], ids=["sparse", "dense"])
@pytest.mark.parametrize("spoilers", [(NAN,), (INF,), (INF, -INF), (NAN, INF, -INF)], ids=str)
@pytest.mark.parametrize("case", SPOILED)
def test_nan_and_infinity_reach_what_the_direct_sum_gives(
    tiles: Force, case: str, spoilers: tuple[float, ...], share: float
) -> None:
    name, shape, widths, dtype, keywords = SPOILED[case]
    rng = np.random.default_rng(5)
    x, kernel = normal(*shape, dtype=dtype), normal(*widths, dtype=dtype, seed=1)
    parts = x.view(x.real.dtype).reshape(-1)  # a sample may be spoiled in one of its parts only
    parts[rng.random(parts.size) < share] = spoilers[0]
    for spoiler in spoilers:
        parts[rng.integers(parts.size, size=2)] = spoiler
    taps = kernel.view(kernel.real.dtype).reshape(-1)
    taps[1::3] = 0  # 0 * inf is NaN, by either sign of zero
    taps[4::6] = -0.0
    tiles(*(1 << (3 + axis % 2) for axis in range(int(name[4]))))
    hold(name, x, kernel, **keywords)


@pytest.mark.parametrize("fill", [NAN, INF, -INF])
def test_a_fill_that_is_not_finite_is_a_sample(tiles: Force, fill: float) -> None:
    tiles(8, 8)
    hold("corr2d", normal(20, 21), np.array([[1.0, 0.0, -1.0]] * 3), mode="full", fill_value=fill)


def test_outputs_out_of_reach_of_nan_keep_their_bits(tiles: Force) -> None:
    tiles(16, 16)
    x, kernel = normal(60, 60), normal(5, 5, seed=1)
    clean = fft("corr2d", x, kernel)
    x[30, 30] = NAN
    spoiled = fft("corr2d", x, kernel)
    reached = np.zeros(clean.shape, bool)
    reached[26:31, 26:31] = True
    np.testing.assert_array_equal(np.isnan(spoiled), reached)
    others = np.ones(clean.shape, bool)
    others[24:36, 24:36] = False  # the tile of the sample
    assert spoiled[others].tobytes() == clean[others].tobytes()


@pytest.mark.parametrize(
    ("x_dtype", "kernel_dtype"), [("?", "?"), ("u1", "i1"), ("i2", "i2"), ("u4", "i1"), ("u1", "i8"), ("i4", "u2")]
)
def test_integers_are_exact(tiles: Force, x_dtype: str, kernel_dtype: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (2, 30, 31)).astype("?")
    if x_dtype != "?":
        x = np.where(x, np.iinfo(x_dtype).max, np.iinfo(x_dtype).min).astype(x_dtype)
    kernel = rng.integers(0, 2 if kernel_dtype == "?" else 100, (5, 4)).astype(kernel_dtype)
    tiles(8, 16)
    padded = {"mode": "same", "boundary": "wrap", "bias": 7}
    for keywords in ({}, padded, {"dtype": "u1", "stride": 2, "overflow": "wrap"}):
        offer = offer_of("conv2d", x, kernel, **keywords)
        assert (offer.error, offer.normwise) == (0, False)
        expected = reference("conv2d", x, kernel, **keywords).final
        np.testing.assert_array_equal(fft("conv2d", x, kernel, **keywords), expected)


def test_integers_are_exact_up_to_the_limit(tiles: Force) -> None:
    tiles(64)
    signs = np.random.default_rng(4).choice([-1, 1], 1000)
    kernel = signs[:24] * 2**20
    factor = error_factor(64, 1, np.dtype("f8")) * 8 * 2.0**20 * np.sqrt(24)
    limit = min(int(np.ceil(0.5 / factor)) - 1, (2**53 - 1) // (24 * 2**20))
    x = (signs * limit).astype(np.int32)
    np.testing.assert_array_equal(fft("corr1d", x, kernel), np.correlate(x.astype(np.int64), kernel))
    x[-1] = limit + 1
    with pytest.raises(ce.NoBackend, match=f"samples reach {limit + 1}; with this kernel it is exact up to {limit}"):
        fft("corr1d", x, kernel)
    np.testing.assert_array_equal(ce.corr1d(x, kernel), np.correlate(x.astype(np.int64), kernel))


def test_a_fill_value_counts_as_a_sample() -> None:
    with pytest.raises(ce.NoBackend, match=f"samples reach {2**53}"):
        fft("corr1d", np.ones(20, np.int64), np.ones(3, np.int64), mode="same", fill_value=2**53)


def test_wide_dtypes_are_judged_by_their_samples() -> None:
    np.testing.assert_array_equal(fft("corr1d", np.ones(20, np.int64), np.ones(3, np.int64)), np.full(18, 3))
    with pytest.raises(ce.NoBackend, match=f"samples reach {2**54}"):
        fft("corr1d", np.full(20, 2**54), np.ones(3, np.int64))


def test_integers_are_refused_where_bytes_would_be_too_large() -> None:
    with pytest.raises(ce.NoBackend, match=rf"sum\|kernel\| = {3 * 2**46}, with samples up to \d+ only, not 255"):
        fft("corr1d", np.ones(20, np.int64), np.full(3, 2**46))


@pytest.mark.parametrize("small", [False, True], ids=["tile as chosen", "small tiles"])
@pytest.mark.parametrize(
    ("x", "kernel", "keywords", "size"),
    [
        (normal(5, 60, 61, dtype="f4"), normal(5, 5, dtype="f4"), {"mode": "same", "boundary": "reflect"}, (16, 32)),
        (normal(5, 300), normal(9), {}, (64,)),
        (normal(5, 50), normal(1), {}, (2,)),
        (normal(5, 3, 20, 21, dtype="f4"), normal(4, 3, 3, 3, dtype="f4"), {"padding": 1}, (8, 8)),
        (normal(5, 4, 90, dtype="c8"), normal(4, 2, 7, dtype="c8"), {"groups": 2}, (16,)),
    ],
    ids=["2d", "1d", "spectra of two numbers", "layer", "complex groups"],
)
def test_neither_workers_nor_batch_change_a_bit(
    monkeypatch: pytest.MonkeyPatch, tiles: Force, x: Any, kernel: Any, keywords: dict[str, Any], size: Any, small: bool
) -> None:
    if small:
        tiles(*size)
    x = x.copy()
    name = f"corr{kernel.ndim if kernel.ndim < 3 else kernel.ndim - 2}d"
    x[1] *= 2.0**80  # another scale for this image
    x.reshape(5, -1)[2, 7] = NAN
    together = fft(name, x, kernel, **keywords)
    for image, y in zip(x, together, strict=True):
        assert fft(name, image, kernel, **keywords).tobytes() == y.tobytes()
    for workers in (2, 3):
        assert fft(name, x, kernel, workers=workers, **keywords).tobytes() == together.tobytes()
    monkeypatch.setattr("convengine_fft.tiling.BATCH_BYTES", 1)  # tile by tile
    assert fft(name, x, kernel, **keywords).tobytes() == together.tobytes()


def test_tiles_are_chosen_without_regard_to_batch_and_workers() -> None:
    kernel = np.ones((21, 21), np.float32)
    offers = [offer_of("corr2d", np.empty((n, 400, 500), "f4"), kernel, workers=w) for n in (1, 90) for w in (1, 8)]
    assert len({offer.method for offer in offers}) == 1
    assert offers[1].seconds < offers[0].seconds < offers[2].seconds


class Recorder:
    """A backend of scipy.fft that counts what it is asked for, and hands it on."""

    __ua_domain__ = "numpy.scipy.fft"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.workers: set[int] = set()

    def __ua_function__(self, method: Any, args: Any, kwargs: Any) -> Any:
        self.calls[method.__name__] += 1
        self.workers.add(kwargs["workers"])
        with scipy.fft.skip_backend(self):
            return method(*args, **kwargs)


def test_the_users_scipy_backend_is_used_and_the_kernel_transformed_once() -> None:
    ce.clear_cache()
    recorder, x, kernel = Recorder(), normal(30, 30), normal(5, 5, seed=1)
    planned = ce.plan("corr2d", x, kernel, backend="fft", workers=2)
    with scipy.fft.set_backend(recorder):
        first = planned(x)
        assert recorder.calls == {"rfftn": 2, "irfftn": 1}
        assert planned(x).tobytes() == first.tobytes()
        assert recorder.calls == {"rfftn": 3, "irfftn": 2}
    assert recorder.workers == {2}
    assert planned(x).tobytes() == first.tobytes()
    assert recorder.calls.total() == 5


def peak_of(name: str, x: Any, kernel: Any, **keywords: Any) -> int:
    """Bytes that a call allocates beside x and out."""
    planned = ce.plan(name, x, kernel, backend="fft", workers=1, **keywords)
    out = planned(x)
    tracemalloc.start()
    try:
        planned(x, out)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("spoiler", [1.0, NAN, INF])
@pytest.mark.parametrize("dtype", ["f4", "c16"])
def test_memory_stays_within_the_offer(dtype: str, spoiler: float) -> None:
    x, kernel = normal(1_000_000, dtype=dtype), normal(100, dtype=dtype, seed=1)
    x[::70_001] = spoiler
    keywords = {"mode": "same", "boundary": "wrap"}
    offered = offer_of("corr1d", x, kernel, **keywords).memory
    assert peak_of("corr1d", x, kernel, **keywords) < offered
    if dtype == "c16":  # no padded copy of x
        assert offered < x.nbytes / 2


@pytest.mark.parametrize("boundary", ["constant", "edge", "wrap", ("constant", "reflect")])
def test_borders_and_corners_copy_no_more_than_their_tile(tiles: Force, boundary: Any) -> None:
    tiles(4, 1024)
    x, kernel, keywords = normal(8, 400_000, dtype="f4"), np.ones((3, 3), "f4"), {"mode": "same", "boundary": boundary}
    offered = offer_of("corr2d", x, kernel, **keywords).memory
    assert peak_of("corr2d", x, kernel, **keywords) < offered < x[:4].nbytes


def test_offers_price_a_second_tile_of_a_quarter_of_the_memory() -> None:
    problem = problem_of("corr2d", np.empty((2000, 2000), "f4"), np.ones((31, 31), "f4"))
    fast, lean = Backend().offers(problem, KernelFacts.of(np.ones((31, 31), "f4"), 2))
    assert fast.seconds < lean.seconds
    assert lean.memory < fast.memory
    tilings = list(candidates(problem))
    assert {fast.method, lean.method} <= {f"overlap-save, tile {tiling}" for tiling in tilings}
    assert all(min(tiling.tile) >= 31 for tiling in tilings)


def test_tiles_are_compared_by_price() -> None:
    for n, k in ((2000, 31), (60, 5), (5000, 300)):
        problem = problem_of("corr2d", np.empty((n, n // 3), "f4"), np.ones((k, 7), "f4"))
        tilings = list(candidates(problem))
        prices = [tiling.seconds(problem, 1, 1) for tiling in tilings]
        assert prices == sorted(prices) and len(set(tilings)) == len(tilings) > 5
        assert all(tiling == Tiling.of(problem, tiling.tile) for tiling in tilings)
        small = [tiling for tiling in tilings if tiling.size <= 4096]
        assert list(candidates(problem, 4096)) == small


def test_the_price_hardly_depends_on_the_kernels_width() -> None:
    narrow, wide = (offer_of("corr2d", np.empty((1500, 1500), "f4"), np.ones((k, k), "f4")).seconds for k in (11, 63))
    assert narrow < wide < 2 * narrow
    assert offer_of("corr2d", np.empty((8, 8)), np.ones((3, 3))).seconds > 5e-5


@pytest.mark.parametrize("dtype", ["f8", "u1"])
@pytest.mark.parametrize("shape", [(0, 20), (2, 0), (0, 2)])
def test_an_empty_problem_has_a_price(shape: tuple[int, int], dtype: str) -> None:
    problem = problem_of("corr2d", np.empty((9, 9), dtype), np.ones((3, 3), dtype))
    empty = replace(problem, x_shape=shape, out_shape=tuple(max(n - 2, 0) for n in shape))
    offers = Backend().offers(empty, KernelFacts.of(np.ones((3, 3)), 2))
    assert not isinstance(offers, Refusal)
    assert offers[0].seconds == pytest.approx(1e-4)


@pytest.mark.parametrize("tap", [NAN, INF])
def test_a_kernel_that_is_not_finite_is_refused(tap: float) -> None:
    with pytest.raises(ce.NoBackend, match="fft: the kernel holds NaN or infinity"):
        fft("corr1d", normal(20), np.array([1.0, tap]))


def test_scipy_loads_when_it_transforms() -> None:
    code = """
import sys, numpy as np, convengine as ce
assert ce.backends()["fft"].usable and ce.backends()["fft"].version.startswith("scipy ")
f = ce.plan("corr1d", np.ones(9), np.ones(3), backend="fft")
f(np.ones(9))
assert f.method.startswith("fft tile") and "scipy" not in sys.modules
f = ce.plan("corr1d", np.ones(9, complex), np.ones(3), backend="fft")
assert f.method.startswith("overlap-save") and "scipy" not in sys.modules
f(np.ones(9, complex))
assert "scipy.fft" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
