"""What the backend cupy does with CuPy's own functions: products and sums, matmul, ndimage.

NumPy's stand for them, on arrays that act like a device's.
"""

import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from convengine_cupy import elementwise, ndimage
from convengine_cupy.backend import ELEMENTWISE, MATMUL, NDIMAGE
from convengine_cupy.elementwise import Pieces
from device_arrays import (
    XP,
    Array,
    Device,
    as_user,
    bound_holds,
    canonical,
    facts_of,
    on_device,
    problems,
    reading_of,
)

from convengine.boundary import Boundary
from convengine.reading import Reading
from convengine.testing.oracle import reference

METHODS = (ELEMENTWISE, MATMUL, NDIMAGE)


def allowed(reading: Reading, method: str) -> bool:
    """Whether the backend would offer the method."""
    problem = reading.problem
    if method == MATMUL:
        return problem.channels[0] > problem.groups and problem.sum_dtype.kind != "c"
    return method == ELEMENTWISE or not ndimage.refusal(problem, facts_of(reading))


def prepared(reading: Reading, method: str, xp: Any = XP) -> Any:
    """A filter that knows of no device; SciPy's ndimage stands for CuPy's, which has the same arguments."""
    if method != NDIMAGE:
        return elementwise.prepare(reading.problem, reading.kernel, reading.bias, method == MATMUL, xp)
    import scipy.ndimage

    return ndimage.prepare(reading.problem, reading.kernel, reading.bias, scipy.ndimage.correlate, xp)


def compute(method: str, name: str, x: Any, kernel: Any, **keywords: Any) -> Array:
    reading = reading_of(name, x, kernel, **keywords)
    return as_user(reading, prepared(reading, method)(canonical(reading, x)))


# ---- answers


@pytest.mark.parametrize(("method", "least"), [(ELEMENTWISE, 400), (MATMUL, 40)])
def test_every_answer_lies_within_its_bound(method: str, least: int) -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in problems():
        if allowed(reading, method):
            problem = reading.problem
            out = on_device(np.empty(problem.out_shape, problem.out_dtype))
            assert prepared(reading, method)(canonical(reading, case.x), out) is out
            bound_holds(case.id, as_user(reading, out), expected)
            seen.update(["all", problem.sum_dtype.kind, problem.is_layer, problem.ndim, *problem.boundary])
    assert seen["all"] >= least
    assert all(seen[trait] >= 10 for trait in ("i", "f", True, 1, 2, 3, *Boundary))


def test_ndimage_gets_the_arguments_that_it_needs() -> None:
    seen: Counter[Any] = Counter()
    for case, reading, expected in problems():
        problem, facts = reading.problem, facts_of(reading)
        longer = any(max(pair) > n for pair, n in zip(problem.pads, problem.spatial, strict=True))
        scipy_may = not longer and facts.smallest > 1e-15 and np.isfinite(case.x).all()  # CuPy has no such conditions
        if allowed(reading, NDIMAGE) and scipy_may:
            bound_holds(case.id, as_user(reading, prepared(reading, NDIMAGE)(canonical(reading, case.x))), expected)
            seen.update(["all", problem.sum_dtype.kind, problem.ndim])
    assert seen["all"] >= 50
    assert all(seen[trait] >= 5 for trait in ("i", "f", "c", 1, 2, 3))


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float16, np.float32, np.complex64])
def test_ndimage_has_the_origin_the_border_and_the_dtypes(boundary: str, dtype: Any) -> None:
    x = np.arange(2 * 4 * 5).reshape(2, 4, 5) % 7
    x = x.astype(dtype)[:, ::-1]
    kernel = np.arange(1, 13).reshape(3, 4).astype(np.uint8 if x.dtype.kind in "biu" else np.float64)
    keywords = {"padding": ((2, 0), (1, 2)), "boundary": boundary, "bias": 2, "fill_value": int(boundary == "constant")}
    expected = reference("corr2d", x, kernel, **keywords)
    bound_holds("", compute(NDIMAGE, "corr2d", x, kernel, **keywords), expected)


