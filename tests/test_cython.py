"""The compiled kernels at every level: widths around the vectors, borders, conversions, threads, Ctrl-C."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest
from convengine_cython.backend import chosen_level

import convengine as ce
from convengine.testing import bounds, oracle

BOUNDARIES = ["constant", "edge", "reflect", "symmetric", "wrap"]


def assert_proven(name, x, kernel, **keywords):
    reference = oracle.reference(name, x, kernel, **keywords)
    y = getattr(ce, name)(x, kernel, backend="cython", **keywords)
    bounds.check(y, reference, bounds.componentwise(reference))
    return y


def test_the_level_asked_for_runs(level):
    assert ce.backends()["cython"].isa == level
    assert ce.explain(np.zeros((9, 9)), np.ones((3, 3)), backend="cython").chosen.method == f"direct, {level}"


def test_a_level_that_is_not_there(monkeypatch):
    monkeypatch.setenv("CONVENGINE_ISA", "avx1024")
    ce.clear_cache()
    info = ce.backends()["cython"]
    assert not info.usable
    assert "'avx1024'" in info.reason
    with pytest.raises(ce.NoBackend, match="'avx1024'"):
        ce.corr1d([1.0], [1.0], backend="cython")
    ce.clear_cache()


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 9, 11])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64])
def test_every_width_around_the_vectors(level, dtype, side):
    rng = np.random.default_rng(side)
    kernel = (rng.standard_normal((side, side)) * 9).astype(dtype)
    for width in (side, side + 1, 8 + side, 15 + side, 16 + side, 31, 33, 64, 65, 100, 129 + side):
        for height in (side, side + 3, side + 4, side + 6):
            x = (rng.standard_normal((height, width)) * 99).astype(dtype)
            assert_proven("corr2d", x, kernel)
            assert_proven("corr2d", x, kernel, mode="same", boundary=BOUNDARIES[(width + height) % 5])


@pytest.mark.parametrize("taps", [7, 8, 15, 16, 31, 32, 33, 47, 63, 64, 65, 96, 127, 128, 200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_lines_of_many_taps(level, dtype, taps):
    rng = np.random.default_rng(taps)
    kernel = (rng.standard_normal(taps) * 9).astype(dtype)
    for width in (taps, taps + 5, taps + 63, taps + 400):
        x = (rng.standard_normal(width) * 99).astype(dtype)
        whole = assert_proven("corr1d", x, kernel)
        if width >= taps + 5:  # another place in the tiles changes no bit
            assert ce.corr1d(x[3:], kernel, backend="cython").tobytes() == whole[3:].tobytes()
        assert_proven("corr1d", x, kernel, mode="same", boundary=BOUNDARIES[taps % 5])


@pytest.mark.parametrize("taps", [1, 15, 40, 64])
def test_long_signals_go_past_the_caches(level, taps):
    """Results of 16 MB and more are stored otherwise: aligned or not, whichever tile, the same bits."""
    rng = np.random.default_rng(taps)
    x, kernel = rng.standard_normal(4_300_007).astype(np.float32), rng.standard_normal(taps).astype(np.float32)
    y, step = ce.corr1d(x, kernel, backend="cython"), 500_000
    # Pieces are stored plainly; test_lines_of_many_taps holds such to the oracle.
    for first in range(0, y.size, step):
        piece = ce.corr1d(x[first : first + step + taps - 1], kernel, backend="cython")
        np.testing.assert_array_equal(y[first : first + step], piece)
    room = np.zeros(y.nbytes + 64, np.uint8)
    for offset in (4, 20):
        out = np.frombuffer(room, np.float32, y.size, offset)
        np.testing.assert_array_equal(ce.corr1d(x, kernel, backend="cython", out=out), y)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 5), (5, 2), (7, 3), (3, 7), (1, 40), (40, 1), (6, 31)])
def test_kernels_that_are_not_square(level, shape):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((45, 83)).astype(np.float32)
    kernel = rng.standard_normal(shape).astype(np.float32)
    for boundary in BOUNDARIES:
        assert_proven("corr2d", x, kernel, mode="full", boundary=boundary, fill_value=2)


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 4), (5, 1)])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1), (1, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_stride_and_dilation(level, stride, dilation, dtype):
    rng = np.random.default_rng(2)
    x = (99 * rng.standard_normal((37, 120))).astype(dtype)
    for side in ((3, 3), (2, 4), (5, 1)):
        kernel = (9 * rng.standard_normal(side)).astype(dtype)
        for boundary in ("reflect", "constant"):
            assert_proven(
                "corr2d", x, kernel, stride=stride, dilation=dilation, mode="same", boundary=boundary, fill_value=5
            )


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_kernel_much_larger_than_x(level, boundary):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 2)).astype(np.float32)
    assert_proven("corr2d", x, rng.standard_normal((13, 17)).astype(np.float32), mode="full", boundary=boundary)
    assert_proven("corr2d", x, rng.standard_normal((13, 17)).astype(np.float32), mode="same", boundary=boundary)
    assert_proven("corr2d", x[:1, :1], np.ones((5, 4), np.float32), mode="same", boundary=boundary)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_interleaved_channels(level, dtype, channels):
    rng = np.random.default_rng(4)
    x = (rng.standard_normal((21, 130, channels)) * 50).astype(dtype)
    kernel = (rng.standard_normal((3, 5)) * 4).astype(np.int8 if dtype == np.uint8 else dtype)
    for boundary in BOUNDARIES:
        assert_proven("corr2d", x, kernel, channel_axis=-1, mode="same", boundary=boundary)
    assert_proven("corr2d", x, kernel, channel_axis=-1, stride=2, dilation=2)
    assert_proven("corr2d", x[:, ::-1], kernel, channel_axis=-1)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_layers(level, dtype):
    rng = np.random.default_rng(5)

    def draw(*shape):
        values = rng.standard_normal(shape)
        return (
            (values + 1j * rng.standard_normal(shape)).astype(dtype)
            if np.dtype(dtype).kind == "c"
            else values.astype(dtype)
        )

    for c_in, c_out, groups in ((3, 8, 1), (4, 6, 2), (6, 6, 6), (5, 17, 1), (2, 1, 1)):
        x, kernel, bias = draw(2, c_in, 11, 40), draw(c_out, c_in // groups, 3, 3), draw(c_out)
        assert_proven("corr2d", x, kernel, bias=bias, groups=groups, mode="same", boundary="reflect")
        assert_proven("corr2d", x, kernel, bias=bias, groups=groups, padding=1, stride=2, dilation=2)


def test_three_dimensions(level):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((6, 9, 41)).astype(np.float32)
    for shape in ((3, 3, 3), (1, 3, 2), (4, 1, 1)):
        kernel = rng.standard_normal(shape).astype(np.float32)
        for boundary in BOUNDARIES:
            assert_proven("corr3d", x, kernel, mode="same", boundary=boundary)
        assert_proven("corr3d", x, kernel, stride=(2, 1, 3), mode="full")
    assert_proven("corr3d", x[None], rng.standard_normal((4, 1, 2, 2, 2)).astype(np.float32), padding=1)


@pytest.mark.parametrize("taps", [1, 2, 16, 300])
def test_long_signals(level, taps):
    rng = np.random.default_rng(7)
    x = rng.standard_normal(40_000)
    kernel = rng.standard_normal(taps)
    assert_proven("corr1d", x, kernel, mode="same", boundary="wrap")
    assert_proven("corr1d", x.reshape(40, 1000), kernel, stride=3)


INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("out", INTEGERS)
@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
def test_rounding_to_every_integer(level, out, overflow):
    halves = np.arange(-9, 9) / 2
    edges = [float(edge) for edge in (np.iinfo(out).min, np.iinfo(out).max)]
    x = np.array([*halves, *edges, *(2 * edge for edge in edges), 1e10, -1e10, 1e17, -1e17, 3e19, -3e19])
    assert_proven("corr1d", x, [1.0], dtype=out, overflow=overflow)
    assert_proven("corr1d", x[:18].astype(np.float32), [1.0], dtype=out, overflow=overflow)
    whole = np.array([-300, -129, -128, -1, 0, 1, 127, 128, 255, 256, 70_000, -70_000, 2**40, -(2**40)])
    assert_proven("corr1d", whole, [1], dtype=out, overflow=overflow)


def test_halves_go_to_even(level):
    halves = np.arange(-9, 9) / 2
    for dtype in (np.float32, np.float64):
        y = ce.corr1d(halves.astype(dtype), [1.0], dtype=np.int8, backend="cython")
        np.testing.assert_array_equal(y, np.rint(halves))


def test_rounding_that_does_not_fit(level):
    with pytest.raises(OverflowError, match="256 does not fit dtype=uint8"):
        ce.corr1d([255.6], [1.0], dtype=np.uint8, overflow="raise", backend="cython")
    with pytest.raises(OverflowError, match="inf does not fit dtype=int32"):
        ce.corr1d([np.inf], [1.0], dtype=np.int32, overflow="wrap", backend="cython")


@pytest.mark.parametrize("x_dtype", ["?", *INTEGERS, "float16", "float32", "float64", "complex64", "complex128"])
def test_every_dtype_in(level, x_dtype):
    rng = np.random.default_rng(8)
    x = rng.standard_normal((9, 60)) * 40
    x = (np.abs(x) if x_dtype.startswith("u") else x).astype(x_dtype)
    for kernel in (np.array([[1, 2], [3, 1]], np.int8), np.array([[0.5, 2], [3, 1]], np.float32)):
        assert_proven("corr2d", x, kernel, mode="same")
        assert_proven("corr2d", x.T, kernel, mode="same", boundary="edge")


def test_double_to_half_is_rounded_once(level):
    ties = np.array([1.0 + 2.0**-11, 1.0 + 3 * 2.0**-11, 2049.0, 65519.0, 65520.0, 2.0**-25, 3 * 2.0**-25])
    x = np.concatenate([ties, ties * (1 + 2.0**-40), ties * (1 - 2.0**-40), -ties])
    y = ce.corr1d(x, [1.0], dtype=np.float16, backend="cython")
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, x.astype(np.float16))


@pytest.mark.parametrize("workers", [2, 3, 7])
def test_workers_do_not_change_bits(level, workers):
    rng = np.random.default_rng(9)
    for x, kernel, keywords in (
        (rng.standard_normal((300, 2100)).astype(np.float32), rng.standard_normal((7, 7)).astype(np.float32), {}),
        (rng.standard_normal((200, 333)), rng.standard_normal((4, 9)), {"dilation": 3, "mode": "same"}),
        (rng.standard_normal((2, 8, 64, 64)), rng.standard_normal((16, 8, 3, 3)), {"padding": 1, "bias": np.ones(16)}),
        (rng.standard_normal(200_000), rng.standard_normal(31), {"mode": "full", "boundary": "symmetric"}),
    ):
        name = "corr1d" if x.ndim == 1 else "corr2d"
        run = getattr(ce, name)
        alone = run(x, kernel, backend="cython", workers=1, **keywords)
        np.testing.assert_array_equal(run(x, kernel, backend="cython", workers=workers, **keywords), alone)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_short_rows_as_padded_ones(level, boundary):
    """Rows are fetched whole up to a length, by their edges beyond; both give the bits of rows that need neither."""
    rng = np.random.default_rng(11)
    for dtype in (np.float32, np.float64, np.int32):
        kernel = (rng.standard_normal((3, 5)) * 9).astype(dtype)
        for width in (1, 7, 8, 15, 16, 17, 33, 64, 127, 128, 129, 130, 255, 256, 257, 300):
            x = (rng.standard_normal((7, width)) * 9).astype(dtype)
            how = {"constant_values": 3} if boundary == "constant" else {}
            padded = np.pad(x, ((2, 1), (9, 3)), boundary, **how)
            words = {"backend": "cython", "padding": ((2, 1), (9, 3)), "boundary": boundary}
            y = ce.corr2d(x, kernel, **words, fill_value=3 if how else 0)
            np.testing.assert_array_equal(y, ce.corr2d(padded, kernel, backend="cython"))


def test_one_filter_for_arrays_that_lie_in_memory_in_many_ways(level):
    """What the filter keeps of how it cut one call serves no call whose arrays lie otherwise."""
    rng = np.random.default_rng(12)
    room = rng.standard_normal((2, 40, 60, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3)).astype(np.float32)
    views = [room[..., 0], room[:, ::-1, :, 1], np.ascontiguousarray(room[..., 2]), room[:1].repeat(2, 0)[..., 0]]
    plan = ce.plan("corr2d", views[0], kernel, mode="same", backend="cython")
    wanted = [ce.corr2d(view.copy(), kernel, mode="same", backend="cython") for view in views]
    places = [np.empty((2, 40, 60), np.float32), np.empty((2, 60, 40), np.float32).transpose(0, 2, 1)]

    def work(first):
        for turn in range(60):
            at = (first + turn) % len(views)
            out = (None, *(place.copy("K") for place in places))[turn % 3]
            np.testing.assert_array_equal(plan(views[at], out=out), wanted[at])

    for _ in range(2):
        work(0)
    with ThreadPoolExecutor(4) as executor:
        for future in [executor.submit(work, first) for first in range(4)]:
            future.result()


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64", "complex64", "int64"])
def test_columns_that_push_each_other_out_of_the_caches(level, dtype, boundary):
    """Adjacent in memory, a multiple of 512 bytes apart: fetched some columns at a time, in every direction."""
    rng = np.random.default_rng(5)
    columns = np.asfortranarray(rng.integers(0, 9, (512, 75)).astype(dtype))
    kernel = rng.integers(-3, 4, (4, 7)).astype("int8" if dtype[0] in "ui" else dtype)
    how = {"mode": "full", "boundary": boundary, "fill_value": 2, "backend": "cython"}
    for x in (columns, columns[::-1], columns[:, ::-1], columns[::2, 3:70], columns[:1], columns[:, :5]):
        for more in ({}, {"dilation": (3, 2)}, {"stride": (2, 1)}, {"stride": (1, 2)}):
            wanted = ce.corr2d(x.copy(order="C"), kernel, **how, **more)
            np.testing.assert_array_equal(ce.corr2d(x, kernel, **how, **more), wanted)
    volume = np.asfortranarray(rng.integers(0, 9, (512, 3, 20)).astype(dtype)).transpose(1, 0, 2)
    wanted = ce.corr3d(volume.copy(order="C"), kernel[None], **how)
    np.testing.assert_array_equal(ce.corr3d(volume, kernel[None], **how), wanted)


def test_a_filter_follows_the_workers_of_each_call(level, monkeypatch):
    rng = np.random.default_rng(13)
    x, kernel = rng.standard_normal((300, 300)).astype(np.float32), rng.standard_normal((5, 5)).astype(np.float32)
    wanted = ce.corr2d(x, kernel, backend="cython", workers=1)
    for limit in ("1", "3", "1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", limit)
        np.testing.assert_array_equal(ce.corr2d(x, kernel, backend="cython"), wanted)


def test_out_of_a_filter_must_be_a_writable_array():
    module = import_module(f"convengine_cython.kernels_{chosen_level('')}_f4")
    call = ce.plan("corr1d", np.zeros(9, np.float32), np.ones(3, np.float32), backend="cython")._call
    filter_ = call.prepared._prepare(0)
    assert isinstance(filter_, module.DirectFilter)
    out = np.zeros(7, np.float32)
    assert filter_(np.ones(9, np.float32), out) is out
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        filter_(np.ones(9, np.float32), out)
    with pytest.raises(TypeError, match="ndarray"):
        filter_(np.ones(9, np.float32), [0.0] * 7)


def test_many_threads_at_once(level):
    rng = np.random.default_rng(10)
    x = rng.standard_normal((400, 700)).astype(np.float32)
    plan = ce.plan("corr2d", x, rng.standard_normal((9, 9)).astype(np.float32), mode="same", backend="cython")
    expected = plan(x)
    wrong = []

    def work():
        wrong.extend(not np.array_equal(plan(x), expected) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 40
    assert not any(wrong)


def run_script(text, **keywords):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


LONG = """
    import time, numpy as np, convengine as ce
    x = np.zeros((3000, 3000), np.int64); k = np.arange(3721).reshape(61, 61) % 7   # minutes of work
    ce.corr2d(x[:70, :70], k, backend="cython")
    print("started", flush=True)
    try:
        ce.corr2d(x, k, backend="cython")
    except KeyboardInterrupt:
        print("stopped", ce.corr1d([1.0, 2.0], [1.0, 1.0]), flush=True)
