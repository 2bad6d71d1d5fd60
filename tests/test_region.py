"""`region=`: the part of a result that is asked for, of the samples that it needs; as the slice of the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import convengine as ce

BOUNDARIES = ["constant", "edge", "reflect", "symmetric", "wrap"]


@st.composite
def parts(draw):
    """An operation on small integers, and slices of its result."""
    ndim = draw(st.integers(1, 3))

    def each(values):
        return draw(st.lists(values, min_size=ndim, max_size=ndim))

    shape = (*draw(st.sampled_from([(), (2,), (3, 1)])), *each(st.integers(1, 7)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    keywords = {
        "boundary": each(st.sampled_from(BOUNDARIES)),
        "fill_value": draw(st.sampled_from([0, 5])),
        "stride": each(st.integers(1, 3)),
        "dilation": each(st.integers(1, 2)),
        "axes": tuple(range(-ndim, 0)),
    }
    keywords |= draw(st.sampled_from([{"mode": "same"}, {"mode": "full"}, {"padding": [(9, 14)] * ndim}]))
    at = st.none() | st.integers(-15, 15)
    region = tuple(slice(draw(at), draw(at), draw(st.sampled_from([None, 1, 2, 5]))) for _ in range(ndim))
    x, kernel = rng.integers(-9, 9, shape), rng.integers(-3, 4, each(st.integers(1, 5)))
    return draw(st.sampled_from(["corr", "conv"])) + f"{ndim}d", x, kernel, keywords, region


@given(parts())
def test_a_region_is_the_slice_of_the_whole(part):
    name, x, kernel, keywords, region = part
    operation = getattr(ce, name)
    expected = operation(x, kernel, **keywords)[(..., *region)]
    result = operation(x, kernel, region=region, **keywords)
    assert_array_equal(result, expected)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    out = np.full_like(expected, 77)
    assert operation(x, kernel, region=region, out=out, **keywords) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize("last", [False, True])
def test_of_a_layer(last):
    rng = np.random.default_rng(0)
    x, kernel = rng.integers(-9, 9, (2, 3, 8, 9)), rng.integers(-9, 9, (4, 3, 3, 2))
    more = {}
    region = np.s_[1:5, ::3]
    if last:
        x, kernel, more = x.transpose(0, 2, 3, 1), kernel.transpose(2, 3, 1, 0), {"channel_axis": -1}
    whole = ce.corr2d(x, kernel, mode="same", boundary="reflect", bias=[1, 2, 3, 4], **more)
    part = ce.corr2d(x, kernel, mode="same", boundary="reflect", bias=[1, 2, 3, 4], region=region, **more)
    assert_array_equal(part, whole[:, 1:5, ::3] if last else whole[..., 1:5, ::3])


def test_the_axes_say_the_order():
    x, kernel = np.arange(60).reshape(3, 4, 5), [[1, 2], [3, 4]]
    whole = ce.corr2d(x, kernel, axes=(2, 0))
    assert_array_equal(ce.corr2d(x, kernel, axes=(2, 0), region=np.s_[1:3, :1]), whole[:1, :, 1:3])


def test_only_the_samples_that_it_needs_are_read():
    x = np.full((100, 100), np.nan)
    x[40:51, 60:71] = 1
    part = ce.corr2d(x, np.ones((3, 3)), mode="same", region=np.s_[41:50, 61:70])
    assert_array_equal(part, np.full((9, 9), 9.0))
    with ce.options(max_memory=8 << 20):  # the whole result of a gigantic view would not fit anywhere
        huge = np.broadcast_to(np.float32(2), (2**20, 2**20))
        assert_array_equal(ce.corr2d(huge, np.ones((3, 3), np.float32), region=np.s_[5:7, -3:]), np.full((2, 3), 18.0))


def test_a_narrow_part_is_not_taken_for_colours(recwarn):
    x = np.arange(64).reshape(2, 4, 8)
    ce.corr2d(x, [[1, 1]], region=np.s_[:, 2:4])
    assert not recwarn.list


@pytest.mark.filterwarnings("error")
def test_a_picture_is(recwarn):
    with pytest.warns(UserWarning, match="channel_axis=-1"):
        ce.corr2d(np.zeros((5, 5, 3)), np.ones((2, 2)), region=np.s_[:2, :2])


@pytest.mark.parametrize(
    ("region", "text"),
    [
        (3, "2 slices"),
        (np.s_[1:2], "2 slices"),
        (np.s_[1:2, 3], "2 slices"),
        (np.s_[1:2, ::-1], "step of at least 1; got slice"),
        (np.s_[1:2, ::0], "slices of integers"),
        (np.s_[1:2, 0.5:], "slices of integers"),
    ],
)
def test_what_is_no_region_is_refused(region, text):
    with pytest.raises(ce.InvalidProblem, match=text):
        ce.corr2d(np.ones((5, 5)), np.ones((2, 2)), region=region)


def test_out_of_another_shape_is_refused():
    for region in (np.s_[1:1, :], np.s_[1:2, :]):
        with pytest.raises(ce.InvalidProblem, match="out must have shape"):
            ce.corr2d(np.ones((5, 5)), np.ones((2, 2)), region=region, out=np.empty((3, 4)))


def test_out_of_an_empty_region_is_checked_too():
    for wrong in ([], np.ma.zeros(0)):
        with pytest.raises(ce.InvalidProblem, match="out must be an array"):
            ce.corr1d(np.arange(5.0), [1.0, 1], region=np.s_[:0], out=wrong)
    with pytest.raises(ce.InvalidProblem, match="disagree"):
        ce.corr1d(np.arange(5.0), [1.0, 1], region=np.s_[:0], out=np.zeros(0, "f4"), dtype="f8")
    assert ce.corr1d(np.arange(5.0), [1.0, 1], region=np.s_[:0], out=(out := np.zeros(0))) is out


def test_explain_takes_it():
    x = np.zeros((1000, 1000), np.float32)
    whole = ce.explain(x, np.ones((5, 5), np.float32), mode="same", boundary="wrap")
    part = ce.explain(x, np.ones((5, 5), np.float32), mode="same", boundary="wrap", region=np.s_[:20, -30:])
    assert part.problem.out_shape == (20, 30)
    assert part.chosen.seconds < whole.chosen.seconds / 10


def test_torch_tensors_keep_their_autograd():
    torch = pytest.importorskip("torch")
    x = torch.arange(30.0).reshape(5, 6).requires_grad_()
    kernel = np.ones((3, 3), np.float32)
    part = ce.corr2d(x, kernel, mode="same", boundary="wrap", region=np.s_[:2, 4:])
    whole = ce.corr2d(x, kernel, mode="same", boundary="wrap")
    assert torch.equal(part, whole[:2, 4:])
    (ours,) = torch.autograd.grad(part.sum(), x)
    (theirs,) = torch.autograd.grad(whole[:2, 4:].sum(), x)
    assert torch.equal(ours, theirs)
