"""Missing samples: masks, NaN that are omitted, masked arrays; against the definition, window by window."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import convengine as ce

nan = np.nan
PAD = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric", "wrap": "wrap"}


def defined(x, kernel, missing, boundary="constant", fill=0.0, least=0.0):
    """Correlation of "same" size, each missing sample the mean of those present, weighted by |kernel|; NaN for none."""
    before = [k // 2 for k in kernel.shape]
    widths = [(b, k - 1 - b) for b, k in zip(before, kernel.shape, strict=True)]
    more = {"constant_values": fill} if boundary == "constant" else {}
    lost = np.pad(missing, widths, mode=PAD[boundary])
    known = np.where(lost, 0, np.pad(np.where(missing, 0, x), widths, mode=PAD[boundary], **more))
    result = np.empty(x.shape, np.result_type(x, kernel, np.float64))
    size = np.abs(kernel)
    for at in itertools.product(*map(range, x.shape)):
        window = tuple(slice(i, i + k) for i, k in zip(at, kernel.shape, strict=True))
        gone = lost[window] & (kernel != 0)
        weight = size[~gone].sum()
        if gone.any() and (weight == 0 or weight < least * size.sum()):
            result[at] = nan
            continue
        mean = (size * known[window])[~gone].sum() / weight if gone.any() else 0
        result[at] = (kernel * known[window])[~gone].sum() + mean * kernel[gone].sum()
    return result


RNG = np.random.default_rng(3)
KERNELS = {
    "smooth": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16,
    "edges": np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]),
    "laplacian": np.array([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]),
    "even": RNG.standard_normal((2, 4)),
    "negative": -np.ones((1, 3)),
    "complex": RNG.standard_normal((3, 2)) + 1j * RNG.standard_normal((3, 2)),
    "larger than x": RNG.standard_normal((17, 15)),
}


@pytest.mark.parametrize("boundary", PAD)
@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_the_definition(kernel, boundary):
    x = RNG.standard_normal((9, 8))
    missing = RNG.random((9, 8)) < 0.4
    expected = defined(x, kernel, missing, boundary, 0.25)
    how = {"mode": "same", "boundary": boundary, "fill_value": 0.25}
    for least in (0, 0.3, 1):
        wanted = defined(x, kernel, missing, boundary, 0.25, least)
        result = ce.corr2d(x, kernel, mask=missing, min_weight=least, **how)
        assert_allclose(result, wanted, rtol=1e-11, atol=1e-11)
    holes = np.where(missing, nan, x)
    assert_allclose(ce.corr2d(holes, kernel, nan_policy="omit", **how), expected, rtol=1e-11, atol=1e-11)
    flipped = ce.conv2d(holes, kernel[::-1, ::-1], nan_policy="omit", **how)
    assert_allclose(
        flipped, ce.corr2d(holes, kernel, nan_policy="omit", **how | {"center": None}), rtol=1e-12, atol=1e-12
    )


def test_nothing_under_a_mask_reaches_a_result():
    x, missing = RNG.standard_normal((20, 20)), RNG.random((20, 20)) < 0.2
    expected = ce.corr2d(x, KERNELS["edges"], mask=missing)
    for poison in (nan, np.inf, -np.inf, 1e308):
        poisoned = np.where(missing, poison, x)
        assert_array_equal(ce.corr2d(poisoned, KERNELS["edges"], mask=missing), expected)


def test_a_mean_keeps_what_is_constant():
    missing = RNG.random((30, 30)) < 0.5
    x = np.where(missing, nan, 7.0)
    for name, total in (("smooth", 7.0), ("edges", 0.0), ("laplacian", 0.0)):
        result = ce.corr2d(x, KERNELS[name], nan_policy="omit")
        assert_allclose(result[~np.isnan(result)], total, atol=1e-13)


def test_where_nothing_is_missing_it_is_the_operation_itself():
    x = RNG.standard_normal((40, 40)).astype(np.float32)
    kernel = RNG.standard_normal((5, 5)).astype(np.float32)
    x[3, 3] = nan
    plain, omitted = ce.corr2d(x, kernel, backend="cython"), ce.corr2d(x, kernel, nan_policy="omit", backend="cython")
    far = ~np.isnan(plain)
    assert_array_equal(omitted[far], plain[far])
    assert omitted.dtype == np.float32
    assert not np.isnan(omitted).any()


def test_policies():
    x = np.array([1.0, nan, 3.0, 5.0])
    assert_array_equal(ce.corr1d(x, [1, 1]), [nan, nan, 8])
    assert_array_equal(ce.corr1d(x, [1, 1], nan_policy="omit"), [2, 6, 8])
    with pytest.raises(ce.InvalidProblem, match="x holds 1 NaN, which nan_policy='raise'"):
        ce.corr1d(x, [1, 1], nan_policy="raise")
    assert_array_equal(ce.corr1d(x, [1, 1], nan_policy="raise", mask=np.isnan(x)), [2, 6, 8])
    assert_array_equal(ce.corr1d(x[2:], [1, 1], nan_policy="raise"), [8])
    integers = ce.corr1d([1, 2], [1, 1], nan_policy="omit")
    assert integers.dtype.kind == "i"  # they have no NaN: nothing changes
    for wrong in ("ignore", np.array(["omit", "x"]), None):
        with pytest.raises(ce.InvalidProblem, match="nan_policy must be one of"):
            ce.corr1d(x, [1, 1], nan_policy=wrong)


def test_min_weight():
    x = np.ones(9)
    mask = np.array([0, 0, 0, 1, 1, 1, 1, 0, 0], bool)
    box = np.full(3, 1 / 3)
    for least, there in ((0, 5), (1 / 3, 5), (0.34, 3), (2 / 3, 3), (0.67, 1), (1, 1)):
        result = ce.corr1d(x, box, mask=mask, min_weight=least)
        assert (~np.isnan(result)).sum() == there, least
    for wrong in (-0.1, 1.1, nan, "much", ".5", True, None):
        with pytest.raises(ce.InvalidProblem, match="min_weight must be a number of 0 to 1"):
            ce.corr1d(x, box, mask=mask, min_weight=wrong)


def test_masked_arrays_give_masked_arrays():
    data = np.array([[1.0, 2, 3, 4], [5, nan, 7, 8]])
    x = np.ma.array(data, mask=[[0, 1, 0, 0], [0, 1, 0, 0]])
    result = ce.corr2d(x, [[1.0], [1.0]])
    assert isinstance(result, np.ma.MaskedArray)
    assert_array_equal(result.mask, [[False, True, False, False]])
    assert_array_equal(result.compressed(), [6, 10, 12])
    more = ce.corr2d(x, [[1.0], [1.0]], mask=np.array([[False, False, True, False]]))  # broadcast, and both
    assert_array_equal(more.mask, [[False, True, True, False]])
    out = np.ma.zeros((1, 4))
    assert ce.corr2d(x, [[1.0], [1.0]], out=out) is out
    assert_array_equal(out.mask, result.mask)
    whole = np.ma.array(data[:, 2:])
    assert_array_equal(ce.corr2d(whole, [[1.0], [1.0]]).compressed(), [10, 12])


def test_integers_become_means():
    x = np.array([1, 2, 4, 8], np.uint8)
    mask = np.array([False, True, False, False])
    assert_array_equal(ce.corr1d(x, np.array([1, 1], np.int8), mask=mask), [2.0, 8.0, 12.0])
    assert ce.corr1d(x, np.array([1, 1], np.int8), mask=~mask & mask).dtype == np.float64  # whatever the mask holds
    rounded = ce.corr1d(np.ma.array(x, mask=[0, 1, 1, 0]), np.array([1, 40], np.int8), dtype="uint8")
    assert_array_equal(rounded.filled(99), [41, 99, 255])
    with pytest.raises(ce.InvalidProblem, match="NaN"):
        ce.corr1d(x, [1, 1], mask=np.array([0, 1, 1, 0], bool), dtype="uint8")


@pytest.mark.parametrize("last", [False, True])
def test_a_layer(last):
    x, kernel = RNG.standard_normal((2, 4, 6, 5)), RNG.standard_normal((6, 2, 3, 3))
    missing = RNG.random(x.shape) < 0.3
    bias = np.arange(6.0)
    expected = np.empty((2, 6, 4, 3))
    for n, d, i, j in np.ndindex(expected.shape):
        group = slice(2 * (d // 3), 2 * (d // 3) + 2)
        window, gone = x[n, group, i : i + 3, j : j + 3], missing[n, group, i : i + 3, j : j + 3]
        size = np.abs(kernel[d])
        mean = (size * window)[~gone].sum() / size[~gone].sum()
        expected[n, d, i, j] = (kernel[d] * window)[~gone].sum() + mean * kernel[d][gone].sum() + bias[d]
    if last:
        x, missing, kernel = x.transpose(0, 2, 3, 1), missing.transpose(0, 2, 3, 1), kernel.transpose(2, 3, 1, 0)
    result = ce.corr2d(x, kernel, mask=missing, bias=bias, groups=2, channel_axis=-1 if last else None)
    assert_allclose(result.transpose(0, 3, 1, 2) if last else result, expected, rtol=1e-11, atol=1e-11)


def test_with_a_region_stride_and_dilation():
    x, kernel = RNG.standard_normal((12, 15)), KERNELS["even"]
    missing = RNG.random(x.shape) < 0.3
    how = {"mode": "same", "boundary": "wrap", "stride": (2, 1), "dilation": (1, 2), "mask": missing}
    whole = ce.corr2d(x, kernel, **how)
    assert_allclose(ce.corr2d(x, kernel, region=np.s_[1:4, ::2], **how), whole[1:4, ::2], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("axis", [1, -2])
def test_a_layer_of_signals_says_its_channels(axis):
    x, missing = np.array([[[0.0, 9, 4]], [[1, 2, 3]]]), np.zeros((2, 1, 3), bool)
    missing[0, 0, 1] = True
    result = ce.corr1d(x, np.array([[[1.0, 3]], [[1, 1]], [[5, 1]]]), mask=missing, channel_axis=axis)
    assert_allclose(result[0], [[0, 16], [0, 8], [0, 24]])


def test_kernels_whose_magnitudes_their_dtype_does_not_hold():
    x, kernel = np.array([5, nan, 7, 3, 4.0]), np.array([-128, -100, -128])
    expected = ce.corr1d(x, kernel.astype(float), nan_policy="omit")
    assert_array_equal(ce.corr1d(x, kernel.astype(np.int8), nan_policy="omit"), expected)
    large = np.array([3e38 + 3e38j, 1], np.complex64)
    assert np.isfinite(ce.corr1d(x.astype(np.complex64), large, nan_policy="omit", dtype="complex128")).all()
    near = np.array([3e38, 3e38, nan], np.float32)  # the mean fits float32, the sum that it is made of does not
    assert_allclose(ce.corr1d(near, np.array([1, -1, 1], np.float32), nan_policy="omit"), 3e38, rtol=1e-6)


def test_integers_are_exact_where_nothing_is_missing():
    x = np.array([2**60 + 1, 1, 5, 9])
    for mask in ([False] * 4, [False, False, False, True]):
        assert ce.corr1d(x, [1, 1], mask=np.array(mask), dtype=np.int64)[0] == 2**60 + 2
        assert ce.corr1d(np.ma.array(x, mask=mask), [1, 1], dtype=np.int64)[0] == 2**60 + 2


def test_a_very_wide_kernel():
    x = np.r_[np.full(40_000, nan), 1.0]
    assert_allclose(ce.corr1d(x, np.ones(40_000), nan_policy="omit"), [nan, 40_000])


@pytest.mark.filterwarnings("error")
def test_no_warnings():
    x = np.array([1.0, 2, nan, 3, 1, 1])
    ce.corr1d(x, np.array([1, np.inf]), nan_policy="omit")
    ce.corr1d(x, np.array([1.7e308, 1.7e308]), nan_policy="omit")
    ce.corr1d(np.full(4, nan), [1.0, -1.0], nan_policy="omit")


def test_a_transform_that_is_asked_for_says_how_to_get_it():
    x = np.array([2.0, 4, nan, 8, 10])
    with pytest.raises(ce.NoBackend, match=r"ce\.options\(strict=False\)"):
        ce.corr1d(x, [0.25, 0.5, 0.25], nan_policy="omit", backend="fft")
    with ce.options(strict=False):
        result = ce.corr1d(x, [0.25, 0.5, 0.25], nan_policy="omit", backend="fft")
    assert_allclose(result, ce.corr1d(x, [0.25, 0.5, 0.25], nan_policy="omit"))


def test_far_taps_alone_still_count():
    """A transform's error would drown them: the weights are sums with componentwise bounds."""
    x = np.full((64, 64), nan, np.float32)
    x[0, 0] = 3
    kernel = ce.filters.gaussian(6, ndim=2)
    result = ce.corr2d(x, kernel.astype(np.float32), mode="same", boundary="reflect", nan_policy="omit")
    assert (~np.isnan(result)).sum() > 100
    assert_allclose(result[~np.isnan(result)], 3, rtol=1e-4)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (np.ones((3, 3), np.uint8), "plain array of bool"),
        ([[1, 0]], "plain array of bool"),
        (np.ma.zeros((3, 3), bool), "plain array of bool"),
        (np.ones((2, 3), bool), "broadcast to it"),
    ],
)
def test_what_is_no_mask_is_refused(mask, text):
    with pytest.raises(ce.InvalidProblem, match=text):
        ce.corr2d(np.ones((3, 3)), [[1.0]], mask=mask)


