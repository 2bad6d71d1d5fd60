"""The kernel library: every kernel against its definition."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.ndimage as ndi
from numpy.testing import assert_allclose, assert_array_equal

from convengine import filters

ULP = 1e-15


def corr(x, kernel):
    """The definition: y[i] = sum_a kernel[a] * x[i + a], where the kernel fits."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape)
    return np.einsum(windows, [*range(2 * x.ndim)], kernel, [*range(x.ndim, 2 * x.ndim)], [*range(x.ndim)])


def impulse_response(function, shape, *args, **kwargs):
    """The kernel, as correlated, that an ndimage function applies: its answer to an impulse, mirrored."""
    x = np.zeros([2 * n + 1 for n in shape])
    x[tuple(n for n in shape)] = 1
    y = function(x, *args, mode="constant", **kwargs)
    inside = tuple(slice(n - n // 2, n + n // 2 + 1) for n in shape)
    kernel = np.flip(y[inside]).copy()
    y[inside] = 0
    assert not y.any()  # nothing of it lies outside the kernel's shape
    return kernel


def cubic(shape):
    """Samples without symmetry: a fixed polynomial in every coordinate."""
    return sum((i + 1) * g**3 - 2 * g**2 + g for i, g in enumerate(np.indices(shape).astype(float))) % 17


def test_each_call_returns_a_new_writable_float64_array():
    for build in (filters.edge, filters.emboss, filters.sobel, filters.identity):
        first = build()
        before = first.copy()
        first += 1
        assert first.dtype == np.float64
        assert_array_equal(build(), before)


# Gaussians and other averages


@pytest.mark.parametrize(
    ("sigma", "order", "truncate"),
    [
        (1.0, 0, 4.0),
        (0.6, 0, 3.0),
        ((2.0, 0.7), 0, 4.0),
        ((1.0, 0.0), (1, 0), 4.0),
        ((1.5, 1.1), (0, 1), 4.0),
        ((1.5, 1.1), (2, 3), 3.5),
        ((1.0, 2.0, 0.5), (0, 1, 0), 2.5),
        ((1.3,), (1,), 4.0),
    ],
)
def test_gaussian_is_the_kernel_of_ndimage(sigma, order, truncate):
    ndim = len(sigma) if isinstance(sigma, tuple) else 2
    kernel = filters.gaussian(sigma, ndim=ndim, truncate=truncate, order=order)
    sigmas = np.broadcast_to(sigma, ndim)
    assert kernel.shape == tuple(2 * int(truncate * s + 0.5) + 1 for s in sigmas)
    expected = impulse_response(ndi.gaussian_filter, kernel.shape, sigma, order=order, truncate=truncate)
    assert_allclose(kernel, expected, rtol=1e-12, atol=ULP * np.abs(expected).max())


def test_gaussian_of_order_0_sums_to_1_and_is_symmetric():
    kernel = filters.gaussian((3.0, 0.4), truncate=1.0)
    assert_allclose(kernel.sum(), 1, rtol=ULP)
    assert_array_equal(kernel, np.flip(kernel))


@pytest.mark.parametrize("sigma", [0.0, 0.1, (0.0, 1e-300)])
def test_a_gaussian_of_no_width_is_the_identity(sigma):
    assert_array_equal(filters.gaussian(sigma), [[1.0]])


def test_gaussian_of_a_subnormal_sigma_and_a_huge_reach_is_finite():
    assert_array_equal(filters.gaussian(1e-300, ndim=1, truncate=1e300), [0.0, 1.0, 0.0])


def test_gaussian_derivative_is_positive_where_x_grows():
    ramp = np.arange(30.0) * 3
    assert_allclose(corr(ramp, filters.gaussian(1.5, ndim=1, order=1)), 3, rtol=2e-3)


@pytest.mark.parametrize("size", [5, (2, 4), (1, 7)])
def test_box_is_the_mean(size):
    x = cubic((9, 11))
    shape = tuple(np.broadcast_to(size, 2))
    kernel = filters.box(size)
    assert kernel.shape == shape
    means = np.lib.stride_tricks.sliding_window_view(x, shape).mean(axis=(2, 3))
    assert_allclose(corr(x, kernel), means, rtol=1e-14, atol=ULP)


def test_binomial_is_a_row_of_pascals_triangle():
    kernel = filters.binomial((2, 5))
    assert_array_equal(kernel * 4 * 32, np.outer([1, 2, 1], [1, 5, 10, 10, 5, 1]))
    assert_array_equal(corr(np.array([1.0, -1.0] * 6), filters.binomial(5, ndim=1)), np.zeros(7))
    wide = filters.binomial(1000, ndim=1)
    t = np.arange(1001) - 500
    assert_allclose([wide.sum(), wide @ t**2], [1, 250], rtol=1e-13)


@pytest.mark.parametrize("radius", [0, 0.5, 1, 2.3, 7])
def test_disk_is_flat_inside_its_radius_and_zero_outside(radius):
    kernel = filters.disk(radius)
    half = int(radius)
    assert kernel.shape == (2 * half + 1, 2 * half + 1)
    y, x = np.indices(kernel.shape) - half
    inside = np.hypot(x, y) <= radius
    assert_array_equal(kernel, inside / inside.sum())


@pytest.mark.parametrize("length", [1, 3, 9])
@pytest.mark.parametrize("turn", range(-4, 5))
def test_motion_along_an_axis_is_a_box(length, turn):
    shape = (length, 1) if turn % 2 else (1, length)
    kernel = filters.motion(length, turn * math.pi / 2)
    assert kernel.shape == shape
    assert_allclose(kernel, filters.box(shape), rtol=1e-14)


def test_motion_is_a_thin_antialiased_line_in_its_direction():
    angle = 0.5
    kernel = filters.motion(21, angle)
    y, x = np.indices(kernel.shape) - np.array(kernel.shape).reshape(2, 1, 1) // 2
    assert_allclose(kernel.sum(), 1, rtol=ULP)
    assert_allclose(kernel, np.flip(kernel), rtol=1e-12)
    across, along = y * math.cos(angle) - x * math.sin(angle), x * math.cos(angle) + y * math.sin(angle)
    assert (kernel[np.abs(across) >= 1] == 0).all()
    assert (kernel[np.abs(along) >= 11] == 0).all()
    inside = np.abs(along) <= 10
    assert_allclose(kernel[inside] / kernel.max(), np.maximum(0, 1 - np.abs(across[inside])), atol=1e-9)
    assert (kernel.any(axis=0)).all() and kernel.any(axis=1).all()  # no empty rim
    # +y is downwards: at a positive angle the line falls to the right.
    assert kernel[-1, -1] > 0 and kernel[0, -1] == 0
    assert_allclose(filters.motion(21, angle + math.pi), kernel, atol=1e-11)


# Edges


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("operator", ["sobel", "prewitt"])
def test_gradients_are_those_of_ndimage_on_data(operator, ndim):
    x = cubic((7, 8, 9)[:ndim])
    for axis in range(-ndim, ndim):
        kernel = getattr(filters, operator)(axis, ndim=ndim)
        assert kernel.shape == (3,) * ndim
        expected = getattr(ndi, operator)(x, axis=axis)[(slice(1, -1),) * ndim]
        assert_allclose(corr(x, kernel), expected, atol=1e-12)


def test_scharr_has_its_weights():
    assert_array_equal(filters.scharr(), [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]])
    assert_array_equal(filters.scharr(0), filters.scharr().T)
    assert_array_equal(filters.scharr(ndim=1), [-1, 0, 1])


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("operator", [filters.sobel, filters.prewitt, filters.scharr])
def test_a_normalised_gradient_is_1_on_a_ramp_of_slope_1_along_its_axis_and_0_along_others(operator, ndim):
    coordinates = np.indices((5,) * ndim).astype(float)
    for axis in range(ndim):
        kernel = operator(axis, ndim=ndim, normalize=True)
        assert_allclose([corr(x, kernel).flat[0] for x in coordinates], np.eye(ndim)[axis], atol=1e-14)
        ratio = operator(axis, ndim=ndim).max() / kernel.max()
        assert_allclose(operator(axis, ndim=ndim), ratio * kernel, rtol=1e-14)


@pytest.mark.parametrize(("ndim", "shape"), [(1, (2,)), (2, (1, 2)), (3, (1, 1, 2))])
def test_edge_is_the_books_detector_positive_where_x_falls(ndim, shape):
    kernel = filters.edge(ndim=ndim)
    assert kernel.shape == shape
    assert_array_equal(kernel.ravel(), [1, -1])


def test_edge_finds_the_books_stripe():
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    assert_array_equal(corr(x, filters.edge()), np.tile([0, 1, 0, 0, 0, -1, 0], (6, 1)))


@pytest.mark.parametrize("accuracy", [2, 4, 6])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_derivative_is_exact_for_polynomials_up_to_its_degree_and_not_beyond(order, accuracy):
    kernel = filters.derivative(order, ndim=1, accuracy=accuracy)
    t = np.arange(len(kernel)) - len(kernel) // 2
    sums = [sum(Fraction(w).limit_denominator(10**6) * int(i) ** power for w, i in zip(kernel, t, strict=True))
            for power in range(order + accuracy + 1)]  # fmt: skip
    assert sums[: order + accuracy] == [math.factorial(order) * (power == order) for power in range(order + accuracy)]
    assert sums[order + accuracy] != 0


def test_derivative_at_its_largest_reach_is_rounded_once():
    kernel = filters.derivative(2, ndim=1, accuracy=16)
    for j in range(1, 9):  # the closed form of the second derivative: 2 (-1)^(j+1) (8!)^2 / (j^2 (8-j)! (8+j)!)
        exact = Fraction(2 * (-1) ** (j + 1) * math.factorial(8) ** 2,
                         j * j * math.factorial(8 - j) * math.factorial(8 + j))  # fmt: skip
        assert kernel[8 + j] == kernel[8 - j] == float(exact)


def test_derivative_stands_along_its_axis():
    assert_array_equal(filters.derivative(axis=0), [[-0.5], [0.0], [0.5]])
    assert filters.derivative(3, axis=1, ndim=3).shape == (1, 5, 1)
    assert not np.signbit(filters.derivative(1)[0, 1])


# Blobs


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_laplacian_is_that_of_ndimage_on_data(ndim):
    x = cubic((7, 8, 9)[:ndim])
    assert_allclose(corr(x, filters.laplacian(ndim)), ndi.laplace(x)[(slice(1, -1),) * ndim], atol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_laplacian_takes_the_neighbours_of_its_connectivity(ndim):
    for connectivity in range(1, ndim + 1):
        kernel = filters.laplacian(ndim, connectivity=connectivity)
        neighbours = ndi.generate_binary_structure(ndim, connectivity).astype(float)
        neighbours[(1,) * ndim] = 1 - neighbours.sum()
        assert_array_equal(kernel, neighbours)


@pytest.mark.parametrize(("ndim", "connectivity", "factor"), [(1, 1, 1), (2, 1, 1), (2, 2, 3), (3, 2, 5), (3, 3, 9)])
def test_a_normalised_laplacian_is_the_sum_of_second_derivatives(ndim, connectivity, factor):
    x = sum((i + 1) * g**2 for i, g in enumerate(np.indices((3,) * ndim).astype(float)))
    exact = ndim * (ndim + 1)
    assert corr(x, filters.laplacian(ndim, connectivity=connectivity)).item() == factor * exact
    kernel = filters.laplacian(ndim, connectivity=connectivity, normalize=True)
    assert_allclose(corr(x, kernel).item(), exact, rtol=1e-14)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 3.7, (1.0, 2.5)])
