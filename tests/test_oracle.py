"""The oracle against other libraries' answers and the definition's loops; what it imports."""

import ast
import subprocess
import sys
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given, settings
from oracle_answers import final, same

import convengine.testing
from convengine.testing import cases
from convengine.testing.arguments import BOUNDARIES
from convengine.testing.oracle import pad, reference
from convengine.testing.strategies import problems

X = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
K = [[0, 1], [2, 3]]


@pytest.fixture
def rng():
    return np.random.default_rng(20)


# ---- answers that others give ----


def test_the_books_example():
    same(final("corr2d", X, K), np.array([[19, 25], [37, 43]]))
    same(final("conv2d", X, K), np.array([[5, 11], [23, 29]]))


def test_the_books_edge_detector():
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    edges = np.zeros((6, 7))
    edges[:, 1], edges[:, 5] = 1, -1
    same(final("corr2d", x, [[1.0, -1.0]]), edges)
    same(final("corr2d", x.T, [[1.0, -1.0]]), np.zeros((8, 5)))


@pytest.mark.parametrize("word", BOUNDARIES)
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_pad_is_numpys(word, length):
    x = np.arange(10, 10 + length)
    for before, after in product((0, 1, 2, 7, 13), repeat=2):
        keywords = {"constant_values": -1} if word == "constant" else {}
        same(pad(x, [(before, after)], [word], -1), np.pad(x, (before, after), word, **keywords))


@pytest.mark.parametrize("words", list(product(BOUNDARIES, repeat=2)))
def test_pad_mixes_words_over_the_last_axes(words, rng):
    x = rng.integers(0, 100, (2, 3, 4))
    pads = [(5, 2), (1, 9)]
    expected = x
    for axis, (word, pair) in enumerate(zip(words, pads, strict=True), start=1):
        keywords = {"constant_values": 7} if word == "constant" else {}
        expected = np.pad(expected, [pair if a == axis else (0, 0) for a in range(3)], word, **keywords)
    same(pad(x, pads, words, 7), expected)


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7])
def test_numpy_correlate_and_convolve(mode, k, rng):
    x, kernel = rng.integers(-9, 9, 11), rng.integers(-9, 9, k)
    same(final("corr1d", x, kernel, mode=mode), np.correlate(x, kernel, mode))
    same(final("conv1d", x, kernel, mode=mode), np.convolve(x, kernel, mode))
    z, kernel = x * (1 - 2j), kernel * (3 + 1j)
    same(final("corr1d", z, kernel, mode=mode, conjugate=True), np.correlate(z, kernel, mode))
    same(final("conv1d", z, kernel, mode=mode), np.convolve(z, kernel, mode))


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (4, 3), (1, 5)])
@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize(("boundary", "theirs"), [("constant", "fill"), ("symmetric", "symm"), ("wrap", "wrap")])
def test_scipy_convolve2d(shape, mode, boundary, theirs, rng):
    x, kernel = rng.integers(-9, 9, (6, 7)), rng.integers(-9, 9, shape)
    expected = scipy.signal.convolve2d(x, kernel, mode, theirs, 4)
    same(final("conv2d", x, kernel, mode=mode, boundary=boundary, fill_value=4), expected)


@pytest.mark.parametrize(
    ("boundary", "theirs"),
    [("constant", "constant"), ("edge", "nearest"), ("reflect", "mirror"), ("symmetric", "reflect"), ("wrap", "wrap")],
)
def test_scipy_ndimage_correlate(boundary, theirs, rng):
    x, kernel = rng.integers(-9, 9, (4, 5, 6)), rng.integers(-9, 9, (2, 3, 4))
    expected = scipy.ndimage.correlate(x, kernel, mode=theirs, cval=4)
    same(final("corr3d", x, kernel, mode="same", boundary=boundary, fill_value=4), expected)
    # The third axis as a batch axis, and the first two in the other order.
    expected = scipy.ndimage.correlate(x, kernel[:, :, :1].swapaxes(0, 1), mode=theirs, cval=4)
    options = {"mode": "same", "boundary": boundary, "fill_value": 4, "axes": (1, 0)}
    same(final("corr2d", x, kernel[:, :, 0], **options), expected)


# ---- the definition, term by term ----


