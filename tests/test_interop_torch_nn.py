"""The layers for torch, and the book's notebook on them."""

import copy
import importlib
import pickle
import sys

import numpy as np
import pytest
from torch_cases import random, torch

import convengine as ce
from convengine.testing import bounds, oracle

# functorch's own, where it first computes forward derivatives
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
adapter = importlib.import_module("convengine.interop.torch")
ours = importlib.import_module("convengine.interop.torch_nn")


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
