"""Filters of 8- and 16-bit integers by dot instructions: exact at the ends of every dtype, never outside x's memory."""

import itertools
import mmap
import sys

import numpy as np
import pytest
from convengine_cython import dots
from convengine_cython.backend import compiled_levels

import convengine as ce
from convengine.native import cpu
from convengine.problem import KernelFacts, Problem
from convengine.testing import bounds, oracle

LEVELS = [level for level in cpu.levels() if level in compiled_levels()]
VARIANTS = LEVELS + (["avx512 without VNNI"] if cpu.avx512_vnni() else [])
BOUNDARIES = ["constant", "edge", "reflect", "symmetric", "wrap"]
SMALL = ["bool", "uint8", "int8", "uint16", "int16"]
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.fixture(params=VARIANTS)
def level(request, monkeypatch):
    """Run a test at each level, and at AVX-512 with the modules for CPUs that lack VNNI."""
    if "without" in request.param:
        monkeypatch.setattr(dots, "module_level", lambda level: level)
    monkeypatch.setenv("CONVENGINE_ISA", request.param.split()[0])
    ce.clear_cache()
    yield request.param
    ce.clear_cache()


@pytest.fixture
def rows(monkeypatch):
    """The rows that prepared filters took, in order: "u1", "i2", or None for plain sums."""
    taken = []
    kind = dots.kind

    def noted(*arguments):
        taken.append(kind(*arguments))
        return taken[-1]

    monkeypatch.setattr(dots, "kind", noted)
    return taken


def draw(rng, dtype, shape):
    """Samples of the whole range of a dtype, its ends above all."""
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    ends = rng.integers(0, 4, shape)
    return np.where(ends == 0, info.min, np.where(ends == 1, info.max, values)).astype(dtype)


def stored(dtype):
    """The dtype of a result like x; bool keeps no sums."""
    return "uint8" if dtype == "bool" else dtype


def assert_exact(name, x, kernel, **keywords):
    y = getattr(ce, name)(x, kernel, backend="cython", **keywords)
    reference = oracle.reference(name, x, kernel, **keywords)
    bounds.check(y, reference, bounds.componentwise(reference))
    return y


@pytest.mark.parametrize("width", range(1, 18))
@pytest.mark.parametrize("dtype", SMALL)
def test_every_width_around_the_vectors(level, dtype, width):
    rng = np.random.default_rng(width)
    for side in {1, 3, width}:
        kernel = rng.integers(-128, 127, (side, width), np.int8, endpoint=True)
        for columns in (width, 33, 62 + width, 63 + width, 64 + width, 66 + width, 201):
            if columns >= width:
                x = draw(rng, dtype, (side + int(rng.integers(0, 9)), columns))
                assert_exact("corr2d", x, kernel)
                assert_exact("corr2d", x, kernel, mode="same", boundary=BOUNDARIES[columns % 5], dtype=stored(dtype))


@pytest.mark.parametrize("x_dtype", SMALL)
@pytest.mark.parametrize("out", [None, *INTEGERS])
def test_every_dtype(level, x_dtype, out):
    for kernel_dtype in INTEGERS:
        check_dtypes(x_dtype, kernel_dtype, out)


def check_dtypes(x_dtype, kernel_dtype, out):
    rng = np.random.default_rng(1)
    low, high = max(np.iinfo(kernel_dtype).min, -200), min(np.iinfo(kernel_dtype).max, 200)
    kernel = rng.integers(low, high, (3, 5), endpoint=True).astype(kernel_dtype)
    x = draw(rng, x_dtype, (9, 77))
    for overflow in ("saturate", "wrap"):
        assert_exact("corr2d", x, kernel, dtype=out, overflow=overflow, mode="same", boundary="reflect")
    if out is not None and np.dtype(out).itemsize < np.dtype(ce.corr2d(x, kernel).dtype).itemsize:
        kernel[:] = 100
        x[:] = np.iinfo(x_dtype).max if x_dtype != "bool" else 1
        fits = 1500 * int(x[0, 0]) <= np.iinfo(out).max
        if fits:
            assert_exact("corr2d", x, kernel, dtype=out, overflow="raise")
        else:
            with pytest.raises(OverflowError, match=f"{1500 * int(x[0, 0])} does not fit dtype={out}"):
                ce.corr2d(x, kernel, dtype=out, overflow="raise", backend="cython")


EXTREMES = [
    ("uint8", 255, -128),
    ("uint8", 255, 127),
    ("uint8", 0, -128),
    ("int8", -128, -128),
    ("int8", 127, -128),
    ("uint16", 65535, 1800),
    ("uint16", 0, -1800),
    ("int16", -32768, -3600),
    ("int16", 32767, 3600),
]


