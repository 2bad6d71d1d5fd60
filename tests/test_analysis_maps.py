"""The operation as a matrix and as the book's dense layer, against the oracle and the running engine."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.sparse.linalg import LinearOperator, lsqr

import convengine as ce
from convengine import analysis
from convengine.boundary import Boundary
from convengine.testing import check, componentwise, covering_cases, reference
from convengine.testing.strategies import problems

PLAIN = {"result": ["default"], "values": ["plain"]}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def whole(rng, shape, dtype=np.int64):
    """Small whole numbers: sums of their products are exact in every dtype used here."""
    values = rng.integers(-4, 5, shape)
    return (values + 1j * rng.integers(-4, 5, shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


# ---- the operation as a matrix


def split(case):
    """A case's keywords for the linear part alone."""
    return {name: value for name, value in case.keywords.items() if name not in ("bias", "fill_value")}


def is_linear(case):
    dtype = case.keywords.get("dtype")
    return np.isfinite(np.asarray(case.kernel)).all() and (dtype is None or np.dtype(dtype).kind not in "iu")


def hold_to_the_oracle(case):
    x = np.asarray(case.x)
    x = x.astype(x.dtype.newbyteorder("="))
    operator = analysis.as_linear_operator(case.kernel, x.shape, op=case.name, x_dtype=x.dtype, **case.keywords)
    vector = x.ravel()
    linear = reference(case.name, x, case.kernel, **split(case))
    constant = reference(case.name, np.zeros_like(x), case.kernel, **case.keywords)
    assert operator.shape == (linear.final.size, x.size)
    assert operator.x_shape == x.shape and operator.out_shape == linear.final.shape
    check((operator @ vector).reshape(linear.final.shape), linear, componentwise(linear))
    assert operator.offset.shape == (linear.final.size,)
    check(operator.offset.reshape(linear.final.shape).astype(constant.dtype), constant, componentwise(constant))
    # The sparse matrix sums in the engine's own dtype, whatever the result is rounded to.
    matrix = operator.tosparse()
    if matrix.dtype.kind in "iu":
        wide = (matrix.astype(np.int64) @ vector.astype(np.int64)).reshape(linear.final.shape)
        np.testing.assert_array_equal(wide, linear.final)
    else:
        summed = reference(case.name, x, case.kernel, **split(case) | {"dtype": matrix.dtype})
        found = (matrix @ vector.astype(matrix.dtype)).reshape(linear.final.shape)
        check(found, summed, componentwise(summed))
    assert matrix.shape == operator.shape and matrix.has_canonical_format


def test_operators_hold_to_the_oracle_on_the_covering_cases():
    cases = [case for case in covering_cases() if is_linear(case) and np.isfinite(np.asarray(case.x)).all()]
    assert len(cases) > 100
    with ce.options(strict=True):
        for case in cases:
            hold_to_the_oracle(case)


@given(problems(**PLAIN))
@settings(max_examples=60, deadline=None)
def test_operators_hold_to_the_oracle(case):
    with ce.options(strict=True):
        hold_to_the_oracle(case)


EXACT = {**PLAIN, "samples": ["some"], "extent": ["small"]}


@given(problems(x_dtype=["int8", "uint8", "int32", "bool"], kernel_dtype=["ints", "uint8", "same"], **EXACT))
@settings(max_examples=60, deadline=None)
def test_integer_operators_are_exact_with_exact_adjoints(case):
    x = np.asarray(case.x)
    rng = np.random.default_rng(x.size)
    a = analysis.as_linear_operator(case.kernel, x.shape, op=case.name, x_dtype=x.dtype, **case.keywords)
    matrix = a.tosparse().astype(np.int64)
    many_x, many_y = whole(rng, (a.shape[1], 3)), whole(rng, (a.shape[0], 3))
    np.testing.assert_array_equal(a @ many_x, matrix @ many_x)
    np.testing.assert_array_equal(a.H @ many_y, matrix.T @ many_y)
    np.testing.assert_array_equal(a.T @ many_y[:, 0], a.rmatvec(many_y[:, 0]))
    assert np.vdot(many_y, a @ many_x) == np.vdot(a.H @ many_y, many_x)
    try:
        wanted = getattr(ce, case.name)(x, case.kernel, **case.keywords)
    except OverflowError:  # the bias passes the result's dtype, which is not the linear part's affair
        return
    np.testing.assert_array_equal((matrix @ x.ravel().astype(np.int64) + a.offset).reshape(wanted.shape), wanted)
    if wanted.size * x.size > 2**24:  # more weights than a dense layer may have unasked
        return
    layer = analysis.dense_layer(case.kernel, x.shape, op=case.name, x_dtype=x.dtype, **case.keywords)
    assert layer.W.shape == wanted.shape + x.shape and layer.U.shape == wanted.shape
    np.testing.assert_array_equal(np.tensordot(layer.W.astype(np.int64), x.astype(np.int64), x.ndim) + layer.U, wanted)


