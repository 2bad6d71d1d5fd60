"""The public operations: how arguments are read, what is refused and in which words, what comes back."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import convengine as ce
from convengine import api
from convengine.cache import Cache
from convengine.testing import oracle

rng = np.random.default_rng(0)
X = rng.standard_normal((6, 7)).astype(np.float32)
K = rng.standard_normal((3, 2)).astype(np.float32)


def usable():
    return [name for name, info in ce.backends().items() if info.usable]


def correlated(x, kernel, backend):
    try:
        return ce.corr2d(x, kernel, backend=backend)
    except ce.NoBackend as error:
        pytest.skip(f"{backend} refuses filters: {error}")


class TestBook:
    """The worked examples of Dive into Deep Learning 7.2, on every backend that can."""

    @pytest.mark.parametrize("backend", usable())
    def test_worked_example(self, backend):
        y = correlated([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[0, 1], [2, 3]], backend)
        assert y.tolist() == [[19, 25], [37, 43]]

    @pytest.mark.parametrize("backend", usable())
    def test_worked_example_in_floats(self, backend):
        y = correlated(np.arange(9.0).reshape(3, 3), [[0.0, 1.0], [2.0, 3.0]], backend)
        np.testing.assert_allclose(y, [[19, 25], [37, 43]], rtol=1e-13)

    @pytest.mark.parametrize("backend", usable())
    def test_edges(self, backend):
        x = np.ones((6, 8), np.int32)
        x[:, 2:6] = 0
        y = correlated(x, [[1, -1]], backend)
        assert y.tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6
        assert not correlated(x.T, [[1, -1]], backend).any()


class TestRank:
    def test_filter_runs_over_the_last_axes(self):
        stack = rng.standard_normal((2, 3, 6, 7))
        y = ce.corr2d(stack, K)
        assert y.shape == (2, 3, 4, 6)
        np.testing.assert_array_equal(y[1, 2], ce.corr2d(stack[1, 2], K))

    def test_axes_in_the_kernels_order(self):
        x = rng.standard_normal((5, 6, 7))
        y = ce.corr2d(x, K, axes=(2, 0))
        assert y.shape == (5 - 2 + 1, 6, 7 - 3 + 1)
        expected = ce.corr2d(np.moveaxis(x, (2, 0), (1, 2)), K)
        np.testing.assert_array_equal(y, np.moveaxis(expected, (1, 2), (2, 0)))

    def test_one_axis_as_a_number(self):
        np.testing.assert_array_equal(ce.corr1d(X, [1, -1], axes=0), X[:-1] - X[1:])

    def test_photograph_with_channels_last(self):
        x = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
        y = ce.corr2d(x, [[1, -1]], channel_axis=-1)
        assert y.shape == (9, 7, 3)
        np.testing.assert_array_equal(y, x[:, :-1].astype(int) - x[:, 1:])

    @pytest.mark.parametrize("channels", [3, 4])
    def test_warns_where_channels_are_probably_meant(self, channels):
        x = np.zeros((9, 8, channels))
        with pytest.warns(UserWarning, match=rf"\(9, 8, {channels}\).*channel_axis=-1"):
            ce.corr2d(x, np.ones((2, 2)))
        ce.corr2d(x, np.ones((2, 2)), axes=(1, 2))  # no warning: an error here
        ce.corr2d(np.zeros((9, 8, 5)), np.ones((2, 2)))

    def test_layer_layouts_agree(self):
        x = rng.standard_normal((2, 4, 6, 5))
        k = rng.standard_normal((6, 2, 3, 3))
        bias = rng.standard_normal(6)
        first = ce.corr2d(x, k, bias=bias, groups=2, mode="same")
        last = ce.corr2d(
            np.moveaxis(x, 1, -1), k.transpose(2, 3, 1, 0), bias=bias, groups=2, mode="same", channel_axis=-1
        )
        assert first.shape == (2, 6, 6, 5)
        np.testing.assert_array_equal(np.moveaxis(last, -1, 1), first)
        np.testing.assert_array_equal(ce.corr2d(x[0], k, bias=bias, groups=2, mode="same"), first[0])

    def test_no_input_channels_gives_the_bias(self):
        y = ce.corr1d(np.zeros((2, 0, 5)), np.zeros((3, 0, 2)), bias=[1.0, 2.0, 3.0])
        assert y.shape == (2, 3, 4)
        np.testing.assert_array_equal(y[0], np.repeat([[1.0], [2.0], [3.0]], 4, axis=1))


class TestEmpty:
    def test_all_padding(self):
        y = ce.corr1d(np.zeros(0), [1.0, 2.0, 4.0], mode="full", fill_value=1)
        np.testing.assert_array_equal(y, [7.0, 7.0])

    def test_empty_result(self):
        assert ce.corr1d(np.zeros(0), [1.0], mode="same").shape == (0,)
        assert ce.corr2d(np.zeros((0, 5, 5)), np.ones((2, 2))).shape == (0, 4, 4)
        assert ce.corr1d(np.zeros(0), [2.0]).shape == (0,)

    def test_no_samples_to_extend(self):
        with pytest.raises(ce.InvalidProblem, match=r"'reflect' needs samples.*\(0,\)"):
            ce.corr1d(np.zeros(0), [1.0, 2.0], mode="full", boundary="reflect")


# what is wrong, the call, the values that the text must carry
REFUSED = {
    "kernel does not fit": (lambda: ce.corr2d(np.zeros((5, 5)), np.ones((9, 9))), r"kernel \(9, 9\) and x \(5, 5\)"),
    "dilated kernel does not fit": (lambda: ce.corr1d(np.zeros(5), [1, 1, 1], dilation=3), r"\(3,\), \(7,\) dilated"),
    "rank": (lambda: ce.corr2d(np.zeros((5, 5)), np.ones(3)), r"filter of 2 axes or a layer of 4; got .*\(3,\)"),
    "0-d kernel": (lambda: ce.corr1d([1.0], 2.0), r"shape \(\)"),
    "empty kernel": (lambda: ce.corr2d(np.zeros((5, 5)), np.ones((0, 3))), r"at least one tap; got shape \(0, 3\)"),
    "x of too few axes": (lambda: ce.corr2d(np.zeros(5), np.ones((2, 2))), r"at least 2 axes; got 1"),
    "mode and padding": (lambda: ce.corr1d([1.0], [1.0], mode="same", padding=1), "mode='same' and padding=1"),
    "mode": (lambda: ce.corr1d([1.0], [1.0], mode="SAME"), "'valid', 'same' or 'full'; got 'SAME'"),
    "center without same": (lambda: ce.corr1d([1.0], [1.0], center=0), "center=0"),
    "center out of range": (lambda: ce.corr1d([1.0, 2], [1.0, 1], mode="same", center=2), "0 .. 1 .*got 2"),
    "negative padding": (lambda: ce.corr1d([1.0], [1.0], padding=-1), "padding must be at least 0; got -1"),
    "padding count": (lambda: ce.corr2d(X, K, padding=(1, 2, 3)), r"2 integers.*got \(1, 2, 3\)"),
    "1-D padding pair not nested": (lambda: ce.corr1d([1.0], [1.0], padding=(1, 2)), r"got \(1, 2\)"),
    "fractional padding": (lambda: ce.corr1d([1.0], [1.0], padding=0.5), "integers; got 0.5"),
    "boundary": (lambda: ce.corr1d([1.0], [1.0], boundary="mirror"), "'reflect'.*got 'mirror'"),
    "boundary of another library": (
        lambda: ce.corr1d([1.0], [1.0], boundary="nearest"),
        "got 'nearest'; scipy.ndimage's 'nearest' is 'edge' here",
    ),
    "boundary count": (lambda: ce.corr2d(X, K, boundary=["edge"]), r"2, one per.*got \['edge'\]"),
    "fill not exact": (lambda: ce.corr1d(np.array([1, 2], np.uint8), [1], fill_value=0.5), "uint8; got 0.5"),
    "fill out of range": (lambda: ce.corr1d(np.array([1, 2], np.uint8), [1], fill_value=300), "uint8.*300"),
    "fill not a number": (lambda: ce.corr1d([1.0], [1.0], fill_value="a"), "got 'a'"),
    "stride": (lambda: ce.corr1d([1.0], [1.0], stride=0), "stride must be at least 1; got 0"),
    "dilation": (lambda: ce.corr2d(X, K, dilation=(1, 2, 3)), r"2 of them.*\(1, 2, 3\)"),
    "groups without a layer": (lambda: ce.corr2d(X, K, groups=2), r"groups=2 needs a layer.*\(3, 2\)"),
    "groups do not divide": (
        lambda: ce.corr1d(np.zeros((4, 9)), np.zeros((3, 2, 2)), groups=2),
        "4 channels and the kernel 2 per group with 2 groups and 3 outputs",
    ),
    "channels": (lambda: ce.corr1d(np.zeros((3, 9)), np.zeros((3, 2, 2))), "x has 3 channels and the kernel 2"),
    "layer takes no axes": (lambda: ce.corr1d(np.zeros((2, 9)), np.zeros((3, 2, 2)), axes=0), "no axes; got axes=0"),
    "layer rank": (lambda: ce.corr1d(np.zeros(9), np.zeros((3, 2, 2))), r"2 axes, or 3 with a batch; got shape \(9,\)"),
    "axes twice": (lambda: ce.corr2d(X, K, axes=(0, 0)), r"different from each other.*\(0, 0\)"),
    "axes range": (lambda: ce.corr2d(X, K, axes=(0, 2)), "axes 2 is out of range for x with 2 axes"),
    "axes and channel": (lambda: ce.corr1d(X, [1.0], axes=1, channel_axis=1), "channel_axis; got axes=1"),
    "bias shape": (lambda: ce.corr1d(np.zeros((2, 9)), np.zeros((3, 2, 2)), bias=[1, 2]), r"\(3,\); got shape \(2,\)"),
    "filter bias shape": (lambda: ce.corr2d(X, K, bias=[1.0, 2.0]), r"one number; got shape \(2,\)"),
    "fractional bias": (lambda: ce.corr1d([1, 2], [1], bias=0.5), r"integers; got \[0.5\]"),
    "complex to real": (lambda: ce.corr1d([1j], [1.0], dtype=np.float32), "complex128.*dtype=float32.*real"),
    "complex bias": (lambda: ce.corr1d([1.0], [1.0], bias=1j), "complex bias"),
    "longdouble": (lambda: ce.corr1d(np.zeros(3, np.longdouble), [1.0]), "longdouble|float128"),
    "object": (lambda: ce.corr1d(np.array([1, None]), [1.0]), "dtype object"),
    "string": (lambda: ce.corr1d(np.array(["a"]), [1.0]), "x has dtype <U1"),
    "datetime": (lambda: ce.corr1d(np.zeros(3, "M8[s]"), [1.0]), "datetime64"),
    "masked": (lambda: ce.corr1d_grad_input(np.ma.array([1.0, 2.0], mask=[0, 1]), [1.0], (2,)), "masked array"),
    "masked kernel": (lambda: ce.corr1d([1.0], np.ma.array([1.0])), "kernel is a masked array"),
    "masked out": (lambda: ce.corr1d([1.0], [1.0], out=np.ma.zeros(1)), "out"),
    "none": (lambda: ce.corr1d(None, [1.0]), "x has dtype object"),
    "ragged": (lambda: ce.corr2d([[1, 2], [3]], K), "different lengths"),
    "overflow word": (lambda: ce.corr1d([1.0], [1.0], overflow="clip"), "got 'clip'"),
    "bool result": (lambda: ce.corr1d([1], [1], dtype=bool), "dtype=bool.*uint8"),
    "out shape": (lambda: ce.corr2d(X, K, out=np.zeros((2, 2), np.float32)), r"shape \(4, 6\); got \(2, 2\)"),
    "out and dtype": (
        lambda: ce.corr2d(X, K, out=np.zeros((4, 6), np.float32), dtype=float),
        "dtype=float64 and out of dtype float32",
    ),
    "out read-only": (lambda: ce.corr2d(X, K, out=np.broadcast_to(np.float32(0), (4, 6))), "read-only"),
    "backend word": (lambda: ce.corr2d(X, K, backend=3), "backend must be a name.*got 3"),
    "workers": (lambda: ce.corr2d(X, K, workers=0), "workers must be an integer of at least 1; got 0"),
    "mode as an array": (lambda: ce.corr1d([1.0], [1.0], mode=np.array([1, 2])), "mode must be"),
    "conjugate": (lambda: ce.corr1d([1.0], [1.0], conjugate="a"), "True or False; got 'a'"),
    "padding as a mode": (lambda: ce.corr1d([1.0], [1.0], padding="same"), "got 'same'; mode='same'"),
    "many workers": (lambda: ce.corr2d(X, K, workers=2**31), "at most 4096"),
    "endless workers": (lambda: ce.corr2d(X, K, workers=float("inf")), "got inf"),
    "out of bools": (lambda: ce.corr1d([0, 3], [1], out=np.zeros(2, bool)), "dtype=bool.*uint8"),
    "out that meets itself": (
        lambda: ce.corr2d(X, K, out=np.lib.stride_tricks.as_strided(np.zeros(100, np.float32), (4, 6), (4, 4))),
        "one place",
    ),
    "masks in a list": (lambda: ce.corr2d([np.ma.array([1, 2], mask=[1, 0])], [[1]]), "masked array"),
    "wide dilated kernel": (lambda: ce.corr1d([1.0], [1, 1], dilation=2**62, mode="same"), "larger than any memory"),
    "huge": (lambda: ce.corr1d([1.0], [1.0], padding=2**62), "larger than any memory"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_values(case):
    call, text = REFUSED[case]
    with pytest.raises(ce.InvalidProblem, match=text):
        call()


class TestDtypes:
    @pytest.mark.parametrize(
        ("x", "kernel", "expected"),
        [
            (np.uint8, np.uint8, np.int32),
            (np.uint8, np.int8, np.int32),
            (bool, bool, np.int32),
            (np.uint16, np.uint16, np.int64),
            (np.int32, np.uint8, np.int64),
            (np.float16, np.float16, np.float16),
            (np.float32, np.int16, np.float32),
            (np.uint8, np.float32, np.float32),
            (np.int32, np.float32, np.float64),
            (np.complex64, np.float64, np.complex128),
        ],
    )
    def test_default(self, x, kernel, expected):
        assert ce.corr1d(np.ones(5, x), np.ones(3, kernel)).dtype == expected

    def test_taps_decide_int32(self):
        x = np.full(40_000, 255, np.uint8)
        few, many = np.full(33_025, 255, np.uint8), np.full(33_026, 255, np.uint8)
        assert ce.corr1d(x, few).dtype == np.int32
        assert ce.corr1d(x, many).dtype == np.int64
        assert ce.corr1d(x, few)[0] == 255 * 255 * 33_025

    def test_lists_are_weak(self):
        assert ce.corr2d(X, [[0.5]]).dtype == np.float32
        assert ce.corr2d(X, np.array([[0.5]])).dtype == np.float64
        assert ce.corr1d(np.ones(3, np.uint8), [1]).dtype == np.int64
        assert ce.corr1d(np.ones(3, np.uint8), [1.5]).dtype == np.float64
        assert ce.corr2d(X, K, bias=np.float64(1)).dtype == np.float32

    @pytest.mark.parametrize(("overflow", "expected"), [("saturate", [255, 0]), ("wrap", [44, 212])])
    def test_explicit_integer(self, overflow, expected):
        y = ce.corr1d(np.array([100, -100], np.int16), [3], bias=0, dtype=np.uint8, overflow=overflow)
        assert y.tolist() == expected

    def test_raise_names_the_value(self):
        with pytest.raises(OverflowError, match=r"300 does not fit dtype=uint8"):
            ce.corr1d(np.array([100], np.int16), [3], dtype=np.uint8, overflow="raise")

    def test_half_to_even(self):
        y = ce.corr1d(np.array([1.0, 3.0, 5.0, -1.0]), [0.5], dtype=np.int8)
        assert y.tolist() == [0, 2, 2, 0]

    def test_nan_has_no_integer(self):
        with pytest.raises(ce.InvalidProblem, match=r"dtype=int8.*NaN"):
            ce.corr1d([np.nan], [1.0], dtype=np.int8)

    def test_int64_is_exact_to_the_last_bit(self):
        big = 2**62 - 1
        assert ce.corr1d([big, 1], [1, 1]).tolist() == [2**62]
        assert ce.corr1d([big, -big], [1, -1]).tolist() == [2 * big]

    def test_past_int64(self):
        with pytest.raises(OverflowError, match=str(3 * 2**62)):
            ce.corr1d([2**62], [3])
        with pytest.raises(OverflowError, match=str(2**63)):
            ce.corr1d([2**62, 0], [2, 0])
        with pytest.raises(OverflowError, match="passes int64"):
            ce.corr1d([1], [1], bias=2.0**63)

    def test_fill_counts(self):
        with pytest.raises(OverflowError, match=str(2**63)):
            ce.corr1d([1, 1], [2, 2], mode="same", fill_value=2**61)
        assert ce.corr1d([1, 1], [2, 2], fill_value=2**61).tolist() == [4]  # no padding, no fill

    def test_bias_past_the_default_int32(self):
        with pytest.raises(OverflowError, match=r"past the int32.*dtype=np.int64"):
            ce.corr1d(np.ones(2, np.uint8), np.ones(1, np.uint8), bias=2**31)
        assert ce.corr1d(np.ones(2, np.uint8), np.ones(1, np.uint8), bias=2**31 - 2).tolist() == [2**31 - 1] * 2
        y = ce.corr1d(np.ones(2, np.uint8), np.ones(1, np.uint8), bias=2**31, dtype=np.int64)
        assert y.tolist() == [2**31 + 1] * 2

    def test_float16_is_summed_in_float32(self):
        x = np.full(4096, 1.0, np.float16)
        x[0] = 2048.0
        assert ce.corr1d(x, np.ones(4096, np.float16))[0] == np.float16(6143.0)

    def test_narrower_dtype_is_rounded_once(self):
        x = np.array([1.0 + 2.0**-11 + 2.0**-30])
        assert ce.corr1d(x, [1.0], dtype=np.float16)[0] == np.float16(1.0 + 2.0**-10)


class TestOut:
    def test_is_filled_and_returned(self):
        out = np.empty((4, 6), np.float64)
        assert ce.corr2d(X, K, out=out) is out
        np.testing.assert_allclose(out, ce.corr2d(X.astype(float), K), rtol=1e-14)

    @pytest.mark.parametrize("step", [(1, 2), (-1, 1), (2, -3)])
    def test_any_strides(self, step):
        room = np.full((4 * abs(step[0]), 6 * abs(step[1])), 7.0, np.float32)
        view = room[:: step[0], :: step[1]]
        assert ce.corr2d(X, K, out=view) is view
        np.testing.assert_array_equal(view, ce.corr2d(X, K))
        assert (room == 7).sum() == room.size - view.size

    def test_may_be_x(self):
        x = X.copy()
        expected = ce.corr2d(x, K, mode="same")
        ce.corr2d(x, K, mode="same", out=x)
        np.testing.assert_array_equal(x, expected)

    def test_may_overlap_x(self):
        room = np.arange(20.0)
        expected = ce.corr1d(room[:10].copy(), [1.0, 1.0, 1.0])
        np.testing.assert_array_equal(ce.corr1d(room[:10], [1.0, 1.0, 1.0], out=room[3:11]), expected)

    def test_may_be_the_kernel(self):
        kernel = np.array([1.0, 2.0, 4.0])
        assert ce.corr1d(np.arange(5.0), kernel, out=kernel).tolist() == [10.0, 17.0, 24.0]

    def test_byte_swapped(self):
        out = np.empty((4, 6), ">f4")
        ce.corr2d(X, K, out=out)
        np.testing.assert_array_equal(out, ce.corr2d(X, K))

    def test_several_results_in_one_place(self):
        out = np.lib.stride_tricks.as_strided(np.zeros(6, np.float32), (4, 6), (0, 4))
        with pytest.raises(ce.InvalidProblem, match="one place"):
            ce.corr2d(X, K, out=out)


class TestFlip:
    @pytest.mark.parametrize("mode", ["valid", "same", "full"])
    @pytest.mark.parametrize("shape", [(3, 3), (2, 4), (1, 2)])
    def test_law(self, mode, shape):
        k = rng.standard_normal(shape)
        flipped = ce.corr2d(X, k[::-1, ::-1], mode=mode, boundary="wrap")
        np.testing.assert_array_equal(ce.conv2d(X, k, mode=mode, boundary="wrap"), flipped)

    @pytest.mark.parametrize("shape", [(3, 3), (2, 4), (5, 2), (1, 1)])
    def test_full_is_scipys(self, shape):
        signal = pytest.importorskip("scipy.signal")
        x, k = rng.standard_normal((9, 8)), rng.standard_normal(shape)
        np.testing.assert_allclose(ce.conv2d(x, k, mode="full"), signal.convolve2d(x, k), rtol=1e-12, atol=1e-13)

    def test_conjugate(self):
        x, k = np.array([1 + 2j, 3j]), np.array([1j, 2])
        np.testing.assert_array_equal(ce.corr1d(x, k, conjugate=True), [np.sum(x * k.conj())])
        np.testing.assert_array_equal(ce.corr1d(x, k), [np.sum(x * k)])


def test_content_is_the_key_not_identity():
    kernel = np.array([[1.0, 2.0]])
    first = ce.corr2d(X, kernel)
    kernel *= 2
    np.testing.assert_array_equal(ce.corr2d(X, kernel), 2 * first)


def test_a_number_kernels_type_matters():
    x = np.arange(3, dtype=np.int16)
    assert ce.corr1d(x, [1]).dtype == np.int64
    assert ce.corr1d(x, [1.0]).dtype == np.float64
    assert ce.corr1d(x, [True]).dtype == np.int32


def test_nan_fill_reaches_the_border():
    y = ce.corr2d(X, K, mode="same", fill_value=np.nan)
    wanted = oracle.reference("corr2d", X, K, mode="same", fill_value=np.nan).value
    np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))


class TestKeptCalls:
    """What is kept between calls changes no answer, stays within its bound, and survives a fork."""

    @pytest.mark.parametrize(
        "keywords",
        [{"stride": 1.0}, {"stride": True}, {"dilation": np.float64(1)}, {"groups": True}, {"padding": (0, 0.0)}],
    )
    def test_a_wrong_type_is_refused_however_warm(self, keywords):
        ce.corr2d(X, K)
        ce.corr2d(X, K, padding=(0, 0))
        with pytest.raises(ce.InvalidProblem, match="must hold integers"):
            ce.corr2d(X, K, **keywords)

    def test_lists_are_as_good_as_tuples(self):
        np.testing.assert_array_equal(ce.corr2d(X, K, stride=[2, 1]), ce.corr2d(X, K, stride=(2, 1)))

    def test_spectra_count(self, monkeypatch):
        monkeypatch.setattr(api, "_calls", Cache(2 << 20))
        x = np.ones((8, 32, 32))
        for seed in range(30):
            kernel = np.random.default_rng(seed).standard_normal((8, 8, 3, 3))
            ce.corr2d(x, kernel, backend="fft", mode="same")
        held = [call.prepared._filters[0].spectrum.nbytes for call, _ in api._calls._entries.values()]
        assert 2 < len(held) < 30
        assert sum(held) <= 2 << 20 < sum(held) * 30 / len(held)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_a_child_of_a_busy_parent(self):
        code = """
            import os, threading, warnings, numpy as np, convengine as ce
            warnings.simplefilter("ignore")
            x, k, stop = np.ones((4, 4)), np.ones((2, 2)), threading.Event()
            ce.corr2d(x, k)
            def work():
                while not stop.is_set():
                    ce.corr2d(x, k)
            threads = [threading.Thread(target=work) for _ in range(4)]
            [t.start() for t in threads]
            for _ in range(40):
                pid = os.fork()
                if pid == 0:
                    ce.corr2d(x, k)
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop.set()
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)


