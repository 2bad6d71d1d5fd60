"""Transposed convolutional layers: the adjoints of convolutions, which make pictures larger."""

from typing import Any

from convengine import api, gradients
from convengine.arguments import per_axis
from convengine.errors import InvalidProblem
from convengine.nn.layer import Array
from convengine.nn.windowed import Windowed

__all__ = ["ConvTranspose1D", "ConvTranspose2D", "ConvTranspose3D"]


class TransposedConvolution(Windowed):
    """The layer in any dimension: y = corrNd_grad_input(x, weight, shape of y, ...) + bias."""

    transposed = True

    def __init__(self, out_channels: int, kernel_size: Any, *, output_padding: Any = 0, **keywords: Any) -> None:
        super().__init__(out_channels, kernel_size, **keywords)
        self.output_padding = per_axis(output_padding, self.ndim, "output_padding", 0)
        if any(more >= step for more, step in zip(self.output_padding, self.stride, strict=True)):
            raise InvalidProblem(
                f"output_padding must be smaller than the stride, {self.stride}: it chooses among the sizes that a "
                f"convolution of this stride maps to one; got {self.output_padding}"
            )

    def _out_spatial(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        # Of what the convolution takes to `spatial`.
        axes = zip(
            spatial, self.stride, self.padding, self.dilation, self.kernel_size, self.output_padding, strict=True
        )
        sizes = tuple((n - 1) * s - sum(pads) + d * (k - 1) + more + 1 for n, s, pads, d, k, more in axes)
        if min(spatial) < 1 or min(sizes) < 1:
            raise InvalidProblem(
                f"x must be large enough to leave a result; got {spatial}, which gives {sizes}; in {self!r}"
            )
        return sizes

    def _forward(self, x: Array) -> tuple[Array, Array]:
        weight, bias = self._learned(x)
        n = self.ndim
        y_shape = (*x.shape[: -n - 1], self.out_channels, *self._out_spatial(x.shape[-n:]))
        y: Array = getattr(gradients, f"corr{n}d_grad_input")(x, weight, y_shape, **self._how)
        if bias is not None:
            y = y + bias.reshape(-1, *(1,) * n)
        return y, x

    def _backward(self, dy: Array, kept: Array) -> Array:
        self._add_gradients(dy, kept, dy)
        dx: Array = getattr(api, f"corr{self.ndim}d")(dy, self._weight.value, **self._how)
        return dx

    def _said(self) -> dict[str, Any]:
        return self._how | {"output_padding": self.output_padding}


class ConvTranspose1D(TransposedConvolution):
    """Transposed convolutional layer over one axis: x of shape (C_in, W) or (N, C_in, W). See ConvTranspose2D.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> layer = nn.ConvTranspose1D(1, 2, stride=2, in_channels=1, bias=False)
    >>> layer.weight = [[[1.0, -1.0]]]
    >>> layer(np.array([[1.0, 2.0, 3.0]], np.float32))
    array([[ 1., -1.,  2., -2.,  3., -3.]], dtype=float32)
    """

    ndim = 1


class ConvTranspose2D(TransposedConvolution):
    """Transposed convolutional layer over two axes, as torch.nn.ConvTranspose2d: the adjoint of Conv2D.

    Parameters
    ----------
    out_channels, kernel_size, in_channels, bias, stride, padding, dilation, groups, boundary, dtype, rng
        As in Conv2D, whose adjoint this is: `padding` is cut off (with "constant"; the other boundaries add it to the
        samples it was made from), and `stride` spreads x.
    output_padding : int or sequence of int, optional
        Added to the size of the result, which a stride leaves open: 0 .. stride - 1.

    Attributes
    ----------
    weight, weight_grad : array (C_in, C_out/groups, kh, kw)
        Inputs first. All others are as in Conv2D, and `transposed` is True.

    Raises
    ------
    InvalidProblem
        If the arguments describe no layer, or x does not fit it.

    Notes
    -----
    Sizes: (n - 1) * stride - before - after + dilation * (k - 1) + output_padding + 1. fan_in is PyTorch's:
    C_out/groups * kh * kw.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> x = np.ones((1, 8, 7, 7), np.float32)
    >>> nn.ConvTranspose2D(4, 3, stride=2, padding=1, output_padding=1, rng=0)(x).shape
    (1, 4, 14, 14)
    """

    ndim = 2


class ConvTranspose3D(TransposedConvolution):
    """Transposed convolutional layer over three axes: x of shape (C_in, D, H, W) or (N, C_in, D, H, W).

    All else is as in ConvTranspose2D.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> nn.ConvTranspose3D(1, 2, stride=2, rng=0)(np.ones((3, 2, 4, 4), np.float32)).shape
    (1, 4, 8, 8)
    """

    ndim = 3
