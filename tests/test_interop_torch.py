"""torch tensors: shared memory, autograd of any order, vmap, torch.compile, the layers, and the book's notebook."""

import copy
import doctest
import importlib
import logging
import pickle
import sys
import warnings
from itertools import product

import numpy as np
import pytest

import convengine as ce
from convengine.testing import bounds, oracle

torch = pytest.importorskip("torch", reason="torch is not installed (pip install convengine[peers])")
# functorch's own, where it first computes forward derivatives
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
adapter = importlib.import_module("convengine.interop.torch")
ours = importlib.import_module("convengine.interop.torch_nn")

BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")
SEED = 5


def random(*shape, dtype=torch.float64, seed=SEED):
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, dtype=dtype, generator=generator)


def leaf(*shape, **how):
    return random(*shape, **how).requires_grad_()


@pytest.fixture
def ran(caplog):
    """What the engine says that it ran."""
    caplog.set_level(logging.DEBUG, logger="convengine")
    return lambda: [record.getMessage() for record in caplog.records if record.name.startswith("convengine")]


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


# ---- autograd: every map, first and second derivatives, backward and forward

GEOMETRIES = {
    **{boundary: {"mode": "same", "boundary": boundary} for boundary in BOUNDARIES},
    "mixed": {"padding": ((4, 1), (0, 5)), "boundary": ("wrap", "symmetric")},
    "full": {"mode": "full", "fill_value": 1.5},
    "center": {"mode": "same", "center": (0, 1)},
    "stride 2": {"stride": 2, "padding": 1, "boundary": "reflect"},
    "stride past the end": {"stride": (7, 3)},
    "dilation 2": {"dilation": 2, "mode": "same", "boundary": "edge", "fill_value": 2},
    "stride and dilation": {"stride": (1, 2), "dilation": (2, 1), "padding": (2, 1), "fill_value": 1},
}
KINDS = {
    "filter": ((3, 4), (2, 3), (), {}),
    "filter, batch": ((2, 4, 5), (2, 3), (1,), {}),
    "filter, axes": ((4, 2, 5), (2, 3), (), {"axes": (2, 0)}),
    "filter, colours": ((4, 5, 2), (2, 3), (), {"channel_axis": -1}),
    "layer": ((2, 4, 5), (3, 2, 2, 3), (3,), {}),
    "layer, batch and groups": ((2, 2, 4, 4), (2, 1, 2, 3), (2,), {"groups": 2}),
    "layer, channels last": ((2, 4, 3, 2), (2, 2, 1, 2), (2,), {"channel_axis": -1, "groups": 2}),
}


def mapped(name, how):
    def function(x, kernel, *bias):
        return getattr(ce, name)(x, kernel, bias=bias[0] if bias else None, **how)

    return function


