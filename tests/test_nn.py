"""Layers, held against the oracle and against definitions; PyTorch is not needed here."""

import numpy as np
import pytest
from layer_cases import X, draw, hold, integers, network, ours, owed, row_sums
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import nn
from convengine.testing import check, componentwise, reference

KINDS = [(ndim, transposed) for transposed in (False, True) for ndim in (1, 2, 3)]


# Convolutional layers


@pytest.mark.parametrize(("ndim", "transposed"), KINDS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layers_are_what_the_oracle_says(ndim, transposed, dtype):
    rng = np.random.default_rng([ndim, transposed])
    with ce.options(strict=True):  # componentwise bounds alone
        for _ in range(100 if dtype == np.float64 else 20):
            case = draw(rng, ndim, transposed)
            layer = case.layer(dtype)
            x = case.values(case.x_shape, dtype)
            dy = case.values(layer(x).shape, dtype)
            hold(owed(case, layer, x, dy), ours(layer, x, dy), f"{layer!r} on {x.shape}")


@pytest.mark.parametrize(("ndim", "transposed"), KINDS)
def test_backward_is_the_exact_adjoint(ndim, transposed):
    rng = np.random.default_rng([ndim, transposed])
    for _ in range(20):
        case = draw(rng, ndim, transposed)
        layer = case.layer()
        x = integers(rng, case.x_shape)
        layer(x)
        layer.weight = integers(rng, layer.weight.shape)
        if layer.bias is not None:
            layer.bias = np.zeros(case.outputs)
        y = layer(x)
        dy = integers(rng, y.shape)
        dx = layer.backward(dy)
        assert np.sum(dy * y) == np.sum(dx * x) == np.sum(layer.weight * layer.weight_grad)


def test_gradients_add_up_until_they_are_set_to_zero():
    layer = nn.Conv1D(2, 2, in_channels=1, dtype=np.float64, rng=0)
    x, dy = np.array([[1.0, 2.0, 4.0]]), np.ones((2, 2))
    layer(x)
    layer.backward(dy)
    assert_array_equal(layer.weight_grad, [[[3, 6]], [[3, 6]]])
    layer.backward(2 * dy)
    assert_array_equal(layer.weight_grad, [[[9, 18]], [[9, 18]]])
    assert_array_equal(layer.bias_grad, [6, 6])
    layer.zero_grad()
    assert_array_equal(layer.weight_grad, np.zeros((2, 1, 2)))
    assert_array_equal(layer.bias_grad, np.zeros(2))


def test_attributes_say_how_the_windows_lie():
    layer = nn.Conv2D(4, 3, stride=(2, 1), padding=(1, (0, 2)), dilation=2, groups=2, boundary="edge")
    assert (layer.kernel_size, layer.stride, layer.dilation) == ((3, 3), (2, 1), (2, 2))
    assert (layer.padding, layer.groups, layer.boundary) == (((1, 1), (0, 2)), 2, ("edge", "edge"))
    assert (layer.transposed, layer.in_channels, layer.weight, layer.weight_grad) == (False, None, None, None)
    layer(np.zeros((6, 9, 9), np.float32))
    assert (layer.in_channels, layer.weight.shape) == (6, (4, 3, 3, 3))
    up = nn.ConvTranspose1D(4, 3, stride=2, output_padding=1, groups=2)
    assert (up.transposed, up.output_padding, up.in_channels) == (True, (1,), None)
    up(np.zeros((6, 5), np.float32))
    assert (up.in_channels, up.weight.shape) == (6, (6, 2, 3))
    assert "kernel_size=(3,), in_channels=6, stride=(2,), groups=2, output_padding=(1,)" in repr(up)
    dense = nn.Linear(2, in_features=3, bias=False, dtype=np.float64)
    assert repr(dense) == "Linear(2, in_features=3, bias=False, dtype=float64)"


def test_samples_of_other_dtypes_are_promoted_and_gradients_are_kept_in_the_layers():
    layer = nn.Conv2D(2, 3, rng=0)
    assert layer(np.zeros((1, 5, 5), np.uint8)).dtype == np.float32
    y = layer(np.ones((1, 5, 5)))
    assert y.dtype == np.float64
    assert layer.backward(np.ones(y.shape, int)).dtype == np.float64
    assert (layer.weight.dtype, layer.weight_grad.dtype, layer.bias_grad.dtype) == (np.float32,) * 3


@pytest.mark.parametrize("shape", [(2, 3, 6, 6), (3, 6, 6)])
def test_layers_take_strided_and_read_only_arrays(shape):
    rng = np.random.default_rng(0)
    layer = nn.Conv2D(2, 3, dtype=np.float64, rng=0)
    x = rng.standard_normal(shape)
    dy = rng.standard_normal(layer(x).shape)
    wanted = ours(layer, x, dy)
    wanted = {name: array.copy() for name, array in wanted.items()}
    turned = np.asfortranarray(x[..., ::-1])[..., ::-1]
    turned.flags.writeable = False
    for name, array in ours(layer, turned, np.asfortranarray(dy)).items():
        assert_array_equal(array, wanted[name])
    assert_array_equal(turned, x)


# Dense layers, ReLU, layers one after the other


def test_linear_layers_within_the_bound():
    rng = np.random.default_rng(2)
    for _ in range(50):
        batch, inputs, outputs = (int(n) for n in rng.integers(1, 9, 3))
        layer = nn.Linear(outputs, bias=bool(rng.integers(0, 2)), dtype=np.float64, rng=rng)
        x, dy = rng.standard_normal((batch, inputs)), rng.standard_normal((batch, outputs))
        given = ours(layer, x, dy)

        def product(a, b, bias=None):  # a @ b, as a layer of one sample
            sums = reference("corr1d", a[..., None], b.T[..., None], bias=bias)
            return sums, sums.value[..., 0]

        for name, (sums, _) in {
            "y": product(x, layer.weight.T, layer.bias),
            "dx": product(dy, layer.weight),
            "weight_grad": product(dy.T, x),
        }.items():
            check(given[name][..., None], sums, componentwise(sums))
        if layer.bias is not None:
            sums = row_sums(dy, 0)
            check(given["bias_grad"], sums, componentwise(sums))


def test_linear_layers_take_any_leading_axes():
    layer = nn.Linear(2, dtype=np.float64, rng=0)
    x = integers(np.random.default_rng(0), (4, 5, 3))
    y = layer(x)
    layer.backward(np.ones_like(y))
    flat = nn.Linear(2, dtype=np.float64, rng=0)
    assert_array_equal(flat(x.reshape(20, 3)).reshape(4, 5, 2), y)
    assert flat.backward(np.ones((20, 2))).shape == (20, 3)
    assert_array_equal(layer.weight_grad, flat.weight_grad)
    assert_array_equal(layer.bias_grad, [20, 20])


def test_the_rectifier_keeps_nan_and_blocks_what_is_not_positive():
    relu = nn.ReLU()
    x = np.array([-np.inf, -1, -0.0, 0, 2, np.inf, np.nan], np.float32)
    y = relu(x)
    assert y.dtype == np.float32
    assert_array_equal(y, [0, 0, 0, 0, 2, np.inf, np.nan])
    dx = relu.backward(np.array([np.nan, 1, 1, 1, 3, 4, 5], np.float32))
    assert dx.dtype == np.float32
    assert_array_equal(dx, [0, 0, 0, 0, 3, 4, 5])


def test_a_sequential_is_its_layers_one_after_the_other():
    net = network()
    y = net(X)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
    dx = net.backward(dy)
    grads = {name: parameter.grad.copy() for name, parameter in net.parameters().items()}
    x = X
    layers = [net[0], *net[1], net[2], net[3]]
    net.zero_grad()
    for layer in layers:
        x = layer(x)
    assert_array_equal(x, y)
    for layer in reversed(layers):
        dy = layer.backward(dy)
    assert_array_equal(dy, dx)
    for name, parameter in net.parameters().items():
        assert_array_equal(parameter.grad, grads[name])
    assert (len(net), next(type(layer).__name__ for layer in net)) == (4, "Conv2D")


# Errors


def used():
    layer = nn.Conv2D(4, 3, rng=0)
    layer(np.zeros((2, 3, 5, 5), np.float32))
    return layer


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: nn.Conv2D(4, 3).backward(np.zeros((4, 3, 3))), "backward needs a forward pass before it"),
        (lambda: used().backward(np.zeros((2, 4, 3, 4))), r"dy must have the shape \(2, 4, 3, 3\).*got \(2, 4, 3, 4\)"),
        (lambda: used()(np.zeros((1, 5, 5))), r"x must have 3 channels, channels first; got \(1, 5, 5\); in Conv2D\(4"),
        (lambda: used()(np.zeros((5, 5))), r"x must have shape \(C, H, W\) or \(N, C, H, W\); got \(5, 5\)"),
        (lambda: used()(np.zeros((3, 2, 2))), r"x, padded, must hold the kernel, dilated; got \(2, 2\); in Conv2D\(4"),
        (lambda: used()(np.zeros((3, 5, 5), complex)), "x must be real.*got complex128"),
        (lambda: used()(np.zeros((3, 5, 5), object)), "x has dtype object"),
        (lambda: nn.Conv1D(4, 3)(np.zeros((1, 2, 3, 4))), r"x must have shape \(C, W\) or \(N, C, W\)"),
        (
            lambda: nn.Conv2D(4, 3, groups=2)(np.zeros((3, 5, 5))),
            r"a positive multiple of groups=2 channels.*\(3, 5",
        ),
        (lambda: nn.Conv2D(3, 3, groups=2), "channels must be multiples of groups=2.*out_channels=3"),
        (lambda: nn.Conv2D(4, 3, groups=2, in_channels=3), "channels must be multiples of groups=2; got in_channels=3"),
        (lambda: nn.Conv2D(0, 3), "out_channels needs a whole number >= 1; got 0"),
        (lambda: nn.Conv2D(1, (3, 3, 3)), r"kernel_size must be an integer or 2 of them.*got \(3, 3, 3\)"),
        (lambda: nn.Conv2D(1, 3, padding="same"), "padding must be integers; got 'same'"),
        (lambda: nn.Conv2D(1, 3, boundary="circular"), "PyTorch's 'circular' is 'wrap' here"),
        (lambda: nn.Conv2D(1, 3, dtype=np.complex64), "dtype must be one of float16, float32, float64; got complex64"),
        (lambda: nn.Conv2D(1, 3, dtype="many"), "dtype must be one of float16, float32, float64; got 'many'"),
        (lambda: setattr(nn.Conv2D(1, 3, bias=False), "bias", [1]), "this layer has no bias to set"),
        (
            lambda: setattr(used(), "weight", np.zeros((4, 2, 3, 3))),
            r"weight must have shape \(4, 3, 3, 3\); got",
        ),
        (
            lambda: nn.ConvTranspose2D(1, 3, stride=2, output_padding=2),
            r"smaller than the stride, \(2, 2\).*got \(2",
        ),
        (lambda: nn.ConvTranspose1D(1, 3, padding=4)(np.zeros((1, 2))), r"large enough to leave a result; got \(2,\)"),
        (lambda: nn.Linear(3, in_features=4)(np.zeros((2, 5))), r"x must have shape \(\.\.\., 4\); got \(2, 5\)"),
        (lambda: nn.Flatten()(np.zeros(3)), r"got shape \(3,\)"),
        (lambda: nn.MaxPool2D(2, padding=2), r"padding must be smaller than the window.*windows of \(2, 2\)"),
        (lambda: nn.MaxPool2D(3)(np.zeros((1, 2, 5))), r"x must hold a window of \(3, 3\); got \(1, 2, 5\)"),
        (lambda: nn.AvgPool2D(3)(np.zeros((5, 5))), r"x must have shape \(C, H, W\) or \(N, C, H, W\); got \(5, 5\)"),
        (lambda: nn.Sequential(np.sin), "layer 0 must be a layer of convengine.nn; got <ufunc 'sin'>"),
        (lambda: nn.Sequential(*[nn.ReLU()] * 2), "a layer stands at two places"),
        (lambda: nn.SGD({}, lr=0.1), "parameters must be what layer.parameters"),
        (lambda: nn.SGD(used().parameters(), lr=-1), "lr needs a finite number >= 0; got -1"),
        (lambda: nn.SGD(nn.Conv2D(1, 3).parameters(), lr=1).step(), "weight, bias need a forward and a backward pass"),
        (lambda: nn.softmax_cross_entropy(np.zeros((2, 3)), [0, 3]), r"labels must be 0 \.\. 2.*got 0 \.\. 3"),
        (lambda: nn.softmax_cross_entropy(np.zeros((2, 3)), [0.0, 1.0]), r"scores \(2, 3\) and labels float64 \(2,\)"),
        (lambda: nn.softmax_cross_entropy(np.zeros((0, 3)), np.zeros(0, int)), r"got scores \(0, 3\)"),
    ],
)
def test_errors_say_what_was_needed_and_what_came(act, words):
    with pytest.raises(ce.InvalidProblem, match=words):
        act()


def test_an_error_in_a_network_names_the_layer():
    with pytest.raises(ce.InvalidProblem) as caught:
        network()(np.zeros((2, 1, 1, 1)))
    assert "at layer 0 of the Sequential, Conv2D(3, kernel_size=(2, 2)" in caught.value.__notes__[0]


def test_a_failed_forward_pass_leaves_nothing_to_go_back_through():
    layer = used()
    with pytest.raises(ce.InvalidProblem):
        layer(np.zeros((1, 5, 5)))
    with pytest.raises(ce.InvalidProblem, match="backward needs a forward pass"):
        layer.backward(np.zeros((2, 4, 3, 3)))