@pytest.mark.parametrize("backend", ["cython", "fft"])
@pytest.mark.parametrize("stride", [8, 1000, 2**63 - 1, 2**70])
def test_a_stride_past_the_end_takes_the_first(backend, stride):
    x = np.arange(1.0, 65).reshape(8, 8)
    np.testing.assert_allclose(ce.corr2d(x, np.ones((3, 3)), stride=stride, backend=backend), [[90.0]], rtol=1e-12)
    first = ce.corr2d(x, [[2.0]], stride=stride, dilation=2**70, backend=backend)
    np.testing.assert_allclose(first, [[2.0]], rtol=1e-12)


def test_whole_numbers_beside_integers_keep_every_bit():
    x = np.ones(2, np.uint8)
    assert ce.corr1d(x, [16777217, -16777216], dtype=np.float32).tolist() == [1.0]
    assert ce.corr1d(np.ones(1, np.uint8), [2049], bias=-2048, dtype=np.float16).tolist() == [1.0]


def test_a_backend_that_declines_names_those_that_can():
    with pytest.raises(ce.NoBackend, match=r"declined: samples reach(.|\n)*backends that can: .*cython"):
        ce.corr1d(np.full(64, 2**50), np.ones(5, np.int64), backend="fft")


def test_nothing_to_sum_is_no_excuse_for_another_backend():
    for x in (np.ones((0, 7)), np.ones((1, 7))):
        with pytest.raises(ce.NoBackend, match="scipy has no layers"):
            ce.corr1d(x, np.ones((3, len(x), 3)), backend="scipy")


def test_colours_without_a_word_are_named_in_the_error():
    with (
        pytest.warns(UserWarning, match="channel_axis=-1"),
        pytest.raises(ce.InvalidProblem, match=r"of 3, holds colours, say channel_axis=-1"),
    ):
        ce.corr2d(np.zeros((40, 50, 3)), np.ones((5, 5)))


def test_import_is_light():
    code = (
        "import sys, convengine; "
        "heavy = {'scipy', 'torch', 'cupy', 'dask', 'click', 'rich'} & {m.partition('.')[0] for m in sys.modules}; "
        "ours = [m for m in sys.modules if m.startswith('convengine_')]; "
        "assert not heavy and not ours, (heavy, ours)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