def test_log_sums_to_0_and_is_the_laplacian_on_quadratics(sigma):
    kernel = filters.log(sigma)
    y, x = np.indices(kernel.shape) - np.array(kernel.shape).reshape(2, 1, 1) // 2
    scale = np.abs(kernel).sum()
    assert abs(kernel.sum()) <= 4 * ULP * scale
    assert_allclose([np.sum(kernel * x * x), np.sum(kernel * y * y)], 2, rtol=1e-12)
    assert_allclose(np.sum(kernel * x * y), 0, atol=1e-12)
    assert kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] == kernel.min() < 0


@pytest.mark.parametrize(
    ("ndim", "sigma", "truncate", "correction"),
    [
        (1, 2.0, 5.0, 2e-4),
        (2, 1.5, 5.0, 2e-4),
        (2, (1.0, 2.0), 5.0, 2e-4),
        (3, 1.2, 5.0, 2e-4),
        pytest.param(1, 10.0, 4.0, 1e-2, id="spread, instead of a spike at the centre"),
    ],
)
def test_log_is_that_of_ndimage_but_for_its_correction(ndim, sigma, truncate, correction):
    kernel = filters.log(sigma, ndim=ndim, truncate=truncate)
    expected = impulse_response(ndi.gaussian_laplace, kernel.shape, sigma, truncate=truncate)
    assert_allclose(kernel, expected, atol=correction * np.abs(expected).max())


