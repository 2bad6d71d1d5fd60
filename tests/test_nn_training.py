"""Losses, optimizers and fits: held against definitions, exact solutions and the book's figures."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layer_cases import book, integers
from numpy.testing import assert_array_equal

import convengine as ce
from convengine import nn
from convengine.testing import unit_roundoff

U = unit_roundoff("float64")


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