@pytest.mark.parametrize(("dtype", "sample", "tap"), EXTREMES)
@pytest.mark.parametrize("out", ["int64", "int32", "uint8", "int16", "uint32"])
def test_all_samples_and_taps_at_their_ends(level, dtype, sample, tap, out):
    x = np.full((20, 150), sample, dtype)
    kernel = np.full((3, 6), tap, np.int16)
    info = np.iinfo(out)
    y = ce.corr2d(x, kernel, dtype=out, backend="cython")
    np.testing.assert_array_equal(y, np.full(y.shape, min(max(18 * sample * tap, info.min), info.max), out))
    assert_exact("corr2d", x, kernel, bias=-12345, dtype=out, mode="full", boundary="constant", fill_value=sample)


def limit_case(dtype, over):
    """A kernel and bias whose largest sum is 2**31 - 1, or one more."""
    sample = {"uint8": 255, "int8": -128, "uint16": 65535, "int16": -32768}[dtype]
    taps = np.full((4, 4), 32767 if sample in (255, -128) else 100, np.int64)
    taps[0, 0] -= 1  # no box, which has a method of its own
    bias = 2**31 - 1 - abs(sample) * int(taps.sum()) + over
    return sample, np.sign(sample) * taps, bias


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_the_last_sum_that_fits_and_the_first_that_does_not(level, rows, dtype):
    for over in (0, 1):
        sample, kernel, bias = limit_case(dtype, over)
        x = np.full((8, 70), sample, dtype)
        y = ce.corr2d(x, kernel, bias=bias, backend="cython")
        assert y.dtype == np.int64
        assert (y == 2**31 - 1 + over).all()
    assert rows[-2:] == ["i2", None]


def test_which_rows_are_taken(level, rows):
    bytes_ = "u1" if cpu.avx512_vnni() and level == "avx512" else "i2"
    cases = [
        ("uint8", [[-128, 127]], bytes_),
        ("bool", [[-128, 127]], bytes_),
        ("int8", [[1, 2], [3, 4]], bytes_),
        ("uint8", [[128]], "i2"),
        ("int8", [[-129]], "i2"),
        ("int16", [[1]], "i2"),
        ("uint16", [[-32768]], "i2"),
        ("int16", [[32768]], None),
        ("uint8", [[-32769]], None),
        ("int32", [[1]], None),
    ]
    for dtype, kernel, row in cases:
        assert_exact("corr2d", draw(np.random.default_rng(2), dtype, (9, 80)), kernel)
        assert rows[-1] == row, (dtype, kernel)
    asked = len(rows)
    assert_exact("corr2d", np.ones((1, 9, 80), np.uint8), np.ones((1, 1, 3, 3), np.int8))
    assert len(rows) == asked or rows[-1] is None  # a layer


def test_the_price_knows_the_rows(level):
    def promised(dtype, kernel):
        with ce.options(backend="cython"):
            problem: Problem = ce.explain(np.zeros((64, 64), dtype), kernel).problem
        return dots.promised(problem, KernelFacts.of(kernel, 2), level.split()[0])

    bytes_ = "u1" if cpu.avx512_vnni() and level == "avx512" else "i2"
    assert promised("uint8", np.full((3, 3), -128, np.int8)) == bytes_
    assert promised("uint8", np.full((3, 3), 14)) == bytes_
    assert promised("uint8", np.full((3, 3), 15)) == "i2"  # its taps fit bytes, but the sum of 135 does not tell
    assert promised("int16", np.full((3, 3), 2000)) == "i2"
    assert promised("uint16", np.full((3, 3), 9000)) is None
    assert promised("uint8", np.full((3, 3), 1.0)) is None
    assert promised("int32", np.full((3, 3), 1)) is None


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 4), (5, 1)])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1), (1, 5)])
@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_stride_and_dilation(level, dtype, stride, dilation):
    rng = np.random.default_rng(3)
    x = draw(rng, dtype, (37, 190))
    for side in ((3, 3), (2, 4), (5, 1), (1, 9)):
        kernel = rng.integers(-100, 100, side)
        for boundary in ("reflect", "constant"):
            keywords = {"mode": "same", "boundary": boundary, "fill_value": 9 if boundary == "constant" else 0}
            assert_exact("corr2d", x, kernel, stride=stride, dilation=dilation, **keywords)
        assert_exact("corr2d", x, kernel, stride=stride, dilation=dilation, dtype="uint8")


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", SMALL)
def test_interleaved_channels(level, dtype, channels):
    rng = np.random.default_rng(4)
    x = draw(rng, dtype, (21, 130, channels))
    for side in ((3, 3), (1, 5), (4, 2)):
        kernel = rng.integers(-9, 9, side)
        for boundary in BOUNDARIES:
            assert_exact("corr2d", x, kernel, channel_axis=-1, mode="same", boundary=boundary, dtype="uint8")
        assert_exact("corr2d", x, kernel, channel_axis=-1, stride=2, dilation=2)
        assert_exact("corr2d", x[:, ::-1], kernel, channel_axis=-1)