def test_log_becomes_the_discrete_laplacian_as_sigma_falls():
    assert_allclose(filters.log(0.15), filters.laplacian(), atol=1e-8)


def test_difference_of_gaussians_is_one():
    kernel = filters.difference_of_gaussians(1.0, (2.0, 3.0))
    narrow, wide = filters.gaussian(1.0), filters.gaussian((2.0, 3.0))
    assert kernel.shape == wide.shape == (17, 25)
    kernel += wide
    assert_allclose(kernel[4:13, 8:17], narrow, atol=ULP)
    kernel[4:13, 8:17] = 0
    assert_array_equal(kernel, 0)
    assert_allclose(filters.difference_of_gaussians(1.5).sum(), 0, atol=ULP)
    assert filters.difference_of_gaussians(2.0, ndim=1).shape == filters.gaussian(3.2, ndim=1).shape


# Waves


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.5])
@pytest.mark.parametrize("quadrature", [False, True])
def test_gabor_is_its_formula(angle, quadrature):
    wavelength, sigma, gamma, psi = 5.0, 2.0, 0.8, 0.3
    kernel = filters.gabor(
        wavelength, angle, sigma=sigma, gamma=gamma, psi=psi, truncate=4.0, quadrature=quadrature
    )  # fmt: skip
    assert kernel.dtype == (np.complex128 if quadrature else np.float64)
    assert kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1
    total, expected = 0.0, np.empty(kernel.shape, complex)
    for (i, j), _ in np.ndenumerate(kernel):
        y, x = i - kernel.shape[0] // 2, j - kernel.shape[1] // 2
        u, v = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
        weight = math.exp(-(u * u + gamma**2 * v * v) / (2 * sigma**2))
        expected[i, j] = weight * np.exp(1j * (2 * math.pi * u / wavelength + psi))
        total += weight
    assert_allclose(kernel, (expected if quadrature else expected.real) / total, atol=1e-15)


