"""The gradients as the public functions give them: keywords, dtypes, errors, out, choice; the contract has numbers."""

import gc
import inspect
import subprocess
import sys
import textwrap
import tracemalloc
import weakref

import numpy as np
import pytest

import convengine as ce
from convengine.testing import check, componentwise, gradient_reference

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 9, 11))
K = RNG.standard_normal((3, 4))
OPERATIONS = [f"{kind}{n}d" for kind in ("corr", "conv") for n in (1, 2, 3)]


def gradients(name):
    return getattr(ce, f"{name}_grad_input"), getattr(ce, f"{name}_grad_kernel")


# ---- against the definition, written out


def test_the_definition_with_loops():
    x, kernel, dy = RNG.integers(-9, 9, (5, 6)), RNG.integers(-9, 9, (2, 3)), RNG.integers(-9, 9, (4, 4))
    dx, dk = np.zeros((5, 6), np.int64), np.zeros((2, 3), np.int64)
    for i, j in np.ndindex(4, 4):
        for a, b in np.ndindex(2, 3):
            dx[i + a, j + b] += kernel[a, b] * dy[i, j]
            dk[a, b] += x[i + a, j + b] * dy[i, j]
    assert np.array_equal(ce.corr2d_grad_input(dy, kernel, (5, 6)), dx)
    assert np.array_equal(ce.corr2d_grad_kernel(x, dy, (2, 3)), dk)


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
def test_the_jacobian_transposed(boundary):
    how = {"mode": "same", "boundary": boundary, "stride": 2}
    kernel = RNG.integers(-9, 9, 4)
    jacobian = np.stack([ce.corr1d(row, kernel, **how) for row in np.eye(7, dtype=np.int64)])  # one row per sample of x
    dy = RNG.integers(-9, 9, jacobian.shape[1])
    assert np.array_equal(ce.corr1d_grad_input(dy, kernel, 7, **how), jacobian @ dy)
    x = RNG.integers(-9, 9, 7)
    by_tap = np.stack([ce.corr1d(x, tap, **how) for tap in np.eye(4, dtype=np.int64)])
    assert np.array_equal(ce.corr1d_grad_kernel(x, dy, 4, **how), by_tap @ dy)


def test_pads_many_times_as_long_as_x():
    how = {"padding": ((40, 33),), "boundary": "reflect"}
    jacobian = np.stack([ce.corr1d(row, [1, 2, 3], **how) for row in np.eye(4, dtype=np.int64)])
    dy = RNG.integers(-9, 9, jacobian.shape[1])
    assert np.array_equal(ce.corr1d_grad_input(dy, [1, 2, 3], 4, **how), jacobian @ dy)


# ---- keywords


@pytest.mark.parametrize("name", OPERATIONS)
def test_signatures_are_those_of_the_operation(name):
    keywords = [p for p in inspect.signature(getattr(ce, name)).parameters.values() if p.kind is p.KEYWORD_ONLY]
    keywords = [p for p in keywords if p.name not in ("nan_policy", "mask", "min_weight", "region")]
    for gradient, first in zip(
        gradients(name), (["dy", "kernel", "x_shape"], ["x", "dy", "kernel_shape"]), strict=True
    ):
        parameters = inspect.signature(gradient).parameters
        assert list(parameters)[:3] == first
        assert [parameters[p.name] for p in keywords] == keywords
        assert gradient.__name__ in ce.__all__


def test_unknown_keywords_are_refused():
    with pytest.raises(
        TypeError, match=r"corr2d_grad_input\(\) got an unexpected keyword 'strides'; it takes bias, mode"
    ):
        ce.corr2d_grad_input(X[0], K, (9, 11), strides=2)


def test_bias_and_fill_value_have_no_part_in_the_gradient_of_x():
    dy = np.ones((9, 11))
    plain = ce.corr2d_grad_input(dy, K, (9, 11), mode="same")
    assert np.array_equal(ce.corr2d_grad_input(dy, K, (9, 11), mode="same", bias=7, fill_value=3.5), plain)
    ints = ce.corr1d_grad_input([1, 2], [1, 1], 2, mode="same", fill_value=0.5)  # no integer, and not needed
    assert ints.dtype == np.int64


def test_fill_value_has_a_part_in_the_gradient_of_the_kernel():
    assert ce.corr1d_grad_kernel([1, 2], [1, 1, 1], 2, mode="full", fill_value=10).tolist() == [13, 13]


def test_one_dictionary_serves_all_three():
    how = {
        "mode": "same",
        "boundary": ("wrap", "edge"),
        "stride": (2, 1),
        "dilation": (1, 2),
        "axes": (2, 0),
        "bias": 2.0,
    }
    y = ce.conv2d(X, K, **how)
    dx, dk = ce.conv2d_grad_input(y, K, X.shape, **how), ce.conv2d_grad_kernel(X, y, K.shape, **how)
    assert (dx.shape, dk.shape) == (X.shape, K.shape)
    assert np.vdot(y, y - 2) == pytest.approx(np.vdot(dx, X), rel=1e-12) == pytest.approx(np.vdot(dk, K), rel=1e-12)


