"""What the backend cupy offers, and at what price: the methods of each sort of problem, and which is the cheapest."""

import numpy as np
import pytest
from convengine_cupy import Backend, device, elementwise
from convengine_cupy.backend import DIRECT, ELEMENTWISE, IMPLICIT, MATMUL, NDIMAGE, SEPARABLE
from cupy_stand_in import Driver, offers_of, unneeded
from device_arrays import on_device, reading_of

TILES = "fft tile "


def test_offers_name_what_holds(cupy: Driver) -> None:
    x = np.ones((2, 5, 5), np.float32)
    ones, tile = np.ones((3, 3), np.float32), TILES + "32x32"
    every = {DIRECT, SEPARABLE, ELEMENTWISE, NDIMAGE, tile}
    assert set(offers_of(reading_of("corr2d", x, ones, mode="same"))) == every
    assert set(offers_of(reading_of("corr2d", x, ones))) == every - {NDIMAGE}
    layer = np.ones((4, 2, 3, 3), np.float32)
    assert set(offers_of(reading_of("corr2d", x, layer))) == {IMPLICIT, ELEMENTWISE, MATMUL}
    assert set(offers_of(reading_of("corr2d", x, layer[:, :1], groups=2))) == {IMPLICIT, ELEMENTWISE}
    assert set(offers_of(reading_of("corr2d", x, layer.astype(np.complex64)))) == {ELEMENTWISE}
    for offer in offers_of(reading_of("corr2d", x, layer, bias=[1.0] * 4)).values():
        assert offer.error == 19 * 2.0**-24 / (1 - 19 * 2.0**-24) and not offer.normwise
        assert 0 < offer.seconds < 1 and 0 <= offer.memory <= elementwise.LIMIT
        assert (offer.memory == 0) == (offer.method == IMPLICIT)
    cupy.current.clear()


def test_filters_are_cheapest_by_a_kernel_of_our_own(cupy: Driver) -> None:
    x = np.broadcast_to(np.float32(1), (8192, 8192))
    for size in (1, 3, 9):
        kernel = np.arange(1, size * size + 1, dtype=np.float32).reshape(size, size) ** 2
        offers = offers_of(reading_of("corr2d", x, kernel, mode="same"))
        assert min(offers.values(), key=lambda offer: offer.seconds).method == DIRECT
        assert offers[DIRECT].memory == 0 and offers[DIRECT].error == offers[ELEMENTWISE].error
    smooth = offers_of(reading_of("corr2d", x, np.ones((15, 15), np.float32), mode="same"))
    assert smooth[SEPARABLE].seconds < smooth[DIRECT].seconds
    assert smooth[SEPARABLE].error < smooth[DIRECT].error
    rounded = offers_of(reading_of("corr2d", x, np.ones((3, 3), np.float32), dtype="uint8"))[DIRECT]
    assert rounded.memory == 6 * 4 * 8190**2 and rounded.seconds > offers[DIRECT].seconds
    cupy.current.clear()


def test_large_kernels_are_cheapest_by_tiles(cupy: Driver) -> None:
    x = np.broadcast_to(np.float32(1), (8192, 8192))
    kernel = np.random.default_rng(0).standard_normal((63, 63), dtype=np.float32)
    reading = reading_of("corr2d", x, kernel, mode="same")
    offers = offers_of(reading)
    (tiled,) = (offer for method, offer in offers.items() if method.startswith(TILES))
    assert min(offers.values(), key=lambda offer: offer.seconds) is tiled and tiled.normwise
    small = reading_of("corr2d", np.ones((300, 300), np.float32), kernel, mode="same")
    (offer,) = (offer for method, offer in offers_of(small).items() if method.startswith(TILES))
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
    cupy: Driver, x_shape: tuple[int, ...], kernel_shape: tuple[int, ...], groups: int
) -> None:
    x, kernel = (np.broadcast_to(np.float32(1), shape) for shape in (x_shape, kernel_shape))
    reading = reading_of("corr2d", x, kernel, groups=groups, padding=1)
    offers = offers_of(reading)
    assert min(offers.values(), key=lambda offer: offer.seconds).method == IMPLICIT
    assert offers[IMPLICIT].memory == 0 and offers[IMPLICIT].error == offers[ELEMENTWISE].error
    # Not below what an H100 can multiply and move.
    moved = 4 * (np.prod(x.shape) + np.prod(reading.problem.out_shape))
    assert offers[IMPLICIT].seconds > max(reading.problem.multiplications / 3.3e13, moved / 3.35e12)
    rounded = offers_of(reading_of("corr2d", x, kernel, groups=groups, padding=1, dtype="uint8"))[IMPLICIT]
    assert rounded.memory == 24 * np.prod(reading.problem.out_shape) and rounded.seconds > offers[IMPLICIT].seconds
    cupy.current.clear()


def test_wide_layers_are_cheaper_by_matmul_and_filters_by_ndimage(cupy: Driver) -> None:
    x = np.broadcast_to(np.float32(1), (8, 64, 56, 56))
    layer = offers_of(reading_of("corr2d", x, np.ones((64, 64, 3, 3), np.float32)))
    assert layer[MATMUL].seconds < layer[ELEMENTWISE].seconds
    image = offers_of(reading_of("corr2d", x, np.ones((5, 5), np.float32), mode="same"))
    assert image[NDIMAGE].seconds < image[ELEMENTWISE].seconds


def test_ndimage_prices_what_it_copies(cupy: Driver) -> None:
    x, kernel = np.ones((2, 100, 100), np.float32), np.ones((3, 3), np.float32)
    assert offers_of(reading_of("corr2d", x, kernel, mode="same"))[NDIMAGE].memory == 0
    assert offers_of(reading_of("corr2d", x, kernel, mode="same", bias=1.0))[NDIMAGE].memory == 2 * x.nbytes
    many = np.broadcast_to(np.float16(1), (1000, 1000, 1000))
    least = 4 * 1000 * 1000 * 2
    assert least < offers_of(reading_of("corr2d", many, kernel, mode="same"))[NDIMAGE].memory <= elementwise.LIMIT


@pytest.mark.parametrize("name", device.REDUCING)
def test_matmul_is_not_offered_where_products_may_be_rounded(
    cupy: Driver, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert device.matmul_is_exact()
    monkeypatch.setenv(name, "1")
    layer = reading_of("corr2d", np.ones((2, 5, 5)), np.ones((4, 2, 3, 3)))
    assert set(offers_of(layer)) == {IMPLICIT, ELEMENTWISE}
    monkeypatch.setenv(name, "0")
    assert set(offers_of(layer)) == {IMPLICIT, ELEMENTWISE, MATMUL}
    cupy.compute_type[np.float32] = 7  # what CUPY_TF32=1 sets
    assert set(offers_of(layer)) == {IMPLICIT, ELEMENTWISE}
