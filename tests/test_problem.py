"""What is read off a kernel: bounds that hold, and no finer than a choice needs."""

import math

import numpy as np
import pytest

from convengine.problem import KernelFacts


@pytest.mark.parametrize("exponent", [-1050, -3, 0, 4, 900])
def test_sums_of_floats_are_rounded_up_to_powers_of_two(exponent):
    power = math.ldexp(1.0, exponent)
    for value, bound in ((power, power), (math.nextafter(power, math.inf), 2 * power)):
        facts = KernelFacts.of(np.array([-value]), 1)
        assert (facts.abs_sum, facts.norm) == (bound, bound)


def test_sums_of_integers_are_exact():
    assert KernelFacts.of(np.array([-3, 2**62]), 1).abs_sum == 2**62 + 3


def test_what_is_not_finite_stays_so():
    facts = KernelFacts.of(np.array([np.inf, 1.0]), 1)
    assert facts.abs_sum == math.inf
    assert not facts.finite