"""


def test_ctrl_c_stops_and_leaves_the_pool_working():
    process = run_script(LONG)
    assert process.stdout.readline() == "started\n"
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out == "stopped [3.]\n", err
    assert process.returncode == 0


def test_other_threads_run_meanwhile():
    done = threading.Event()
    x, kernel = np.zeros((700, 700)), np.random.default_rng(0).standard_normal((41, 41))

    def work():
        ce.corr2d(x, kernel, backend="cython", workers=1)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    turns = 0
    while not done.wait(0.001):
        turns += 1
    thread.join()
    assert turns > 5  # the call takes over 50 ms; with the GIL held there would be one turn


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_works_in_a_forked_child():
    process = run_script("""
        import os, warnings, numpy as np, convengine as ce
        warnings.simplefilter("ignore")
        x = np.random.default_rng(0).standard_normal((600, 600)).astype(np.float32); k = np.ones((5, 5), np.float32)
        before = ce.corr2d(x, k, backend="cython", workers=2)
        child = os.fork()
        after = ce.corr2d(x, k, backend="cython", workers=2)
        if child == 0:
            os._exit(0 if np.array_equal(before, after) else 3)
        assert np.array_equal(before, after)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    out, err = process.communicate(timeout=60)
    assert out == "0\n", err


def test_an_inner_axis_that_is_not_adjacent(level):
    rng = np.random.default_rng(11)
    room = rng.standard_normal((60, 3, 140)).astype(np.float32)
    for x in (room[:, 1], room[::-2, 2, ::-1], room[:, 0, ::3], room[:40, 1].T):
        assert_proven("corr2d", x, np.ones((3, 3), np.float32), mode="same", boundary="reflect")
