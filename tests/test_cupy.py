"""The backend named cupy: its arithmetic on NumPy arrays that act like a device's, its refusals, a GPU's answers."""

import ctypes
import importlib.machinery
import sys
import tracemalloc
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Never

import numpy as np
import pytest
from convengine_cupy import Backend, backend, device, direct, elementwise, layers, ndimage, transfer
from convengine_cupy.elementwise import Pieces
from device_arrays import (
    XP,
    Array,
    Device,
    Link,
    as_user,
    bound_holds,
    bound_of,
    canonical,
    facts_of,
    on_device,
    problems,
    reading_of,
)

import convengine as ce
from convengine.api import DEFAULTS
from convengine.boundary import Boundary
from convengine.plugin import Offer, Refusal
from convengine.problem import Problem
from convengine.reading import Reading, read_array
from convengine.reading_gradients import read_grad_input, read_grad_kernel
from convengine.testing.oracle import reference
from convengine.testing.oracle_gradients import gradient_reference

METHODS = ("elementwise", "elementwise, matmul over channels", "cupyx.scipy.ndimage.correlate")
ELEMENTWISE, MATMUL, NDIMAGE = METHODS
# Whose arithmetic test_cupy_kernels.py and test_cupy_layers.py are about.
DIRECT, SEPARABLE, IMPLICIT = KERNELS = "direct", "separable", "implicit gemm"
TILES = "fft tile "  # and test_cupy_fft.py


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


# ---- what ndimage does not do


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


