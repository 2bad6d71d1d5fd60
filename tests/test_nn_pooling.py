"""Pooling layers: each window's largest sample or mean, and where their gradients go."""

import numpy as np
import pytest
from layer_cases import integers
from numpy.testing import assert_array_equal

from convengine import nn


def drawn_pool(rng):
    size = tuple(map(int, rng.integers(1, 4, 2, endpoint=True)))
    stride = None if rng.integers(0, 2) else tuple(map(int, rng.integers(1, 3, 2, endpoint=True)))
    padding = tuple(tuple(map(int, rng.integers(0, k, 2))) for k in size)
    shape = (*map(int, rng.integers(1, 3, int(rng.integers(1, 3)))), *map(int, rng.integers(4, 9, 2)))
    return {"kernel_size": size, "stride": stride, "padding": padding}, shape


def windows(shape, pool):
    """(place in the result, index of its samples in x) for each window, from the definition."""
    ranges = []
    for n, k, s, (before, after) in zip(shape[-2:], pool.kernel_size, pool.stride, pool.padding, strict=True):
        starts = range(-before, n + after - k + 1, s)
        ranges.append([slice(max(start, 0), min(start + k, n)) for start in starts])
    for i, rows in enumerate(ranges[0]):
        for j, columns in enumerate(ranges[1]):
            yield (..., i, j), (..., rows, columns)


def test_max_pooling_takes_the_largest_of_each_window_and_sends_its_gradient_there():
    rng = np.random.default_rng(0)
    for _ in range(100):
        said, shape = drawn_pool(rng)
        pool = nn.MaxPool2D(**said)
        x = integers(rng, shape)  # with many equals
        if rng.integers(0, 3) == 0:
            x[rng.random(shape) < 0.1] = np.nan
        x[rng.random(shape) < 0.2] = -np.inf
        y = pool(x)
        dy = integers(rng, y.shape)
        dx = np.zeros(shape)
        for place, window in windows(shape, pool):
            samples = x[window].reshape(*shape[:-2], -1)
            assert_array_equal(y[place], samples.max(axis=-1))
            for channel in np.ndindex(*shape[:-2]):
                row = samples[channel]
                best = np.flatnonzero(np.isnan(row))[-1] if np.isnan(row).any() else row.argmax()
                there = np.unravel_index(best, x[window].shape[-2:])
                dx[channel][window[1:]][there] += dy[channel][place[1:]]
        assert_array_equal(pool.backward(dy), dx)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16])
def test_max_pooling_keeps_dtypes(dtype):
    x = np.array([[[0, 1, 0], [0, 0, 0]]], dtype)
    y = nn.MaxPool2D(2, stride=1, padding=1)(x)
    assert y.dtype == dtype
    assert_array_equal(y, np.array([[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]], dtype))


def test_average_pooling_is_the_mean_with_zeros_beyond_the_edge():
    rng = np.random.default_rng(1)
    for _ in range(100):
        said, shape = drawn_pool(rng)
        pool = nn.AvgPool2D(**said)
        x = integers(rng, shape)
        y = pool(x)
        count = np.prod(pool.kernel_size)
        for place, window in windows(shape, pool):
            assert_array_equal(y[place], x[window].sum(axis=(-2, -1)) / count)  # sums of whole numbers are exact
        dy = integers(rng, y.shape) * count
        dx = np.zeros(shape)
        for place, window in windows(shape, pool):
            dx[window] += (dy[place] / count)[..., None, None]
        assert_array_equal(pool.backward(dy), dx)


def test_average_pooling_of_integers_gives_floats():
    assert_array_equal(nn.AvgPool2D(2)(np.array([[[250, 251], [252, 254]]], np.uint8)), [[[251.75]]])


def test_average_pooling_of_float16_is_rounded_once():
    x = np.full((1, 8, 8), 2000, np.float16)  # whose sum is past float16
    x[0, 0, 0] = 2016
    pool = nn.AvgPool2D(8)
    y = pool(x)
    assert y.dtype == np.float16
    assert_array_equal(y, [[[2000]]])  # 2000.25, where float16 has whole numbers
    dx = pool.backward(np.full((1, 1, 1), 2.0**-18, np.float16))
    assert dx.dtype == np.float16
    assert_array_equal(dx, np.full((1, 8, 8), 2.0**-24))
    four = nn.AvgPool2D(2, stride=1)
    four(np.zeros((1, 3, 3), np.float16))
    dx = four.backward(np.full((1, 2, 2), 2.0**-24, np.float16))
    assert_array_equal(dx[0, 1, 1], 2.0**-24)  # of four shares, each too small for float16
