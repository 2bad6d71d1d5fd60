"""Layers, losses, optimizer and fits beside PyTorch's: the same numbers, within proven bounds, and the same weights."""

import math

import numpy as np
import pytest
from layer_cases import THEIRS, draw, hold, ours, owed
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import nn

torch = pytest.importorskip("torch", reason="compares with PyTorch (pip install 'convengine[peers]')")

CONVOLUTIONS = {1: torch.nn.Conv1d, 2: torch.nn.Conv2d, 3: torch.nn.Conv3d}
TRANSPOSED = {1: torch.nn.ConvTranspose1d, 2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d}
KINDS = [(ndim, transposed) for transposed in (False, True) for ndim in (1, 2, 3)]


def module_like(layer, ndim):
    """PyTorch's module of the same words."""
    said = {
        "stride": layer.stride,
        "dilation": layer.dilation,
        "groups": layer.groups,
        "padding": tuple(before for before, _ in layer.padding),
        "bias": layer.bias is not None,
        "dtype": getattr(torch, layer.dtype.name),
    }
    if layer.transposed:
        said["output_padding"] = layer.output_padding
        return TRANSPOSED[ndim](layer.in_channels, layer.out_channels, layer.kernel_size, **said)
    said["padding_mode"] = THEIRS[layer.boundary[0]]
    return CONVOLUTIONS[ndim](layer.in_channels, layer.out_channels, layer.kernel_size, **said)


def tensors(state):
    return {name: torch.from_numpy(array) for name, array in state.items()}


def theirs(module, x, dy):
    """What PyTorch gives for one pass there and back."""
    x = torch.tensor(x, requires_grad=True)
    module.zero_grad()
    y = module(x)
    y.backward(torch.tensor(dy))
    grads = {f"{name}_grad": parameter.grad.numpy() for name, parameter in module.named_parameters()}
    return {"y": y.detach().numpy(), "dx": x.grad.numpy()} | grads


@pytest.mark.parametrize(("ndim", "transposed"), KINDS)
def test_both_are_within_the_bounds_of_the_oracle(ndim, transposed):
    rng = np.random.default_rng([7, ndim, transposed])
    with ce.options(strict=True):  # componentwise bounds alone
        for _ in range(100):
            case = draw(rng, ndim, transposed, symmetric=True)
            layer = case.layer()
            x = case.values(case.x_shape)
            dy = case.values(layer(x).shape)
            module = module_like(layer, ndim)
            module.load_state_dict(tensors(layer.state_dict()))
            owes, name = owed(case, layer, x, dy), f"{layer!r} on {x.shape}"
            hold(owes, ours(layer, x, dy), f"convengine, {name}")
            hold(owes, theirs(module, x, dy), f"PyTorch, {name}")


@pytest.mark.parametrize(("ndim", "transposed"), KINDS)
def test_first_weights_have_pytorchs_reach(ndim, transposed):
    torch.manual_seed(0)
    layer = getattr(nn, f"Conv{'Transpose' * transposed}{ndim}D")(24, 3, groups=2, in_channels=16, rng=0)
    module = module_like(layer, ndim)
    for name, drawn in layer.state_dict().items():
        same = module.state_dict()[name].numpy()
        assert (drawn.shape, drawn.dtype) == (same.shape, same.dtype)
        # Uniform numbers: the largest of n falls short of the reach by less than 6/n of it, but for one time in 400.
        reach = 1 / math.sqrt(math.prod(layer.weight.shape[1:]))
        for values in (drawn, same):
            assert (1 - 6 / values.size) * reach < np.abs(values).max() <= np.float32(reach)


def both_networks():
    net = nn.Sequential(
        nn.Conv2D(4, 3, padding=1, rng=0, dtype=np.float64),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Sequential(
            nn.ConvTranspose2D(3, 2, stride=2, rng=1, dtype=np.float64), nn.AvgPool2D(3, stride=2, padding=1)
        ),
        nn.Flatten(),
        nn.Linear(5, rng=2, dtype=np.float64),
    )
    module = torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 3, 2, stride=2), torch.nn.AvgPool2d(3, stride=2, padding=1)),
        torch.nn.Flatten(),
        torch.nn.Linear(48, 5),
    ).double()
    return net, module