def case(kind, geometry):
    x, kernel, bias, how = KINDS[kind]
    if kind == "filter, axes" and geometry == "stride past the end":
        geometry = "stride 2"
    return x, kernel, bias, how | GEOMETRIES[geometry]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    ("name", "dtype"), [("corr2d", torch.float64), ("conv2d", torch.complex128)], ids=["real", "complex"]
)
def test_gradcheck_of_a_layer(name, geometry, dtype):
    x, kernel, bias, how = case("layer, batch and groups", geometry)
    if geometry == "stride past the end":
        how["stride"] = (3, 3)
    inputs = [leaf(*shape, dtype=dtype) for shape in (x, kernel, bias)]
    assert torch.autograd.gradcheck(mapped(name, how), inputs, check_forward_ad=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=["real", "complex"])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_gradgradcheck_of_a_filter(geometry, dtype):
    x, kernel, _, how = case("filter", geometry)
    inputs = [leaf(*shape, dtype=dtype) for shape in (x, kernel)]
    assert torch.autograd.gradgradcheck(mapped("corr2d", how), inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("geometry", ["constant", "wrap", "stride and dilation"])
def test_second_derivatives_of_every_kind(kind, geometry):
    x, kernel, bias, how = case(kind, geometry)
    function = mapped("conv2d", how)
    inputs = [leaf(*shape) for shape in (x, kernel, *((bias,) if bias else ()))]
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs, check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("n", [1, 3])
def test_second_derivatives_in_one_and_three_dimensions(n):
    inputs = [leaf(1, 2, *(3,) * n), leaf(2, 2, *(2,) * n), leaf(2)]
    function = mapped(f"corr{n}d", {"mode": "same", "boundary": "symmetric"})
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


@pytest.mark.parametrize("conjugate", [False, True])
@pytest.mark.parametrize(
    "dtypes",
    list(product((torch.float64, torch.complex128), repeat=3))[1:-1],
    ids=lambda kinds: "-".join("complex" if kind.is_complex else "real" for kind in kinds),
)
def test_a_real_operand_beside_a_complex_one_has_a_real_gradient(dtypes, conjugate):
    if dtypes[2].is_complex and not (dtypes[0].is_complex or dtypes[1].is_complex):
        pytest.skip("a complex bias of a real sum is an error")
    inputs = [leaf(*shape, dtype=dtype) for shape, dtype in zip(((2, 3, 4), (2, 2, 2, 2), (2,)), dtypes, strict=True)]
    function = mapped("conv2d", {"conjugate": conjugate, "padding": 1, "boundary": "reflect"})
    assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(function, inputs)
    for value, gradient in zip(inputs, torch.autograd.grad(function(*inputs).abs().sum(), inputs), strict=True):
        assert gradient.dtype == value.dtype


@pytest.mark.parametrize("name", ["corr2d", "conv2d"])
def test_the_gradient_functions_are_differentiable_themselves(name):
    how = {"stride": 2, "padding": 1, "fill_value": 3}
    x, kernel = leaf(2, 5, 4), leaf(3, 2, 2, 3)
    dy = random(*getattr(ce, name)(x, kernel, **how).shape).requires_grad_()
    grad_input, grad_kernel = getattr(ce, f"{name}_grad_input"), getattr(ce, f"{name}_grad_kernel")
    for function, inputs in (
        (lambda dy, kernel: grad_input(dy, kernel, x.shape, **how), (dy, kernel)),
        (lambda x, dy: grad_kernel(x, dy, kernel.shape, **how), (x, dy)),
    ):
        assert torch.autograd.gradcheck(function, inputs, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, inputs)


def test_third_derivatives():
    x, kernel = leaf(3, 4), leaf(2, 2)

    def curvature(x, kernel):
        y = ce.corr2d(x, kernel, mode="same", boundary="wrap") ** 3
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        return slope

    assert torch.autograd.gradgradcheck(curvature, (x, kernel))


def test_gradients_have_the_dtypes_of_their_operands():
    x, kernel, bias = (
        leaf(2, 4, 5, dtype=dtype) if i == 0 else leaf(*shape, dtype=dtype)
        for i, (shape, dtype) in enumerate((((), torch.float32), ((3, 2, 2, 2), torch.float64), ((3,), torch.float16)))
    )
    y = ce.corr2d(x, kernel, bias=bias)
    assert y.dtype == torch.float64
    y.sum().backward()
    assert (x.grad.dtype, kernel.grad.dtype, bias.grad.dtype) == (torch.float32, torch.float64, torch.float16)
    assert (x.grad.shape, kernel.grad.shape, bias.grad.shape) == (x.shape, kernel.shape, bias.shape)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_the_bias_of_a_filter_has_one_gradient(shape):
    bias = torch.tensor(0.5, dtype=torch.float64).reshape(shape).requires_grad_()
    ce.corr2d(random(3, 4, 5), random(2, 2), bias=bias).sum().backward()
    assert bias.grad.shape == shape and bias.grad.item() == 3 * 3 * 4


def test_bytes_and_a_float_kernel_train_the_kernel():
    x, kernel = torch.arange(20, dtype=torch.uint8).reshape(4, 5), leaf(2, 2, dtype=torch.float32)
    ce.corr2d(x, kernel).sum().backward()
    np.testing.assert_array_equal(kernel.grad, ce.corr2d_grad_kernel(x.numpy(), np.ones((3, 4), np.float32), (2, 2)))


def test_gradients_come_from_the_backend_that_was_asked(ran):
    x = leaf(6, 7)
    y = ce.corr2d(x, random(2, 2), backend="cython", workers=1)
    before = len(ran())
    y.sum().backward()
    assert before == 1 and len(ran()) == 2 and all(": cython (" in line for line in ran())


def test_only_what_a_gradient_needs_is_kept():
    x, kernel = random(4, 5), leaf(2, 2)
    assert [value is None for value in ce.corr2d(x, kernel).grad_fn.saved_tensors] == [False, True]
    assert [value is None for value in ce.corr2d(leaf(4, 5), random(2, 2)).grad_fn.saved_tensors] == [True, False]


def test_an_operand_changed_before_backward_is_found_out():
    x, kernel = random(4, 5), leaf(2, 2)
    y = ce.corr2d(x, kernel)
    x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# ---- torch.func and torch.compile


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["x", "kernel", "both", "bias"])
def test_vmap_is_a_loop(kind, where, ran):
    x_shape, kernel_shape, bias_shape, how = KINDS[kind]
    how = how | {"mode": "same", "boundary": "reflect"}
    if where == "bias" and not bias_shape:
        pytest.skip("has no bias")
    dims = {"x": (1, None, None), "kernel": (None, 0, None), "both": (0, 1, None), "bias": (None, None, 0)}[where]

    def stacked(shape, axis):
        return random(*shape[: axis or 0], *((3,) if axis is not None else ()), *shape[axis or 0 :])

    x, kernel, bias = (stacked(*pair) for pair in zip((x_shape, kernel_shape, bias_shape), dims, strict=True))
    arguments = (x, kernel, bias) if bias_shape else (x, kernel)
    dims = dims[: len(arguments)]
    function = mapped("corr2d", how)
    together = torch.vmap(function, dims)(*arguments)
    calls = len(ran())
    alone = [
        function(*(a if d is None else a.select(d, i) for a, d in zip(arguments, dims, strict=True))) for i in range(3)
    ]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=0)
    assert calls == (1 if where == "x" else 3)