# ---- dtypes


@pytest.mark.parametrize(
    ("dy", "kernel", "wanted"),
    [
        ("float32", "float32", "float32"),
        ("float16", "float16", "float16"),
        ("float32", "float64", "float64"),
        ("int8", "int8", "int64"),
        ("bool", "bool", "int64"),
        ("int16", "float32", "float32"),
        ("float32", "complex64", "complex64"),
    ],
)
def test_result_dtypes(dy, kernel, wanted):
    one, other = np.ones(5, dy), np.ones(3, kernel)
    assert ce.corr1d_grad_input(one, other, 7).dtype == wanted
    assert ce.corr1d_grad_kernel(np.ones(7, kernel), one, 3).dtype == wanted


def test_a_list_is_a_weak_kernel():
    assert ce.corr1d_grad_input(np.ones(3, np.float32), [1.0, 2.0], 4).dtype == np.float32


def test_dtype_and_overflow_round_once():
    dy = np.full(4, 100.4)
    got = ce.corr1d_grad_input(dy, [1.0, 1.0], 4, mode="same", boundary="wrap", dtype=np.int8)
    assert got.tolist() == [127] * 4
    with pytest.raises(OverflowError, match="201"):
        ce.corr1d_grad_input(dy, [1.0, 1.0], 4, mode="same", boundary="wrap", dtype=np.int8, overflow="raise")


def test_half_is_rounded_after_the_border_is_folded():
    dy = np.array([2048, 1, 1, 1], np.float16)  # 2048 + 1 is no float16; 2048 + 1 + 1 is
    got = ce.corr1d_grad_input(dy, np.ones(3, np.float16), 4, mode="same", boundary="edge")
    reference = gradient_reference(
        "corr1d_grad_input", dy, np.ones(3, np.float16), x_shape=4, mode="same", boundary="edge"
    )
    assert got.tolist() == reference.value.astype(np.float16).tolist()


def test_integers_past_int64_are_an_error():
    with pytest.raises(
        OverflowError, match=r"may reach \d+, past int64: \|dy\| up to 4611686018427387904, sum of \|kernel\|"
    ):
        ce.corr1d_grad_input([2**62, 1], [1, 1], 3)
    with pytest.raises(OverflowError, match=r"past int64: \|x\| up to .*sum of \|dy\| up to 3"):
        ce.corr1d_grad_kernel([2**62, 1, 5], [1, 2], 2)


def test_copies_in_the_border_count_in_the_integer_bound():
    how = {"padding": ((9, 0),), "boundary": "edge"}  # ten copies of the first sample
    with pytest.raises(OverflowError, match=f"may reach {10 * 2**60}"):
        ce.corr1d_grad_input([2**60] * 12, [1], 3, **how)


def test_the_integer_bound_counts_every_channel_by_itself():
    dy = np.array([[[2**40, -5]], [[-(2**41), 1]]])  # images, outputs, samples
    with pytest.raises(OverflowError, match=f"sum of .dy. up to {2**40 + 2**41 + 6},"):
        ce.corr1d_grad_kernel(np.full((2, 1, 2), 2**60), dy, (1, 1, 1))
    kernel = np.array([[[2**40, 1]], [[2**40, 2]]])  # outputs, inputs, taps
    with pytest.raises(OverflowError, match=f"sum of .kernel. up to {2**41 + 3},"):
        ce.corr1d_grad_input(np.full((2, 1), 2**60), kernel, (1, 2))


# ---- complex numbers


def test_complex_gradients_are_the_conjugate_transpose():
    x, k = X[0] + 1j * X[1], K + 1j * K[::-1]
    for conjugate in (False, True):
        how = {"mode": "full", "conjugate": conjugate}
        y = ce.conv2d(x, k, **how)
        dy = y.conj() * 1j
        dx, dk = ce.conv2d_grad_input(dy, k, x.shape, **how), ce.conv2d_grad_kernel(x, dy, k.shape, **how)
        assert np.vdot(dx, x).real == pytest.approx(np.vdot(dy, y).real, rel=1e-12)
        assert np.vdot(dk, k).real == pytest.approx(np.vdot(dy, y).real, rel=1e-12)


def test_real_operands_give_no_negative_zeros():
    got = ce.corr1d_grad_kernel([1.0, 2.0, 3.0], [1.0, 2.0], 2, dtype=np.complex64)
    assert not np.signbit(got.imag).any()


# ---- NaN and infinity


