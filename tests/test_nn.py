"""Layers, losses and fits: held against the oracle and against definitions; PyTorch is not needed here."""

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layer_cases import draw, hold, ours, owed, row_sums
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import nn
from convengine.nn import state
from convengine.testing import check, componentwise, reference, unit_roundoff

KINDS = [(ndim, transposed) for transposed in (False, True) for ndim in (1, 2, 3)]
U = unit_roundoff("float64")


def book():
    """A picture of the book, and its edges."""
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    return x, x[:, :-1] - x[:, 1:]


def integers(rng, shape):
    """Small whole numbers as floats: sums of their products are exact."""
    return rng.integers(-8, 9, shape).astype(np.float64)


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


# Weights


@pytest.mark.parametrize(
    ("make", "x_shape", "fan_in"),
    [
        (lambda rng: nn.Conv2D(64, 3, groups=2, rng=rng), (8, 5, 5), 4 * 9),
        (lambda rng: nn.Conv1D(64, 5, rng=rng), (8, 9), 8 * 5),
        (lambda rng: nn.ConvTranspose2D(64, 3, groups=2, rng=rng), (8, 5, 5), 32 * 9),
        (lambda rng: nn.Linear(64, rng=rng), (3, 50), 50),
    ],
)
def test_first_weights_are_uniform_within_one_over_the_root_of_fan_in(make, x_shape, fan_in):
    layer, again = make(7), make(np.random.default_rng(7))
    for one in (layer, again):
        one(np.zeros(x_shape, np.float32))
    reach = np.float32(1 / np.sqrt(fan_in))
    for name in ("weight", "bias"):
        drawn = getattr(layer, name)
        assert np.abs(drawn).max() <= reach
        assert drawn.max() > 0.8 * reach
        assert drawn.min() < -0.8 * reach
        assert_array_equal(drawn, getattr(again, name))
    # Hoeffding: the mean of n numbers within +-reach passes 4 * reach / sqrt(n) once in 3000 seeds.
    assert abs(layer.weight.mean()) < 4 * reach / np.sqrt(layer.weight.size)


def test_eager_and_lazy_layers_draw_the_same_weights():
    lazy, eager = nn.Conv2D(4, 3, rng=3), nn.Conv2D(4, 3, in_channels=2, rng=3)
    lazy(np.zeros((2, 5, 5)))
    for name, value in eager.state_dict().items():
        assert_array_equal(lazy.state_dict()[name], value)


def test_weights_that_were_set_are_not_drawn_again():
    layer = nn.Conv2D(1, (1, 2), rng=0)
    layer.weight = [[[[1, -1]]]]
    layer.bias = np.float64([0.5])
    assert layer.in_channels == 1
    assert layer.weight.dtype == np.float32
    x, y = book()
    assert_array_equal(layer(x[None])[0], y + 0.5)
    kept = layer.weight
    layer.weight -= 1
    assert layer.weight is kept
    assert_array_equal(kept, [[[[0, -2]]]])


@pytest.mark.parametrize(
    ("make", "too_small", "right"),
    [
        (lambda: nn.Conv2D(4, 5, rng=0), (28, 28, 1), (1, 28, 28)),  # channels last, by mistake
        (lambda: nn.Conv2D(4, (3, 2), stride=2, padding=((1, 0), 0), dilation=2, rng=0), (2, 3, 9), (3, 4, 3)),
        (lambda: nn.ConvTranspose1D(4, 3, padding=3, rng=0), (2, 4), (3, 5)),
    ],
)
def test_a_first_x_that_does_not_fit_has_no_say_in_the_channels(make, too_small, right):
    layer, other = make(), make()
    with pytest.raises(ce.InvalidProblem, match=r"x.*; in Conv"):
        layer(np.zeros(too_small))
    assert layer.in_channels is None
    x = np.ones(right, np.float32)
    assert_array_equal(layer(x), other(x))


# State


def network():
    inner = nn.Sequential(nn.ReLU(), nn.ConvTranspose2D(2, 2, bias=False, rng=1))
    return nn.Sequential(nn.Conv2D(3, 2, rng=0), inner, nn.Flatten(), nn.Linear(4, rng=2))


X = np.random.default_rng(5).standard_normal((2, 1, 4, 4)).astype(np.float32)