def test_gabor_holds_its_turned_ellipse():
    assert filters.gabor(8.0, 0.0, sigma=4.0, gamma=2.0).shape == (13, 25)
    assert filters.gabor(8.0, math.pi / 2, sigma=4.0, gamma=2.0).shape == (25, 13)
    assert filters.gabor(8.0, math.pi / 4, sigma=4.0, gamma=1.0).shape == (25, 25)


def test_gabor_halves_its_answer_an_octave_apart():
    t = np.arange(2048.0)
    kernel = filters.gabor(16.0, quadrature=True, truncate=6.0)[:, :].sum(axis=0)
    peak, low, high = (abs(corr(np.cos(2 * np.pi * f / 16 * t), kernel)).mean() for f in (1, 2 / 3, 4 / 3))
    assert_allclose([peak, low, high], [0.5, 0.25, 0.25], rtol=0.01)


def test_an_odd_gabor_is_positive_where_x_grows_along_its_direction():
    y, x = np.indices((60, 60)).astype(float)
    for angle in (0.0, 1.0, 2.0, -2.5):
        kernel = filters.gabor(6.0, angle, psi=-math.pi / 2, truncate=7.0)
        assert corr(x * math.cos(angle) + y * math.sin(angle), kernel)[0, 0] > 0.01
        assert_allclose(corr(y * math.cos(angle) - x * math.sin(angle), kernel)[0, 0], 0, atol=1e-9)


# Detail


@pytest.mark.parametrize("shape", [(1, 1), (3,), 4, (2, 5), (3, 1, 4), [3, 3]])
def test_identity_has_its_1_at_shape_over_2(shape):
    kernel = filters.identity(shape)
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    assert kernel.shape == sizes
    assert kernel.sum() == kernel[tuple(n // 2 for n in sizes)] == np.abs(kernel).max() == 1
    x = cubic((6, 7, 8)[: len(sizes)])
    assert_array_equal(ndi.correlate(x, kernel), x)  # ndimage's centre is k // 2


def test_sharpen_is_identity_minus_laplacian():
    for ndim in (1, 2, 3):
        expected = filters.identity((3,) * ndim) - 0.7 * filters.laplacian(ndim)
        assert_allclose(filters.sharpen(0.7, ndim=ndim), expected, rtol=ULP)
    assert_array_equal(filters.sharpen(0), filters.identity((3, 3)))
    assert not np.signbit(filters.sharpen()[0, 0])


def test_unsharp_adds_what_the_blur_removes():
    x = cubic((30, 30))
    kernel = filters.unsharp((1.0, 1.5), 0.8)
    blurred = ndi.gaussian_filter(x, (1.0, 1.5))
    expected = (x + 0.8 * (x - blurred))[4:-4, 6:-6]
    assert kernel.shape == (9, 13)
    assert_allclose(kernel.sum(), 1, rtol=1e-14)
    assert_allclose(corr(x, kernel), expected, atol=1e-12)


def test_emboss_keeps_flat_areas_and_brightens_slopes_to_the_bottom_right():
    y, x = np.indices((3, 3)).astype(float)
    assert filters.emboss().sum() == 1
    assert corr(x - x.mean(), filters.emboss()).item() > 0 < corr(y - y.mean(), filters.emboss()).item()
    assert corr(x - y, filters.emboss()).item() == 0