def test_out_is_checked():
    x, mask = np.ones((3, 3)), np.zeros((3, 3), bool)
    mask[1, 1] = True
    for out, text in ((np.empty((2, 2)), "out must have shape"), (np.ma.empty((3, 3)), "x's kind"), ([1], "x's kind")):
        with pytest.raises(ce.InvalidProblem, match=text):
            ce.corr2d(x, [[1.0]], mask=mask, out=out)
    with pytest.raises(ce.InvalidProblem, match="disagree"):
        ce.corr2d(x, [[1.0]], mask=mask, out=np.empty((3, 3), np.float32), dtype="float64")
    one_place = np.lib.stride_tricks.as_strided(np.zeros(1), (3, 3), (0, 0))
    with pytest.raises(ce.InvalidProblem, match="several results to one place"):
        ce.corr2d(x, [[1.0]], mask=mask, out=one_place)
    frozen = np.empty((3, 3))
    frozen.setflags(write=False)
    with pytest.raises(ce.InvalidProblem, match="read-only"):
        ce.corr2d(x, [[1.0]], mask=mask, out=frozen)
    assert ce.corr2d(x, [[2.0]], mask=mask, mode="same", out=x) is x  # over x itself
    assert_array_equal(x[0], [2, 2, 2])


def test_other_libraries_say_what_to_do():
    torch = pytest.importorskip("torch")
    with pytest.raises(ce.InvalidProblem, match="needs a NumPy array; got Tensor"):
        ce.corr1d(torch.ones(5), [1.0], mask=np.zeros(5, bool))
