"""Shapes and numbers of parameters against the oracle, other libraries and counting by hand."""

import numpy as np
import pytest

import convengine as ce
from convengine import analysis
from convengine.testing import covering_cases, reference

# ---- shapes


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize(
    ("nx", "nk"), [(9, 3), (10, 5), (8, 8), (7, 1)]
)  # (9, 4): SciPy's do not fit its own correlate
def test_lags_are_scipys(nx, nk, mode):
    signal = pytest.importorskip("scipy.signal")
    lags = analysis.lags(nx, nk, mode)
    np.testing.assert_array_equal(lags, signal.correlation_lags(nx, nk, mode))
    assert lags.shape == ce.corr1d(np.ones(nx), np.ones(nk), mode=mode).shape


def test_lags_say_where_the_pattern_lies():
    x, pattern = np.arange(12.0), np.array([1.0, -2, 4])
    for how in ({"mode": "same", "center": 0}, {"padding": [(2, 1)]}, {"stride": 2, "dilation": 3, "padding": 4}):
        result = ce.corr1d(x, pattern, **how)
        step = how.get("dilation", 1)
        for lag, value in zip(analysis.lags(12, 3, **how), result, strict=True):
            at = lag + step * np.arange(3)
            inside = (at >= 0) & (at < 12)
            assert value == (pattern[inside] * x[at[inside]]).sum()
    with pytest.raises(TypeError, match="lags takes center"):
        analysis.lags(9, 3, boundary="wrap")
    with pytest.raises(ce.InvalidProblem, match="kernel to fit"):
        analysis.lags(2, 3)


def test_output_shape_is_the_oracles():
    for case in covering_cases():
        expected = reference(case.name, case.x, case.kernel, **case.keywords).final.shape
        shape = analysis.output_shape(np.shape(case.x), np.shape(case.kernel), op=case.name, **case.keywords)
        assert shape == expected, case.id


def test_output_shape_needs_no_memory():
    assert analysis.output_shape((10**6, 10**6), (3, 3)) == (10**6 - 2, 10**6 - 2)
    assert analysis.output_shape(10**9, 5, stride=2) == (499999998,)


def test_output_shape_is_not_moved_by_what_changes_values():
    keywords = {
        "bias": [1, 2, 3],
        "fill_value": 1j,
        "conjugate": True,
        "dtype": "uint8",
        "backend": "fft",
        "workers": 1,
    }
    assert analysis.output_shape((6, 8), (2, 3), **keywords) == (5, 6)


@pytest.mark.parametrize(
    ("x_shape", "kernel_shape", "keywords"),
    [
        ((2, 3, 20, 21), (5, 3, 3, 4), {}),
        ((3, 20, 21), (5, 3, 3, 4), {"stride": (2, 3), "padding": 1}),
        ((2, 4, 20), (6, 2, 3), {"op": "corr1d", "groups": 2, "stride": 3, "dilation": 2}),
        ((20, 21, 4), (3, 4, 2, 6), {"groups": 2, "channel_axis": -1, "stride": 2, "mode": "same"}),
        ((2, 20, 21, 4), (3, 4, 4, 6), {"channel_axis": 3, "stride": 3, "padding": [(2, 0), (0, 1)]}),
        ((20, 3, 21), (3, 4), {"axes": (2, 0), "stride": (3, 2), "mode": "full"}),
        ((20, 21, 3), (3, 4), {"channel_axis": -1, "boundary": "wrap", "padding": 5}),
        ((7, 8, 9), (2, 3, 2), {"op": "conv3d", "center": 0, "mode": "same", "stride": 2}),
    ],
)
def test_transposed_shape_goes_back_to_every_x(x_shape, kernel_shape, keywords):
    """All sizes of x that give one shape are those of output_padding 0, 1, ..., each of them once."""
    reading_axes = [axis for axis, size in enumerate(x_shape) if size >= 7]
    given = analysis.output_shape(x_shape, kernel_shape, **keywords)
    found = set()
    strides = np.broadcast_to(keywords.get("stride", 1), len(reading_axes))
    for extra in np.ndindex(*strides):
        shape = analysis.transposed_shape(given, kernel_shape, output_padding=extra, **keywords)
        assert analysis.output_shape(shape, kernel_shape, **keywords) == given
        found.add(shape)
    assert x_shape in found
    assert len(found) == np.prod(strides)
    with pytest.raises(ce.InvalidProblem, match=r"output_padding must be smaller than the stride; got \d with stride"):
        analysis.transposed_shape(given, kernel_shape, output_padding=tuple(strides), **keywords)