# ---- device, driver, library


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Something that stands for CuPy, and notes which devices are made current."""
    import scipy.ndimage

    def count() -> int:
        if state.failure:
            raise RuntimeError(state.failure)
        return int(state.count)

    class Current:
        def __init__(self, number: int) -> None:
            self.number = number

        def __enter__(self) -> None:
            state.current.append(self.number)

        def __exit__(self, *_: object) -> None:
            state.left.append(self.number)

    class Compiled:
        """A module whose kernel writes the number of its compilation, and where it was launched."""

        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            assert "extern" in code and options == ("-std=c++17",)
            state.compiled.append(state.current[-1])

        def get_function(self, name: str) -> Any:
            def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], shared_mem: int = 0) -> None:
                assert shared_mem == getattr(launch, "max_dynamic_shared_size_bytes", 0)
                assert (
                    f"#define KERNEL {name}\n" in direct.Variant("general", *[np.dtype(np.float32)] * 3, False).source
                )
                assert block in ((128,), (256,), (512,)) and all(type(array) is Device for array in arguments[:-1])
                state.launched.append((state.current[-1], *grid))
                arguments[1].fill(len(state.compiled))

            return launch

    state = SimpleNamespace(current=[], left=[], count=2, failure="", compute_type={np.float32: 1, np.float64: 1})
    state.compiled, state.launched = [], []
    library, core, correlate = types.ModuleType("cupy"), types.ModuleType("cupy._core"), scipy.ndimage.correlate
    library.__getattr__ = lambda name: getattr(XP, name)  # type: ignore[method-assign]
    library.__path__, library.__version__ = [], "14.2.0"  # type: ignore[attr-defined]
    properties = {"name": b"NVIDIA H100", "major": 9, "minor": 0}
    runtime = SimpleNamespace(getDeviceCount=count, getDevice=lambda: 0, getDeviceProperties=lambda number: properties)
    runtime.deviceGetAttribute = lambda attribute, number: {97: 227 * 1024}[attribute]
    library.cuda = SimpleNamespace(Device=Current, runtime=runtime)  # type: ignore[attr-defined]
    library.RawModule = Compiled  # type: ignore[attr-defined]
    backend._function.cache_clear()
    device.shared_memory.cache_clear()
    core.get_compute_type = lambda dtype: state.compute_type[dtype]  # type: ignore[attr-defined]
    modules = {"cupy": library, "cupy._core": core, "cupyx": None, "cupyx.scipy": None, "cupyx.scipy.ndimage": None}
    for name, module in modules.items():
        module = module or types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        module.correlate = correlate  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
    for name in device.REDUCING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: None)
    yield state
    assert state.current == state.left
    backend._function.cache_clear()
    device.shared_memory.cache_clear()


def methods_of(reading: Reading) -> dict[str, Offer]:
    answer = Backend().offers(reading.problem, facts_of(reading))
    assert not isinstance(answer, Refusal), answer
    return {offer.method: offer for offer in answer}


@pytest.mark.parametrize("method", METHODS)
def test_a_filter_runs_on_the_device_of_its_problem(cupy: SimpleNamespace, method: str) -> None:
    x, kernel = np.arange(50.0).reshape(2, 5, 5), np.ones((3, 3)) if method == NDIMAGE else np.ones((1, 2, 3, 3))
    reading = reading_of("corr2d", x, kernel, mode="same", memory="cuda:1")
    plan = Backend().plan(reading.problem, methods_of(reading)[method], unneeded)
    ready = plan.prepare(reading.kernel, None)
    assert cupy.current == [1]
    out = on_device(np.empty(reading.problem.out_shape))
    assert ready(on_device(x), out) is out
    assert cupy.current == [1, 1]
    expected = reference("corr2d", x, kernel, mode="same").final
    np.testing.assert_array_equal(out.view(np.ndarray), expected)
    np.testing.assert_array_equal(ready(on_device(x)).view(np.ndarray), expected)
    assert cupy.current == [1, 1, 1]


def test_kernels_are_compiled_once_for_each_device(cupy: SimpleNamespace) -> None:
    x = np.ones((300, 300), np.float32)
    for number in (0, 1, 1):
        for kernel in (np.ones((3, 3), np.float32), np.full((3, 3), 2, np.float32)):
            reading = reading_of("corr2d", x, kernel, mode="same", memory=f"cuda:{number}")
            plan = Backend().plan(reading.problem, methods_of(reading)[DIRECT], unneeded)
            assert (plan.prepare(reading.kernel)(on_device(x)) == number + 1).all()
    assert cupy.compiled == [0, 1]
    assert cupy.launched == [(0, 15), (0, 15), *[(1, 15)] * 4]


def test_filters_are_cheapest_by_a_kernel_of_our_own(cupy: SimpleNamespace) -> None:
    x = np.broadcast_to(np.float32(1), (8192, 8192))
    for size in (1, 3, 9):
        kernel = np.arange(1, size * size + 1, dtype=np.float32).reshape(size, size) ** 2
        offers = methods_of(reading_of("corr2d", x, kernel, mode="same"))
        assert min(offers.values(), key=lambda offer: offer.seconds).method == DIRECT
        assert offers[DIRECT].memory == 0 and offers[DIRECT].error == offers[ELEMENTWISE].error
    smooth = methods_of(reading_of("corr2d", x, np.ones((15, 15), np.float32), mode="same"))
    assert smooth[SEPARABLE].seconds < smooth[DIRECT].seconds
    assert smooth[SEPARABLE].error < smooth[DIRECT].error
    rounded = methods_of(reading_of("corr2d", x, np.ones((3, 3), np.float32), dtype="uint8"))[DIRECT]
    assert rounded.memory == 6 * 4 * 8190**2 and rounded.seconds > offers[DIRECT].seconds
    cupy.current.clear()


def test_large_kernels_are_cheapest_by_tiles(cupy: SimpleNamespace) -> None:
    x = np.broadcast_to(np.float32(1), (8192, 8192))
    kernel = np.random.default_rng(0).standard_normal((63, 63), dtype=np.float32)
    reading = reading_of("corr2d", x, kernel, mode="same")
    offers = methods_of(reading)
    (tiled,) = (offer for method, offer in offers.items() if method.startswith(TILES))
    assert min(offers.values(), key=lambda offer: offer.seconds) is tiled and tiled.normwise
    small = reading_of("corr2d", np.ones((300, 300), np.float32), kernel, mode="same")
    (offer,) = (offer for method, offer in methods_of(small).items() if method.startswith(TILES))
    out = Backend().plan(small.problem, offer, unneeded).prepare(small.kernel)(on_device(np.ones((300, 300), "f4")))
    assert (out == 1).all() and len(cupy.launched) == 1  # what stands for the kernel writes its number
    cupy.current.clear(), cupy.left.clear()


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "groups"),
    [
        ((8, 64, 56, 56), (64, 64, 3, 3), 1),
        ((32, 3, 224, 224), (64, 3, 7, 7), 1),
        ((32, 256, 28, 28), (64, 256, 1, 1), 1),
        ((32, 64, 112, 112), (64, 1, 3, 3), 64),
        ((8, 8, 8), (4, 2, 3, 3), 4),
    ],
)
def test_layers_are_cheapest_by_a_kernel_of_our_own(
    cupy: SimpleNamespace, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], groups: int
) -> None:
    x, kernel = (np.broadcast_to(np.float32(1), shape) for shape in (x_shape, kernel_shape))
    reading = reading_of("corr2d", x, kernel, groups=groups, padding=1)
    offers = methods_of(reading)
    assert min(offers.values(), key=lambda offer: offer.seconds).method == IMPLICIT
    assert offers[IMPLICIT].memory == 0 and offers[IMPLICIT].error == offers[ELEMENTWISE].error
    # Not below what an H100 can multiply and move.
    moved = 4 * (np.prod(x.shape) + np.prod(reading.problem.out_shape))
    assert offers[IMPLICIT].seconds > max(reading.problem.multiplications / 3.3e13, moved / 3.35e12)
    rounded = methods_of(reading_of("corr2d", x, kernel, groups=groups, padding=1, dtype="uint8"))[IMPLICIT]
    assert rounded.memory == 24 * np.prod(reading.problem.out_shape) and rounded.seconds > offers[IMPLICIT].seconds
    cupy.current.clear()


def test_a_layer_is_launched_on_the_device_of_its_problem(cupy: SimpleNamespace) -> None:
    x, kernel = np.ones((2, 30, 30), np.float32), np.ones((40, 2, 3, 3), np.float32)
    reading = reading_of("corr2d", x, kernel, mode="same", memory="cuda:1", bias=[0.5] * 40)
    plan = Backend().plan(reading.problem, methods_of(reading)[IMPLICIT], unneeded)
    ready = plan.prepare(reading.kernel, reading.bias)
    assert (ready(on_device(x)) == 1).all()
    assert cupy.compiled == [1] and [number for number, _ in cupy.launched] == [1]
    assert cupy.launched[0][1] == layers.blocks(reading.problem, layers.tile_of(reading.problem))


def test_an_input_gradient_runs_on_the_device_of_its_problem(cupy: SimpleNamespace) -> None:
    dy, kernel = np.arange(50.0).reshape(2, 5, 5) * (1 + 2j), np.arange(36.0).reshape(2, 2, 3, 3) * (2 - 1j)
    keywords = {"mode": "same", "boundary": "wrap", "stride": 1}
    reading = read_grad_input(
        2, False, dy, kernel, x_shape=(2, 5, 5), out=None, memory="cuda:1", **(DEFAULTS | keywords)
    )
    (offer,) = methods_of(reading).values()
    ready = Backend().plan(reading.problem, offer, unneeded).prepare(reading.kernel)
    expected = gradient_reference("corr2d_grad_input", dy, kernel, x_shape=(2, 5, 5), **keywords).final
    got = ready(on_device(dy))
    assert set(cupy.current) == {1} and type(got) is Device
    np.testing.assert_allclose(got.view(np.ndarray), expected, rtol=1e-13)
    x = on_device(dy.copy())
    assert ready(x, x) is x and x.tobytes() == got.tobytes()


def test_a_kernel_gradient_runs_on_the_device_of_its_problem(cupy: SimpleNamespace) -> None:
    x, dy = np.arange(50.0).reshape(2, 5, 5) * (1 + 2j), np.arange(75.0).reshape(3, 5, 5) * (2 - 1j)
    keywords = {"mode": "same", "boundary": "wrap"}
    shape = {"kernel_shape": (3, 2, 3, 3)}
    expected = gradient_reference("corr2d_grad_kernel", x, dy, **shape, **keywords).final
    for place in (on_device, np.array):  # an output's gradient may be on the host, as a kernel may
        reading = read_grad_kernel(
            2, False, on_device(x), dy, out=None, memory="cuda:1", **shape, **(DEFAULTS | keywords)
        )
        offers = methods_of(reading)
        assert set(offers) == {ELEMENTWISE}
        ready = Backend().plan(reading.problem, offers[ELEMENTWISE], unneeded).prepare(place(reading.kernel))
        got = ready(on_device(x))
        assert set(cupy.current) == {1} and type(got) is Device
        np.testing.assert_allclose(got.view(np.ndarray).conj(), expected, rtol=1e-13)  # conjugated after all


def unneeded(problem: Problem) -> Never:
    raise AssertionError(f"no other backend is needed for {problem}")


def test_offers_name_what_holds(cupy: SimpleNamespace) -> None:
    x = np.ones((2, 5, 5), np.float32)
    ones, tile = np.ones((3, 3), np.float32), TILES + "32x32"
    every = {DIRECT, SEPARABLE, ELEMENTWISE, NDIMAGE, tile}
    assert set(methods_of(reading_of("corr2d", x, ones, mode="same"))) == every
    assert set(methods_of(reading_of("corr2d", x, ones))) == every - {NDIMAGE}
    layer = np.ones((4, 2, 3, 3), np.float32)
    assert set(methods_of(reading_of("corr2d", x, layer))) == {IMPLICIT, ELEMENTWISE, MATMUL}
    assert set(methods_of(reading_of("corr2d", x, layer[:, :1], groups=2))) == {IMPLICIT, ELEMENTWISE}
    assert set(methods_of(reading_of("corr2d", x, layer.astype(np.complex64)))) == {ELEMENTWISE}
    for offer in methods_of(reading_of("corr2d", x, layer, bias=[1.0] * 4)).values():
        assert offer.error == 19 * 2.0**-24 / (1 - 19 * 2.0**-24) and not offer.normwise
        assert 0 < offer.seconds < 1 and 0 <= offer.memory <= elementwise.LIMIT
        assert (offer.memory == 0) == (offer.method == IMPLICIT)
    cupy.current.clear()


def test_wide_layers_are_cheaper_by_matmul_and_filters_by_ndimage(cupy: SimpleNamespace) -> None:
    x = np.broadcast_to(np.float32(1), (8, 64, 56, 56))
    layer = methods_of(reading_of("corr2d", x, np.ones((64, 64, 3, 3), np.float32)))
    assert layer[MATMUL].seconds < layer[ELEMENTWISE].seconds
    image = methods_of(reading_of("corr2d", x, np.ones((5, 5), np.float32), mode="same"))
    assert image[NDIMAGE].seconds < image[ELEMENTWISE].seconds


def test_ndimage_prices_what_it_copies(cupy: SimpleNamespace) -> None:
    x, kernel = np.ones((2, 100, 100), np.float32), np.ones((3, 3), np.float32)
    assert methods_of(reading_of("corr2d", x, kernel, mode="same"))[NDIMAGE].memory == 0
    assert methods_of(reading_of("corr2d", x, kernel, mode="same", bias=1.0))[NDIMAGE].memory == 2 * x.nbytes
    many = np.broadcast_to(np.float16(1), (1000, 1000, 1000))
    least = 4 * 1000 * 1000 * 2
    assert least < methods_of(reading_of("corr2d", many, kernel, mode="same"))[NDIMAGE].memory <= elementwise.LIMIT


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


@pytest.mark.parametrize("name", device.REDUCING)
def test_matmul_is_not_offered_where_products_may_be_rounded(
    cupy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert device.matmul_is_exact()
    monkeypatch.setenv(name, "1")
    layer = reading_of("corr2d", np.ones((2, 5, 5)), np.ones((4, 2, 3, 3)))
    assert set(methods_of(layer)) == {IMPLICIT, ELEMENTWISE}
    monkeypatch.setenv(name, "0")
    assert set(methods_of(layer)) == {IMPLICIT, ELEMENTWISE, MATMUL}
    cupy.compute_type[np.float32] = 7  # what CUPY_TF32=1 sets
    assert set(methods_of(layer)) == {IMPLICIT, ELEMENTWISE}


def refusal(reading: Reading) -> str:
    answer = Backend().offers(reading.problem, facts_of(reading))
    assert isinstance(answer, Refusal)
    return answer.reason


def test_without_cupy_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "is_installed", lambda name: False)
    for memory in ("host", "cuda:0"):
        reading = reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory=memory)
        assert refusal(reading) == "cupy is not installed (pip install convengine[cupy])"
    info = Backend().info()
    assert not info.usable and info.reason == "cupy is not installed (pip install convengine[cupy])"


def test_without_a_driver_it_says_so(cupy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Never:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    reason = refusal(reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="host"))
    why = f"{device.DRIVER}: cannot open shared object file"
    assert reason == f"no CUDA driver ({why}); install NVIDIA's driver, or choose a host backend"
    assert Backend().info().reason == reason


def test_without_a_device_it_says_so(cupy: SimpleNamespace) -> None:
    reading = reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="cuda:2")
    assert refusal(reading) == ("no CUDA device cuda:2: CuPy sees 2; CUDA_VISIBLE_DEVICES and nvidia-smi say which")
    cupy.failure = "cudaErrorInsufficientDriver: CUDA driver version is insufficient"
    reason = "no CUDA device: RuntimeError: cudaErrorInsufficientDriver: CUDA driver version is insufficient; "
    assert refusal(reading) == reason + "nvidia-smi shows what the driver sees"
    assert Backend().info().reason.startswith(reason)
    cupy.failure, cupy.count = "", 0
    assert Backend().info().reason.startswith("no CUDA device cuda:0: CuPy sees 0")


def test_a_cupy_that_does_not_load_is_a_refusal(cupy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(device, "is_installed", lambda name: True)
    info = Backend().info()
    assert not info.usable and info.reason.startswith("no CUDA device: ModuleNotFoundError")


def test_host_arrays_are_refused_with_both_ways_out(cupy: SimpleNamespace) -> None:
    reading = reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="host")
    assert refusal(reading) == (
        "x is a host array, and CuPy runs on device arrays: pass cupy.asarray(x), or allow it to be copied there and "
        "back, with ce.options(transfer=True)"
    )
    lazy = reading._replace(problem=replace(reading.problem, memory="lazy"))
    assert refusal(lazy) == "runs on arrays of a CUDA device, not lazy"


def test_integer_gradients_of_kernels_are_refused_where_they_may_pass_int64(cupy: SimpleNamespace) -> None:
    def reading(dtype: Any) -> Reading:
        x, dy = np.ones((3, 3), dtype), np.ones((2, 2), dtype)
        return read_grad_kernel(2, False, x, dy, kernel_shape=(2, 2), out=None, memory="cuda:0", **DEFAULTS)

    assert refusal(reading(np.int64)) == (
        f"the gradient of a kernel by int64 and int64 may reach {2**128}, past int64; "
        "whether it does is not looked up on a device: use float64 or smaller dtypes"
    )
    assert set(methods_of(reading(np.int16))) == {DIRECT, ELEMENTWISE}
    cupy.current.clear()


def test_a_host_array_goes_by_way_of_the_device_where_that_is_allowed(
    cupy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, kernel = np.arange(2000.0).reshape(50, 40), np.ones((3, 3))
    there = {method for method in methods_of(reading_of("corr2d", x, kernel, mode="same")) if method != NDIMAGE}
    with ce.options(transfer=True, backend="cupy"):
        rows = ce.explain(x, kernel, mode="same").rows
    offers = {row.method: row.offer for row in rows if row.offer is not None}
    assert set(offers) == {f"{method}, by way of the device" for method in there}
    assert all(offer.seconds > 1e-4 and offer.memory >= x.nbytes for offer in offers.values())

    monkeypatch.setattr(transfer, "CupyLink", Link)
    monkeypatch.setattr(transfer, "CHUNK", 3000)
    reading = reading_of("corr2d", x, kernel, mode="same", memory="host")
    offer = offers[f"{ELEMENTWISE}, by way of the device"]
    ready = Backend().plan(reading.problem, offer, unneeded).prepare(reading.kernel)
    np.testing.assert_array_equal(ready(x), reference("corr2d", x, kernel, mode="same").final)
    assert set(cupy.current) == {0}


def test_info_names_the_devices(cupy: SimpleNamespace) -> None:
    info = Backend().info()
    assert info.usable and not info.reason
    assert (info.version, info.device, info.isa) == ("14.2.0", "cuda:0 NVIDIA H100, cuda:1 NVIDIA H100", "sm_90")


def test_a_host_problem_loads_no_cupy(cupy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(device, "is_installed", lambda name: True)
    reason = refusal(reading_of("corr2d", np.ones((3, 3)), np.ones((2, 2)), memory="host"))
    assert reason.startswith("x is a host array")
    assert "cupy" not in sys.modules


# ---- a GPU

MISSING = device.missing() or device.missing_device(0)


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("method", [*KERNELS, TILES, *METHODS])
def test_a_gpu_gives_every_answer_within_its_bound(method: str) -> None:
    import cupy

    done = 0
    for case, reading, expected in problems():
        answer = Backend().offers(reading.problem, facts_of(reading))
        assert not isinstance(answer, Refusal), answer
        for offer in answer:
            if offer.method == method or (method == TILES and offer.method.startswith(method)):
                ready = Backend().plan(reading.problem, offer, unneeded).prepare(reading.kernel, reading.bias)
                got = ready(cupy.asarray(read_array(case.x, "x")).transpose(reading.x_axes))
                assert isinstance(got, cupy.ndarray)
                answer, bound = cupy.asnumpy(got), bound_of(reading.problem, offer, expected)
                bound_holds(case.id, answer.transpose(np.argsort(reading.out_axes)), expected, bound)
                done += 1
    assert done >= 15


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
@pytest.mark.parametrize("method", [*KERNELS, ELEMENTWISE])
def test_a_gpu_works_on_the_current_stream(method: str) -> None:
    import cupy

    shape, taps = ((1, 64, 64), (1, 1, 3, 3)) if method == IMPLICIT else ((64, 64), (3, 3))
    reading = reading_of("corr2d", np.ones(shape), np.ones(taps), mode="same")
    ready = Backend().plan(reading.problem, methods_of(reading)[method], unneeded).prepare(reading.kernel)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        got = ready(cupy.ones(shape))
    stream.synchronize()
    assert float(got[..., 32, 32].sum()) == 9
