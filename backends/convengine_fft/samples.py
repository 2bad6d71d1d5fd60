"""What a tile reads: samples of x and of its borders, copying no more than the tile holds."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from convengine.boundary import Boundary, pad_indices, window

__all__ = ["read"]

Array: TypeAlias = np.ndarray[Any, Any]


def read(image: Array, reads: Sequence[tuple[int, int]], rules: Sequence[Boundary], fill_value: Any) -> Array:
    """Samples at padded positions of the last axes, each from a start to a stop; a view where no border is touched.

    `window` does this, but axis by axis: its first `take` at a border copies whole lines of the axes that follow. So
    those that reach no border, or a constant one, are cut here first, and a corner is gathered in one step.
    """
    sizes = image.shape[image.ndim - len(reads) :]
    axes = list(zip(reads, sizes, rules, strict=True))
    bent = [rule is not Boundary.CONSTANT and (start < 0 or stop > n) for (start, stop), n, rule in axes]
    inside = [(max(start, 0), max(min(stop, n), 0)) for (start, stop), n, _ in axes]
    if sum(bent) > 1:
        lines = np.ix_(
            *(
                _sources(rule, n, start, stop) if bends else np.arange(low, high)
                for ((start, stop), n, rule), bends, (low, high) in zip(axes, bent, inside, strict=True)
            )
        )
        corner: Any = (..., *lines)
        image = image[corner]
        origins = [start if bends else low for (start, _), bends, (low, _) in zip(reads, bent, inside, strict=True)]
    else:
        cuts: Any = (slice(None) if bends else slice(*part) for bends, part in zip(bent, inside, strict=True))
        image = image[(..., *cuts)]
        origins = [0 if bends else low for bends, (low, _) in zip(bent, inside, strict=True)]
    starts = [start - origin for (start, _), origin in zip(reads, origins, strict=True)]
    stops = [stop - origin for (_, stop), origin in zip(reads, origins, strict=True)]
    samples: Array = window(image, starts, stops, rules, fill_value)
    return samples


def _sources(rule: Boundary, n: int, start: int, stop: int) -> Array:
    """Sample indices of the positions from start to stop of an axis of n samples."""
    left, right = pad_indices(rule, n, max(-start, 0), max(stop - n, 0))
    inside = np.arange(max(start, 0), min(stop, n))
    return np.concatenate([left[: stop - start], inside, right[start - stop :]])