def test_transposed_shape_is_torchs():
    torch = pytest.importorskip("torch", reason="compares with torch")
    for n, k, stride, padding, dilation in [(5, 3, 2, 1, 1), (4, 4, 3, 0, 2), (6, 1, 1, 0, 1), (3, 5, 4, 2, 3)]:
        for extra in range(stride):
            layer = torch.nn.ConvTranspose1d(2, 6, k, stride, padding, extra, groups=2, dilation=dilation)
            how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 2, "output_padding": extra}
            shape = analysis.transposed_shape((1, 2, n), tuple(layer.weight.shape), op="corr1d", **how)
            assert shape == tuple(layer(torch.zeros(1, 2, n)).shape)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: analysis.output_shape((5, 5), (9, 9)), ce.InvalidProblem, r"got kernel \(9, 9\) and x \(5, 5\)"),
        (lambda: analysis.output_shape((5, 5), (2,) * 6), ce.InvalidProblem, "3 to 5 for a layer; got 6 axes"),
        (lambda: analysis.output_shape((5, 5), ()), ce.InvalidProblem, "got 0 axes"),
        (lambda: analysis.output_shape((5, 5), (2, 2), op="corr4d"), ce.InvalidProblem, "op must be one of .*'corr4d'"),
        (lambda: analysis.output_shape((5, 5), (2, 2), mod="same"), TypeError, "unexpected keyword 'mod'"),
        (lambda: analysis.output_shape((5, -5), (2, 2)), ce.InvalidProblem, "x_shape must be at least 0; got -5"),
        (lambda: analysis.output_shape((5, 5.5), (2, 2)), ce.InvalidProblem, "x_shape must hold integers; got 5.5"),
        (
            lambda: analysis.output_shape((3, 9, 9), (4, 2, 3, 3)),
            ce.InvalidProblem,
            "x has 3 channels and the kernel 2",
        ),
        (
            lambda: analysis.transposed_shape((3, 9, 9), (4, 2, 3, 3)),
            ce.InvalidProblem,
            r"got \(3, 9, 9\).*\(4, 9, 9\)",
        ),
        (lambda: analysis.transposed_shape((2,), (3,), padding=3), ce.InvalidProblem, r"got 2 .* padding \(3, 3\)"),
        (lambda: analysis.transposed_shape((2,), (3,), out_padding=3), TypeError, "unexpected keyword 'out_padding'"),
        (
            lambda: analysis.parameter_count((3, 3), (9, 9), [1]),
            ce.InvalidProblem,
            r"bias must be True or False.*got \[1\]",
        ),
        (
            lambda: analysis.parameter_count((4, 0, 3, 3), (0, 9, 9), bias=False),
            ce.InvalidProblem,
            r"a kernel of shape \(4, 0, 3, 3\) without bias",
        ),
        (lambda: analysis.parameter_count((3, 3), (9, 9), strides=2), TypeError, "unexpected keyword 'strides'"),
    ],
)
def test_shapes_and_counts_refuse_with_values(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_colour_picture_warns_where_the_caller_stands():
    for call in (
        lambda: analysis.output_shape((9, 9, 3), (3, 3)),
        lambda: analysis.parameter_count((3, 3), (9, 9, 3)),
        lambda: analysis.as_linear_operator(np.ones((3, 3)), (9, 9, 3)),
        lambda: analysis.dense_layer(np.ones((3, 3)), (9, 9, 3)),
    ):
        with pytest.warns(UserWarning, match="channel_axis=-1") as caught:
            call()
        assert [warning.filename for warning in caught] == [__file__]


# ---- parameters


def test_the_books_numbers():
    count = analysis.parameter_count((11, 11), (1000, 1000), bias=False, mode="same")
    assert count.dense == 10**12
    assert count.shared == 1999**2 == 3996001  # offsets -999 .. 999; the book says 4 * 10**6
    assert round(count.shared, -5) == 4 * 10**6
    assert count.layer == 121 == (2 * 5 + 1) ** 2
    assert count.ratio == 10**12 / 121
    layer = analysis.parameter_count((64, 3, 11, 11), (8, 3, 1000, 1000), mode="same")
    assert layer.layer == 64 * 3 * 11**2 + 64
    assert layer.dense == 3 * 10**6 * 64 * 10**6 + 64 * 10**6
    assert layer.shared == 64 * 3 * 1999**2 + 64


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel_shape", "x_shape", "keywords"),
    [
        ((3,), (9,), {}),
        ((3,), (9,), {"mode": "full", "stride": 3}),
        ((2,), (3,), {"padding": (12,), "stride": 7}),
        ((3, 2), (6, 5), {"mode": "same", "stride": (1, 2)}),
        ((4, 3, 2), (3, 6), {"op": "corr1d", "dilation": 2}),
        ((4, 1, 3, 2), (2, 6, 5), {"groups": 2, "stride": 2}),
        ((3, 2, 2, 4), (6, 5, 2), {"channel_axis": -1, "padding": 1}),
    ],
)
def test_parameters_are_counted_as_in_the_dense_layer(kernel_shape, x_shape, keywords, bias):
    count = analysis.parameter_count(kernel_shape, x_shape, bias, **keywords)
    kernel = np.ones(kernel_shape, np.int64)
    layer = analysis.dense_layer(kernel, x_shape, **keywords)
    assert count.dense == layer.W.size + bias * layer.U.size
    problem = layer._map.reading.problem
    c_in, c_out = problem.channels
    places = zip(problem.spatial, problem.out_spatial, problem.stride, strict=True)
    offsets = [len({k - s * i for k in range(n) for i in range(m)}) for n, m, s in places]
    assert count.shared == c_in * c_out * np.prod(offsets) + bias * c_out
    assert count.layer == kernel.size + bias * c_out
    assert count.to_dict() == {
        "layer": count.layer,
        "shared": count.shared,
        "dense": count.dense,
        "ratio": count.dense / count.layer,
    }


def test_batch_axes_do_not_count():
    one, many = (analysis.parameter_count((4, 2, 3, 3), (*batch, 2, 8, 8)) for batch in ((), (5,)))
    assert one == many
    assert analysis.parameter_count((3, 3), (8, 8)) == analysis.parameter_count((3, 3), (8, 8, 3), channel_axis=-1)
