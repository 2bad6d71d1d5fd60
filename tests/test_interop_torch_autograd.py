"""Gradients of torch tensors: autograd of any order, torch.func, torch.compile."""

import importlib
from itertools import product

import numpy as np
import pytest
from torch_cases import BOUNDARIES, leaf, random, torch

import convengine as ce

# functorch's own, where it first computes forward derivatives
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


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
    # left out: all real; a complex bias of a real sum, which is an error; all complex
    list(product((torch.float64, torch.complex128), repeat=3))[2:-1],
    ids=lambda kinds: "-".join("complex" if kind.is_complex else "real" for kind in kinds),
)
def test_a_real_operand_beside_a_complex_one_has_a_real_gradient(dtypes, conjugate):
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


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        *product(("x", "kernel", "both"), KINDS),
        *(("bias", kind) for kind, (_, _, bias_shape, _) in KINDS.items() if bias_shape),
    ],
)
def test_vmap_is_a_loop(kind, where, ran):
    x_shape, kernel_shape, bias_shape, how = KINDS[kind]
    how = how | {"mode": "same", "boundary": "reflect"}
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
