"""The compiled gradient of the kernel at every level, against its definition in long doubles and Python's integers."""

import math
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
from convengine_cython.backend import compiled_levels
from convengine_cython.gradient import KernelGradientPlan

from convengine import plugin
from convengine.boundary import Boundary
from convengine.native import cpu
from convengine.problem import Problem
from convengine.testing import Reference, bounds

LEVELS = [level for level in cpu.levels() if level in compiled_levels()]
BOUNDARIES = ["constant", "edge", "reflect", "symmetric", "wrap"]
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64", "complex64", "complex128"]


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


def draw(rng, shape, dtype):
    """Numbers of every sign that the dtype has, none of them zero as a rule."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    values = rng.standard_normal(shape) * 40
    if dtype.kind == "c":
        return (values + 1j * rng.standard_normal(shape)).astype(dtype)
    return (np.abs(values) if dtype.kind == "u" else values).astype(dtype)


@dataclass(frozen=True)
class Case:
    """A problem and its two operands."""

    problem: Problem
    x: np.ndarray
    dy: np.ndarray

    def run(self, level, workers=None, out=None):
        token = plugin.WORKERS.set(workers)
        try:
            return KernelGradientPlan(self.problem, level).prepare(self.dy, None)(self.x, out)
        finally:
            plugin.WORKERS.reset(token)

    def check(self, level):
        dk = self.run(level)
        reference = defined(self.problem, self.x, self.dy)
        bounds.check(dk, reference, bounds.componentwise(reference))
        return dk


def case(x_shape, kernel_shape, dtype="float32", *, dy_dtype=None, result=None, pads=0, stride=1, dilation=1, groups=1,
         boundary="constant", fill_value=0, layer=None, seed=0, **changes):  # fmt: skip
    """Operands of these shapes; a kernel of more than three axes is a layer's."""
    layer = len(kernel_shape) > 3 if layer is None else layer
    ndim = len(kernel_shape) - 2 * layer
    each = [value if isinstance(value, tuple) else (value,) * ndim for value in (stride, dilation, boundary)]
    pads = pads if isinstance(pads, tuple) else ((pads, pads),) * ndim
    spatial = [
        (n + sum(pad) - (k - 1) * step - 1) // jump + 1
        for n, k, pad, jump, step in zip(x_shape[-ndim:], kernel_shape[-ndim:], pads, *each[:2], strict=True)
    ]
    lead = x_shape[: len(x_shape) - ndim]
    out_shape = (*lead[:-1], kernel_shape[0], *spatial) if layer else (*lead, *spatial)
    x_dtype, dy_dtype = np.dtype(dtype), np.dtype(dy_dtype or dtype)
    integer = x_dtype.kind in "biu" and dy_dtype.kind in "biu"
    rng = np.random.default_rng(seed)
    problem = Problem(
        op="grad_kernel",
        x_shape=x_shape,
        kernel_shape=kernel_shape,
        out_shape=out_shape,
        x_dtype=x_dtype,
        kernel_dtype=np.dtype(result or ("int64" if integer else np.result_type(x_dtype, dy_dtype))),
        out_dtype=dy_dtype,
        has_bias=False,
        overflow="saturate",
        pads=pads,
        boundary=tuple(Boundary(word) for word in each[2]),
        fill_value=fill_value,
        stride=each[0],
        dilation=each[1],
        groups=groups,
        memory="host",
    )
    return Case(replace(problem, **changes), draw(rng, x_shape, dtype), draw(rng, out_shape, dy_dtype))


