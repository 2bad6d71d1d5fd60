"""A public operation with what its keywords say, asked of host arrays: what every library's autograd stands on.

An operation y = F(x, k) is affine in x (by the fill value) and linear in k. With B its bilinear part, all derivatives
come from one form, <w, B(u, v)> = Re sum conj(w) * B(u, v): the operation gives its gradient in w, `grad_input` that in
u, `grad_kernel` that in v. So the three are closed under differentiation, to any order, for real and complex numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convengine import api, gradients
from convengine.api import DEFAULTS

__all__ = ["Question"]

MAPS = frozenset(DEFAULTS) - {"bias", "dtype"}  # the keywords that say which map it is


@dataclass(frozen=True, slots=True)
class Question:
    """Which map is asked for, and who may compute it.

    Attributes
    ----------
    operation : str
        "corr1d" .. "conv3d".
    keywords : mapping
        What to compute, but for bias and dtype.
    dtype : dtype, optional
        Of the answer; None: as the operation says.
    shape : tuple of int, optional
        Of x in `grad_input`, of the kernel in `grad_kernel`.
    backend, workers : optional
        As for the operation.
    """

    operation: str
    keywords: Mapping[str, Any]
    dtype: Any = None
    shape: tuple[int, ...] | None = None
    backend: Any = None
    workers: int | None = None

    @classmethod
    def read(cls, name: str, keywords: Mapping[str, Any], backend: Any, workers: Any) -> tuple[str, "Question"]:
        """Return which of the three functions a public name is ("", "grad_input", "grad_kernel"), and its question."""
        operation, _, kind = name.partition("_")
        shape = keywords.get({"grad_input": "x_shape", "grad_kernel": "kernel_shape"}.get(kind, ""))
        maps = {word: value for word, value in keywords.items() if word in MAPS}
        return kind, cls(operation, maps, keywords["dtype"], None if shape is None else tuple(shape), backend, workers)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return api.OPERATIONS[self.operation][0]

    def of(self, shape: tuple[int, ...] | None = None) -> "Question":
        """The same map for another of the three functions, in its own dtype."""
        return replace(self, dtype=None, shape=None if shape is None else tuple(shape))

    def linear(self, shape: tuple[int, ...] | None = None) -> "Question":
        """The bilinear part of the map: without the fill value's share."""
        return replace(self.of(shape), keywords={**self.keywords, "fill_value": 0})

    def stacked(self, size: int, layer: bool) -> "Question":
        """The same map, a layer's or a filter's, for `size` arrays stacked along a new first axis."""
        keywords = dict(self.keywords)
        if not layer and keywords["axes"] is None is keywords["channel_axis"]:
            keywords["axes"] = tuple(range(-self.ndim, 0))  # said, so that nobody takes the last one for colours
        for word in ("axes", "channel_axis"):
            if (value := keywords[word]) is not None:
                keywords[word] = tuple(map(_next, value)) if np.ndim(value) else _next(value)
        return replace(self, keywords=keywords, shape=None if self.shape is None else (size, *self.shape))

    def has_channels_last(self, x_ndim: int) -> bool:
        """Whether a layer's channels are the last axis of x."""
        channel = self.keywords["channel_axis"]
        return channel is not None and channel % x_ndim == x_ndim - 1

    def forward(self, x: Any, kernel: Any, bias: Any = None, out: Any = None) -> Any:
        """Ask the operation itself."""
        return getattr(api, self.operation)(x, kernel, bias=bias, out=out, **self._said())

    def grad_input(self, dy: Any, kernel: Any, out: Any = None) -> Any:
        """Ask for the gradient in x."""
        return getattr(gradients, f"{self.operation}_grad_input")(dy, kernel, self.shape, out=out, **self._said())

    def grad_kernel(self, x: Any, dy: Any, out: Any = None) -> Any:
        """Ask for the gradient in the kernel."""
        return getattr(gradients, f"{self.operation}_grad_kernel")(x, dy, self.shape, out=out, **self._said())

    def _said(self) -> dict[str, Any]:
        return {**self.keywords, "dtype": self.dtype, "backend": self.backend, "workers": self.workers}


def _next(axis: int) -> int:
    """An axis number after a new first axis; one counted from the end stays."""
    return axis + 1 if axis >= 0 else axis
