"""What convolutional layers and their transposes share: channels, and how the windows lie."""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from convengine import gradients
from convengine.arguments import per_axis, read_boundary, read_pads
from convengine.errors import InvalidProblem
from convengine.filters.parameters import count
from convengine.nn.layer import Array, Weighted

__all__ = ["Windowed"]


class Windowed(Weighted):
    """A layer whose weight runs over windows of `ndim` spatial axes; its parameters are described at Conv2D.

    Attributes
    ----------
    kernel_size, stride, dilation : tuple of int
        Per spatial axis.
    padding : tuple of (before, after)
        Per spatial axis.
    boundary : tuple of str
        Per spatial axis.
    groups, out_channels : int
        Channel groups; channels of the result.
    transposed : bool
        Whether the layer is the adjoint of a convolution.
    """

    ndim: ClassVar[int]
    transposed: ClassVar[bool]

    def __init__(
        self,
        out_channels: int,
        kernel_size: Any,
        *,
        in_channels: int | None = None,
        bias: bool = True,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        boundary: Any = "constant",
        dtype: Any = np.float32,
        rng: Any = None,
    ) -> None:
        n = self.ndim
        self.out_channels, self.groups = count("out_channels", out_channels, 1), count("groups", groups, 1)
        self.kernel_size = per_axis(kernel_size, n, "kernel_size", 1)
        self.stride, self.dilation = per_axis(stride, n, "stride", 1), per_axis(dilation, n, "dilation", 1)
        self.padding = read_pads(None, padding, None, self.kernel_size, n)
        self.boundary = tuple(rule.value for rule in read_boundary(boundary, n))
        inputs = None if in_channels is None else count("in_channels", in_channels, 1)
        if self.out_channels % self.groups or (inputs or 0) % self.groups:
            raise InvalidProblem(
                f"channels must be multiples of groups={groups}; got in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        channels: tuple[int | None, ...] = inputs, self.out_channels // self.groups
        if not self.transposed:
            channels = self.out_channels, None if inputs is None else inputs // self.groups
        super().__init__((*channels, *self.kernel_size), self.out_channels, bias=bias, dtype=dtype, rng=rng)

    @property
    def in_channels(self) -> int | None:
        """Channels of x; None before they are known."""
        size = self._weight.shape[not self.transposed]
        return size if size is None or self.transposed else size * self.groups

    @property
    def _how(self) -> dict[str, Any]:
        """The engine's keywords."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "boundary": self.boundary,
        }

    @abstractmethod
    def _out_spatial(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes of the result for such an x, or InvalidProblem if it is too small."""

    def _learned(self, x: Array) -> tuple[Array, Array | None]:
        """Weight and bias for this x, or InvalidProblem if it doesn't fit; then it has no say in the channels."""
        if x.ndim not in (self.ndim + 1, self.ndim + 2):
            space = ", ".join(("D", "H", "W")[3 - self.ndim :])
            raise InvalidProblem(f"x must have shape (C, {space}) or (N, C, {space}); got {x.shape}; in {self!r}")
        channels = x.shape[-self.ndim - 1]
        if self.in_channels not in (None, channels) or channels % self.groups or not channels:
            known = self.in_channels if self.in_channels and self.in_channels % self.groups == 0 else None
            needed = known or f"a positive multiple of groups={self.groups}"
            raise InvalidProblem(f"x must have {needed} channels, channels first; got {x.shape}; in {self!r}")
        self._out_spatial(x.shape[-self.ndim :])
        return self._settle(*((0, channels) if self.transposed else (1, channels // self.groups)))

    def _add_gradients(self, seen: Array, results: Array, dy: Array) -> None:
        """Add the gradients by weight and bias: `seen` is what the correlation's windows ran over, `results` its y."""
        assert self._weight.value is not None  # forward has run
        by_weight = getattr(gradients, f"corr{self.ndim}d_grad_kernel")
        self._weight.add_to_grad(by_weight(seen, results, self._weight.value.shape, **self._how))
        self._add_bias_grad(dy, -self.ndim - 1)

    def __repr__(self) -> str:
        n = self.ndim
        said = {"kernel_size": self.kernel_size, "in_channels": self.in_channels} | self._said()
        usual = {"stride": (1,) * n, "padding": ((0, 0),) * n, "dilation": (1,) * n, "groups": 1}
        usual |= {"boundary": ("constant",) * n, "output_padding": (0,) * n, "in_channels": None}
        words = [f"{name}={value!r}" for name, value in said.items() if usual.get(name) != value]
        words += ["bias=False"] if self._bias is None else []
        words += [] if self.dtype == np.float32 else [f"dtype={self.dtype}"]
        return f"{type(self).__name__}({', '.join([str(self.out_channels), *words])})"

    def _said(self) -> dict[str, Any]:
        """What the repr tells beside channels and kernel size."""
        return self._how