def defined(problem, x, dy):
    """dk[d, c, a] = sum over n and i of dy[n, d, i] * xpad[n, c, stride*i + dilation*a - before]."""
    ndim, groups = problem.ndim, problem.groups
    kind = problem.sum_dtype.kind
    wide = {"i": object, "f": np.longdouble, "c": np.clongdouble}[kind]
    images = math.prod(problem.batch)
    c_in, c_out = problem.channels
    x = x.reshape(images, c_in, *problem.spatial).astype(wide)
    dy = dy.reshape(images, c_out, *problem.out_spatial).astype(wide)
    for axis, (pad, rule) in enumerate(zip(problem.pads, problem.boundary, strict=True)):
        widths = [(0, 0)] * x.ndim
        widths[2 + axis] = pad
        fill = {"constant_values": wide(problem.fill_value) if kind != "i" else int(problem.fill_value)}
        x = np.pad(x, widths, mode=str(rule), **(fill if rule == "constant" else {}))
    x = x.reshape(images, groups, 1, c_in // groups, *x.shape[2:])
    dy = dy.reshape(images, groups, c_out // groups, 1, *dy.shape[2:])
    shape = (groups, dy.shape[2], x.shape[3], *problem.kernel_spatial)
    value = np.zeros(shape, wide)
    magnitude = np.zeros(shape, np.clongdouble if kind == "c" else np.longdouble)
    kernel_axes = tuple(range(4, 4 + ndim))
    for tap in np.ndindex(*problem.kernel_spatial):
        met = [
            slice(a * step, a * step + (n - 1) * jump + 1, jump)
            for a, n, jump, step in zip(tap, problem.out_spatial, problem.stride, problem.dilation, strict=True)
        ]
        met_x = x[(..., *met)]
        with np.errstate(invalid="ignore", over="ignore"):
            value[(..., *tap)] = (dy * met_x).sum(axis=(0, *kernel_axes))
        if kind != "i":
            a, b, c, d = (np.where(np.isfinite(part), abs(part), 0)
                          for part in (dy.real, dy.imag, met_x.real, met_x.imag))  # fmt: skip
            sizes = a * c + b * d
            if kind == "c":
                sizes = sizes + 1j * (a * d + b * c)
            magnitude[(..., *tap)] = sizes.sum(axis=(0, *kernel_axes))
    value, magnitude = value.reshape(problem.kernel_shape), magnitude.reshape(problem.kernel_shape)
    with np.errstate(over="ignore"):
        final = value.astype(problem.kernel_dtype)
    terms = images * math.prod(problem.out_spatial)
    unused = np.ones((), np.longdouble)
    return Reference(
        value, final, problem.kernel_dtype, problem.sum_dtype, magnitude, terms, False, unused, 1.0, problem.overflow
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7, 9, 11])
def test_every_width_around_the_vectors(level, dtype, side):
    for width in (side, side + 1, 7 + side, 15 + side, 16 + side, 31, 64, 129 + side, 300):
        height = side + width % 7
        rule = BOUNDARIES[(width + height) % 5]
        case((height, width), (side, side), dtype).check(level)
        case((height, width), (side, side), dtype, pads=side // 2, boundary=rule).check(level)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("dy_dtype", ["int8", "uint32", *FLOATS])
def test_every_float(level, dtype, dy_dtype):
    shapes = (3, 2, 6, 21), (5, 2, 2, 3)
    case(*shapes, dtype, dy_dtype=dy_dtype).check(level)
    case(*shapes, dy_dtype, dy_dtype=dtype, pads=1, boundary="reflect").check(level)
    case((6, 150), (2, 3), dtype, dy_dtype=dy_dtype, pads=1, fill_value=2).check(level)


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
@pytest.mark.parametrize("dy_dtype", ["bool", *INTEGERS])
def test_every_integer(level, dtype, dy_dtype):
    case((2, 2, 6, 21), (3, 2, 2, 3), dtype, dy_dtype=dy_dtype, pads=1, fill_value=1).check(level)
    case((6, 150), (2, 3), dtype, dy_dtype=dy_dtype).check(level)


def test_integers_to_the_last_bit(level):
    made = case((3, 3), (2, 2), "int64")
    made.x[:] = 2**40 + np.arange(9).reshape(3, 3)
    made.dy[:] = 2**20 - 1
    made.check(level)


@pytest.mark.parametrize("result", ["uint8", "int32", "float16", "float32"])
@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_results_of_another_dtype(level, dtype, result):
    made = case((5, 40), (3, 3), dtype, result=result)
    dk = made.run(level)
    sums = replace(made, problem=replace(made.problem, kernel_dtype=made.problem.sum_dtype)).run(level)
    info = np.iinfo(result) if np.dtype(result).kind in "iu" else None
    expected = np.clip(np.rint(sums), info.min, info.max) if info else sums
    assert dk.dtype == result
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(dk, expected.astype(result))


def test_out_is_filled_and_returned(level):
    made = case((3, 2, 9, 20), (4, 2, 3, 3))
    out = np.full((3, 3, 2, 4), np.nan, np.float32).T
    assert made.run(level, out=out) is out
    np.testing.assert_array_equal(out, made.run(level))


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("pads", [((0, 0), (5, 0)), ((2, 3), (0, 7)), ((1, 1), (40, 23)), ((9, 12), (3, 3))])
def test_borders(level, boundary, pads):
    keywords = {"pads": pads, "boundary": boundary, "fill_value": 3}
    case((4, 5), (3, 3), **keywords).check(level)
    case((1, 1), (2, 3), "float64", **keywords).check(level)
    case((6, 200), (4, 7), **keywords).check(level)
    case((2, 3, 4, 5), (9, 3, 2, 4), **keywords).check(level)
    case((2, 2, 3, 9), (3, 2, 2, 2), "complex64", **keywords | {"fill_value": 3 - 2j}).check(level)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_kernel_larger_than_x(level, boundary):
    case((3, 2), (13, 17), pads=12, boundary=boundary).check(level)
    case((1, 1), (5, 4), "float64", pads=3, boundary=boundary).check(level)
    case((2, 2, 3, 2), (3, 2, 5, 6), pads=4, boundary=boundary).check(level)


def test_a_different_rule_on_each_axis(level):
    pads = (2, 1), (3, 3), (1, 4)
    case((3, 4, 30), (2, 3, 3), pads=pads, boundary=("wrap", "constant", "reflect"), fill_value=-1).check(level)
    case((2, 2, 3, 4, 9), (2, 2, 2, 3, 3), pads=pads, boundary=("constant", "edge", "symmetric")).check(level)


@pytest.mark.parametrize("stride", [1, 2, 3, (1, 4), (5, 1), (2, 70)])
@pytest.mark.parametrize("dilation", [1, 2, (3, 1), (1, 5), (7, 40)])
def test_stride_and_dilation(level, stride, dilation):
    for kernel in ((3, 3), (2, 4), (5, 1)):
        keywords = {"stride": stride, "dilation": dilation, "boundary": "reflect", "pads": ((15, 14), (30, 91))}
        case((37, 120), kernel, **keywords).check(level)
        case((37, 120), kernel, "int32", **keywords).check(level)
        case((2, 2, 7, 40), (3, 2, *kernel), **keywords).check(level)


@pytest.mark.parametrize("streams", [1, 2, 3, 4, 5, 7, 8, 9, 12, 17, 33, 70])
def test_any_number_of_channels(level, streams):
    case((2, 3, 6, 17), (streams, 3, 2, 2), pads=1).check(level)
    case((2, streams, 6, 17), (3, streams, 1, 1), "float64").check(level)
    case((2, streams, 5, 9), (streams, 1, 3, 3), groups=streams, pads=1, boundary="edge").check(level)
    case((1, streams, 70), (2, streams, 5), "complex64", layer=True).check(level)
    case((2, 2 * streams, 5, 9), (2 * streams, streams, 1, 3), groups=2).check(level)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (2, 5), (5, 2), (7, 3), (1, 40), (40, 1), (6, 31), (9, 10), (10, 9)])