def test_state_has_pytorchs_names_and_is_a_copy():
    net = network()
    y = net(X)
    saved = net.state_dict()
    assert list(saved) == ["0.weight", "0.bias", "1.1.weight", "3.weight", "3.bias"]
    saved["0.weight"][...] = 0
    assert_array_equal(net(X), y)


@pytest.mark.parametrize("warm", [False, True])
def test_state_goes_through_a_file(tmp_path, warm):
    net, other = network(), network()
    y = net(X)
    net.save(tmp_path / "weights")
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    if warm:
        other(X)
        other[0].weight += 1
    other.load(str(tmp_path / "weights"))
    assert_array_equal(other(X), y)
    assert_array_equal(pickle.loads(pickle.dumps(net))(X), y)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    net = network()
    y = net(X)
    net.save(tmp_path / "net.npz")

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        net.save(tmp_path / "net.npz")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    net[0].weight = 0 * net[0].weight
    net.load(tmp_path / "net.npz")
    assert_array_equal(net(X), y)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_a_file_that_is_no_state_is_refused(tmp_path, content):
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    with pytest.raises(ce.InvalidProblem, match=r"net\.npz must be an \.npz file of named arrays"):
        network().load(path)
    np.save(tmp_path / "one.npy", X)
    with pytest.raises(ce.InvalidProblem, match="one array without a name"):
        network().load(tmp_path / "one.npy")


def test_a_damaged_archive_is_refused(tmp_path):
    net = network()
    net(X)
    net.save(tmp_path / "net.npz")
    content = bytearray((tmp_path / "net.npz").read_bytes())
    place = content.index(b"NUMPY") + 100
    content[place] ^= 255
    (tmp_path / "net.npz").write_bytes(content)
    with pytest.raises(ce.InvalidProblem, match=r"must be an \.npz file of named arrays"):
        net.load(tmp_path / "net.npz")


@pytest.mark.parametrize("write", ["save", "savez_compressed"])
def test_every_damage_to_an_archive_is_told_as_such_and_changes_nothing(tmp_path, write):
    net = network()
    y = net(X)
    path = tmp_path / "net.npz"
    state = {name: array + 1 for name, array in net.state_dict().items()}
    if write == "save":
        net.load_state_dict(state)
        net.save(path)
    else:
        np.savez_compressed(path, **state)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for number in range(300):
        damaged = bytearray(whole)
        if number % 2:
            damaged = damaged[: rng.integers(len(whole))]
        else:
            damaged[rng.integers(len(whole))] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        net = network()
        net(X)
        try:
            net.load(path)
        except ce.InvalidProblem as error:
            assert "net.npz must be an .npz file of named arrays" in str(error)
            assert_array_equal(net(X), y)
        else:  # what was damaged is not looked at, such as a date
            for name, array in net.state_dict().items():
                assert_array_equal(array, state[name])


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        network().load(tmp_path / "none.npz")


def test_a_state_may_be_the_weights_themselves():
    net = nn.Sequential(*(nn.Linear(2, in_features=2, bias=False, rng=seed) for seed in (0, 1)))
    first, second = net.state_dict().values()
    net.load_state_dict({"0.weight": net[1].weight, "1.weight": net[0].weight})
    assert_array_equal(net[0].weight, second)
    assert_array_equal(net[1].weight, first)


def test_values_past_the_layers_dtype_change_nothing_where_warnings_are_errors():
    net = nn.Sequential(*(nn.Linear(1, in_features=1, bias=False, rng=seed) for seed in (0, 1)))
    saved = net.state_dict()
    with pytest.raises(RuntimeWarning, match="overflow"):
        net.load_state_dict({"0.weight": [[1.0]], "1.weight": [[1e300]]})
    for name, array in net.state_dict().items():
        assert_array_equal(array, saved[name])


