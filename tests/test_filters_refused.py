"""What the kernel library refuses: each refusal says what is needed and what came."""

import math

import numpy as np
import pytest

from convengine import filters
from convengine.errors import InvalidProblem
from convengine.filters.parameters import MAX_TAPS


@pytest.mark.parametrize(
    ("build", "texts"),
    [
        (lambda: filters.gaussian(-1.5), ["sigma needs a finite number >= 0", "-1.5"]),
        (lambda: filters.gaussian(math.nan), ["sigma", "finite", "nan"]),
        (lambda: filters.gaussian((1.0, math.inf)), ["sigma", "finite", "inf"]),
        (lambda: filters.gaussian("2"), ["sigma needs a finite number >= 0; got '2'"]),
        (lambda: filters.gaussian(True), ["sigma", "True"]),
        (lambda: filters.gaussian(10**400), ["sigma", "finite", "10000"]),
        (lambda: filters.gaussian((1, 2, 3)), ["sigma needs one value or one per axis (ndim=2); got 3: (1, 2, 3)"]),
        (lambda: filters.gaussian(np.array([1.0, 2.0]), ndim=1), ["(ndim=1); got 2: [1.0, 2.0]"]),
        (lambda: filters.gaussian(1, ndim=4), ["ndim needs a whole number from 1 to 3; got 4"]),
        (lambda: filters.gaussian(1, truncate=0), ["truncate needs a finite number > 0; got 0"]),
        (lambda: filters.gaussian(1, order=-1), ["order needs a whole number from 0 to 20; got -1"]),
        (lambda: filters.gaussian(1, order=1.0), ["order needs a whole number", "1.0"]),
        (lambda: filters.gaussian(0.1, order=1), ["order 1", "at least 2 taps", "sigma=0.1", "truncate=4", "give 1"]),
        (lambda: filters.gaussian(0.6, order=5), ["order 5", "at least 6 taps", "give 5"]),
        (lambda: filters.gaussian(0.02, order=1, truncate=99), ["order 1", "sigma >= 0.03", "sigma=0.02"]),
        (lambda: filters.gaussian(1e9), [f"at most {MAX_TAPS} taps; got a reach of 4e+09 pixels"]),
        (lambda: filters.gaussian(1e200, truncate=1e200), ["reach of inf pixels"]),
        (lambda: filters.gaussian(1000), ["shape (8001, 8001), 64016001 taps"]),
        (lambda: filters.box(0), ["size needs a whole number >= 1; got 0"]),
        (lambda: filters.box((3, 2.5)), ["size needs a whole number >= 1; got 2.5"]),
        (lambda: filters.box(10**6), ["shape (1000000, 1000000), 1000000000000 taps"]),
        (lambda: filters.binomial(1001), ["n needs a whole number from 0 to 1000; got 1001"]),
        (lambda: filters.disk(-1), ["radius needs a finite number >= 0; got -1"]),
        (lambda: filters.disk(1e300), ["reach of 1e+300 pixels"]),
        (lambda: filters.disk(1e6), ["shape (2000001, 2000001)"]),
        (lambda: filters.motion(0.5), ["length needs a finite number >= 1; got 0.5"]),
        (lambda: filters.motion(9, math.inf), ["angle needs a finite number; got inf"]),
        (lambda: filters.motion(1e5, 0.8), ["shape (71737, 69671)"]),
        (lambda: filters.sobel(2), ["axis, for ndim=2, needs a whole number from -2 to 1; got 2"]),
        (lambda: filters.prewitt(-2, ndim=1), ["from -1 to 0; got -2"]),
        (lambda: filters.scharr(0.0), ["axis, for ndim=2, needs a whole number from -2 to 1; got 0.0"]),
        (lambda: filters.derivative(0), ["order needs a whole number >= 1; got 0"]),
        (lambda: filters.derivative(accuracy=3), ["accuracy needs an even number", "got 3"]),
        (lambda: filters.derivative(4, accuracy=16), ["at most 8", "order=4 and accuracy=16, 9 samples"]),
        (lambda: filters.laplacian(connectivity=8), ["connectivity, for ndim=2, needs", "from 1 to 2; got 8"]),
        (lambda: filters.laplacian(0), ["ndim needs a whole number from 1 to 3; got 0"]),
        (lambda: filters.log(0), ["sigma needs a finite number > 0; got 0"]),
        (lambda: filters.log(0.1), ["at least 3 taps; got sigma=0.1"]),
        (lambda: filters.difference_of_gaussians(2, 1), ["high needs to be above low", "(2.0, 2.0)", "(1.0, 1.0)"]),
        (lambda: filters.difference_of_gaussians((1, 2), (2, 2)), ["low=(1.0, 2.0) and high=(2.0, 2.0)"]),
        (lambda: filters.difference_of_gaussians(0), ["low=(0.0, 0.0) and high=(0.0, 0.0)"]),
        (lambda: filters.gabor(1.9), ["wavelength needs a finite number >= 2; got 1.9"]),
        (lambda: filters.gabor(8, gamma=0), ["gamma needs a finite number > 0; got 0"]),
        (lambda: filters.gabor(8, sigma=-1), ["sigma needs a finite number > 0; got -1"]),
        (lambda: filters.gabor(8, sigma=1e-200, gamma=1e200), ["sigma / gamma needs a finite number > 0; got 0.0"]),
        (lambda: filters.gabor(1e9), ["at most", "reach"]),
        (lambda: filters.gabor(3000), ["shape (10121, 10121)"]),
        (lambda: filters.identity(()), ["length of shape needs a whole number from 1 to 3; got 0"]),
        (lambda: filters.identity((3, 0)), ["shape needs a whole number >= 1; got 0"]),
        (lambda: filters.identity((10**6, 10**6)), ["1000000000000 taps"]),
        (lambda: filters.sharpen(-0.5), ["amount needs a finite number >= 0; got -0.5"]),
        (lambda: filters.unsharp(1, math.nan), ["amount", "nan"]),
    ],
)
def test_refusals_say_what_is_needed_and_what_came(build, texts):
    with pytest.raises(InvalidProblem) as caught:
        build()
    for text in texts:
        assert text in str(caught.value)
