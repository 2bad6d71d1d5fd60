"""torch tensors in and out: shared memory, views, dtypes, `out`, what is refused."""

import doctest
import importlib
import warnings
from itertools import product

import numpy as np
import pytest
from torch_cases import leaf, random, torch

import convengine as ce

adapter = importlib.import_module("convengine.interop.torch")


# ---- values and memory


@pytest.mark.parametrize("name", ["corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"])
def test_a_tensor_gives_the_bits_of_its_array(name):
    n = int(name[4])
    x, kernel = random(2, 4, *(9,) * n), random(6, 2, *(3,) * n)
    how = {"bias": random(6), "groups": 2, "mode": "same", "boundary": "reflect", "stride": 2}
    y = getattr(ce, name)(x, kernel, **how)
    assert type(y) is torch.Tensor and y.dtype == torch.float64
    wanted = getattr(ce, name)(x.numpy(), kernel.numpy(), **how | {"bias": how["bias"].numpy()})
    np.testing.assert_array_equal(y.numpy(), wanted)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.t(),
        lambda x: x[::2, 1::3],
        lambda x: x.as_strided((4, 5), (1, 1)),
        lambda x: x[:1].expand(6, -1),
        lambda x: torch.nn.Parameter(x),
        lambda x: x.requires_grad_()[1:],
    ],
    ids=["transposed", "steps", "overlapping", "expanded", "parameter", "requires grad"],
)
def test_views_are_read_where_they_lie(view, monkeypatch):
    x = view(random(8, 9))
    seen = []
    run = ce.api.corr2d
    monkeypatch.setattr(ce.api, "corr2d", lambda first, *rest, **how: seen.append(first) or run(first, *rest, **how))
    y = ce.interop.torch.apply("corr2d", x, [[1.0, -1.0]], ce.api.DEFAULTS, None, None, None)
    np.testing.assert_array_equal(y.detach().numpy(), run(x.detach().numpy(), [[1.0, -1.0]]))
    assert seen[0].__array_interface__["data"][0] == x.data_ptr()


def test_a_lazily_conjugated_tensor_is_what_it_says():
    x, kernel = random(5, 6, dtype=torch.complex128), random(2, 2, dtype=torch.complex128)
    assert x.conj().is_conj() and x.conj().imag.is_neg()
    np.testing.assert_array_equal(ce.corr2d(x.conj(), kernel).numpy(), ce.corr2d(x.numpy().conj(), kernel.numpy()))
    np.testing.assert_array_equal(ce.corr2d(x.conj().imag, kernel).numpy(), ce.corr2d(-x.numpy().imag, kernel.numpy()))


@pytest.mark.parametrize("dtype", adapter.DTYPES, ids=str)
def test_every_dtype_follows_the_engines_promotion(dtype):
    x, kernel = torch.ones(4, 5).to(dtype), torch.ones(2, 2).to(dtype)
    y = ce.corr2d(x, kernel)
    wanted = ce.corr2d(x.numpy(), kernel.numpy())
    assert y.numpy().dtype == wanted.dtype == adapter.DTYPES.get(y.dtype)
    np.testing.assert_array_equal(y.numpy(), wanted)


def test_lists_and_numbers_are_weak_and_arrays_are_not():
    x = random(4, 5, dtype=torch.float32)
    assert ce.corr2d(x, [[1.0, -1.0]]).dtype == torch.float32
    assert ce.corr2d(x, np.array([[1.0, -1.0]])).dtype == torch.float64
    assert ce.corr2d(torch.ones(4, 5, dtype=torch.uint8), [[1, -1]]).dtype == torch.int64


def test_one_tensor_among_the_operands_makes_the_result_a_tensor():
    x, kernel, bias = random(1, 4, 5), leaf(2, 1, 2, 2), leaf(2)
    wanted = ce.corr2d(x.numpy(), kernel.detach().numpy(), bias=bias.detach().numpy())
    for first, second, third in product(
        (x, x.numpy()), (kernel, kernel.detach().numpy()), (bias, bias.detach().numpy())
    ):
        y = ce.corr2d(first, second, bias=third)
        assert isinstance(y, torch.Tensor) == any(isinstance(v, torch.Tensor) for v in (first, second, third))
        np.testing.assert_array_equal(y.detach() if isinstance(y, torch.Tensor) else y, wanted)
        if second is kernel:
            (gradient,) = torch.autograd.grad(y.sum(), kernel)
            dy = np.ones(wanted.shape)
            np.testing.assert_array_equal(gradient, ce.corr2d_grad_kernel(x.numpy(), dy, tuple(kernel.shape)))