def test_kernels_that_are_not_square(level, shape):
    case((45, 183), shape, pads=((1, 2), (3, 4)), boundary="symmetric").check(level)
    case((2, 2, 43, 50), (3, 2, *shape)).check(level)


def test_three_dimensions(level):
    for shape in ((3, 3, 3), (1, 3, 2), (4, 1, 1)):
        for boundary in BOUNDARIES:
            case((6, 9, 41), shape, pads=2, boundary=boundary).check(level)
        case((2, 6, 9, 141), shape, stride=(2, 1, 3), dilation=(1, 2, 1), layer=False).check(level)
        case((2, 2, 5, 6, 17), (3, 2, *shape), "float64", pads=1, layer=True).check(level)


@pytest.mark.parametrize("taps", [1, 2, 16, 300])
def test_long_signals(level, taps):
    case((40_000,), (taps,), "float64", pads=5, boundary="wrap").check(level)
    case((40, 1000), (taps,), stride=3).check(level)


def test_batch_axes(level):
    case((2, 3, 2, 5, 40), (3, 3), layer=False).check(level)
    case((2, 3, 2, 5, 20), (4, 2, 3, 3), layer=True).check(level)
    case((1, 1, 4, 1, 30), (3,)).check(level)


def test_many_units_and_parts(level):
    """Enough work for several parts, channel blocks and staged pieces."""
    case((3, 40, 30, 33), (40, 40, 3, 3), pads=1).check(level)
    case((200, 4500), (3, 3), pads=1, boundary="reflect").check(level)
    case((300, 1, 12, 14), (2, 1, 3, 3)).check(level)
    case((140, 2100), (130, 2), pads=((0, 0), (1, 1)), boundary="edge").check(level)  # kernel rows in two pieces


