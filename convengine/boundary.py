"""The border rules: one table for the whole engine, in numpy.pad's words.

A rule says which sample of an axis stands at a padded position. Backends ask for index
maps; only the pads are ever mapped, never the inside of the axis.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from convengine.errors import InvalidProblem

__all__ = ["FILL", "Boundary", "most_copies", "pad_indices", "window"]

FILL = -1  # the index that means "not a sample: the fill value"

ELSEWHERE = {  # names that only one rule has in other libraries; ndimage's "reflect" is a word here, and another rule
    "mirror": ("scipy.ndimage", "reflect"),
    "nearest": ("scipy.ndimage", "edge"),
    "fill": ("scipy.signal", "constant"),
    "symm": ("scipy.signal", "symmetric"),
    "zeros": ("PyTorch", "constant"),
    "replicate": ("PyTorch", "edge"),
    "circular": ("PyTorch", "wrap"),
    "periodic": ("dask", "wrap"),
}


class Boundary(StrEnum):
    """What lies beyond the edge of an axis a b c d."""

    CONSTANT = "constant"  #    f f f | a b c d | f f f   the fill value
    EDGE = "edge"  #            a a a | a b c d | d d d   the edge sample, repeated
    REFLECT = "reflect"  #      d c b | a b c d | c b a   mirrored, edge sample once
    SYMMETRIC = "symmetric"  #  c b a | a b c d | d c b   mirrored, edge sample twice
    WRAP = "wrap"  #            b c d | a b c d | a b c   periodic

    @classmethod
    def parse(cls, word: object) -> "Boundary":
        """Return the rule named by `word`; an unknown word raises with the words there are."""
        try:
            return cls(word)  # type: ignore[arg-type]  # any object may come from the user
        except ValueError:
            words = ", ".join(repr(rule.value) for rule in cls)
            known = ELSEWHERE.get(word) if isinstance(word, str) else None
            hint = (
                f"{known[0]}'s {word!r} is {known[1]!r} here"
                if known
                else "the guide's table has the names of other libraries"
            )
            raise InvalidProblem(f"boundary must be one of {words} (numpy.pad's words); got {word!r}; {hint}") from None


def source(rule: Boundary, position: np.ndarray[Any, Any], n: int) -> np.ndarray[Any, Any]:
    """Sample indices of the padded positions `position` (0 is the first sample) of an axis of n samples."""
    match rule:
        case Boundary.CONSTANT:
            return np.where((position < 0) | (position >= n), FILL, position)
        case Boundary.EDGE:
            return np.asarray(np.clip(position, 0, n - 1))
        case Boundary.WRAP:
            return position % n
        case Boundary.SYMMETRIC:
            folded = position % (2 * n)
            return np.where(folded < n, folded, 2 * n - 1 - folded)
        case Boundary.REFLECT:
            period = max(2 * n - 2, 1)  # a length-1 axis repeats its sample
            folded = position % period
            return np.where(folded < n, folded, period - folded)


def pad_indices(rule: Boundary, n: int, before: int, after: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Sample indices (intp) of the `before` positions left of an axis of n samples and of the `after` ones right of it.

    `FILL` stands where the fill value does. n must be positive unless the rule is constant.
    """
    left = source(rule, np.arange(-before, 0, dtype=np.intp), n)
    right = source(rule, np.arange(n, n + after, dtype=np.intp), n)
    return left, right


def most_copies(rule: Boundary, n: int, before: int, after: int) -> int:
    """How often a sample of an axis of n samples stands on the padded axis, at most, itself included."""
    if rule is Boundary.CONSTANT or n == 0 or not (before or after):
        return 1
    return 1 + int(np.bincount(np.concatenate(pad_indices(rule, n, before, after)), minlength=1).max())


def window(
    x: Any,
    starts: Sequence[int],
    stops: Sequence[int],
    rules: Sequence[Boundary],
    fill_value: Any,
    *,
    xp: Any = np,
) -> Any:
    """Samples of x at the padded positions starts[i]:stops[i] of its last len(starts) axes.

    Position 0 is the first sample of an axis, so that a negative start reaches into the
    border. Returns a view where no border is touched, else a new array of x's dtype.
    `xp` is the array library of x.
    """
    first = x.ndim - len(starts)
    block = x
    filled: list[tuple[int, int, int]] = []  # (axis, fill positions before, fill positions after)
    for i, (start, stop, rule) in enumerate(zip(starts, stops, rules, strict=True)):
        axis = first + i
        n = x.shape[axis]
        if start >= 0 and stop <= n:
            block = block[(slice(None),) * axis + (slice(start, stop),)]
        elif rule is Boundary.CONSTANT:
            inside = slice(min(max(start, 0), n), max(min(stop, n), 0))
            block = block[(slice(None),) * axis + (inside,)]
            filled.append((axis, min(max(-start, 0), stop - start), min(max(stop - n, 0), stop - start)))
        else:
            indices = source(rule, np.arange(start, stop, dtype=np.intp), n)
            block = xp.take(block, xp.asarray(indices), axis=axis)
    if not filled:
        return block
    shape = list(block.shape)
    inner = [slice(None)] * block.ndim
    for axis, before, after in filled:
        shape[axis] = stops[axis - first] - starts[axis - first]
        inner[axis] = slice(before, shape[axis] - after)
    whole = xp.full(tuple(shape), fill_value, dtype=x.dtype)
    whole[tuple(inner)] = block
    return whole
