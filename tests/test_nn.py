"""Layers and their state: held against the oracle and against definitions; PyTorch is not needed here."""

import pickle

import numpy as np
import pytest
from layer_cases import book, draw, hold, integers, ours, owed, row_sums
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import nn
from convengine.nn import state
from convengine.testing import check, componentwise, reference, unit_roundoff

KINDS = [(ndim, transposed) for transposed in (False, True) for ndim in (1, 2, 3)]
U = unit_roundoff("float64")


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