def recorded(array):
    """The same numbers, each in a record with another."""
    records = np.zeros(array.shape, np.dtype([("number", array.dtype), ("other", np.uint8)], align=True))
    records["number"] = array
    return records["number"]


LAYOUTS = {
    "fortran": lambda a: np.asfortranarray(a),
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every third": lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
    "upside down": lambda a: np.flip(a, axis=-2).copy()[..., ::-1, :],
    "in a record": lambda a: recorded(a),
    "channels last": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "int64"])
def test_bits_do_not_follow_the_layout(level, dtype, layout):
    for made in (
        case((2, 3, 14, 40), (4, 3, 3, 3), dtype, pads=1),
        case((3, 20, 300), (3, 3), dtype, pads=1, boundary="edge"),
        case((3, 20, 160), (5, 4), dtype),  # the result has whole vectors
    ):
        expected = made.run(level)
        for x, dy in (
            (LAYOUTS[layout](made.x), made.dy),
            (made.x, LAYOUTS[layout](made.dy)),
            (LAYOUTS[layout](made.x), LAYOUTS[layout](made.dy)),
        ):
            np.testing.assert_array_equal(replace(made, x=x, dy=dy).run(level), expected)


def test_one_image_for_all(level):
    made = case((4, 2, 9, 20), (3, 2, 3, 3))
    x = np.broadcast_to(made.x[:1], made.x.shape)
    replace(made, x=x).check(level)
    replace(made, dy=np.broadcast_to(made.dy[:, :1, :1, :1], made.dy.shape)).check(level)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_do_not_change_bits(level, workers):
    for made in (
        case((4, 24, 28, 28), (32, 24, 3, 3), pads=1),
        case((300, 2100), (7, 7)),
        case((200_000,), (31,), "float64", pads=30, boundary="symmetric"),
        case((2, 64, 20, 20), (64, 1, 3, 3), groups=64),
        case((2, 4, 9, 300), (8, 4, 3, 3), "complex64", stride=2),
    ):
        np.testing.assert_array_equal(made.run(level, workers), made.run(level, 1))


def poisoned(made, name, *places):
    """The case with other values in some places of an operand."""
    array = getattr(made, name).copy()
    for place, value in places:
        array[place] = value
    return replace(made, **{name: array})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_what_is_not_finite_stays_where_it_belongs(level, dtype, value):
    for made in (
        case((40, 70), (5, 4), dtype),
        case((9, 200), (3, 3), dtype, pads=1, boundary="reflect"),
        case((30, 50), (3, 2), dtype, stride=(2, 3), dilation=(1, 2)),
        case((2, 3, 12, 14), (9, 3, 3, 3), dtype),
        case((2, 3, 12, 14), (9, 3, 2, 2), dtype, stride=2),
    ):
        last = tuple(n - 1 for n in made.x.shape)
        poisoned(made, "x", (last, value)).check(level)
        poisoned(made, "x", ((*last[:-2], 0, 0), value)).check(level)
        poisoned(made, "x", ((0,) * (made.x.ndim - 1) + (last[-1],), value), (last, -value)).check(level)
        last = tuple(n - 1 for n in made.dy.shape)
        poisoned(made, "dy", (last, value)).check(level)
        poisoned(made, "dy", ((0,) * made.dy.ndim, value), (last, -value)).check(level)


def test_x_that_no_output_meets_does_not_count(level):
    made = case((2, 2, 10, 31), (3, 2, 3, 3), stride=2)
    assert np.isfinite(poisoned(made, "x", ((..., 9, slice(None)), np.nan)).check(level)).all()
    made = case((20, 100), (3, 1), stride=(1, 3), dilation=(2, 1))
    assert np.isfinite(poisoned(made, "x", ((..., slice(1, None, 3)), np.inf)).check(level)).all()