@pytest.mark.parametrize("boundary", [*Boundary, ("wrap", "reflect")])
@pytest.mark.parametrize("dtype", ["int64", "float64", "complex128"])
@pytest.mark.parametrize(
    ("op", "x_shape", "kernel_shape", "keywords"),
    [
        ("corr2d", (5, 6), (3, 2), {"mode": "same", "stride": (2, 1)}),
        ("conv2d", (2, 5, 6), (3, 3), {"mode": "full", "dilation": 2, "conjugate": True}),
        ("conv2d", (5, 6, 3), (3, 2), {"padding": [(4, 0), (1, 7)], "channel_axis": -1}),
        ("corr2d", (5, 2, 6), (3, 4), {"mode": "same", "axes": (-1, 0), "stride": 2}),
        ("corr2d", (4, 5, 6), (6, 2, 3, 3), {"groups": 2, "padding": 1, "stride": 2, "bias": [1, 2, 3, 4, 5, 6]}),
        ("conv2d", (2, 4, 5, 6), (2, 4, 2, 3), {"mode": "same", "dilation": (2, 1)}),
        ("corr2d", (2, 5, 6, 4), (3, 2, 2, 6), {"groups": 2, "channel_axis": 3, "padding": 2, "stride": (1, 2)}),
        ("corr2d", (5, 6, 4), (3, 2, 4, 2), {"channel_axis": -1, "mode": "full", "bias": 3}),
    ],
)
def test_the_matrix_is_the_operation_and_its_adjoint(rng, op, x_shape, kernel_shape, keywords, dtype, boundary):
    kernel, x = whole(rng, kernel_shape, dtype), whole(rng, x_shape, dtype)
    keywords = {**keywords, "boundary": boundary, "fill_value": 2}
    y = getattr(ce, op)(x, kernel, **keywords)
    a = analysis.as_linear_operator(kernel, x_shape, op=op, workers=1, **keywords)
    assert isinstance(a, LinearOperator)
    matrix = a.tosparse()
    assert a.dtype == matrix.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(a @ x.ravel() + a.offset, y.ravel())
    np.testing.assert_array_equal(matrix @ x.ravel() + a.offset, y.ravel())
    np.testing.assert_array_equal(a @ np.eye(x.size, dtype=dtype), matrix.toarray())
    dy = whole(rng, y.size, dtype)
    np.testing.assert_array_equal(a.H @ dy, matrix.conj().T @ dy)
    np.testing.assert_array_equal(a.H @ np.eye(y.size, dtype=dtype), matrix.conj().T.toarray())
    np.testing.assert_array_equal(a.rmatvec(dy[:, None]), (matrix.conj().T @ dy)[:, None])
    np.testing.assert_array_equal(a.T @ dy, matrix.T @ dy)
    assert np.vdot(dy, a @ x.ravel()) == np.vdot(a.H @ dy, x.ravel())
    layer = analysis.dense_layer(kernel, x_shape, op=op, **keywords)
    np.testing.assert_array_equal(layer.W.reshape(a.shape), matrix.toarray())
    np.testing.assert_array_equal(np.tensordot(layer.W, x, x.ndim) + layer.U, y)


def test_an_operator_copies_its_kernel_and_can_be_pickled(rng):
    kernel, x = whole(rng, (3, 3)), whole(rng, 30)
    a = analysis.as_linear_operator(kernel, (5, 6), mode="same", boundary="edge", bias=3)
    before = a @ x
    kernel[...] = 0
    again = pickle.loads(pickle.dumps(a))
    for one in (a, again):
        np.testing.assert_array_equal(one @ x, before)
        np.testing.assert_array_equal(one.offset, np.full(30, 3))
    assert not a.offset.flags.writeable