@pytest.mark.parametrize("method", [ELEMENTWISE, MATMUL])
def test_sums_are_those_of_the_definition_with_infinities_and_nan(method: str) -> None:
    x, kernel = np.ones((1, 2, 4, 4)), np.array([[[[0.0, 1.0]], [[2.0, -1.0]]], [[[1.0, 1.0]], [[1.0, 1.0]]]])
    x[0, 0, 1, 2], x[0, 1, 3, 0] = np.inf, np.nan
    got = compute(method, "corr2d", x, kernel)
    np.testing.assert_array_equal(got[0, :, 1], [[2, np.inf, np.nan], [4, np.inf, np.inf]])
    np.testing.assert_array_equal(got[0, :, 3], [[np.nan, 2, 2], [np.nan, 4, 4]])


def test_complex_infinities_are_the_textbooks() -> None:
    got = compute(ELEMENTWISE, "corr1d", np.array([np.inf + 1j, 1]), np.array([2 + 0j]))
    np.testing.assert_array_equal(got.view(np.float64), [np.inf, np.nan, 2, 0])


@pytest.mark.parametrize("overflow", ["saturate", "wrap", "raise"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.uint64])
def test_an_explicit_dtype_may_be_wider_than_the_sum(dtype: Any, overflow: str) -> None:
    x, kernel = np.array([[1, 200], [3, 4]], np.uint8), np.array([[5, 7]], np.uint8)
    for bias in (None, 3):
        got = compute(ELEMENTWISE, "corr2d", x, kernel, dtype=dtype, overflow=overflow, bias=bias)
        np.testing.assert_array_equal(got, np.array([[1405], [43]]) + (bias or 0))
        assert got.dtype == dtype


# ---- pieces


@pytest.mark.parametrize("method", [ELEMENTWISE, MATMUL])
def test_pieces_change_no_bit_of_elementwise_sums_and_stay_within_the_bound(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    several = 0
    for case, reading, expected in problems()[::3]:
        if allowed(reading, method):
            whole = prepared(reading, method)(canonical(reading, case.x))
            with monkeypatch.context() as patch:
                patch.setattr(elementwise, "LIMIT", 3000)
                several += len(Pieces.of(reading.problem, method == MATMUL)) > 1
                cut = prepared(reading, method)(canonical(reading, case.x))
            # NumPy, which stands for CuPy here, rounds complex products at the end of an array in another way.
            if method == ELEMENTWISE and cut.dtype.kind != "c":
                assert cut.tobytes() == whole.tobytes(), case.id
            bound_holds(case.id, as_user(reading, cut), expected)
    assert several >= 10


@pytest.mark.parametrize("method", METHODS)
def test_the_batch_changes_no_bit(method: str) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((5, 6, 11, 13), dtype=np.float32)
    kernel = rng.standard_normal((3, 3) if method == NDIMAGE else (4, 6, 3, 3), dtype=np.float32)
    together = compute(method, "corr2d", x, kernel, mode="same")
    for number in range(5):
        alone = compute(method, "corr2d", x[number : number + 1], kernel, mode="same")
        assert alone.tobytes() == together[number : number + 1].tobytes()


@pytest.mark.parametrize("matmul", [False, True])
@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "keywords"),
    [
        ((32768, 32768), (7, 7), {}),
        ((2000, 3, 4000, 4000), (5, 5), {}),
        ((64, 512, 224, 224), (512, 512, 3, 3), {}),
        ((8, 512, 500, 500), (2048, 1, 3, 3), {"groups": 512}),
        ((1, 60000, 40, 40), (60000, 2, 1, 1), {"groups": 30000}),
        ((16, 900, 900, 900), (5, 5, 5), {"stride": 2, "dilation": 3}),
    ],
)
def test_large_problems_go_in_pieces_within_the_limit(
    x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], keywords: dict[str, Any], matmul: bool
) -> None:
    x, kernel = (np.broadcast_to(np.float32(1), shape) for shape in (x_shape, kernel_shape))
    ndim = len(kernel_shape) - 2 * ("groups" in keywords or len(kernel_shape) == 4)
    problem = reading_of(f"corr{ndim}d", x, kernel, padding=1, **keywords).problem
    pieces = Pieces.of(problem, matmul)
    assert pieces.memory <= elementwise.LIMIT
    assert 1 < len(pieces) < 1_000_000
    assert np.prod(pieces.whole) == np.prod(problem.out_shape)


