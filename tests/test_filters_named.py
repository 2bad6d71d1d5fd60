"""Kernels by their names: every name of the table, lists of numbers, what cannot be parsed."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from convengine import filters
from convengine.errors import InvalidProblem
from convengine.filters import named

SPOKEN = {
    "binomial:4": lambda: filters.binomial(4),
    "binomial:4,2": lambda: filters.binomial((4, 2)),
    "box:5": lambda: filters.box(5),
    "box:1,5": lambda: filters.box((1, 5)),
    "derivative-x": lambda: filters.derivative(),
    "derivative-y:2,4": lambda: filters.derivative(2, axis=0, accuracy=4),
    "derivative-z:1": lambda: filters.derivative(axis=0, ndim=3),
    "disk:4": lambda: filters.disk(4),
    "dog:1": lambda: filters.difference_of_gaussians(1.0),
    "dog:1,3": lambda: filters.difference_of_gaussians(1.0, 3.0),
    "edge": filters.edge,
    "emboss": filters.emboss,
    "gabor:8,0.785": lambda: filters.gabor(8, 0.785),
    "gabor:8,0.785,3": lambda: filters.gabor(8, 0.785, sigma=3),
    "gaussian:2": lambda: filters.gaussian(2),
    "gaussian:2,1": lambda: filters.gaussian((2, 1)),
    " Gaussian : 2 , 1e0 ": lambda: filters.gaussian((2, 1)),
    "identity": lambda: filters.identity((1, 1)),
    "identity:3": lambda: filters.identity((3, 3)),
    "identity:3,5": lambda: filters.identity((3, 5)),
    "laplacian": filters.laplacian,
    "laplacian:2": lambda: filters.laplacian(connectivity=2),
    "log:1.5": lambda: filters.log(1.5),
    "log:1.5,2": lambda: filters.log((1.5, 2)),
    "motion:9": lambda: filters.motion(9),
    "motion:9,0.5": lambda: filters.motion(9, 0.5),
    "prewitt-x": lambda: filters.prewitt(-1),
    "prewitt-y": lambda: filters.prewitt(-2),
    "prewitt-z": lambda: filters.prewitt(-3, ndim=3),
    "scharr-x": lambda: filters.scharr(-1),
    "scharr-y": lambda: filters.scharr(-2),
    "scharr-z": lambda: filters.scharr(-3, ndim=3),
    "sharpen": filters.sharpen,
    "sharpen:0.5": lambda: filters.sharpen(0.5),
    "sobel-x": lambda: filters.sobel(-1),
    "sobel-y": lambda: filters.sobel(-2),
    "sobel-z": lambda: filters.sobel(-3, ndim=3),
    "unsharp:1": lambda: filters.unsharp(1),
    "unsharp:1,0.8": lambda: filters.unsharp(1, 0.8),
}


@pytest.mark.parametrize("text", SPOKEN)
def test_a_name_gives_the_functions_kernel(text):
    expected = SPOKEN[text]()
    assert_array_equal(named.parse(text, ndim=expected.ndim), expected, strict=True)


def test_every_name_is_spoken_above_and_every_kernel_has_a_name():
    assert {text.split(":")[0].strip().lower() for text in SPOKEN} == set(named.names())
    functions = set(filters.__all__) - {"named", "difference_of_gaussians"}
    assert functions | {"dog"} == {name.split("-")[0] for name in named.names()}


@pytest.mark.parametrize("name", named.names())
def test_the_help_of_a_name_tells_a_syntax_that_parses(name):
    syntax, meaning = named.names()[name].split(": ", 1)
    assert meaning and "\n" not in meaning
    assert syntax == name or syntax.startswith((f"{name}:", f"{name}[:"))
    shortest, fullest = syntax.split("[")[0], syntax.replace("[", "").replace("]", "").replace("...", "")
    for form in (shortest, fullest):
        ndim = 3 if name.endswith("-z") else 2
        words = {"LOW": "1", "HIGH": "2", "ACCURACY": "4", "WAVELENGTH": "8", "CONNECTIVITY": "2"}
        head, colon, parameters = form.partition(":")
        numbers = ",".join(words.get(word, "3") for word in parameters.split(",")) if colon else ""
        assert named.parse(head + colon + numbers, ndim=ndim).ndim == ndim


def test_names_follow_ndim():
    assert named.parse("gaussian:1", ndim=1).shape == (9,)
    assert named.parse("box:2,3,4", ndim=3).shape == (2, 3, 4)
    assert named.parse("sobel-y", ndim=3).shape == (3, 3, 3)
    assert named.parse("identity:5", ndim=1).shape == (5,)
    assert named.parse("[1, 2]", ndim=3).shape == (2,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[1,-1]]", np.array([[1, -1]], np.int64)),
        (" [1, 0, -1] ", np.array([1, 0, -1], np.int64)),
        ("[[[1],[2]],[[3],[4]]]", np.arange(1, 5).reshape(2, 2, 1)),
        ("[[1, 2.0]]", np.array([[1.0, 2.0]])),
        ("[1e-3]", np.array([1e-3])),
        ("[9223372036854775807, -9223372036854775808]", np.array([2**63 - 1, -(2**63)])),
    ],
)
def test_a_list_is_its_array(text, expected):
    assert_array_equal(named.parse(text), expected, strict=True)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("sobel", ["unknown kernel 'sobel'", "did you mean sobel-", "scharr-y", "unsharp", "[[1,-1]]"]),
        ("gausian:2", ["unknown kernel 'gausian'; did you mean gaussian? "]),
        ("zzzzzz", ["unknown kernel 'zzzzzz'; needed is a list such as [[1,-1]] or one of binomial, box,"]),
        ("", ["unknown kernel ''"]),
        pytest.param("x" * 10**5, ["unknown kernel 'xxx", "..."], id="a long name"),
        ("gaussian", ["kernel 'gaussian': got 0 values; write gaussian:SIGMA[,SIGMA...]"]),
        ("gaussian:", ["kernel 'gaussian:'", "numbers", "got ''"]),
        ("gaussian:1,2,3", ["sigma needs one value or one per axis (ndim=2); got 3: (1, 2, 3)", "write gaussian:"]),
        ("gaussian:wide", ["'gaussian:wide'", "got 'wide'", "write gaussian:SIGMA[,SIGMA...]"]),
        ("gaussian:-1", ["'gaussian:-1'", "sigma needs a finite number >= 0; got -1"]),
        ("gaussian:nan", ["sigma needs a finite number >= 0; got nan"]),
        pytest.param("gaussian:" + "9" * 5000, ["got inf"], id="a long number"),
        ("box:2.5", ["size needs a whole number >= 1; got 2.5; write box:SIZE[,SIZE...]"]),
        ("sobel-x:3", ["kernel 'sobel-x:3': got 1 values; write sobel-x"]),
        ("sobel-z", ["from -2 to 1; got -3"]),
        ("unsharp:1,2,3", ["'unsharp:1,2,3'", "got 3 values; write unsharp:SIGMA[,AMOUNT]"]),
        ("gabor:8,1,2,3", ["got 4 values; write gabor:WAVELENGTH[,ANGLE[,SIGMA]]"]),
        ("laplacian:8", ["from 1 to 2; got 8; write laplacian[:CONNECTIVITY]"]),
        ("[[1,-1]", ["JSON list of numbers such as [[1,-1]]; got '[[1,-1]'", "delimiter"]),
        ("[1 -1]", ["JSON list", "'[1 -1]'"]),
        ("[]", ["1 to 3 axes of 1 sample or more; got shape (0,)"]),
        ("[[], []]", ["got shape (2, 0)"]),
        ("[[[[1]]]]", ["got shape (1, 1, 1, 1)"]),
        pytest.param("[" * 10**5, ["JSON list"], id="a deep fragment"),
        pytest.param("[" * 500 + "1" + "]" * 500, ["got shape (1, 1,"], id="a deep list"),
        ("[[1, 2], [3]]", ["rows of one length, 2 here; got [3] in '[[1, 2], [3]]'"]),
        ("[[1, 2], 3]", ["rows of one length, 2 here; got 3"]),
        ("[1, [2]]", ["as deep as the first; got [2] in"]),
        ("[true, 1]", ["needs numbers", "got True"]),
        ('["1"]', ["needs numbers", "got '1'"]),
        ("[null]", ["needs numbers", "got None"]),
        ("[NaN]", ["finite numbers", "got nan in '[NaN]'"]),
        ("[1.0, -1e999]", ["finite numbers", "got -inf"]),
        ("[9223372036854775808]", ["int64; got 9223372036854775808"]),
        ("[1], [2]", ["JSON list", "Extra data"]),
    ],
)
def test_what_cannot_be_parsed_is_named(text, texts):
    with pytest.raises(InvalidProblem) as caught:
        named.parse(text)
    for part in texts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("text", ["disk:4", "motion:9", "gabor:8", "emboss"])
def test_a_planar_kernel_refuses_another_ndim(text):
    with pytest.raises(
        InvalidProblem, match=rf"'{text}': it is made for 2 axes; got ndim=3; write {text.split(':')[0]}"
    ):
        named.parse(text, ndim=3)