@pytest.mark.parametrize("kind", ["filter, batch", "layer, batch and groups"])
def test_gradients_per_sample(kind):
    x_shape, kernel_shape, _, how = KINDS[kind]
    x, kernel = random(3, *x_shape), random(*kernel_shape)

    def loss(x, kernel):
        return (ce.corr2d(x, kernel, **how) ** 2).sum()

    for at in (0, 1):
        together = torch.vmap(torch.func.grad(loss, at), (0, None))(x, kernel)
        alone = torch.stack([torch.func.grad(loss, at)(one, kernel) for one in x])
        torch.testing.assert_close(together, alone, rtol=0, atol=0)


def test_hessian_by_any_way():
    x, kernel = random(3, 4), random(2, 2)

    def loss(kernel):
        return (ce.corr2d(x, kernel, mode="same", fill_value=1) ** 2).sum()

    wanted = torch.autograd.functional.hessian(loss, kernel)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x.numpy(), ((1, 0), (1, 0)), constant_values=1), (2, 2))
    np.testing.assert_allclose(wanted, 2 * np.einsum("ijab,ijcd->abcd", windows, windows), rtol=1e-12)
    for way in (
        torch.func.hessian(loss),
        torch.func.jacrev(torch.func.jacrev(loss)),
        torch.func.jacfwd(torch.func.grad(loss)),
    ):
        torch.testing.assert_close(way(kernel), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compile_breaks_the_graph_here_and_compiles_the_rest():
    x, kernel = leaf(5, 6), leaf(2, 3)

    def function(x, kernel):
        return (ce.corr2d(x.sin(), kernel, mode="same") * 2).cos().sum()

    torch._dynamo.reset()
    compiled = torch.compile(function, backend="aot_eager")
    wanted, got = function(x, kernel), compiled(x, kernel)
    torch.testing.assert_close(got, wanted, rtol=0, atol=0)
    for one, other in zip(torch.autograd.grad(got, (x, kernel)), torch.autograd.grad(wanted, (x, kernel)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(function, backend="aot_eager", fullgraph=True)(x, kernel)


def test_tensors_without_memory_are_refused():
    kernel = leaf(2, 2)
    y = ce.corr2d(random(3, 3), kernel)
    with pytest.raises(ce.InvalidProblem, match="is_grads_batched"):
        torch.autograd.grad(y, kernel, torch.ones(5, 2, 2, dtype=torch.float64), is_grads_batched=True)
    fake = importlib.import_module("torch._subclasses").FakeTensorMode()
    with fake, pytest.raises(ce.InvalidProblem, match="FakeTensor"):
        ce.corr2d(torch.ones(3, 3), [[1.0]])


# ---- layers


CONFIGURATIONS = {
    "plain": {},
    "no bias": {"bias": False},
    "stride": {"stride": 2, "padding": 1},
    "dilation": {"dilation": 2, "padding": 2},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4},
    "same": {"padding": "same"},
    "same, even": {"kernel_size": 4, "padding": "same"},
    "same, dilated, even": {"kernel_size": 2, "dilation": 3, "padding": "same", "padding_mode": "circular"},
    "valid": {"padding": "valid"},
    "reflect": {"padding": 2, "padding_mode": "reflect"},
    "replicate": {"padding": 2, "padding_mode": "replicate"},
    "circular": {"padding": 2, "padding_mode": "circular", "stride": 2},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_layers_are_torchs_within_the_bound(n, configuration):
    how = {"kernel_size": 3, "dtype": torch.float64} | CONFIGURATIONS[configuration]
    mine = getattr(adapter, f"Conv{n}d")(4, 8, **how)
    theirs = getattr(torch.nn, f"Conv{n}d")(4, 8, **how)
    assert isinstance(mine, type(theirs)) and repr(mine) == repr(theirs)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    mine.load_state_dict(theirs.state_dict())
    x = random(2, 4, *(7,) * n)
    width, dilation = how["kernel_size"], how.get("dilation", 1)
    total = dilation * (width - 1)
    padding = {"same": ((total // 2, total - total // 2),) * n, "valid": 0}.get(
        how.get("padding", 0), how.get("padding", 0)
    )
    reference = oracle.reference(
        f"corr{n}d",
        x.numpy(),
        mine.weight.detach().numpy(),
        bias=None if mine.bias is None else mine.bias.detach().numpy(),
        padding=padding,
        boundary=ours.BOUNDARIES[how.get("padding_mode", "zeros")],
        stride=how.get("stride", 1),
        dilation=dilation,
        groups=how.get("groups", 1),
    )
    bound = bounds.componentwise(reference)
    for layer in (mine, theirs):
        assert bounds.check(layer(x).detach().numpy(), reference, bound) <= 1


def test_an_input_without_batch():
    layer = adapter.Conv2d(2, 3, 3)
    x = random(2, 5, 6, dtype=torch.float32)
    torch.testing.assert_close(layer(x), layer(x[None])[0], rtol=0, atol=0)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_lazy_layer_becomes_ours(n, ran):
    layer = getattr(adapter, f"LazyConv{n}d")(4, kernel_size=2)
    assert layer(torch.ones(1, 3, *(5,) * n)).shape == (1, 4, *(4,) * n)
    assert type(layer) is getattr(adapter, f"Conv{n}d") and layer.in_channels == 3
    layer(torch.ones(1, 3, *(5,) * n))
    assert len(ran()) == 2


def test_layers_are_modules_like_any(tmp_path):
    layer = adapter.Conv2d(2, 3, (1, 2), padding_mode="reflect", padding=(0, 1))
    x = random(1, 2, 4, 5, dtype=torch.float32)
    torch.save(layer.state_dict(), tmp_path / "weights.pt")
    other = torch.nn.Conv2d(2, 3, (1, 2))
    other.load_state_dict(torch.load(tmp_path / "weights.pt"))
    assert torch.equal(other.weight, layer.weight)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
    assert layer.double()(x.double()).dtype == torch.float64


def test_a_small_network_trains_like_torchs():
    """The same steps from the same weights, in float64."""
    x, target = random(8, 1, 6, 6), random(8, 2)
    losses = []
    for nn in (ours, torch.nn):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 3, stride=2), nn.Flatten(), nn.Linear(8, 2)
        )
        net = net.double()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        trace = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), target)
            loss.backward()
            optimizer.step()
            trace.append(loss.item())
        losses.append(trace)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    assert losses[0][-1] < losses[0][0] / 2


def test_the_module_of_layers_is_torch_nn_else():
    assert ours.Linear is torch.nn.Linear and "Linear" in dir(ours) and "Conv2d" in dir(ours)
    assert ours.Conv2d is adapter.Conv2d is not torch.nn.Conv2d
    with pytest.raises(AttributeError, match=r"torch_nn.*Convolution"):
        _ = ours.Convolution


# ---- the book's notebook (Dive into Deep Learning, section 7.2), with other imports and without its own corr2d

IMPORTS = """
import torch
from convengine import corr2d
from convengine.interop import torch_nn as nn
"""
CELLS = [
    """
X = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
K = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
shown = corr2d(X, K)
""",
    """
class Conv2D(nn.Module):
    def __init__(self, kernel_size):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(kernel_size))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return corr2d(x, self.weight) + self.bias
""",
    """
X = torch.ones((6, 8))
X[:, 2:6] = 0
shown = X
""",
    "K = torch.tensor([[1.0, -1.0]])",
    """
Y = corr2d(X, K)
shown = Y
""",
    "shown = corr2d(X.t(), K)",
    """
# Construct a two-dimensional convolutional layer with 1 output channel and a
# kernel of shape (1, 2). For the sake of simplicity, we ignore the bias here
conv2d = nn.LazyConv2d(1, kernel_size=(1, 2), bias=False)

# The two-dimensional convolutional layer uses four-dimensional input and
# output in the format of (example, channel, height, width), where the batch
# size (number of examples in the batch) and the number of channels are both 1
X = X.reshape((1, 1, 6, 8))
Y = Y.reshape((1, 1, 6, 7))
lr = 3e-2  # Learning rate

for i in range(10):
    Y_hat = conv2d(X)
    l = (Y_hat - Y) ** 2
    conv2d.zero_grad()
    l.sum().backward()
    # Update the kernel
    conv2d.weight.data[:] -= lr * conv2d.weight.grad
    if (i + 1) % 2 == 0:
        print(f'epoch {i + 1}, loss {l.sum():.3f}')
""",
    "shown = conv2d.weight.data.reshape((1, 2))",
]
EDGES = [[0.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0]] * 6


def run_cells(cells, names):
    shown = []
    for cell in cells:
        names.pop("shown", None)
        exec(compile(cell, "<notebook>", "exec"), names)
        shown.append(names.get("shown"))
    return shown


def test_the_notebook_runs_on_our_engine(ran, capsys):
    torch.manual_seed(1)
    names = {}
    exec(IMPORTS, names)
    shown = run_cells(CELLS, names)
    assert "d2l" not in sys.modules
    assert shown[0].tolist() == [[19, 25], [37, 43]]
    assert shown[4].tolist() == EDGES and shown[5].tolist() == [[0] * 5] * 8
    assert isinstance(names["conv2d"], adapter.Conv2d)
    printed = capsys.readouterr().out.splitlines()
    losses = [float(line.rpartition(" ")[2]) for line in printed]
    assert [line.rpartition(",")[0] for line in printed] == [f"epoch {epoch}" for epoch in (2, 4, 6, 8, 10)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.1
    np.testing.assert_allclose(shown[-1], [[1, -1]], atol=0.1)
    lines = ran()  # three calls of corr2d; ten of the layer, and ten gradients of its kernel
    assert sum(line.startswith("forward") for line in lines) == 3 + 10
    assert sum(line.startswith("grad_kernel") for line in lines) == 10 and len(lines) == 23


@pytest.mark.parametrize("shape", [(1, 2), (2, 2)])
def test_the_notebooks_own_layer_trains_by_backward(ran, shape):
    """Its class Conv2D, with the bias as a parameter of the sum."""
    torch.manual_seed(0)
    names = {}
    exec(IMPORTS, names)
    run_cells(CELLS[:5], names)
    x, target = names["X"], ce.corr2d(names["X"], torch.tensor([[1.0, -1.0], [0.5, 0.0]])[: shape[0]])
    layer = names["Conv2D"](kernel_size=shape)
    before, losses = len(ran()), []
    for _ in range(40):
        loss = (layer(x) - target) ** 2
        layer.zero_grad()
        loss.sum().backward()
        layer.weight.data[:] -= 1e-2 * layer.weight.grad
        layer.bias.data[:] -= 1e-3 * layer.bias.grad
        losses.append(loss.sum().item())
    assert losses[-1] < losses[0] / 20 and len(ran()) - before == 80


# ---- the modules


@pytest.mark.parametrize("name", ["convengine.interop.torch", "convengine.interop.torch_nn"])
def test_the_examples_of_the_module_run(name):
    results = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert results.failed == 0 and results.attempted > 0