@pytest.mark.parametrize("asked", [torch.uint8, np.uint8, "uint8"])
def test_dtype_may_be_torchs(asked):
    y = ce.corr2d(torch.full((3, 3), 200.0), [[1.0, 1.0]], dtype=asked)
    assert y.dtype == torch.uint8 and bool((y == 255).all())


def test_an_integer_result_is_no_part_of_the_graph():
    y = ce.corr2d(leaf(4, 5), [[1.0, 1.0]], dtype=torch.int32)
    assert y.dtype == torch.int32 and not y.requires_grad


# ---- out


def test_out_is_written_in_place():
    x, kernel, memory = random(6, 7), random(2, 3), torch.zeros(5, 10, dtype=torch.float64)
    out = memory[:, ::2]
    assert ce.corr2d(x, kernel, out=out) is out
    torch.testing.assert_close(memory[:, ::2], ce.corr2d(x, kernel), rtol=0, atol=0)
    assert not memory[:, 1::2].any()


def test_autograd_finds_out_that_out_was_written():
    x, out = leaf(4, 5), torch.ones(4, 4, dtype=torch.float64)
    product_of_both = x[:, 1:] * out  # keeps out for the gradient of x
    with torch.no_grad():
        ce.corr2d(x, [[1.0, -1.0]], out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product_of_both.sum().backward()


def test_out_that_autograd_could_not_follow_is_refused():
    x, out = random(4, 5), torch.zeros(4, 4, dtype=torch.float64)
    for first, target in ((x.clone().requires_grad_(), out), (x, out.clone().requires_grad_())):
        with pytest.raises(ce.InvalidProblem, match="no part in autograd"):
            ce.corr2d(first, [[1.0, -1.0]], out=target)
    with pytest.raises(ce.InvalidProblem, match=r"torch\.Tensor; got ndarray"):
        ce.corr2d(x, [[1.0, -1.0]], out=out.numpy())
    complex_out = torch.zeros(4, 4, dtype=torch.complex128)
    with pytest.raises(ce.InvalidProblem, match="conjugated"):
        ce.corr2d(x, [[1.0, -1.0]], out=complex_out.conj())


def test_gradients_write_into_out():
    x, dy = random(4, 5), random(4, 4)
    out = torch.zeros(1, 2, dtype=torch.float64)
    assert ce.corr2d_grad_kernel(x, dy, (1, 2), out=out) is out
    np.testing.assert_array_equal(out, ce.corr2d_grad_kernel(x.numpy(), dy.numpy(), (1, 2)))


# ---- refusals


def refused():
    dense = torch.ones(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # prototypes say so
        yield "bfloat16", dense.bfloat16(), r"dtype torch.bfloat16"
        yield "complex32", dense.to(torch.complex32), r"dtype torch.complex32"
        yield "meta", dense.to("meta"), "meta"
        yield "sparse", dense.to_sparse(), "to_dense"
        yield "csr", dense.to_sparse_csr(), "to_dense"
        yield "mkldnn", dense.to_mkldnn(), "to_dense"
        yield "quantized", torch.quantize_per_tensor(dense, 0.1, 0, torch.quint8), r"torch.quint8"
        yield "nested", torch.nested.nested_tensor([dense, dense]), "wraps other tensors"
        yield "masked", torch.masked.masked_tensor(dense, dense > 0), "MaskedTensor, which wraps other tensors"


REFUSED = {name: (tensor, words) for name, tensor, words in refused()}


@pytest.mark.parametrize("name", REFUSED)
def test_what_numpy_cannot_share_is_refused(name):
    bad, words = REFUSED[name]
    with pytest.raises(ce.InvalidProblem, match=words):
        ce.corr2d(bad, [[1.0, -1.0]])
    with pytest.raises(ce.InvalidProblem, match=words):
        ce.corr2d(torch.ones(4, 4), bad)


def test_a_tensor_on_a_gpu_is_refused():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    with pytest.raises(ce.InvalidProblem, match=r"cuda:0.*x\.cpu\(\)"):
        ce.corr2d(torch.ones(4, 4, device="cuda"), [[1.0, -1.0]])


def test_jit_trace_is_refused():
    with warnings.catch_warnings(), pytest.raises(ce.InvalidProblem, match="constant"):
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.trace(lambda x: ce.corr2d(x, [[1.0, -1.0]]), torch.ones(3, 3))


# ---- the modules


@pytest.mark.parametrize("name", ["convengine.interop.torch", "convengine.interop.torch_nn"])
def test_the_examples_of_the_module_run(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert results.failed == 0 and results.attempted > 0
