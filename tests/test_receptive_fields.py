"""Receptive fields of stacks of layers, against what moves the result."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import convengine as ce
from convengine import analysis, gradients, nn
from convengine.boundary import Boundary


def run_layers(layers, x):
    """A stack along the last axis, every weight 1, by the engine."""
    for layer in layers:
        ones = np.ones(layer.kernel_size, np.int64)
        how = {name: getattr(layer, name) for name in ("stride", "dilation", "padding", "boundary")}
        if layer.transposed:
            (wide,) = analysis.transposed_shape(
                x.shape[-1], layer.kernel_size, op="corr1d", output_padding=layer.output_padding, **how
            )
            x = gradients.corr1d_grad_input(x, ones, (len(x), wide), axes=-1, **how)
        else:
            x = ce.corr1d(x, ones, axes=-1, **how)
        x = np.minimum(x, 1)  # seen or not, however often
    return x


def influence(layers, size):
    """Whether sample k reaches result i: [k, i], by moving one sample after the other."""
    return run_layers(layers, np.eye(size, dtype=np.int64)) > 0


@st.composite
def stacks(draw):
    """Layers along one axis, of every kind."""
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        stride, transposed = draw(st.integers(1, 3)), draw(st.booleans())
        layers.append(
            analysis.Window(
                kernel_size=draw(st.integers(1, 4)),
                stride=stride,
                dilation=draw(st.integers(1, 3)),
                padding=[(draw(st.integers(0, 2)), draw(st.integers(0, 2)))],
                transposed=transposed,
                output_padding=draw(st.integers(0, stride - 1)) if transposed else 0,
                boundary=draw(st.sampled_from(Boundary)),
            )
        )
    return layers


@given(stacks(), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_samples_within_an_input_are_those_that_move_the_result(layers, size):
    field = analysis.receptive_field(layers)
    try:
        seen = influence(layers, size)
    except ce.InvalidProblem:  # the input is too small for the layers
        with pytest.raises(ce.InvalidProblem):
            field.samples(0, size)
        return
    for index in range(seen.shape[1]):
        (samples,), (interval,) = field.samples(index, size), field.interval((index,), (size,))
        np.testing.assert_array_equal(samples, np.flatnonzero(seen[:, index]))
        assert list(interval) == (list(range(samples[0], samples[-1] + 1)) if len(samples) else [])
    with pytest.raises(ce.InvalidProblem, match=f"index must be 0 .. {seen.shape[1] - 1} .* got {seen.shape[1]}"):
        field.samples(seen.shape[1], size)


@given(stacks())
@settings(max_examples=60, deadline=None)
def test_an_input_without_ends_is_the_middle_of_a_long_one(layers):
    field = analysis.receptive_field(layers)
    size = 150
    assume(field.size[0] <= size / 3)  # else the middle sees the ends
    seen = influence(layers, size)
    (jump,), (offset,) = field.jump, field.offset
    middle = [i for i in range(seen.shape[1]) if size / 3 < offset + jump * i < 2 * size / 3]
    lengths = []
    for index in middle:
        (samples,) = field.samples(index)
        np.testing.assert_array_equal(samples, np.flatnonzero(seen[:, index]))
        if len(samples):
            lengths.append(samples[-1] - samples[0] + 1)
            if not any(layer.transposed for layer in layers):
                assert Fraction(int(samples[0] + samples[-1]), 2) == offset + jump * index
    period = np.prod([layer.stride for layer in layers if layer.transposed], dtype=int)
    if len(middle) > period:
        assert field.size == (max(lengths, default=0),)
        for index in middle[:-period]:
            there = field.samples(index + period)[0]
            np.testing.assert_array_equal(there, field.samples(index)[0] + int(jump * period))


@given(stacks())
@settings(max_examples=50, deadline=None)
def test_a_stack_and_its_adjoint_are_centred(layers):
    """A.H @ A is symmetric, so that its results lie where they see."""
    adjoint = [replace(layer, transposed=not layer.transposed) for layer in reversed(layers)]
    field = analysis.receptive_field([*layers, *adjoint])
    assert (field.jump, field.offset) == ((1,), (0,))


@pytest.mark.parametrize(
    ("size", "stride", "before"), [(2, 2, 0), (4, 2, 1), (3, 2, 1), (5, 3, 2), (3, 3, 0), (7, 2, 6)]
)
def test_fields_of_a_transposed_layer_lie_about_their_centres(size, stride, before):
    field = analysis.receptive_field([analysis.Window(size, stride, padding=before, transposed=True)])
    intervals = [field.interval(index)[0] for index in range(stride)]
    middles = [Fraction(seen[0] + seen[-1], 2) for seen in intervals]
    assert field.jump == (Fraction(1, stride),)
    assert sum(middles) / stride == field.offset[0] + field.jump[0] * Fraction(stride - 1, 2)
    assert field.size == (max(map(len, intervals)),) == (-(-size // stride),)


def test_known_fields():
    for k in (3, 5):
        assert analysis.receptive_field([(k,)]).size == (k,)
        assert analysis.receptive_field([(k,), (k,)]).size == (2 * k - 1,)
    resnet = [(7, 2, 1, 3), (3, 2, 1, 1)]
    for stage, blocks in enumerate((2, 2, 2, 2)):
        for block in range(blocks):
            resnet += [(3, 2 if stage and not block else 1, 1, 1), (3, 1, 1, 1)]
    field = analysis.receptive_field(resnet)
    assert (field.size, field.jump, field.offset) == ((435,), (32,), (0,))  # ResNet-18, as published
    assert field.interval(3) == (range(3 * 32 - 217, 3 * 32 + 218),)


def test_axes_go_apart():
    field = analysis.receptive_field([((3, 5), (1, 2), 1, [(1, 1), (0, 3)]), analysis.Window((1, 2), (1, 2))])
    assert field.size == (3, 7)
    assert field.jump == (1, 4)
    assert field.offset == (0, 3)
    assert field.interval((2, 1)) == (range(1, 4), range(4, 11))
    assert field.interval((0, 1), (5, 9)) == (range(2), range(4, 9))
    assert " ".join(repr(field).splitlines()[1].split()) == "conv 3, 5 1, 2 1, 1 1, 0+3 3, 5 1, 2 0, 2"


def network():
    return nn.Sequential(
        nn.Conv2D(3, (3, 4), stride=(1, 2), padding=((1, 0), (2, 1)), boundary=("reflect", "constant"), rng=0),
        nn.ReLU(),
        nn.Sequential(nn.AvgPool2D((1, 2)), nn.Conv2D(2, (3, 2), dilation=(2, 1), rng=1)),
        nn.ConvTranspose2D(1, (2, 3), stride=(1, 2), padding=(0, 1), output_padding=(0, 1), rng=2),
    )


def test_layers_of_nn():
    """By the gradient of one result, with all weights positive, so that no path is lost to another or to a ReLU."""
    net = network()
    x = np.ones((1, 14, 21), np.float32)
    y = net(x)
    for parameter in net.parameters().values():
        parameter.value[...] = 1
    y = net(x)
    field = analysis.receptive_field(net)
    assert [layer.name for layer in field.layers] == ["Conv2D", "AvgPool2D", "Conv2D", "ConvTranspose2D"]
    for place in np.ndindex(*y.shape[1:]):
        dy = np.zeros_like(y)
        dy[(0, *place)] = 1
        net(x)
        rows, columns = field.samples(place, x.shape[1:])
        seen = np.zeros(x.shape[1:], bool)
        seen[np.ix_(rows, columns)] = True
        np.testing.assert_array_equal(net.backward(dy)[0] != 0, seen)
    with pytest.raises(ce.InvalidProblem, match=r"layers\[1\] must be a layer with a kernel_size.* got Flatten"):
        analysis.receptive_field(nn.Sequential(net, nn.Flatten(), nn.Linear(3)))
    assert analysis.receptive_field(net.layers[0]).size == (3, 4)


def test_layers_of_torch():
    torch = pytest.importorskip("torch", reason="reads layers of torch")
    net = torch.nn.Sequential(
        torch.nn.Conv1d(1, 2, 5, stride=2, padding=4, dilation=2, padding_mode="circular"),
        torch.nn.BatchNorm1d(2),
        torch.nn.ReLU(),
        torch.nn.MaxPool1d(2),
        torch.nn.ConvTranspose1d(2, 1, 4, stride=3, padding=1, output_padding=2),
    )
    ours = [
        analysis.Window(5, 2, 2, 4, boundary="wrap", name="Conv1d"),
        analysis.Window(2, 2, name="MaxPool1d"),
        analysis.Window(4, 3, padding=1, transposed=True, output_padding=2, name="ConvTranspose1d"),
    ]
    for x_shape in (None, 23):
        for index in range(10):
            theirs, wanted = (analysis.receptive_field(stack).samples(index, x_shape) for stack in (net, ours))
            np.testing.assert_array_equal(theirs, wanted)
    assert repr(analysis.receptive_field(net)) == repr(analysis.receptive_field(ours))


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_in_words_of_torch(padding):
    """By the gradient of one result, as for layers of nn."""
    torch = pytest.importorskip("torch", reason="reads layers of torch")
    layer = torch.nn.Conv1d(1, 1, 4, dilation=3, padding=padding, padding_mode="circular", bias=False)
    torch.nn.init.ones_(layer.weight)
    x = torch.zeros(1, 1, 13, requires_grad=True)
    y = layer(x)
    field = analysis.receptive_field([layer])
    for place in range(y.shape[-1]):
        (seen,) = torch.autograd.grad(y[0, 0, place], x, retain_graph=True)
        np.testing.assert_array_equal(field.samples(place, 13)[0], np.flatnonzero(seen[0, 0].numpy()))


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ([], r"at least one layer with a kernel; got \[\]"),
        ([3], r"layers\[0\] must be .* got int"),
        ([(3, 1), [(3,), "conv"]], r"layers\[1\]\[1\] must be .* got str"),
        ([(3, 1, 1, 0, 5)], r"got \(3, 1, 1, 0, 5\) as layers\[0\]"),
        ([()], r"got \(\) as layers\[0\]"),
        ([((3, 3),), ((3, 3, 3),)], r"same number of spatial axes; got \[2, 3\]"),
        ([(0,)], "kernel_size must be at least 1; got 0"),
        ([(3, 0)], "stride must be at least 1; got 0"),
        ([(3, 1, 1, -1)], "padding must be at least 0; got -1"),
        ([(3, 1, 1, "same")], "padding must be integers; got 'same'"),
        ([analysis.Window(3, transposed="yes")], "transposed must be True or False; got 'yes'"),
        ([analysis.Window(3, boundary="mirror")], "'mirror'"),
    ],
)
def test_receptive_field_refuses_with_values(layers, text):
    with pytest.raises(ce.InvalidProblem, match=text):
        analysis.receptive_field(layers)


def test_samples_refuse_with_values():
    field = analysis.receptive_field([((3, 3), 2)])
    with pytest.raises(ce.InvalidProblem, match="index must be an integer or 2 of them"):
        field.samples((1, 2, 3))
    with pytest.raises(ce.InvalidProblem, match="index must be at least 0; got -1"):
        field.interval(-1)
    with pytest.raises(ce.InvalidProblem, match=r"got kernel \(3,\) and x \(2,\)"):
        field.interval((0, 0), (9, 2))