def test_an_infinite_tap_reaches_only_what_it_met():
    got = ce.corr1d_grad_input(np.array([1.0, 2.0]), np.array([np.inf, 1.0]), 3)
    assert got.tolist() == [np.inf, np.inf, 2.0]  # zeros around dy would make the last NaN


def test_nan_in_dy_reaches_its_window():
    got = ce.corr1d_grad_input(np.array([1.0, np.nan, 1.0]), np.ones(2), 4)
    assert np.isnan(got).tolist() == [False, True, True, False]


# ---- out


def test_out_is_written_and_may_overlap_an_operand():
    dy = X[0].copy()
    wanted = ce.corr2d_grad_input(dy, K, (9, 11), mode="same")
    assert ce.corr2d_grad_input(dy, K, (9, 11), mode="same", out=dy) is dy
    assert np.array_equal(dy, wanted)
    dy = X[1].copy()
    wanted = ce.conv2d_grad_kernel(X[0], dy, (9, 11), mode="same", padding=None)
    assert np.array_equal(ce.conv2d_grad_kernel(X[0], dy, (9, 11), mode="same", out=dy), wanted)


def test_a_flipped_gradient_is_written_to_any_out():
    x, dy = RNG.integers(-9, 9, (8, 9)), RNG.integers(-9, 9, (6, 6))
    wanted = ce.corr2d_grad_kernel(x, dy, (3, 4))[::-1, ::-1]
    out = np.zeros((4, 3), np.int64).T
    assert ce.conv2d_grad_kernel(x, dy, (3, 4), out=out) is out
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("shape", [(0, 9), (9, 0)])
def test_an_empty_out(shape):
    out = np.empty(shape)  # NumPy gives it steps of 0
    assert ce.corr1d_grad_input(np.ones((shape[0], shape[1] + 2)), np.ones(3), shape, mode="full", out=out) is out


# ---- memory


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", "int64"])
def test_the_kernels_gradient_copies_neither_operand(dtype):
    x, dy = np.ones((1024, 1030), dtype), np.ones((1022, 1028), dtype)
    ce.corr2d_grad_kernel(x, dy, (3, 3), backend="cython")  # loads what there is to load
    tracemalloc.start()
    try:
        ce.corr2d_grad_kernel(x[::-1], dy[:, ::-1], (3, 3), backend="cython")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < dy.size * 2  # bytes; a piece whose magnitudes are added up has 65536 samples


@pytest.mark.parametrize("backend", ["cython", "fft", "scipy"])
def test_what_is_kept_keeps_no_operand_alive(backend):
    everything = np.ones((100, 3, 3))
    x, kernel, dy = np.ones((20, 20)), everything[0], np.ones((18, 18))
    operands = [weakref.ref(operand) for operand in (everything, x, dy)]
    for _ in range(2):
        ce.corr2d(x, kernel, backend=backend)
        ce.corr2d_grad_input(dy, kernel, (20, 20), backend=backend)
        ce.corr2d_grad_kernel(x, dy, (3, 3), backend=backend)
    del everything, x, kernel, dy
    gc.collect()
    assert [operand() for operand in operands] == [None] * 3