def test_a_state_that_does_not_fit_changes_nothing():
    net = network()
    y = net(X)
    saved = {name: array + 1 for name, array in net.state_dict().items()}
    with pytest.raises(ce.InvalidProblem, match=r"missing: 0\.bias; unknown: 0\.biass"):
        net.load_state_dict({"0.biass" if name == "0.bias" else name: array for name, array in saved.items()})
    with pytest.raises(ce.InvalidProblem, match=r"3\.bias must have shape \(4\); got \(5,\)"):
        net.load_state_dict(saved | {"3.bias": np.zeros(5)})
    with pytest.raises(ce.InvalidProblem, match=r"3\.weight must be an array of real numbers; got dtype complex64"):
        net.load_state_dict(saved | {"3.weight": saved["3.weight"] * 1j})
    assert_array_equal(net(X), y)
    with pytest.raises(ce.InvalidProblem, match=r"weight must have shape \(3, any, 2, 2\); got \(2, 1, 2, 2\)"):
        nn.Conv2D(3, 2).load_state_dict({"weight": np.zeros((2, 1, 2, 2)), "bias": np.zeros(3)})
    with pytest.raises(ce.InvalidProblem, match=r"0\.weight has no values yet"):
        network().state_dict()


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


# Pooling, dense layers, ReLU


def drawn_pool(rng):
    size = tuple(map(int, rng.integers(1, 4, 2, endpoint=True)))
    stride = None if rng.integers(0, 2) else tuple(map(int, rng.integers(1, 3, 2, endpoint=True)))
    padding = tuple(tuple(map(int, rng.integers(0, k, 2))) for k in size)
    shape = (*map(int, rng.integers(1, 3, int(rng.integers(1, 3)))), *map(int, rng.integers(4, 9, 2)))
    return {"kernel_size": size, "stride": stride, "padding": padding}, shape


def windows(shape, pool):
    """(place in the result, index of its samples in x) for each window, from the definition."""
    ranges = []
    for n, k, s, (before, after) in zip(shape[-2:], pool.kernel_size, pool.stride, pool.padding, strict=True):
        starts = range(-before, n + after - k + 1, s)
        ranges.append([slice(max(start, 0), min(start + k, n)) for start in starts])
    for i, rows in enumerate(ranges[0]):
        for j, columns in enumerate(ranges[1]):
            yield (..., i, j), (..., rows, columns)


def test_max_pooling_takes_the_largest_of_each_window_and_sends_its_gradient_there():
    rng = np.random.default_rng(0)
    for _ in range(100):
        said, shape = drawn_pool(rng)
        pool = nn.MaxPool2D(**said)
        x = integers(rng, shape)  # with many equals
        if rng.integers(0, 3) == 0:
            x[rng.random(shape) < 0.1] = np.nan
        x[rng.random(shape) < 0.2] = -np.inf
        y = pool(x)
        dy = integers(rng, y.shape)
        dx = np.zeros(shape)
        for place, window in windows(shape, pool):
            samples = x[window].reshape(*shape[:-2], -1)
            assert_array_equal(y[place], samples.max(axis=-1))
            for channel in np.ndindex(*shape[:-2]):
                row = samples[channel]
                best = np.flatnonzero(np.isnan(row))[-1] if np.isnan(row).any() else row.argmax()
                there = np.unravel_index(best, x[window].shape[-2:])
                dx[channel][window[1:]][there] += dy[channel][place[1:]]
        assert_array_equal(pool.backward(dy), dx)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, np.float16])
