"""The covering selection holds what it promises, and the strategies draw what they are asked for."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings

from convengine.testing import cases
from convengine.testing.strategies import problems


def test_covering_cases_hold_every_allowed_pair():
    rows = list(cases.covering_rows(cases.Seeded(7)))
    for a, b in combinations(cases.TRAITS, 2):
        # Two traits have met only where there are samples to tell them by.
        telling = [row for row in rows if row["samples"] == "some" or "samples" in (a, b)]
        held = {(row[a], row[b]) for row in telling}
        pairs = set(product(cases.TRAITS[a], cases.TRAITS[b]))
        assert held == {(value, other) for value, other in pairs if cases._allowed({a: value}, b, other)}


def test_covering_cases_are_many_and_the_same_every_time():
    one, two = cases.covering_cases(), cases.covering_cases()
    assert 300 <= len(one) <= 400
    assert len({case.id for case in one}) == len(one)
    assert sum(np.size(case.x) > 0 for case in one) > 280
    for a, b in zip(one, two, strict=True):
        assert (a.id, a.name, str(a.keywords)) == (b.id, b.name, str(b.keywords))
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.kernel, b.kernel)


def test_ids_say_where_nan_and_infinity_are():
    for case in cases.covering_cases():
        more = [case.keywords.get(name, 0) for name in ("bias", "fill_value")]
        poisoned = any(not np.isfinite(np.asarray(numbers)).all() for numbers in (case.x, case.kernel, *more))
        assert poisoned == case.id.endswith(("-nan", "-inf")), case.id


@settings(max_examples=20, deadline=None, derandomize=True)
@given(problems(values=["nan"], mode=["full", "same"], ndim=[1]))
def test_traits_narrow_what_is_drawn(case):
    assert case.name in ("corr1d", "conv1d") and case.id.endswith("-nan")
    assert case.keywords["mode"] in ("full", "same")


def test_traits_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"shape must be one that goes with .*'valid'.*; got \['larger'\]"):
        cases.draw_row(cases.Seeded(0), {"mode": ["valid"], "shape": ["larger"]})
    with pytest.raises(ValueError, match=r"traits are x_dtype, .*; got colour"):
        cases.draw_row(cases.Seeded(0), {"colour": ["red"]})