LIMITED = """
    import resource
    import numpy as np
    import convengine as ce
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    for shape, keywords in (((50000, 50000), {}), ((30000, 30000, 1, 1), {"channel_axis": -1})):
        try:
            ce.conv2d_grad_kernel(np.ones((5, 5, 1)[: len(shape)]), np.ones((1, 1)), shape, **keywords)
        except ce.InvalidProblem as error:
            print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_kernel_too_large_for_x_takes_no_memory():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LIMITED)], capture_output=True, text=True, check=True, timeout=60
    )
    assert [line.partition(";")[0] for line in done.stdout.splitlines()] == [
        "mode='valid' needs the kernel to fit inside x"
    ] * 2


# ---- errors


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: ce.corr2d_grad_input(np.ones((4, 4)), K, (9, 11)),
            r"dy must have the shape of the forward result, \(7, 8\)",
        ),
        (lambda: ce.corr2d_grad_kernel(X[0], np.ones(5), (3, 4)), r"\(7, 8\) for x of shape \(9, 11\).*got \(5,\)"),
        (lambda: ce.corr2d_grad_input(np.ones((1, 1)), K, (2, 11)), "needs the kernel to fit inside x"),
        (lambda: ce.corr2d_grad_input(np.ones((1, 1)), K, (9, -1)), "x_shape must be at least 0; got -1"),
        (lambda: ce.corr2d_grad_kernel(X[0], np.ones((7, 8)), (3, 0)), "at least one tap"),
        (
            lambda: ce.corr2d_grad_kernel(X[0], np.ones((7, 8)), (10**9, 10**9)),
            r"kernel_shape \(1000000000, 1000000000\) is larger than any memory",
        ),
        (
            lambda: ce.corr1d_grad_input(np.ones(1), np.ones(1), 10**30, stride=10**30),
            "x_shape .* larger than any memory",
        ),
        (lambda: ce.corr2d_grad_kernel(X[0], np.ones((7, 8)), "34"), "kernel_shape must hold integers; got '34'"),
        (lambda: ce.corr2d_grad_input(np.ma.ones((7, 8)), K, (9, 11)), "dy is a masked array"),
        (lambda: ce.corr2d_grad_kernel(X[0], np.ma.ones((7, 8)), (3, 4)), "dy is a masked array"),
        (lambda: ce.corr2d_grad_input(np.ones((7, 8)) * 1j, K, (9, 11), dtype=float), "complex results"),
    ],
)
def test_errors_say_what_was_needed(call, text):
    with pytest.raises(ce.InvalidProblem, match=text):
        call()


def test_a_backend_that_cannot_says_so_and_names_who_can():
    with pytest.raises(ce.NoBackend, match=r"(?s)scipy has no layers.*backends that can: .*cython"):
        ce.corr1d_grad_kernel(np.ones((2, 9)), np.ones((4, 7)), (4, 2, 3), backend="scipy")


def test_an_unknown_backend_is_an_error_also_without_samples():
    with pytest.raises(ce.NoBackend, match="nobody"):
        ce.corr1d_grad_kernel(np.ones((0, 9)), np.ones((0, 7)), 3, backend="nobody")


# ---- shapes without samples


def test_no_images_give_zeros():
    assert ce.corr1d_grad_kernel(np.ones((0, 9)), np.ones((0, 7)), 3).tolist() == [0, 0, 0]
    assert ce.corr2d_grad_kernel(np.ones((0, 2, 5, 5)), np.ones((0, 4, 3, 3)), (4, 2, 3, 3)).shape == (4, 2, 3, 3)
    assert ce.corr1d_grad_input(np.ones((0, 7)), np.ones(3), (0, 9)).shape == (0, 9)


def test_an_x_of_padding_alone():
    got = ce.corr1d_grad_kernel(np.ones(0), np.ones(4), 3, padding=3, fill_value=2)
    assert got.tolist() == [8, 8, 8]
    assert ce.corr1d_grad_input(np.ones(4), np.ones(3), 0, padding=3).shape == (0,)


# ---- choice


def test_explain_covers_gradients():
    dy = np.ones((7, 8), np.float32)
    for op, first, second, shape in (
        ("corr2d_grad_input", dy, K.astype("f4"), {"x_shape": (9, 11)}),
        ("corr2d_grad_kernel", X[0].astype("f4"), dy, {"kernel_shape": (3, 4)}),
    ):
        explanation = ce.explain(first, second, op=op, **shape)
        assert explanation.chosen.backend in ("cython", "fft", "scipy", "torch")
        assert op.partition("_")[2] in repr(explanation)
    with pytest.raises(TypeError, match="x_shape"):
        ce.explain(dy, K, op="corr2d_grad_input")
    nothing = ce.explain(np.ones((0, 9)), np.ones((0, 7)), op="corr1d_grad_kernel", kernel_shape=3)
    assert "the gradient is zero" in repr(nothing)


def test_a_gradient_is_not_remembered_with_its_data():
    first = ce.corr1d_grad_kernel([1.0, 2.0, 3.0], [1.0, 1.0], 2)
    second = ce.corr1d_grad_kernel([1.0, 2.0, 3.0], [2.0, 1.0], 2)
    assert (first.tolist(), second.tolist()) == ([3, 5], [4, 7])


def test_the_kernels_content_counts():
    dy = np.ones(2)
    assert ce.corr1d_grad_input(dy, np.array([1.0, 2.0]), 3).tolist() == [1, 3, 2]
    assert ce.corr1d_grad_input(dy, np.array([2.0, 1.0]), 3).tolist() == [2, 3, 1]


@pytest.mark.parametrize("backend", ["cython", "fft"])
def test_large_kernels_and_strides(backend):
    x, kernel = RNG.standard_normal((60, 70)), RNG.standard_normal((21, 18))
    how = {"mode": "same", "boundary": "reflect", "stride": (3, 2)}
    dy = RNG.standard_normal(ce.corr2d(x, kernel, **how).shape)
    got = ce.corr2d_grad_input(dy, kernel, x.shape, backend=backend, **how)
    reference = gradient_reference("corr2d_grad_input", dy, kernel, x_shape=x.shape, **how)
    if backend == "cython":
        assert 0 < check(got, reference, componentwise(reference)) <= 1
    else:
        offer = ce.explain(dy, kernel, op="corr2d_grad_input", x_shape=x.shape, backend=backend, **how).chosen.offer
        from convengine.testing import normwise

        assert 0 < check(got, reference, normwise(reference, offer.error)) <= 1