def test_pieces_cover_every_output_once() -> None:
    x, kernel = np.ones((3, 6, 9, 10), np.float32), np.ones((10, 3, 3, 3), np.float32)
    problem = reading_of("corr2d", x, kernel, groups=2).problem
    for limit in (300, 2000, 10_000, 10**9):
        count = np.zeros((3, 2, 5, 7, 8), int)
        blocks = list(Pieces.of(problem, False, limit))
        for block in blocks:
            count[block] += 1
        assert (count == 1).all()
        assert len(blocks) == len(Pieces.of(problem, False, limit))
        assert all(g.stop - g.start == 1 or d == slice(0, 5) for _, g, d, *_ in blocks)


@pytest.mark.parametrize("boundary", ["wrap", "constant"])
@pytest.mark.parametrize("method", [ELEMENTWISE, MATMUL])
def test_temporaries_stay_within_what_a_piece_is_said_to_need(
    monkeypatch: pytest.MonkeyPatch, method: str, boundary: str
) -> None:
    monkeypatch.setattr(elementwise, "LIMIT", 200_000)
    x, kernel = np.ones((4, 8, 64, 64), np.float32), np.ones((8, 8, 3, 3), np.float32)
    reading = reading_of("corr2d", x, kernel, mode="same", boundary=boundary)
    ready, out = prepared(reading, method, np), np.empty(reading.problem.out_shape, np.float32)
    ready(x, out)
    tracemalloc.start()
    try:
        ready(x, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    memory = Pieces.of(reading.problem, method == MATMUL).memory
    assert memory <= 200_000
    assert memory / 8 < peak <= memory + 20_000  # what Python itself needs on top


# ---- out


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bias", [None, 0.5])
def test_out_may_be_strided_and_may_overlap_x(method: str, bias: float | None) -> None:
    whole = np.arange(2.0 * 3 * 8 * 8).reshape(2, 3, 8, 8)
    kernel = np.arange(1.0, 10).reshape(3, 3) if method == NDIMAGE else np.arange(1.0, 82).reshape(3, 3, 3, 3)
    offset = [bias] * 3 if bias and method != NDIMAGE else bias
    reading = reading_of("corr2d", whole, kernel, mode="same", bias=offset)
    expected = reference("corr2d", whole, kernel, mode="same", bias=offset).final
    out = np.empty((2, 3, 16, 8)).view(Device)[:, :, ::-2]
    assert prepared(reading, method)(whole.view(Device), out) is out
    np.testing.assert_array_equal(out.view(np.ndarray), expected)
    x = whole.view(Device)
    assert prepared(reading, method)(x, x[::-1]).base is not None
    np.testing.assert_array_equal(whole[::-1], expected)


def test_the_kernel_and_the_bias_are_copied() -> None:
    for method, shape in ((ELEMENTWISE, (1, 1, 1, 1)), (MATMUL, (1, 2, 1, 1)), (NDIMAGE, (1, 1))):
        x, kernel, bias = np.ones((*shape[1:-2], 2, 2)), np.ones(shape), np.ones(1)
        reading = reading_of("corr2d", x, kernel, bias=bias)
        ready = prepared(reading, method)
        reading.kernel.fill(9)
        if reading.bias is not None:
            reading.bias.fill(9)
        assert (ready(canonical(reading, x)) == kernel.size + 1).all()


# ---- what ndimage does not do, and how it is asked


@pytest.mark.parametrize(
    ("x", "kernel", "keywords", "reason"),
    [
        (
            np.ones((3, 3)),
            np.ones((1, 2)),
            {},
            "pads must add up to width - 1; got ((0, 0), (0, 0)) for a kernel of (1, 2)",
        ),
        (np.ones((3, 3)), np.ones((1, 1)), {"stride": 2}, "filters only, without stride and dilation"),
        (np.ones((2, 3, 3)), np.ones((2, 2, 1, 1)), {}, "filters only, without stride and dilation"),
        (
            np.ones((3, 3)),
            np.ones((2, 2)),
            {"mode": "same", "boundary": ("edge", "wrap")},
            "one boundary for all axes; got edge, wrap",
        ),
        (
            np.ones((3, 3)),
            np.array([[1.0, 0.0, 2.0]]),
            {"mode": "same"},
            "zero taps, and with them NaN in x, are skipped; a kernel without zeros is needed, and finite",
        ),
        (
            np.ones((3, 3)),
            np.full((1, 1), np.inf),
            {},
            "zero taps, and with them NaN in x, are skipped; a kernel without zeros is needed, and finite",
        ),
        (
            np.ones(3),
            np.ones(2),
            {"mode": "same", "fill_value": np.inf},
            "the fill value must be finite and real; got inf",
        ),
        (
            np.ones(3) * 1j,
            np.ones(2),
            {"mode": "same", "fill_value": 1j},
            "the fill value must be finite and real; got 1j",
        ),
        (
            np.ones(3, np.int64),
            np.ones(2, np.int8),
            {"mode": "same"},
            f"sums form in float64, exact below 2**53; int64 by this kernel may reach {2**64}",
        ),
    ],
)
def test_ndimage_is_refused_with_a_reason(x: Array, kernel: Array, keywords: dict[str, Any], reason: str) -> None:
    reading = reading_of(f"corr{min(kernel.ndim, 2)}d", x, kernel, **keywords)
    assert ndimage.refusal(reading.problem, facts_of(reading)) == reason


def test_ndimage_takes_a_large_batch_some_planes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndimage, "LIMIT", 2000)
    x = np.arange(3 * 4 * 5 * 6.0).reshape(3, 4, 5, 6)
    reading = reading_of("corr2d", x, np.ones((3, 3)), mode="same")
    calls: list[tuple[int, ...]] = []
    ready = prepared(reading, NDIMAGE)

    def correlate(x: Array, *rest: Any) -> None:
        calls.append(x.shape)
        ready.correlate(x, *rest)

    counted = replace(ready, correlate=correlate)
    expected = reference("corr2d", x, np.ones((3, 3)), mode="same").final
    np.testing.assert_array_equal(counted(on_device(x)).view(np.ndarray), expected)
    assert calls == [(4, 5, 6)] * 3


def test_ndimage_is_spared_what_cupy_13_gets_wrong() -> None:
    x, kernel = on_device(np.arange(30.0).reshape(5, 6)), np.arange(1.0, 10).reshape(3, 3)
    ready = prepared(reading_of("corr2d", x, kernel, mode="same"), NDIMAGE)
    seen: list[bool] = []

    def correlate(x: Array, weights: Array, total: Array, *rest: Any) -> None:
        seen.append(min(x.strides) > 0 and not np.may_share_memory(x, total))
        ready.correlate(x, weights, total, *rest)

    spared = replace(ready, correlate=correlate)
    expected = reference("corr2d", x[::-1, ::-1].view(np.ndarray), kernel, mode="same").final
    np.testing.assert_array_equal(spared(x[::-1, ::-1]).view(np.ndarray), expected)
    spared(x[::-1, ::-1], x[::-1, ::-1])
    np.testing.assert_array_equal(x[::-1, ::-1].view(np.ndarray), expected)
    spared(x, x)
    assert seen == [True] * 3