def test_operators_take_vectors_of_other_dtypes_and_make_sums_and_products(rng):
    a = analysis.as_linear_operator([1, -1], (6,))
    assert a.dtype == np.int64
    x = rng.standard_normal(6)
    np.testing.assert_array_equal(a @ x, x[:-1] - x[1:])
    np.testing.assert_array_equal(a @ (x + 2j * x), (1 + 2j) * (a @ x))
    np.testing.assert_array_equal((2 * a.H @ a + analysis.as_linear_operator([1], (6,))) @ x, 2 * (a.H @ (a @ x)) + x)
    assert (a @ np.empty((6, 0))).shape == (5, 0)
    assert analysis.as_linear_operator([1, -1], (6,), x_dtype="float32").dtype == np.float32
    assert analysis.as_linear_operator([0.5], (6,), x_dtype="float16").tosparse().dtype == np.float32


def test_a_weight_of_zero_carries_nan_as_in_the_operation():
    x = np.array([1.0, np.nan, 2.0, 3.0, 4.0])
    a = analysis.as_linear_operator([0.0, 1.0, 0.0], x.shape)
    np.testing.assert_array_equal(a.tosparse() @ x, ce.corr1d(x, [0.0, 1.0, 0.0]))
    assert np.isnan(a.tosparse() @ x).sum() == 2


@pytest.mark.parametrize("boundary", ["constant", "reflect"])
def test_lsqr_undoes_a_blur(rng, boundary):
    picture = rng.random((12, 14))
    kernel = np.array([[1.0, 2.0, 1.0], [2.0, 9.0, 2.0], [1.0, 2.0, 1.0]]) / 21
    a = analysis.as_linear_operator(kernel, picture.shape, mode="same", boundary=boundary, bias=0.25)
    blurred = ce.corr2d(picture, kernel, mode="same", boundary=boundary, bias=0.25)
    tolerance = 1e-12
    found, stop, *_, frobenius, _, _, length, _ = lsqr(
        a, blurred.ravel() - a.offset, atol=tolerance, btol=tolerance, conlim=0
    )
    assert (
        stop == 1
    )  # |r| <= btol*|b| + atol*|A|*|x|, in lsqr's own estimates; x errs by |r| / the smallest singular value
    residual = tolerance * (np.linalg.norm(blurred - 0.25) + frobenius * length)
    smallest = np.linalg.svd(a.tosparse().toarray(), compute_uv=False)[-1]
    assert np.linalg.norm(found - picture.ravel()) <= residual / smallest


@pytest.mark.parametrize("make", [analysis.as_linear_operator, analysis.dense_layer])
@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        (([1.0, np.nan], (5,)), {}, ce.InvalidProblem, "got NaN or infinity in the kernel"),
        (([1.0, 2.0], (5,)), {"dtype": "uint8"}, ce.InvalidProblem, "dtype='uint8' would round and saturate"),
        (([1, 2], (5,)), {"dtype": np.int64}, ce.InvalidProblem, "would round and saturate"),
        (([1, 2], (5,)), {"x_dtype": "longdouble"}, ce.InvalidProblem, "x_dtype has dtype"),
        (([1, 2], (5,)), {"x_dtype": "nothing"}, ce.InvalidProblem, "x_dtype must be a NumPy dtype; got 'nothing'"),
        (([1, 2], (5,)), {"out": np.empty(4)}, TypeError, "unexpected keyword 'out'"),
        (([1, 2], (1,)), {}, ce.InvalidProblem, r"got kernel \(2,\) and x \(1,\)"),
        (([1, 2], (5,)), {"bias": [1, 2]}, ce.InvalidProblem, r"bias must be one number; got shape \(2,\)"),
        (([1, 2], (5,)), {"fill_value": 0.5}, ce.InvalidProblem, "fill_value must be exact in x's dtype int64"),
        (([2**62, 2**62], (5,)), {}, OverflowError, "9223372036854775808, past int64"),
        ((np.array([2**63], np.uint64), (5,)), {}, OverflowError, "9223372036854775808, past int64"),
        (([[1, 2]], (5,)), {"op": "corr3d"}, ce.InvalidProblem, r"got a kernel of shape \(1, 2\)"),
    ],
)
def test_maps_refuse_with_values(make, arguments, keywords, error, text):
    with pytest.raises(error, match=text):
        make(*arguments, **keywords)