def test_one_filter_for_arrays_of_any_strides(level):
    """The taps are packed once for every number of channels that travel with a pixel."""
    rng = np.random.default_rng(5)
    kernel = rng.integers(-9, 9, (3, 4))
    x = draw(rng, "uint8", (20, 90, 3))
    plan = ce.plan("corr2d", x, kernel, channel_axis=-1, backend="cython")
    apart = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    for given in (x, apart, x[::-1][::-1], np.asfortranarray(x), x):
        np.testing.assert_array_equal(plan(given), ce.corr2d(apart, kernel, channel_axis=-1, backend="scipy"))


@pytest.mark.parametrize("dtype", SMALL)
def test_strides_and_read_only(level, dtype):
    rng = np.random.default_rng(6)
    room = draw(rng, dtype, (60, 3, 240))
    room.flags.writeable = False
    for x in (room[:, 1], room[::-2, 2, ::-1], room[:, 0, ::3], room[:40, 1].T, np.broadcast_to(room[0, 0], (30, 240))):
        assert_exact("corr2d", x, rng.integers(-5, 5, (3, 3)), mode="same", boundary="reflect", dtype=stored(dtype))
    if dtype.endswith("16"):
        swapped = room[:, 0].astype(room.dtype.newbyteorder())
        assert_exact("corr2d", swapped, rng.integers(-5, 5, (3, 3)))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_an_output_with_strides(level, dtype):
    rng = np.random.default_rng(7)
    x, kernel = draw(rng, dtype, (20, 150)), rng.integers(-5, 5, (3, 3))
    expected = ce.corr2d(x, kernel, dtype=dtype, backend="scipy")
    room = np.zeros((40, 300), dtype)
    for out in (room[:18, :148], room[1:37:2, 3:299:2], room[17::-1, 147::-1], room[:36:2, 77 : 77 + 148]):
        ce.corr2d(x, kernel, out=out, backend="cython")
        np.testing.assert_array_equal(out, expected)
    before = room.copy()
    ce.corr2d(x, kernel, out=room[2:20, 5:153], backend="cython")
    room[2:20, 5:153] = before[2:20, 5:153]
    np.testing.assert_array_equal(room, before)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16"])
def test_kernel_much_larger_than_x(level, dtype, boundary):
    rng = np.random.default_rng(8)
    kernel = rng.integers(-5, 5, (13, 17))
    for shape in ((3, 2), (1, 1), (2, 80)):
        x = draw(rng, dtype, shape)
        for mode in ("full", "same"):
            fill = int(x[0, 0]) if boundary == "constant" else 0
            assert_exact("corr2d", x, kernel, mode=mode, boundary=boundary, fill_value=fill)


def test_one_and_three_dimensions(level):
    rng = np.random.default_rng(9)
    for dtype in SMALL:
        x = draw(rng, dtype, (5, 8, 90))
        for boundary in BOUNDARIES:
            assert_exact("corr3d", x, rng.integers(-5, 5, (3, 2, 5)), mode="same", boundary=boundary)
            assert_exact("corr1d", x, rng.integers(-5, 5, 6), mode="full", boundary=boundary)
        assert_exact("corr1d", draw(rng, dtype, 30_000), rng.integers(-5, 5, 200), mode="same", boundary="wrap")


def test_nothing_to_compute(level):
    for shape in ((0, 5, 70), (2, 3, 70), (2, 9, 2)):
        y = ce.corr2d(np.zeros(shape, np.uint8), np.ones((3, 3), np.int8), padding=1, backend="cython")
        assert y.shape == shape
    y = ce.corr2d(np.zeros((0, 70), np.uint8), np.ones((3, 3), np.int8), padding=2, fill_value=1, backend="cython")
    assert_exact("corr2d", np.zeros((0, 70), np.uint8), np.ones((3, 3), np.int8), padding=2, fill_value=1)
    assert y.shape == (2, 72)


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_do_not_change_results(level, workers):
    rng = np.random.default_rng(10)
    for dtype, mode in itertools.product(("uint8", "int8", "int16"), ("valid", "same")):
        x, kernel = draw(rng, dtype, (2, 300, 2300)), rng.integers(-5, 5, (5, 5))
        keywords = {"mode": mode, "dtype": dtype, "backend": "cython"}
        alone = ce.corr2d(x, kernel, workers=1, **keywords)
        np.testing.assert_array_equal(ce.corr2d(x, kernel, workers=workers, **keywords), alone)


