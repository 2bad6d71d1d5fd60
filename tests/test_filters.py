"""The kernel library: every kernel against its definition, every refusal with its values, every name of the table."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.ndimage as ndi
from numpy.testing import assert_allclose, assert_array_equal

from convengine import filters
from convengine.errors import InvalidProblem
from convengine.filters import named
from convengine.filters.parameters import MAX_TAPS

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


@pytest.mark.parametrize(("ndim", "sigma"), [(1, 2.0), (2, 1.5), (2, (1.0, 2.0)), (3, 1.2)])
def test_log_is_that_of_ndimage_but_for_its_correction(ndim, sigma):
    kernel = filters.log(sigma, ndim=ndim, truncate=5.0)
    expected = impulse_response(ndi.gaussian_laplace, kernel.shape, sigma, truncate=5.0)
    assert_allclose(kernel, expected, atol=2e-4 * np.abs(expected).max())


def test_log_spreads_its_correction_instead_of_leaving_a_spike_at_its_centre():
    kernel = filters.log(10.0, ndim=1)
    expected = impulse_response(ndi.gaussian_laplace, kernel.shape, 10.0)
    assert_allclose(kernel, expected, atol=1e-2 * np.abs(expected).max())


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


# Refusals


@pytest.mark.parametrize(
    ("build", "texts"),
    [
        (lambda: filters.gaussian(-1.5), ["sigma needs a finite number >= 0", "-1.5"]),
        (lambda: filters.gaussian(math.nan), ["sigma", "finite", "nan"]),
        (lambda: filters.gaussian((1.0, math.inf)), ["sigma", "finite", "inf"]),
        (lambda: filters.gaussian("2"), ["sigma needs a finite number >= 0; got '2'"]),
        (lambda: filters.gaussian(True), ["sigma", "True"]),
        (lambda: filters.gaussian(10**400), ["sigma", "finite", "10000"]),
        (lambda: filters.gaussian((1, 2, 3)), ["sigma needs one value or one per axis (ndim=2); got 3: (1, 2, 3)"]),
        (lambda: filters.gaussian(np.array([1.0, 2.0]), ndim=1), ["(ndim=1); got 2: [1.0, 2.0]"]),
        (lambda: filters.gaussian(1, ndim=4), ["ndim needs a whole number from 1 to 3; got 4"]),
        (lambda: filters.gaussian(1, truncate=0), ["truncate needs a finite number > 0; got 0"]),
        (lambda: filters.gaussian(1, order=-1), ["order needs a whole number from 0 to 20; got -1"]),
        (lambda: filters.gaussian(1, order=1.0), ["order needs a whole number", "1.0"]),
        (lambda: filters.gaussian(0.1, order=1), ["order 1", "at least 2 taps", "sigma=0.1", "truncate=4", "give 1"]),
        (lambda: filters.gaussian(0.6, order=5), ["order 5", "at least 6 taps", "give 5"]),
        (lambda: filters.gaussian(0.02, order=1, truncate=99), ["order 1", "sigma >= 0.03", "sigma=0.02"]),
        (lambda: filters.gaussian(1e9), [f"at most {MAX_TAPS} taps; got a reach of 4e+09 pixels"]),
        (lambda: filters.gaussian(1e200, truncate=1e200), ["reach of inf pixels"]),
        (lambda: filters.gaussian(1000), ["shape (8001, 8001), 64016001 taps"]),
        (lambda: filters.box(0), ["size needs a whole number >= 1; got 0"]),
        (lambda: filters.box((3, 2.5)), ["size needs a whole number >= 1; got 2.5"]),
        (lambda: filters.box(10**6), ["shape (1000000, 1000000), 1000000000000 taps"]),
        (lambda: filters.binomial(1001), ["n needs a whole number from 0 to 1000; got 1001"]),
        (lambda: filters.disk(-1), ["radius needs a finite number >= 0; got -1"]),
        (lambda: filters.disk(1e300), ["reach of 1e+300 pixels"]),
        (lambda: filters.disk(1e6), ["shape (2000001, 2000001)"]),
        (lambda: filters.motion(0.5), ["length needs a finite number >= 1; got 0.5"]),
        (lambda: filters.motion(9, math.inf), ["angle needs a finite number; got inf"]),
        (lambda: filters.motion(1e5, 0.8), ["shape (71737, 69671)"]),
        (lambda: filters.sobel(2), ["axis, for ndim=2, needs a whole number from -2 to 1; got 2"]),
        (lambda: filters.prewitt(-2, ndim=1), ["from -1 to 0; got -2"]),
        (lambda: filters.scharr(0.0), ["axis, for ndim=2, needs a whole number from -2 to 1; got 0.0"]),
        (lambda: filters.derivative(0), ["order needs a whole number >= 1; got 0"]),
        (lambda: filters.derivative(accuracy=3), ["accuracy needs an even number", "got 3"]),
        (lambda: filters.derivative(4, accuracy=16), ["at most 8", "order=4 and accuracy=16, 9 samples"]),
        (lambda: filters.laplacian(connectivity=8), ["connectivity, for ndim=2, needs", "from 1 to 2; got 8"]),
        (lambda: filters.laplacian(0), ["ndim needs a whole number from 1 to 3; got 0"]),
        (lambda: filters.log(0), ["sigma needs a finite number > 0; got 0"]),
        (lambda: filters.log(0.1), ["at least 3 taps; got sigma=0.1"]),
        (lambda: filters.difference_of_gaussians(2, 1), ["high needs to be above low", "(2.0, 2.0)", "(1.0, 1.0)"]),
        (lambda: filters.difference_of_gaussians((1, 2), (2, 2)), ["low=(1.0, 2.0) and high=(2.0, 2.0)"]),
        (lambda: filters.difference_of_gaussians(0), ["low=(0.0, 0.0) and high=(0.0, 0.0)"]),
        (lambda: filters.gabor(1.9), ["wavelength needs a finite number >= 2; got 1.9"]),
        (lambda: filters.gabor(8, gamma=0), ["gamma needs a finite number > 0; got 0"]),
        (lambda: filters.gabor(8, sigma=-1), ["sigma needs a finite number > 0; got -1"]),
        (lambda: filters.gabor(8, sigma=1e-200, gamma=1e200), ["sigma / gamma needs a finite number > 0; got 0.0"]),
        (lambda: filters.gabor(1e9), ["at most", "reach"]),
        (lambda: filters.gabor(3000), ["shape (10121, 10121)"]),
        (lambda: filters.identity(()), ["length of shape needs a whole number from 1 to 3; got 0"]),
        (lambda: filters.identity((3, 0)), ["shape needs a whole number >= 1; got 0"]),
        (lambda: filters.identity((10**6, 10**6)), ["1000000000000 taps"]),
        (lambda: filters.sharpen(-0.5), ["amount needs a finite number >= 0; got -0.5"]),
        (lambda: filters.unsharp(1, math.nan), ["amount", "nan"]),
    ],
)
def test_refusals_say_what_is_needed_and_what_came(build, texts):
    with pytest.raises(InvalidProblem) as caught:
        build()
    for text in texts:
        assert text in str(caught.value)


def test_each_call_returns_a_new_writable_float64_array():
    for build in (filters.edge, filters.emboss, filters.sobel, filters.identity):
        first = build()
        before = first.copy()
        first += 1
        assert first.dtype == np.float64
        assert_array_equal(build(), before)


# Names

SPOKEN = {
    "binomial:4": lambda: filters.binomial(4),
    "binomial:4,2": lambda: filters.binomial((4, 2)),
    "box:5": lambda: filters.box(5),
    "box:1,5": lambda: filters.box((1, 5)),
    "derivative-x": lambda: filters.derivative(),
    "derivative-y:2,4": lambda: filters.derivative(2, axis=0, accuracy=4),
    "derivative-z:1": lambda: filters.derivative(axis=0, ndim=3),
    "disk:4": lambda: filters.disk(4),
    "dog:1": lambda: filters.difference_of_gaussians(1.0),
    "dog:1,3": lambda: filters.difference_of_gaussians(1.0, 3.0),
    "edge": filters.edge,
    "emboss": filters.emboss,
    "gabor:8,0.785": lambda: filters.gabor(8, 0.785),
    "gabor:8,0.785,3": lambda: filters.gabor(8, 0.785, sigma=3),
    "gaussian:2": lambda: filters.gaussian(2),
    "gaussian:2,1": lambda: filters.gaussian((2, 1)),
    " Gaussian : 2 , 1e0 ": lambda: filters.gaussian((2, 1)),
    "identity": lambda: filters.identity((1, 1)),
    "identity:3": lambda: filters.identity((3, 3)),
    "identity:3,5": lambda: filters.identity((3, 5)),
    "laplacian": filters.laplacian,
    "laplacian:2": lambda: filters.laplacian(connectivity=2),
    "log:1.5": lambda: filters.log(1.5),
    "log:1.5,2": lambda: filters.log((1.5, 2)),
    "motion:9": lambda: filters.motion(9),
    "motion:9,0.5": lambda: filters.motion(9, 0.5),
    "prewitt-x": lambda: filters.prewitt(-1),
    "prewitt-y": lambda: filters.prewitt(-2),
    "prewitt-z": lambda: filters.prewitt(-3, ndim=3),
    "scharr-x": lambda: filters.scharr(-1),
    "scharr-y": lambda: filters.scharr(-2),
    "scharr-z": lambda: filters.scharr(-3, ndim=3),
    "sharpen": filters.sharpen,
    "sharpen:0.5": lambda: filters.sharpen(0.5),
    "sobel-x": lambda: filters.sobel(-1),
    "sobel-y": lambda: filters.sobel(-2),
    "sobel-z": lambda: filters.sobel(-3, ndim=3),
    "unsharp:1": lambda: filters.unsharp(1),
    "unsharp:1,0.8": lambda: filters.unsharp(1, 0.8),
}


@pytest.mark.parametrize("text", SPOKEN)
def test_a_name_gives_the_functions_kernel(text):
    expected = SPOKEN[text]()
    assert_array_equal(named.parse(text, ndim=expected.ndim), expected, strict=True)


def test_every_name_is_spoken_above_and_every_kernel_has_a_name():
    assert {text.split(":")[0].strip().lower() for text in SPOKEN} == set(named.names())
    functions = set(filters.__all__) - {"named", "difference_of_gaussians"}
    assert functions | {"dog"} == {name.split("-")[0] for name in named.names()}


@pytest.mark.parametrize("name", named.names())
def test_the_help_of_a_name_tells_a_syntax_that_parses(name):
    syntax, meaning = named.names()[name].split(": ", 1)
    assert meaning and "\n" not in meaning
    assert syntax == name or syntax.startswith((f"{name}:", f"{name}[:"))
    shortest, fullest = syntax.split("[")[0], syntax.replace("[", "").replace("]", "").replace("...", "")
    for form in (shortest, fullest):
        ndim = 3 if name.endswith("-z") else 2
        words = {"LOW": "1", "HIGH": "2", "ACCURACY": "4", "WAVELENGTH": "8", "CONNECTIVITY": "2"}
        head, colon, parameters = form.partition(":")
        numbers = ",".join(words.get(word, "3") for word in parameters.split(",")) if colon else ""
        assert named.parse(head + colon + numbers, ndim=ndim).ndim == ndim


def test_names_follow_ndim():
    assert named.parse("gaussian:1", ndim=1).shape == (9,)
    assert named.parse("box:2,3,4", ndim=3).shape == (2, 3, 4)
    assert named.parse("sobel-y", ndim=3).shape == (3, 3, 3)
    assert named.parse("identity:5", ndim=1).shape == (5,)
    assert named.parse("[1, 2]", ndim=3).shape == (2,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[1,-1]]", np.array([[1, -1]], np.int64)),
        (" [1, 0, -1] ", np.array([1, 0, -1], np.int64)),
        ("[[[1],[2]],[[3],[4]]]", np.arange(1, 5).reshape(2, 2, 1)),
        ("[[1, 2.0]]", np.array([[1.0, 2.0]])),
        ("[1e-3]", np.array([1e-3])),
        ("[9223372036854775807, -9223372036854775808]", np.array([2**63 - 1, -(2**63)])),
    ],
)
def test_a_list_is_its_array(text, expected):
    assert_array_equal(named.parse(text), expected, strict=True)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("sobel", ["unknown kernel 'sobel'", "did you mean sobel-", "scharr-y", "unsharp", "[[1,-1]]"]),
        ("gausian:2", ["unknown kernel 'gausian'; did you mean gaussian? "]),
        ("zzzzzz", ["unknown kernel 'zzzzzz'; needed is a list such as [[1,-1]] or one of binomial, box,"]),
        ("", ["unknown kernel ''"]),
        pytest.param("x" * 10**5, ["unknown kernel 'xxx", "..."], id="a long name"),
        ("gaussian", ["kernel 'gaussian': got 0 values; write gaussian:SIGMA[,SIGMA...]"]),
        ("gaussian:", ["kernel 'gaussian:'", "numbers", "got ''"]),
        ("gaussian:1,2,3", ["sigma needs one value or one per axis (ndim=2); got 3: (1, 2, 3)", "write gaussian:"]),
        ("gaussian:wide", ["'gaussian:wide'", "got 'wide'", "write gaussian:SIGMA[,SIGMA...]"]),
        ("gaussian:-1", ["'gaussian:-1'", "sigma needs a finite number >= 0; got -1"]),
        ("gaussian:nan", ["sigma needs a finite number >= 0; got nan"]),
        pytest.param("gaussian:" + "9" * 5000, ["got inf"], id="a long number"),
        ("box:2.5", ["size needs a whole number >= 1; got 2.5; write box:SIZE[,SIZE...]"]),
        ("sobel-x:3", ["kernel 'sobel-x:3': got 1 values; write sobel-x"]),
        ("sobel-z", ["from -2 to 1; got -3"]),
        ("unsharp:1,2,3", ["'unsharp:1,2,3'", "got 3 values; write unsharp:SIGMA[,AMOUNT]"]),
        ("gabor:8,1,2,3", ["got 4 values; write gabor:WAVELENGTH[,ANGLE[,SIGMA]]"]),
        ("laplacian:8", ["from 1 to 2; got 8; write laplacian[:CONNECTIVITY]"]),
        ("[[1,-1]", ["JSON list of numbers such as [[1,-1]]; got '[[1,-1]'", "delimiter"]),
        ("[1 -1]", ["JSON list", "'[1 -1]'"]),
        ("[]", ["1 to 3 axes of 1 sample or more; got shape (0,)"]),
        ("[[], []]", ["got shape (2, 0)"]),
        ("[[[[1]]]]", ["got shape (1, 1, 1, 1)"]),
        pytest.param("[" * 10**5, ["JSON list"], id="a deep fragment"),
        pytest.param("[" * 500 + "1" + "]" * 500, ["got shape (1, 1,"], id="a deep list"),
        ("[[1, 2], [3]]", ["rows of one length, 2 here; got [3] in '[[1, 2], [3]]'"]),
        ("[[1, 2], 3]", ["rows of one length, 2 here; got 3"]),
        ("[1, [2]]", ["as deep as the first; got [2] in"]),
        ("[true, 1]", ["needs numbers", "got True"]),
        ('["1"]', ["needs numbers", "got '1'"]),
        ("[null]", ["needs numbers", "got None"]),
        ("[NaN]", ["finite numbers", "got nan in '[NaN]'"]),
        ("[1.0, -1e999]", ["finite numbers", "got -inf"]),
        ("[9223372036854775808]", ["int64; got 9223372036854775808"]),
        ("[1], [2]", ["JSON list", "Extra data"]),
    ],
)
def test_what_cannot_be_parsed_is_named(text, texts):
    with pytest.raises(InvalidProblem) as caught:
        named.parse(text)
    for part in texts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("text", ["disk:4", "motion:9", "gabor:8", "emboss"])
def test_a_planar_kernel_refuses_another_ndim(text):
    with pytest.raises(
        InvalidProblem, match=rf"'{text}': it is made for 2 axes; got ndim=3; write {text.split(':')[0]}"
    ):
        named.parse(text, ndim=3)