def test_weights_go_both_ways():
    net, module = both_networks()
    x = np.random.default_rng(0).standard_normal((3, 2, 8, 8))
    net.load_state_dict(module.state_dict())  # before the first pass: the state says how many inputs there are
    assert list(net.state_dict()) == list(module.state_dict())
    for name, array in net.state_dict().items():
        assert_array_equal(array, module.state_dict()[name].numpy())
    net(x)
    other, target = both_networks()
    other(x)
    target.load_state_dict(tensors(other.state_dict()))
    for name, array in other.state_dict().items():
        assert_array_equal(array, target.state_dict()[name].numpy())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(3, dtype=torch.bfloat16), "bias must be an array of numbers; got Tensor"),
        (torch.zeros(3, requires_grad=True), "bias must be an array of numbers; got Tensor"),
        (torch.zeros(4), r"bias must have shape \(3\); got \(4,\)"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(value, words):
    with pytest.raises(ce.InvalidProblem, match=words):
        nn.Conv2D(3, 2).load_state_dict({"weight": torch.zeros(3, 1, 2, 2), "bias": value})


def test_training_a_network_takes_the_same_path():
    net, module = both_networks()
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((6, 2, 8, 8)), rng.integers(0, 5, 6)
    net(x)
    module.load_state_dict(tensors(net.state_dict()))
    descent = nn.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(20):
        loss, gradient = nn.softmax_cross_entropy(net(x), labels)
        net.zero_grad()
        net.backward(gradient)
        descent.step()
        optimizer.zero_grad()
        their_loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(labels))
        their_loss.backward()
        optimizer.step()
        losses.append(loss)
        assert abs(loss - their_loss.item()) < 1e-5
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("pool", ["max", "average"])
def test_pooling_of_random_windows(pool):
    rng = np.random.default_rng(1)
    make, make_theirs = {"max": (nn.MaxPool2D, torch.nn.MaxPool2d), "average": (nn.AvgPool2D, torch.nn.AvgPool2d)}[pool]
    for _ in range(100):
        size = tuple(map(int, rng.integers(1, 4, 2, endpoint=True)))
        stride, padding = tuple(map(int, rng.integers(1, 4, 2))), tuple(int(rng.integers(0, k // 2 + 1)) for k in size)
        said = {"stride": stride, "padding": padding}
        layer, module = make(size, **said), make_theirs(size, **said)
        # Whole numbers, many of them equal, so that sums are exact; the mean is their one division.
        x = torch.tensor(rng.integers(-3, 4, (2, 3, *rng.integers(4, 9, 2))).astype(np.float64), requires_grad=True)
        y = module(x)
        dy = rng.integers(-8, 9, y.shape) * float(math.prod(size))
        y.backward(torch.tensor(dy))
        assert_array_equal(layer(x.detach().numpy()), y.detach().numpy())
        assert_array_equal(layer.backward(dy), x.grad.numpy())


def test_max_pooling_of_nan_is_pytorchs():
    rng = np.random.default_rng(2)
    x = rng.integers(-3, 4, (2, 1, 9, 9)).astype(np.float64)
    x[rng.random(x.shape) < 0.2] = np.nan
    layer, tensor = nn.MaxPool2D(3, stride=2, padding=1), torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.max_pool2d(tensor, 3, 2, 1)
    y.backward(torch.ones_like(y))
    assert_array_equal(layer(x), y.detach().numpy())
    assert_array_equal(layer.backward(np.ones(y.shape)), tensor.grad.numpy())


def test_the_rectifier_of_nan_and_zeros_is_pytorchs():
    x = np.array([-1.0, -0.0, 0.0, 2.0, np.nan, np.inf, -np.inf])
    layer, tensor = nn.ReLU(), torch.tensor(x, requires_grad=True)
    y = torch.relu(tensor)
    y.backward(torch.arange(1.0, 8.0, dtype=torch.float64))
    assert_array_equal(layer(x), y.detach().numpy())
    assert_array_equal(layer.backward(np.arange(1.0, 8.0)), tensor.grad.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_books_loss_trace_is_pytorchs(dtype):
    """From one first weight: the loop of the book, and fit_kernel."""
    x = torch.ones((6, 8), dtype=getattr(torch, dtype))
    x[:, 2:6] = 0
    y = (x[:, :-1] - x[:, 1:]).reshape(1, 1, 6, 7)
    torch.manual_seed(0)
    conv2d = torch.nn.LazyConv2d(1, kernel_size=(1, 2), bias=False, dtype=x.dtype)
    losses, lr = [], 3e-2
    for step in range(10):
        y_hat = conv2d(x.reshape(1, 1, 6, 8))
        if step == 0:
            first = conv2d.weight.detach().numpy().reshape(1, 2).copy()
        loss = (y_hat - y) ** 2
        conv2d.zero_grad()
        loss.sum().backward()
        conv2d.weight.data[:] -= lr * conv2d.weight.grad
        losses.append(loss.sum().item())
    fit = nn.fit_kernel(x.numpy(), y.numpy()[0, 0], (1, 2), lr=lr, initial=first, dtype=dtype)
    assert fit.kernel.dtype == dtype
    assert np.abs(np.subtract(fit.losses, losses)).max() < 1e-5
    assert np.abs(fit.kernel - conv2d.weight.detach().numpy()[0, 0]).max() < 1e-5