@pytest.fixture
def guarded():
    """Give arrays that start or end where memory does: a read one byte outside ends the process."""
    if sys.platform != "linux":
        pytest.skip("protects pages as Linux does")
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    maps = []

    def place(values, *, at_end):
        page = mmap.PAGESIZE
        size = -(-values.nbytes // page) * page
        room = mmap.mmap(-1, size + 2 * page)
        whole = np.frombuffer(room, np.uint8)
        for guard in (0, page + size):
            assert libc.mprotect(whole.ctypes.data + guard, page, 0) == 0
        maps.append((room, whole.ctypes.data))
        start = page + (size - values.nbytes if at_end else 0)
        array = whole[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
        array[...] = values
        return array

    yield place
    for room, address in maps:
        assert libc.mprotect(address, len(room), mmap.PROT_READ | mmap.PROT_WRITE) == 0


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("dtype", SMALL)
def test_nothing_is_read_or_written_outside(level, guarded, dtype, at_end):
    """Loads of whole vectors and groups of taps reach further than the samples needed."""
    rng = np.random.default_rng(11)
    for columns, width in itertools.product((3, 33, 64, 65, 67, 131, 1100), (1, 2, 3, 4, 5, 8, 11)):
        if columns < width:
            continue
        x = guarded(draw(rng, dtype, (7, columns)), at_end=at_end)
        kernel = rng.integers(-5, 5, (3, width))
        for mode in ("valid", "same"):
            rows = 5 if mode == "valid" else 7
            shape = rows, columns - width + 1 if mode == "valid" else columns
            out = guarded(np.zeros(shape, stored(dtype)), at_end=at_end)
            ce.corr2d(x, kernel, mode=mode, out=out, backend="cython")
            np.testing.assert_array_equal(out, ce.corr2d(x.copy(), kernel, mode=mode, dtype=out.dtype))


def test_packing():
    """Groups of four that start, and that end, with a tap; zeros where a group has no tap."""
    taps = np.array([[[1, -2, 3, 4, 5]]])
    packed = dots.Packed.of(taps, 4, 1, 1, 1)
    assert packed.groups == 2
    assert packed.dense
    assert packed.elements.tolist() == [[0, 4], [-3, 1]]
    assert packed.taps.view(np.int8).tolist() == [[[1, -2, 3, 4, 5, 0, 0, 0]], [[0, 0, 0, 1, -2, 3, 4, 5]]]
    apart = dots.Packed.of(taps, 2, 3, 1, 1)  # dilated by 3: no two taps in a group
    assert apart.groups == 5
    assert not apart.dense
    assert apart.elements.tolist() == [[0, 3, 6, 9, 12], [-1, 2, 5, 8, 11]]
    phased = dots.Packed.of(taps, 4, 1, 2, 1)  # stride 2: taps 0, 2, 4 in one phase, 1 and 3 in the other
    assert phased.phases[0].tolist() == [0, 1]
    assert phased.taps[0].view(np.int8).tolist() == [[1, 3, 5, 0, -2, 4, 0, 0]]


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
@pytest.mark.parametrize("out", INTEGERS)
@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_rounded_rows_of_whole_vectors(level, kind, out, overflow):
    """What sums of other types become, many at once: halves, the ends of the type and beyond."""
    info = np.iinfo(out)
    near = np.arange(-40, 41) / (2 if kind != "int64" else 1)
    if kind == "float32":
        ends = np.concatenate([end + near for end in (info.min, info.max) if abs(end) < 2**20] or [near])
    else:
        part = 1 if info.bits < 64 else 4  # int64 holds no more, and float64 nothing near
        ends = np.concatenate([info.min / part + near, info.max / part + near, near * 2.0**50])
    x = np.concatenate([near, ends, [1e9, -1e9], near]).astype(kind)
    keywords = {"dtype": out, "overflow": overflow}
    y = assert_exact("corr1d", x, np.ones(1, kind), **keywords)
    apart = np.zeros((len(x), 2), out)[:, 0]
    np.testing.assert_array_equal(ce.corr1d(x, np.ones(1, kind), out=apart, overflow=overflow, backend="cython"), y)


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_infinity_saturates_and_nan_raises(level, kind):
    x = np.zeros(200, kind)
    x[[3, 150]] = np.inf, -np.inf
    y = ce.corr1d(x, np.ones(1, kind), dtype=np.uint8, backend="cython")
    assert (y[3], y[150], y.sum()) == (255, 0, 255)
    for place in (0, 77, 199):
        x[:] = 1
        x[place] = np.nan
        with pytest.raises(ce.InvalidProblem, match="the result holds NaN"):
            ce.corr1d(x, np.ones(1, kind), dtype=np.uint8, backend="cython")
