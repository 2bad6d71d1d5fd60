"""The problems of the contract beside the covering cases: simple ones, large ones, small ones, delicate ones.

Large ones reach threads, bands, tiles and chunks. Arrays are read-only: a backend that writes to x is found out.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from convengine.testing.arguments import BOUNDARIES, Array
from convengine.testing.cases import Case, Seeded, assemble, draw_row

__all__ = ["delicate", "exact", "large", "poisoned", "simple", "small", "wide_range"]

RNG_SEED = 20
NAN, INF = float("nan"), float("inf")


def _numbers(shape: Sequence[int], dtype: str, high: int = 0) -> Array:
    """Normal numbers, or whole ones from -high (0, if unsigned) to high; the same for the same arguments."""
    rng = np.random.default_rng([RNG_SEED, *shape, high])
    kind = np.dtype(dtype)
    if high:
        return _locked(rng.integers(0 if kind.kind == "u" else -high, high, shape).astype(kind))
    imaginary = 1j * rng.standard_normal(shape) if kind.kind == "c" else 0
    return _locked((rng.standard_normal(shape) + imaginary).astype(kind))


def _locked(array: Array) -> Array:
    array.setflags(write=False)
    return array


def _cases(*rows: tuple[str, str, Array, Any, dict[str, Any]]) -> dict[str, Case]:
    return {row[0]: Case(*row) for row in rows}


@cache
def simple(count: int = 120) -> dict[str, Case]:
    """Filters with one boundary, without stride and dilation: what a backend that refuses much may still do."""
    choose = Seeded(RNG_SEED)
    only = {
        "kind": ("filter", "filter", "batch", "axes", "colour"),
        "mode": ("valid", "same", "full"),
        "boundary": ("constant", "constant", *BOUNDARIES),
        "stride": (1,),
        "dilation": (1,),
        "shape": ("odd", "odd", "even", "one"),
        "samples": ("some",),
        "fill": ("zero", "zero", "other"),
    }
    cases = [assemble(choose, draw_row(choose, only), f"s{number:03d}-") for number in range(count)]
    return {case.id: case for case in cases}


@cache
def large() -> dict[str, Case]:
    """One problem of each sort, large enough for threads, bands, tiles and chunks; layers without a batch."""
    f4, f8, n = "float32", "float64", _numbers
    layer = {"groups": 2, "padding": 1, "bias": n((8,), f4)}
    last = {"channel_axis": -1, "stride": 2, "bias": n((6,), f8)}
    around = {"padding": (9, 20), "boundary": "wrap"}
    steps = {"mode": "same", "boundary": ("wrap", "edge"), "stride": (2, 3), "dilation": (2, 1)}
    sharp = {"channel_axis": -1, "mode": "same", "boundary": "edge", "dtype": "uint8"}
    return _cases(
        ("image", "corr2d", n((300, 2100), f4), n((5, 5), f4), {"mode": "same", "boundary": "reflect"}),
        ("wide-kernel", "conv2d", n((80, 210), f8), n((31, 31), f8), {"mode": "same", "fill_value": 0.5}),
        ("signal", "corr1d", n((50_000,), f4), n((31,), f4), {"mode": "full", "boundary": "edge"}),
        ("volume", "corr3d", n((24, 40, 70), f8), n((3, 3, 3), f8), {"mode": "same", "boundary": "wrap"}),
        ("layer", "corr2d", n((6, 64, 130), f4), n((8, 3, 3, 3), f4), layer),
        ("blocks", "corr2d", n((16, 30, 41), f4), n((32, 16, 3, 3), f4), {"padding": 1, "bias": n((32,), f4)}),
        ("layer-last", "conv2d", n((40, 70, 4), f8), n((3, 3, 4, 6), f8), last),
        ("photograph", "corr2d", n((160, 210, 3), "uint8", 255), n((3, 3), f4), sharp),
        ("stepped", "corr2d", n((120, 700), f4), n((3, 4), f4), steps),
        ("complex", "conv2d", n((90, 260), "complex64"), n((4, 3), "complex64"), {"mode": "same", "conjugate": True}),
        ("half", "corr1d", n((9000,), "float16"), n((7,), "float16"), {"boundary": "symmetric", "mode": "same"}),
        ("integers", "conv1d", n((30_000,), "int64", 2**40), n((9,), "int64", 2**15), {"mode": "full"}),
        ("separable", "corr2d", n((150, 1400), f4), _outer(n((21,), f4), n((37,), f4)), around),
        ("two-products", "conv2d", n((90, 700), f8), _cross(n((9,), f8), n((11,), f8)), {"dilation": 2, "padding": 5}),
        ("outer-integers", "corr2d", n((90, 400, 3), "uint8", 255), _outer(*_small(7, 9)), sharp | {"dilation": 2}),
        ("box", "corr2d", n((140, 900), "int16", 999), _locked(np.full((15, 9), -3, np.int8)), {"mode": "same"}),
        ("columns", "corr2d", n((2000, 37), f8), n((9, 1), f8), {"axes": (1, 0), "mode": "same"}),
    )


@cache
def small() -> dict[str, Case]:
    """Linear problems of whole numbers, so that sums and multiples of x are exact; channels first."""
    f4, f8, c16, n = "float32", "float64", "complex128", _numbers
    return _cases(
        ("image", "corr2d", n((23, 67), f4, 99), n((3, 4), f4, 99), {"mode": "same", "boundary": "edge"}),
        ("signal", "conv1d", n((211,), f8, 99), n((6,), f8, 99), {"mode": "full"}),
        ("volume", "corr3d", n((7, 9, 21), f4, 99), n((2, 3, 3), f4, 99), {"mode": "same"}),
        ("layer", "corr2d", n((4, 13, 29), f8, 99), n((6, 2, 3, 3), f8, 99), {"groups": 2, "padding": 2}),
        ("complex", "corr2d", n((17, 40), c16), n((3, 3), c16), {"mode": "same", "boundary": "wrap"}),
        ("separable", "conv2d", n((23, 67), f4, 99), _outer(n((5,), f4, 9), n((4,), f4, 9)), {"mode": "full"}),
        ("two-products", "corr2d", n((23, 67), f8, 99), _cross(n((7,), f8, 9), n((5,), f8, 9)), {"mode": "same"}),
        ("box", "corr2d", n((31, 80), "int16", 99), _locked(np.full((5, 9), 2, np.int8)), {"mode": "same"}),
        ("integers", "conv2d", n((20, 50), "int16", 99), n((3, 3), "int8", 99), {"boundary": "reflect", "padding": 4}),
    )


@cache
def exact() -> dict[str, Case]:
    """Integers whose sums no float holds, and those at the ends of their dtypes."""
    n = _numbers
    ends = _locked(np.tile(np.array([-128, 127], np.int8), 300))
    top = _locked(np.full((40, 70), 2**64 - 1, np.uint64))
    samples = n((5000,), "uint16", 65535)
    return _cases(
        ("int64", "corr2d", n((30, 90), "int64", 2**44), n((3, 5), "int64", 2**14), {"padding": 2, "fill_value": -9}),
        ("int32", "conv1d", n((3000,), "int32", 2**31 - 1), n((64,), "int32", 2**24), {}),
        ("int8-ends", "corr1d", ends, _locked(np.tile(np.array([127, -128], np.int8), 8)), {"mode": "full"}),
        ("uint64-zero-sum", "corr2d", n((40, 70), "uint64", 2**61), _locked(np.array([[1, -1]], np.int8)), {}),
        ("uint64-ends", "corr2d", top, _locked(np.zeros((2, 2), np.uint8)), {}),
        ("bool", "corr2d", n((50, 300), "bool", 2), n((31, 3), "bool", 2), {"mode": "same", "boundary": "reflect"}),
        ("bias", "corr2d", n((2, 20, 60), "int16", 999), n((3, 2, 3, 3), "int16", 999), {"bias": [2**60, -5, 0]}),
        ("wrapped", "corr1d", samples, n((9,), "int16", 999), {"dtype": "int16", "overflow": "wrap"}),
        ("wrapped-unsigned", "corr1d", samples, n((9,), "int16", 99), {"dtype": "uint64", "overflow": "wrap"}),
        ("saturated", "corr1d", samples, n((9,), "int16", 999), {"dtype": "uint16"}),
    )


@cache
def poisoned() -> dict[str, Case]:
    """NaN and infinities in x, kernel, bias and fill value, for every boundary."""
    n, f4 = _numbers, "float32"
    taps = _with(n((3, 5), f4), [(0, 1, 0.0), (2, 3, -0.0)])
    tails = np.exp(-np.square(np.arange(-8.0, 9.0))).astype(np.float32)  # whose products underflow
    gaussian = _outer(tails, tails)
    corners = [(0, 0, INF), (0, -1, NAN), (-1, 0, -INF), (-1, -1, INF), (20, 100, INF), (21, 102, -INF), (30, 200, NAN)]
    image = _with(n((40, 300), f4), corners)
    rng = np.random.default_rng(RNG_SEED)
    many = [(int(i), int(j), (NAN, INF, -INF)[k % 3]) for k, (i, j) in enumerate(rng.integers(0, (300, 2100), (40, 2)))]
    waves = _with(n((30, 90), "complex64"), [(4, 7, complex(1, INF)), (20, 50, complex(NAN, 2)), (29, 89, -INF)])
    plain, channels, weights = _with(n((40, 300), f4), [(3, 3, 0.0)]), n((4, 20, 60), f4), n((6, 2, 3, 3), f4)
    clipped = _with(n((9, 80), f4), [(3, 9, INF), (5, 50, -INF)])
    layer = _with(channels, [(1, 5, 6, NAN), (3, 0, 59, INF)])
    bias = _locked(np.array([NAN, INF, -INF, 0, 1, 2], np.float32))
    signal = _with(n((5000,), "float64"), [(0, INF), (2047, NAN), (4096, -INF), (4999, NAN)])
    return _cases(
        *((f"x-{word}", "corr2d", image, taps, {"mode": "same", "boundary": word}) for word in BOUNDARIES),
        ("x-stepped", "conv2d", image, taps, {"mode": "full", "stride": (2, 3), "dilation": (3, 2)}),
        ("x-many", "corr2d", _with(n((300, 2100), f4), many), n((5, 5), f4), {"mode": "same", "boundary": "reflect"}),
        ("x-separable", "corr2d", image, gaussian, {"mode": "same", "boundary": "edge"}),
        ("x-two-products", "conv2d", image, _cross(n((7,), f4), n((9,), f4)), {"mode": "full", "stride": (1, 2)}),
        ("x-signal", "conv1d", signal, n((33,), "float64"), {"mode": "full", "boundary": "wrap"}),
        ("x-half", "corr1d", _with(n((300,), "float16"), [(7, INF), (100, NAN)]), n((3,), "float16"), {}),
        ("x-complex", "conv2d", waves, n((3, 3), "complex64"), {"mode": "same", "conjugate": True}),
        ("x-layer", "corr2d", layer, weights, {"groups": 2, "padding": 1}),
        ("x-saturated", "corr2d", clipped, n((2, 2), f4), {"dtype": "int16"}),
        ("kernel-nan", "corr2d", plain, _with(n((3, 5), f4), [(1, 1, NAN)]), {"mode": "same"}),
        ("kernel-infinity", "conv2d", plain, _with(taps, [(1, 1, INF)]), {"mode": "full"}),
        ("kernel-layer", "corr2d", channels, _with(weights, [(2, 1, 0, 0, -INF)]), {"groups": 2, "padding": 1}),
        ("kernel-complex", "corr1d", n((70,), "float64"), _with(n((3,), "complex128"), [(1, complex(0, INF))]), {}),
        ("bias", "corr2d", channels, weights, {"groups": 2, "bias": bias}),
        ("fill-nan", "corr2d", plain, taps, {"mode": "same", "fill_value": NAN}),
        ("fill-infinity", "conv2d", plain, taps, {"padding": ((1, 7), (0, 9)), "fill_value": -INF}),
    )


@cache
def wide_range() -> dict[str, Case]:
    """1e30 beside 1e-30: what is lost where a method's error is relative to the largest sample."""
    f4, f8, n = "float32", "float64", _numbers
    bell = _outer(*(np.exp(-np.square(np.linspace(-2, 2, size))).astype(np.float32) for size in (15, 21)))
    rows, column = _loud((4, 40, 90), f4), _loud((2000, 3), f8)
    return _cases(
        ("image", "corr2d", _loud((120, 300), f4), n((5, 5), f4), {"mode": "same", "boundary": "reflect"}),
        ("wide-kernel", "conv2d", _loud((90, 140), f8), n((31, 31), f8), {"mode": "same"}),
        ("separable", "corr2d", _loud((120, 300), f4), bell, {"mode": "same", "boundary": "edge"}),
        ("signal", "corr1d", _loud((30_000,), f8), n((63,), f8), {"mode": "full"}),
        ("volume", "corr3d", _loud((9, 30, 40), f4), n((3, 3, 3), f4), {"mode": "same", "boundary": "wrap"}),
        ("layer", "corr2d", rows, n((6, 4, 3, 3), f4), {"padding": 1}),
        ("columns", "conv1d", column, n((9,), f8), {"axes": (0,), "mode": "same"}),
    )