def test_zero_times_infinity(level):
    made = poisoned(case((12, 40), (3, 3)), "dy", (slice(None), 0))
    dk = poisoned(made, "x", ((0, 0), np.inf), ((5, 39), -np.inf)).check(level)
    assert np.isnan(dk[0, 0])
    assert np.isnan(dk[:, 2]).all()
    assert (np.delete(dk, 2, axis=1).ravel()[1:] == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_complex_products_are_promoted(level, value):
    """The imaginary part that a real operand lacks is a zero, and 0 * inf is NaN."""
    for dtype, dy_dtype in (("float32", "complex64"), ("complex128", "float64"), ("complex64", "complex64")):
        made = case((2, 2, 8, 20), (3, 2, 2, 3), dtype, dy_dtype=dy_dtype, pads=1, fill_value=0.5)
        poisoned(made, "x", ((1, 0, 7, 19), value)).check(level)
        poisoned(made, "dy", ((0, 2, 0, 0), value)).check(level)
        if made.x.dtype.kind == made.dy.dtype.kind == "c":
            poisoned(made, "x", ((1, 0, 7, 19), complex(0, value)), ((0, 0, 0, 0), complex(value, 1))).check(level)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_border_that_is_not_finite(level, value):
    case((5, 40), (3, 3), pads=((0, 0), (0, 1)), fill_value=value).check(level)
    case((2, 2, 5, 20), (9, 2, 3, 3), "float64", pads=((0, 1), (1, 0)), fill_value=value).check(level)


def test_nothing_to_sum(level):
    for x_shape, kernel_shape in (((0, 5, 7), (3, 3)), ((0, 2, 5, 7), (4, 2, 3, 3))):
        for dtype in ("float32", "complex64", "int32"):
            dk = case(x_shape, kernel_shape, dtype).check(level)
            assert dk.shape == kernel_shape
            assert not dk.any()
    for kernel_shape in ((0, 2, 3, 3), (3, 0, 3, 3)):
        made = case((2, kernel_shape[1], 5, 7), kernel_shape)
        assert made.run(level).shape == kernel_shape


def test_only_padding(level):
    case((2, 0, 7), (2, 3), "float64", pads=((3, 2), (1, 1)), fill_value=2, layer=False).check(level)


def test_a_filter_takes_many_x_at_once(level):
    made = case((4, 16, 40, 40), (16, 16, 3, 3))
    filter_ = KernelGradientPlan(made.problem, level).prepare(made.dy, None)
    others = [draw(np.random.default_rng(seed), made.x.shape, "float32") for seed in range(4)]
    expected = [filter_(x) for x in others]
    wrong = []

    def work(i):
        wrong.extend(not np.array_equal(filter_(others[i]), expected[i]) for _ in range(5))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 20


def test_operands_are_not_touched(level):
    made = case((2, 3, 9, 40), (4, 3, 3, 3), pads=1)
    x, dy = made.x.copy(), made.dy.copy()
    made.x.flags.writeable = made.dy.flags.writeable = False
    made.run(level)
    np.testing.assert_array_equal(made.x, x)
    np.testing.assert_array_equal(made.dy, dy)


def test_what_a_filter_holds():
    made = case((2, 3, 9, 40), (4, 3, 3, 3))
    filter_ = KernelGradientPlan(made.problem, LEVELS[0]).prepare(made.dy, None)
    assert filter_.dy is made.dy
    assert filter_.nbytes == made.dy.nbytes


LONG = """
    import numpy as np
    from convengine_cython.backend import compiled_levels
    from convengine_cython.gradient import KernelGradientPlan
    from convengine.boundary import Boundary
    from convengine.native import cpu
    from convengine.problem import Problem
    level = [level for level in cpu.levels() if level in compiled_levels()][0]
    i8 = np.dtype(np.int64)
    n = 3000
    problem = Problem("grad_kernel", (n, n), (81, 81), (n - 80, n - 80), i8, i8, i8, False, "saturate", ((0, 0),) * 2,
                      (Boundary.CONSTANT,) * 2, 0, (1, 1), (1, 1), 1, "host")
    filter_ = KernelGradientPlan(problem, level).prepare(np.ones((n - 80, n - 80), i8), None)
    print("started", flush=True)
    try:
        filter_(np.ones((n, n), i8))
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


def test_ctrl_c_stops():
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(LONG)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    threading.Event().wait(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert out == "stopped\n"
    assert process.returncode == 0
