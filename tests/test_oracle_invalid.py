"""What the oracle refuses, problems and values, in which words; and what just passes."""

import numpy as np
import pytest
from oracle_answers import final, same

from convengine.testing.oracle import reference

u1, f4, i4 = np.uint8, np.float32, np.int32


@pytest.mark.parametrize(
    ("text", "name", "x", "kernel", "keywords"),
    [
        ("got 'corr4d'", "corr4d", (5,), (3,), {}),
        ("kernel (9, 9) does not fit x (5, 5)", "corr2d", (5, 5), (9, 9), {}),
        ("kernel (5,) does not fit x (4,)", "corr1d", (4,), (3,), {"dilation": 2}),
        ("does not fit x (2,) with pads [(1, 1)]", "corr1d", (2,), (5,), {"padding": 1}),
        ("does not fit x (0,)", "corr1d", (0,), (2,), {}),
        ("an empty axis has no samples for 'wrap'", "corr1d", (0,), (2,), {"mode": "full", "boundary": "wrap"}),
        ("kernel must have 2 axes (a filter) or 4 (a layer); got (3,)", "corr2d", (5, 5), (3,), {}),
        ("kernel must have 1 axes (a filter) or 3 (a layer); got ()", "corr1d", (5,), (), {}),
        ("kernel must not be empty; got (0,)", "corr1d", (5,), (0,), {}),
        ("kernel must not be empty; got (0, 2, 3)", "corr1d", (2, 5), (0, 2, 3), {}),
        ("a layer needs x of 2 or 3 axes; got (5,)", "corr1d", (5,), (1, 1, 3), {}),
        ("a layer takes no axes; got axes=1", "corr1d", (1, 5), (1, 1, 3), {"axes": 1}),
        ("channel_axis is None or -1; got 0", "corr1d", (1, 5), (3, 1, 1), {"channel_axis": 0}),
        ("must have groups * 2 channels and the kernel's 3 outputs must divide by groups; got 4 channels and groups=2",
         "corr1d", (4, 5), (3, 2, 3), {"groups": 2}),
        ("got 3 channels and groups=1", "corr1d", (3, 5), (1, 2, 3), {}),
        ("groups needs a layer's kernel of 3 axes; got groups=2", "corr1d", (4, 5), (3,), {"groups": 2}),
        ("axes must be in x of 2 axes; got 2", "corr1d", (4, 5), (3,), {"axes": 2}),
        ("2 different axes beside the channel axis", "corr2d", (4, 5), (3, 3), {"axes": (0, -2)}),
        ("2 different axes beside the channel axis", "corr2d", (4, 5), (3, 3), {"channel_axis": -1}),
        ("got 'half'", "corr1d", (5,), (3,), {"mode": "half"}),
        ("mode or padding, not both; got 'same' and 1", "corr1d", (5,), (3,), {"mode": "same", "padding": 1}),
        ("padding must be an int >= 0, or 2 of them; got -1", "corr1d", (5,), (3,), {"padding": -1}),
        ("padding must have one entry for each of 2 axes; got (1,)", "corr2d", (5, 5), (3, 3), {"padding": (1,)}),
        ("stride must be an int >= 1, or 1 of them; got 0", "corr1d", (5,), (3,), {"stride": 0}),
        ("stride must be an int >= 1, or 1 of them; got 1.0", "corr1d", (5,), (3,), {"stride": 1.0}),
        ("must be an int >= 1, or 2 of them; got (1, 1, 1)", "corr2d", (5, 5), (3, 3), {"dilation": (1, 1, 1)}),
        ("center needs mode='same'; got mode=None", "corr1d", (5,), (3,), {"center": 1}),
        ("center must lie in the dilated kernel (3,); got 3", "corr1d", (5,), (3,), {"mode": "same", "center": 3}),
        ("for each of 1 axes; got 'mirror'", "corr1d", (5,), (3,), {"boundary": "mirror"}),
        ("for each of 1 axes; got ['edge', 'wrap']", "corr1d", (5,), (3,), {"boundary": ["edge", "wrap"]}),
        ("overflow must be one of saturate, wrap, raise; got 'clip'", "corr1d", (5,), (3,), {"overflow": "clip"}),
        ("bias must be one number or 2; got the shape (1,)", "corr1d", (1, 5), (2, 1, 3), {"bias": [1.0]}),
        ("bias must be one number or 1; got the shape (2,)", "corr1d", (5,), (3,), {"bias": [1.0, 2.0]}),
        ("bias must be real beside a float64 sum; got complex128", "corr1d", (5,), (3,), {"bias": 1j}),
    ],
)  # fmt: skip
def test_invalid_problems(text, name, x, kernel, keywords):
    with pytest.raises(ValueError) as error:
        reference(name, np.ones(x), np.ones(kernel), **keywords)
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("text", "x", "kernel", "keywords"),
    [
        ("x must be of bools, integers, floats or complex numbers; got object", [None], [1], {}),
        ("got <U1", ["a"], [1], {}),
        (f"kernel must be of bools, integers, floats or complex numbers; got {np.dtype(np.longdouble)}", [1],
         np.ones(1, np.longdouble), {}),
        ("x must not be masked", np.ma.ones(3), [1.0], {}),
        ("dtype must be of integers, floats or complex; got bool", [1], [1], {"dtype": bool}),
        ("dtype must be of integers, floats or complex; got object", [1], [1], {"dtype": object}),
        ("dtype must be complex for complex128 sums; got float64", [1j], [1.0], {"dtype": float}),
        ("dtype must be complex for complex128 sums; got int64", [1], [1j], {"dtype": int}),
        ("bias must be whole numbers in an integer problem; got [0.5]", [1], [1], {"bias": 0.5}),
        ("bias must be whole numbers in an integer problem; got [nan]", [1], [1], {"bias": np.nan}),
        ("bias must be whole numbers in an integer problem; got [inf]", [1], [1], {"bias": np.inf}),
        ("bias must be whole numbers in an integer problem; got [1j]", [1], [1], {"bias": 1j}),
        ("fill_value must be exact in uint8; got 256", np.ones(1, u1), [1], {"fill_value": 256}),
        ("fill_value must be exact in uint8; got 0.5", np.ones(1, u1), [1], {"fill_value": 0.5}),
        ("fill_value must be exact in uint8; got nan", np.ones(1, u1), [1], {"fill_value": np.nan}),
        ("fill_value must be exact in float32; got 0.1", np.ones(1, f4), [1], {"fill_value": 0.1}),
        (f"fill_value must be exact in float64; got {2**53 + 1}", [1.0], [1], {"fill_value": 2**53 + 1}),
        (f"fill_value must be exact in int64; got {2**70}", [1], [1], {"fill_value": 2**70}),
        ("fill_value must be a number of float64; got 1j", [1.0], [1], {"fill_value": 1j}),
        ("fill_value must be a number of float64; got [0, 0]", [1.0], [1], {"fill_value": [0, 0]}),
    ],
)  # fmt: skip
def test_invalid_values(text, x, kernel, keywords):
    with pytest.raises(ValueError) as error:
        reference("corr1d", x, kernel, **keywords)
    assert text in str(error.value)


def test_exact_fill_values_and_whole_biases_pass():
    same(final("corr1d", np.ones(1, u1), [1, 1], padding=1, fill_value=2.0), np.array([3, 3]))
    same(final("corr1d", np.ones(1, f4), [1], padding=1, fill_value=np.nan), np.array([np.nan, 1, np.nan], f4))
    same(final("corr1d", np.ones(1, u1), np.ones(1, u1), bias=2.0), np.array([3], i4))