def _loud(shape: tuple[int, ...], dtype: str) -> Array:
    """Numbers of some 1e-30, those of 1e30 in a block that fills an half of each axis."""
    values = _numbers(shape, dtype) * np.dtype(dtype).type(1e-30)
    block = tuple(slice(size // 4, size // 4 + max(size // 2, 1)) for size in shape)
    values[block] = _numbers(values[block].shape, dtype) * np.dtype(dtype).type(1e30)
    return _locked(values)


@cache
def delicate() -> dict[str, Case]:
    """Empty axes, kernels wider than x, pads much longer than x, single samples, one tap, no tap's worth of output."""
    n, f4, f8 = _numbers, "float32", "float64"
    wide = {"mode": "same", "boundary": ("wrap", "reflect")}
    return _cases(
        ("no-image", "corr2d", n((0, 5, 7), f4), n((3, 3), f4), {"mode": "same"}),
        ("no-rows", "corr2d", n((0, 7), f4), n((1, 3), f4), {"mode": "same"}),
        ("only-padding", "conv2d", n((0, 7), f8), n((2, 3), f8), {"padding": ((3, 2), 1), "fill_value": 2}),
        ("no-output", "corr1d", n((0,), f8), n((3,), f8), {"padding": 1}),
        ("no-channel", "corr2d", n((2, 0, 5, 7), f4), n((3, 0, 3, 3), f4), {"bias": np.arange(3, dtype=f4)}),
        ("one-sample", "corr2d", n((1, 1), f8), n((4, 5), f8), {"mode": "full", "boundary": "reflect"}),
        ("one-tap", "corr3d", n((5, 6, 70), f4), n((1, 1, 1), f4), {}),
        ("wider-than-x", "conv2d", n((3, 4), f8), n((9, 40), f8), wide),
        ("far-padding", "corr1d", n((5,), f4), n((3,), f4), {"padding": (60,), "boundary": "symmetric"}),
        ("far-steps", "corr1d", n((300,), f8), n((4,), f8), {"stride": 97, "dilation": 71}),
        ("beyond-x", "corr1d", n((6,), f8), n((3,), f8), {"padding": ((20, 0),), "stride": 4, "fill_value": 1.5}),
        ("deep-batch", "corr1d", n((2, 3, 2, 40), f4), n((5,), f4), {"mode": "same", "boundary": "wrap"}),
    )


def _outer(column: Array, row: Array) -> Array:
    """The outer product of two vectors, rounded to their dtype."""
    return _locked(np.multiply.outer(column, row))


def _cross(column: Array, row: Array) -> Array:
    """A column and a row of taps that meet in the middle, zeros elsewhere: two outer products, as a sharpening has."""
    kernel = np.zeros((len(column), len(row)), column.dtype)
    kernel[:, len(row) // 2] = column
    kernel[len(column) // 2] += row
    return _locked(kernel)


def _small(*sizes: int) -> tuple[Array, ...]:
    """Vectors of whole numbers whose outer products fit int8."""
    return tuple(_numbers((size,), "int8", 9) for size in sizes)


def _with(array: Array, changes: Sequence[tuple[Any, ...]]) -> Array:
    """A copy with other values at some places; the last entry of each change is the value."""
    changed = array.copy()
    for *place, value in changes:
        changed[tuple(place)] = value
    return _locked(changed)