def test_max_pooling_keeps_dtypes(dtype):
    x = np.array([[[0, 1, 0], [0, 0, 0]]], dtype)
    y = nn.MaxPool2D(2, stride=1, padding=1)(x)
    assert y.dtype == dtype
    assert_array_equal(y, np.array([[[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]], dtype))


def test_average_pooling_is_the_mean_with_zeros_beyond_the_edge():
    rng = np.random.default_rng(1)
    for _ in range(100):
        said, shape = drawn_pool(rng)
        pool = nn.AvgPool2D(**said)
        x = integers(rng, shape)
        y = pool(x)
        count = np.prod(pool.kernel_size)
        for place, window in windows(shape, pool):
            assert_array_equal(y[place], x[window].sum(axis=(-2, -1)) / count)  # sums of whole numbers are exact
        dy = integers(rng, y.shape) * count
        dx = np.zeros(shape)
        for place, window in windows(shape, pool):
            dx[window] += (dy[place] / count)[..., None, None]
        assert_array_equal(pool.backward(dy), dx)


def test_average_pooling_of_integers_gives_floats():
    assert_array_equal(nn.AvgPool2D(2)(np.array([[[250, 251], [252, 254]]], np.uint8)), [[[251.75]]])


def test_average_pooling_of_float16_is_rounded_once():
    x = np.full((1, 8, 8), 2000, np.float16)  # whose sum is past float16
    x[0, 0, 0] = 2016
    pool = nn.AvgPool2D(8)
    y = pool(x)
    assert y.dtype == np.float16
    assert_array_equal(y, [[[2000]]])  # 2000.25, where float16 has whole numbers
    dx = pool.backward(np.full((1, 1, 1), 2.0**-18, np.float16))
    assert dx.dtype == np.float16
    assert_array_equal(dx, np.full((1, 8, 8), 2.0**-24))
    four = nn.AvgPool2D(2, stride=1)
    four(np.zeros((1, 3, 3), np.float16))
    dx = four.backward(np.full((1, 2, 2), 2.0**-24, np.float16))
    assert_array_equal(dx[0, 1, 1], 2.0**-24)  # of four shares, each too small for float16


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


# The loss and the optimizer


def test_cross_entropy_and_its_gradient_within_their_roundings():
    rng = np.random.default_rng(3)
    for _ in range(50):
        n, classes = (int(size) for size in rng.integers(1, 9, 2))
        scores, labels = rng.standard_normal((n, classes)) * 10, rng.integers(0, classes, n)
        loss, gradient = nn.softmax_cross_entropy(scores, labels)
        wide = scores.astype(np.longdouble)
        shifted = wide - wide.max(axis=1, keepdims=True)
        shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
        truth = np.eye(classes, dtype=np.longdouble)[labels]
        # Each exponent is rounded by u * |shifted|, exp errs by 1 ulp = 2u, the sum by (classes - 1) * u, division,
        # subtraction and division by n by u each; all relative to numbers of at most 1.
        error = (np.abs(shifted).max() + 2 + classes - 1 + 3) * 2 * U
        assert np.abs(gradient - (shares - truth) / n).max() <= error / n
        wanted = -np.log(shares[np.arange(n), labels])
        assert abs(loss - wanted.mean()) <= (error + (n + 2) * U) * (1 + wanted.max())


def test_cross_entropy_does_not_overflow():
    loss, gradient = nn.softmax_cross_entropy(np.array([[1e30, 0.0], [-1e30, 0]], np.float32), [0, 1])
    assert loss == 0
    assert gradient.dtype == np.float32
    assert_array_equal(gradient, np.zeros((2, 2)))


def test_cross_entropy_of_float16_sums_in_float32():
    scores = np.zeros((1, 70_000), np.float16)  # 70 000 is past float16
    loss, gradient = nn.softmax_cross_entropy(scores, [0])
    assert abs(loss - np.log(70_000)) < 1e-5
    assert gradient.dtype == np.float16
    assert_array_equal(gradient[0, :2], np.array([-1 + 1 / 70_000, 1 / 70_000], np.float16))


@pytest.mark.parametrize("label", [0, 1])
def test_cross_entropy_of_scores_as_far_apart_as_can_be(label):
    """Nothing warns: infinity is the loss of a share of zero."""
    for scores in (np.array([[3e38, -3e38]], np.float32), np.array([[0, -np.inf]])):
        loss, gradient = nn.softmax_cross_entropy(scores, [label])
        assert loss == (np.inf if label else 0)
        assert_array_equal(gradient, [[1, -1]] if label else [[0, 0]])


def test_momentum_keeps_its_share_of_the_velocity():
    layer = nn.Linear(1, in_features=2, bias=False, dtype=np.float64)
    layer.weight = [[8.0, -8.0]]
    descent = nn.SGD(layer.parameters(), lr=0.5, momentum=0.25)
    value, velocity = np.array([[8.0, -8.0]]), np.zeros((1, 2))
    for gradient in ([[4.0, 2.0]], [[1.0, -2.0]], [[0.0, 8.0]]):
        layer.zero_grad()
        layer(np.array(gradient))
        layer.backward(np.array([[1.0]]))
        velocity = 0.25 * velocity + gradient
        value = value - 0.5 * velocity
        descent.step()
        assert_array_equal(layer.weight, value)  # powers of two: nothing is rounded


def test_an_optimizer_made_before_the_first_pass_moves_the_weights():
    net = nn.Sequential(nn.Conv2D(1, (1, 2), bias=False, rng=0))
    descent = nn.SGD(net.parameters(), lr=1)
    net(np.ones((1, 1, 2), np.float32))
    before = net[0].weight.copy()
    net.backward(np.ones((1, 1, 1)))
    descent.step()
    assert_array_equal(net[0].weight, before - 1)


# Kernels that are learned


def test_the_books_loop_learns_the_edge_detector():
    x, y = book()
    layer = nn.Conv2D(1, (1, 2), bias=False, rng=0)
    x, y = x.reshape(1, 1, 6, 8).astype(np.float32), y.reshape(1, 1, 6, 7)
    for _ in range(10):
        error = layer(x) - y
        layer.zero_grad()
        layer.backward(2 * error)
        layer.weight[:] -= 3e-2 * layer.weight_grad
    assert np.square(error).sum() < 0.1
    assert np.abs(layer.weight.reshape(2) - [1, -1]).max() < 0.05


def test_a_fit_by_descent_is_the_books():
    x, y = book()
    fit = nn.fit_kernel(x, y, (1, 2), lr=3e-2, rng=0)
    assert fit.losses[-1] < 0.1
    assert np.abs(fit.kernel - [[1, -1]]).max() < 0.05
    lines = fit.trace().splitlines()
    assert lines == [f"epoch {e}, loss {fit.losses[e - 1]:.3f}" for e in (2, 4, 6, 8, 10)]
    layer = nn.Conv2D(1, (1, 2), bias=False, in_channels=1, dtype=np.float64, rng=0)  # from the same first weights
    first = np.square(layer(x[None])[0] - y).sum()
    assert fit.losses[0] == first


def test_descent_from_a_given_kernel_takes_the_steps_of_the_definition():
    x, y = book()
    seen = []
    said = {"lr": 1 / 64, "initial": [[0, 0]], "epochs": 3, "bias": True}
    fit = nn.fit_kernel(x, y, (1, 2), **said, progress=lambda *at: seen.append(at))
    windows = np.stack([x[:, :-1].ravel(), x[:, 1:].ravel(), np.ones(42)], axis=1)
    unknown, losses = np.zeros(3), []
    for _ in range(3):
        error = windows @ unknown - y.ravel()
        losses.append(error @ error)
        unknown = unknown - 2 / 64 * windows.T @ error
    # Steps of 1/64 on whole numbers: no more than 30 bits are needed, and nothing is rounded.
    assert fit.losses == tuple(losses)
    assert_array_equal(fit.kernel.ravel(), unknown[:2])
    assert fit.bias == unknown[2]
    assert seen == list(enumerate(losses, start=1))


@pytest.mark.parametrize("level", [0, 1e4])  # above zero by far, windows are much alike: the curvature is at its bound
def test_descent_by_default_never_diverges(level):
    rng = np.random.default_rng(0)
    x = level + 1e3 * rng.standard_normal((2, 20, 20))
    y = ce.corr2d(x, rng.standard_normal((3, 3)), bias=7.0)
    fit = nn.fit_kernel(x, y, (3, 3), bias=True, epochs=200, rng=0)
    assert all(late <= early for early, late in zip(fit.losses, fit.losses[1:], strict=False))
    assert fit.losses[-1] < fit.losses[0] / 10


def test_descent_on_nothing_stays_where_it_is():
    fit = nn.fit_kernel(np.zeros((4, 4)), np.ones((3, 3)), (2, 2), initial=[[1, 2], [3, 4]])
    assert_array_equal(fit.kernel, [[1, 2], [3, 4]])
    assert fit.losses == (9.0,) * 10


@pytest.mark.parametrize("boundary", ["constant", "edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize(
    ("shape", "size", "how"),
    [
        ((40,), 5, {"mode": "full"}),
        ((3, 40), (4,), {"stride": 2, "padding": ((3, 1),)}),
        ((20, 21), (3, 4), {"mode": "same", "center": (0, 3)}),
        ((2, 15, 24), (2, 3), {"dilation": (2, 3), "mode": "same", "stride": (1, 2)}),
        ((6, 7, 8), 2, {}),
    ],
)
def test_least_squares_are_exact(shape, size, how, boundary, monkeypatch):
    rng = np.random.default_rng(4)
    monkeypatch.setattr(importlib.import_module("convengine.nn.fit"), "BLOCK", 500)  # so that there are several blocks
    kernel = integers(rng, (size,) * len(shape) if isinstance(size, int) else size)
    x = integers(rng, shape)
    n = kernel.ndim
    y = getattr(ce, f"corr{n}d")(x, kernel, boundary=boundary, bias=3.0, axes=tuple(range(-n, 0)), **how)
    fit = nn.fit_kernel(x, y, size, method="lstsq", bias=True, boundary=boundary, **how)
    assert fit.rank == kernel.size + 1
    # QR is backward stable: the error is u times the condition of these random windows (tens) times their number.
    assert np.abs(fit.kernel - kernel).max() < 1e-11
    assert abs(fit.bias - 3) < 1e-11
    assert fit.losses[0] < 1e-18 * np.square(y).sum()
    assert_array_equal(np.rint(fit.kernel), kernel)


def test_least_squares_find_the_best_where_none_is_exact():
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((12, 13)), rng.standard_normal((11, 12))
    fit = nn.fit_kernel(x, y, (2, 2), method="lstsq")
    for step in np.eye(4).reshape(4, 2, 2) * 1e-3:
        for sign in (1, -1):
            assert np.square(ce.corr2d(x, fit.kernel + sign * step) - y).sum() > fit.losses[0]


def test_least_squares_tell_what_x_does_not_determine():
    fit = nn.fit_kernel(np.ones((5, 5)), np.full((5, 4), 3.0), (1, 2), method="lstsq")
    assert fit.rank == 1
    np.testing.assert_allclose(fit.kernel, [[1.5, 1.5]], rtol=8 * U)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"y": np.zeros((6, 8))},
            r"y must have shape \(6, 7\), which x \(6, 8\) and a kernel \(1, 2\) give; got",
        ),
        ({"kernel_size": (7, 2)}, r"x must hold a window.*\(7, 2\); got \(6, 8\)"),
        ({"kernel_size": (1, 1, 1)}, r"kernel_size must name 1 to 3 axes of x \(6, 8\); got \(1, 1, 1\)"),
        ({"kernel_size": (1, 0)}, "kernel_size must be at least 1; got 0"),
        ({"method": "guess"}, "method must be 'gradient' or 'lstsq'; got 'guess'"),
        ({"lr": 0}, "lr needs a finite number > 0; got 0"),
        (
            {"lr": 1e3, "epochs": 500},
            r"lr=1000 is too large for this x: the loss is inf in epoch \d+; any up to 0.01",
        ),
        ({"epochs": 0}, "epochs needs a whole number >= 1; got 0"),
        (
            {"x": np.zeros(30_000), "y": np.zeros(20_001), "kernel_size": 10_000, "method": "lstsq"},
            "at most 8192 unknowns; got 10000, whose triangle alone takes 763 MiB; give a smaller kernel_size",
        ),
        ({"initial": [1, 2]}, r"initial must have the kernel's shape \(1, 2\); got \(2,\)"),
        ({"dtype": np.int32}, "dtype must be float32 or float64; got int32"),
        ({"x": np.full((6, 8), np.nan)}, r"x must hold finite numbers to learn from; got nan at \(0, 0\)"),
        ({"x": np.zeros((6, 8), complex)}, "x must be real"),
    ],
)
def test_fits_refuse_what_cannot_be_learned(change, words):
    x, y = book()
    with pytest.raises(ce.InvalidProblem, match=words):
        nn.fit_kernel(**({"x": x, "y": y, "kernel_size": (1, 2), "rng": 0} | change))


# The whole


def test_importing_the_layers_loads_neither_scipy_nor_torch():
    code = "import sys, convengine.nn; print([n for n in ('scipy', 'torch', 'convengine.testing') if n in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.fixture
def digits(monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn has the digits")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs" / "examples"))
    yield importlib.import_module("digits")
    sys.modules.pop("digits")


def test_a_small_network_learns_the_digits(digits):
    x, x_test, labels, labels_test = digits.pictures()
    assert (len(x), len(x_test)) == (1347, 450)
    results = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        net = digits.network(rng)
        losses = list(digits.train(net, x, labels, epochs=20, rng=rng))
        assert losses[-1] < losses[0] / 40
        results.append(digits.accuracy(net, x_test, labels_test))
    assert np.mean(results) >= 0.97, results