def test_analysis_loads_scipy_only_for_operators():
    code = """
import sys
from convengine import analysis
analysis.dense_layer([1, 2], (5,)), analysis.receptive_field([(3,)]), analysis.parameter_count((3,), (5,))
assert not any(name.partition(".")[0] in ("scipy", "torch") for name in sys.modules)
analysis.as_linear_operator
assert "scipy" in sys.modules
try:
    analysis.nothing
except AttributeError as error:
    assert "got 'nothing'" in str(error)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- the dense layer of the book


def test_dense_weights_are_translation_invariant_and_local(rng):
    """W[i+1, j+1, k+1, l+1] = W[i, j, k, l]; V[i, j, a, b] = W[i, j, i+a, j+b] one for all (i, j), zero beyond D."""
    kernel = rng.standard_normal((5, 5))
    layer = analysis.dense_layer(kernel, (9, 10), mode="same", bias=2.0)
    np.testing.assert_array_equal(layer.W[1:, 1:, 1:, 1:], layer.W[:-1, :-1, :-1, :-1])
    np.testing.assert_array_equal(layer.U, np.full((9, 10), 2.0))
    everywhere = layer.reindexed()
    assert everywhere.shape == (9, 10, 17, 19)
    for i, j in np.ndindex(9, 10):
        for a, b in np.ndindex(17, 19):
            k, m = i + a - 8, j + b - 9
            assert everywhere[i, j, a, b] == (layer.W[i, j, k, m] if 0 <= k < 9 and 0 <= m < 10 else 0)
    far = np.ones((17, 19), bool)
    far[8 - 2 : 8 + 3, 9 - 2 : 9 + 3] = False
    assert not everywhere[:, :, far].any()
    near = layer.reindexed(reach=2)
    assert near.shape == (9, 10, 5, 5)
    np.testing.assert_array_equal(near[2:-2, 2:-2], np.broadcast_to(kernel, (5, 6, 5, 5)))
    picture = rng.standard_normal((9, 10))
    hidden = ce.corr2d(picture, kernel, mode="same", bias=2.0)
    expected = reference("corr2d", picture, kernel, mode="same", bias=2.0)
    # As many terms as there are pixels are added here, most of them zeros, which round nothing.
    check(layer.U + np.einsum("ijkl,kl->ij", layer.W, picture), expected, componentwise(expected))
    check(hidden, expected, componentwise(expected))


def test_reindexed_knows_strides_channels_and_layouts(rng):
    kernel = whole(rng, (3, 2, 2, 4))
    layer = analysis.dense_layer(kernel, (8, 9, 2), channel_axis=-1, stride=(2, 3))
    offsets = layer.reindexed(reach=(3, 2))
    assert layer.W.shape == (3, 3, 4, 8, 9, 2) and offsets.shape == (3, 3, 4, 7, 5, 2)
    near = np.moveaxis(offsets[:, :, :, 3:6, 2:4, :], 2, -1)
    np.testing.assert_array_equal(near, np.broadcast_to(kernel, (3, 3, *kernel.shape)))
    offsets[:, :, :, 3:6, 2:4, :] = 0
    assert not offsets.any()
    assert layer.reindexed().shape == (3, 3, 4, 15, 17, 2)
    beyond = analysis.dense_layer([1, 2, 4], (5,), stride=3, mode="full")  # the last result stands at 6, past x
    np.testing.assert_array_equal(
        beyond.reindexed(), [[0] * 6 + [4] + [0] * 6, [0] * 4 + [1, 2, 4] + [0] * 6, [0] * 4 + [1] + [0] * 8]
    )


def test_a_mirrored_border_is_not_translation_invariant():
    weights = analysis.dense_layer([1, 2, 4], (6,), mode="same", boundary="symmetric").W
    assert not np.array_equal(weights[1:, 1:], weights[:-1, :-1])
    np.testing.assert_array_equal(weights[2:-1, 2:-1], weights[1:-2, 1:-2])


def test_a_dense_layer_for_a_picture_is_refused_with_its_size():
    with pytest.raises(ce.InvalidProblem, match=r"has 1000000000000 weights, 7.45e\+03 GiB, more than limit=16777216"):
        analysis.dense_layer(np.ones((3, 3)), (1000, 1000), mode="same")
    with pytest.raises(ce.InvalidProblem, match="has 20 weights, 160 B, more than limit=19"):
        analysis.dense_layer([1, 2], (5,), limit=19)
    assert analysis.dense_layer([1, 2], (5,), limit=20).W.size == 20


@pytest.mark.parametrize("reach", [-1, 1.5, (1, 2)])
def test_reindexed_refuses_a_reach_that_is_none(reach):
    with pytest.raises(ce.InvalidProblem, match="reach must"):
        analysis.dense_layer([1, 2], (5,)).reindexed(reach)