def loops(x, kernel, bias, pads, words, stride, dilation, groups):
    """A layer's definition as nested loops over Fractions; x (N, C, *S) and kernel (D, C/groups, *K) as correlated."""
    for axis, (pair, word) in enumerate(zip(pads, words, strict=True), start=2):
        x = np.pad(x, [pair if a == axis else (0, 0) for a in range(x.ndim)], word)
    inputs, outputs = kernel.shape[1], len(kernel) // groups
    extents = [d * (k - 1) + 1 for d, k in zip(dilation, kernel.shape[2:], strict=True)]
    starts = [range(0, p - e + 1, s) for p, e, s in zip(x.shape[2:], extents, stride, strict=True)]
    y = np.empty((len(x), len(kernel), *map(len, starts)), object)
    for image, d, *place in np.ndindex(*y.shape):
        total = Fraction(0) if bias is None else Fraction(bias[d])
        for c, *tap in np.ndindex(*kernel.shape[1:]):
            at = [s * i + t * a for s, i, t, a in zip(stride, place, dilation, tap, strict=True)]
            total += Fraction(kernel[(d, c, *tap)]) * Fraction(x[(image, (d // outputs) * inputs + c, *at)])
        y[(image, d, *place)] = total
    return y


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(
    ("k", "stride", "dilation"),
    [((3,), (2,), (3,)), ((2, 3), (1, 2), (2, 1)), ((3, 2), (3, 1), (1, 3)), ((2, 1, 2), (1, 2, 1), (1, 1, 2))],
)
@pytest.mark.parametrize("operation", ["corr", "conv"])
def test_layers_are_the_loops(operation, groups, k, stride, dilation, rng):
    n = len(k)
    eighths = [rng.integers(-40, 40, shape) / 8 for shape in ((2, 4, *(5, 4, 3)[:n]), (4, 4 // groups, *k), (4,))]
    x, kernel, bias = eighths
    pads, words = [(1, 5), (0, 2), (3, 1)][:n], ["reflect", "wrap", "edge"][:n]
    flipped = np.flip(kernel, tuple(range(2, 2 + n))) if operation == "conv" else kernel
    expected = loops(x, flipped, bias, pads, words, stride, dilation, groups)
    options = {"stride": stride, "dilation": dilation, "groups": groups, "bias": bias}
    options |= {"padding": pads, "boundary": words}
    result = reference(f"{operation}{n}d", x, kernel, **options)
    same(result.value, expected.astype(np.longdouble))  # eighths times eighths: longdouble rounds nothing
    magnitude = loops(abs(x), abs(flipped), abs(bias), pads, words, stride, dilation, groups)
    same(result.magnitude, magnitude.astype(np.longdouble))
    assert (result.taps, result.has_bias) == (np.prod(k) * 4 // groups + 1, True)

    last = np.moveaxis(x, 1, -1), np.moveaxis(kernel, (0, 1), (-1, -2))
    same(final(f"{operation}{n}d", *last, channel_axis=-1, **options), np.moveaxis(result.final, 1, -1))
    one = final(f"{operation}{n}d", x[1], kernel, **options)
    same(one, result.final[1])


def test_filters_take_every_other_axis_as_a_batch(rng):
    photo, kernel = rng.integers(0, 255, (6, 7, 3), np.uint8), rng.integers(-9, 9, (2, 3))
    planes = [scipy.ndimage.correlate(photo[..., c].astype(int), kernel)[1:, 1:-1] for c in range(3)]
    expected = np.stack(planes, axis=-1)
    same(final("corr2d", photo, kernel, channel_axis=-1), expected)
    same(final("corr2d", photo, kernel, channel_axis=2), expected)
    same(final("corr2d", photo, kernel, axes=(0, 1)), expected)
    same(final("corr2d", photo, kernel.T, axes=(-2, -3)), expected)
    same(final("corr2d", np.moveaxis(photo, -1, 0), kernel), np.moveaxis(expected, -1, 0))
    same(final("corr2d", photo.swapaxes(1, 2), kernel, channel_axis=1), expected.swapaxes(1, 2))
    same(final("corr1d", photo, kernel[0], axes=0), final("corr2d", photo, kernel[:1].T, channel_axis=-1))


def test_the_order_of_axes_is_that_of_every_keyword(rng):
    x, kernel = rng.integers(-9, 9, (8, 9)), rng.integers(-9, 9, (2, 3))
    options = {"stride": (1, 2), "dilation": (2, 1), "padding": ((1, 0), 4), "boundary": ("edge", "wrap")}
    swapped = {name: value[::-1] for name, value in options.items()}
    same(final("corr2d", x, kernel, axes=(1, 0), **options), final("corr2d", x, kernel.T, **swapped))


def test_center_lies_on_the_output_sample():
    x = np.arange(1, 6)
    for center in range(4):
        kernel = np.zeros(4, int)
        kernel[center] = 1
        same(final("corr1d", x, kernel, mode="same", center=center), x)
        same(final("conv1d", x, kernel[::-1], mode="same", center=(center,)), x)
    # The default of a dilated kernel, of three samples here, is its middle.
    same(final("corr1d", x, [1, 10], mode="same", dilation=2), np.array([20, 31, 42, 53, 4]))


def test_stride_is_subsampling(rng):
    x, kernel = rng.standard_normal((3, 9, 8)), rng.standard_normal((3, 2))
    for mode, stride in product(("valid", "same", "full"), ((2, 3), (4, 1), (20, 20))):
        every = final("corr2d", x, kernel, mode=mode)
        same(final("corr2d", x, kernel, mode=mode, stride=stride), every[:, :: stride[0], :: stride[1]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(problems())
def test_convolution_is_correlation_with_the_flipped_kernel(case):
    n = int(case.name[4])
    kernel = case.kernel if isinstance(case.kernel, list) else np.asarray(case.kernel)
    first = case.keywords.get("channel_axis") is None or np.ndim(kernel) == n
    axes = range(np.ndim(kernel) - n, np.ndim(kernel)) if first else range(n)
    flipped = np.flip(kernel, tuple(axes))
    flipped = flipped.tolist() if isinstance(kernel, list) else flipped
    other = {"corr": "conv", "conv": "corr"}[case.name[:4]] + case.name[4:]
    one = reference(case.name, case.x, case.kernel, **case.keywords)
    two = reference(other, case.x, flipped, **case.keywords)
    same(one.final, two.final)
    assert (one.sum_dtype, one.taps) == (two.sum_dtype, two.taps)


def test_empty_arrays_give_what_the_formula_gives():
    assert final("corr1d", np.zeros((0, 5)), [1.0, 2.0]).shape == (0, 4)
    same(final("corr1d", np.zeros(0), [1.0, 2.0], mode="full", fill_value=3), np.array([9.0]))
    assert final("corr1d", np.zeros(0), [1.0, 2.0, 3.0], mode="same").shape == (0,)
    assert final("corr2d", np.zeros((0, 3)), np.ones((2, 2)), padding=1, stride=2).shape == (1, 2)
    bias = np.array([1.5, -2.0])
    y = final("corr1d", np.zeros((2, 0, 5)), np.zeros((2, 0, 3)), bias=bias)
    same(y, np.broadcast_to(bias[:, None], (2, 2, 3)))


def test_arrays_in_any_arrangement_and_unchanged(rng):
    x, kernel = rng.integers(-9, 9, (6, 7)).astype(np.int16), rng.integers(-9, 9, (3, 2)).astype(np.int16)
    expected = final("corr2d", x, kernel)
    for layout in ("fortran", "transposed", "reversed", "sliced", "readonly", "swapped"):
        arranged, k_arranged = cases._lay_out(x, layout), cases._lay_out(kernel, layout)
        before = arranged.tobytes()
        same(final("corr2d", arranged, k_arranged), expected)
        assert arranged.tobytes() == before


def test_one_bias_serves_all_channels():
    x, kernel = np.ones((1, 1)), np.ones((2, 1, 1))
    same(final("corr1d", x, kernel, bias=2), final("corr1d", x, kernel, bias=[2, 2]))
    same(final("corr1d", x[0], [1.0], bias=2), final("corr1d", x[0], [1.0], bias=[2]))


# ---- imports ----


def test_the_oracle_imports_nothing_of_the_engine():
    folder = Path(convengine.testing.__file__).parent
    for module in ("arguments", "oracle", "bounds", "cases", "strategies"):
        tree = ast.parse((folder / f"{module}.py").read_text())
        names = [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
        names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert not [name for name in names if name.startswith("convengine") and "convengine.testing." not in name]


def test_importing_testing_loads_neither_hypothesis_nor_scipy():
    code = "import sys, convengine.testing; print({'hypothesis', 'scipy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
    assert convengine.testing.strategies.problems is problems
    with pytest.raises(AttributeError, match="got 'oracles'"):
        convengine.testing.oracles  # noqa: B018
