"""Weights: how they are drawn, set, saved and loaded; what does not fit changes nothing."""

import pickle

import numpy as np
import pytest
from layer_cases import X, book, network
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import nn
from convengine.nn import state

# First values


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
