"""Hypothesis strategies for problems; the one module of convengine.testing that needs hypothesis."""

from collections.abc import Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from convengine.testing.cases import Case, assemble, draw_row

T = TypeVar("T")


class _Drawn:
    """Choices from hypothesis, which makes them simpler where a test fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def pick(self, options: Sequence[T]) -> T:
        """One of some options."""
        return self.draw(st.sampled_from(options))

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return self.draw(st.integers(low, high))


@st.composite
def problems(draw: st.DrawFn, /, **only: Sequence[Any]) -> Case:
    """Draw valid problems for the public functions, small in shape and wide in sort.

    Parameters
    ----------
    **only : sequences of trait values
        What to draw from; the traits and all their values are `convengine.testing.cases.TRAITS`. A trait that is not
        named takes any value that goes with the others.

    Returns
    -------
    strategy of Case
        (id, name, x, kernel, keywords): call the public function `name` with x, kernel and **keywords.

    Raises
    ------
    ValueError
        At the draw, if a trait is unknown or its values go with none of the others'.

    Examples
    --------
    >>> from hypothesis import given
    >>> from convengine.testing import check, componentwise, reference
    >>> @given(problems(x_dtype=["float32"], mode=["valid", "full"], values=["plain"]))
    ... def test_my_corr(case):
    ...     expected = reference(case.name, case.x, case.kernel, **case.keywords)
    ...     check(my_corr(case), expected, componentwise(expected))
    """
    choose = _Drawn(draw)
    return assemble(choose, draw_row(choose, only))
