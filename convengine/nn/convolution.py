"""Convolutional layers: cross-correlation with learned kernels, in one, two or three dimensions."""

from convengine import api, gradients
from convengine.errors import InvalidProblem
from convengine.nn.layer import Array
from convengine.nn.windowed import Windowed

__all__ = ["Conv1D", "Conv2D", "Conv3D"]


class Convolution(Windowed):
    """The layer in any dimension: y = corrNd(x, weight, bias=bias, ...)."""

    transposed = False

    def _out_spatial(self, spatial: tuple[int, ...]) -> tuple[int, ...]:
        axes = zip(spatial, self.padding, self.dilation, self.kernel_size, self.stride, strict=True)
        sizes = tuple((n + sum(pads) - d * (k - 1) - 1) // s + 1 for n, pads, d, k, s in axes)
        if min(sizes) < 1:
            raise InvalidProblem(f"x, padded, must hold the kernel, dilated; got {spatial}; in {self!r}")
        return sizes

    def _forward(self, x: Array) -> tuple[Array, Array]:
        weight, bias = self._learned(x)
        y: Array = getattr(api, f"corr{self.ndim}d")(x, weight, bias=bias, **self._how)
        return y, x

    def _backward(self, dy: Array, kept: Array) -> Array:
        self._add_gradients(kept, dy, dy)
        by_x = getattr(gradients, f"corr{self.ndim}d_grad_input")
        dx: Array = by_x(dy, self._weight.value, kept.shape, **self._how)
        return dx


class Conv1D(Convolution):
    """Convolutional layer over one axis: x of shape (C_in, W) or (N, C_in, W). All else is as in Conv2D.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> layer = nn.Conv1D(4, 3, stride=2, rng=0)
    >>> layer(np.ones((8, 2, 9), np.float32)).shape
    (8, 4, 4)
    >>> layer.weight.shape
    (4, 2, 3)
    """

    ndim = 1


class Conv2D(Convolution):
    """Convolutional layer over two axes, as torch.nn.Conv2d: cross-correlation, channels first.

    Parameters
    ----------
    out_channels : int
        Channels of the result.
    kernel_size : int or sequence of int
        Height and width of the window.
    in_channels : int, optional
        Channels of x. Without it the first x says, and the weights are drawn then.
    bias : bool, optional
        Whether one learned number is added per output channel.
    stride, dilation : int or sequence of int, optional
        Steps between results and between the taps of the kernel, in samples.
    padding : int, sequence of int or of (before, after), optional
        Samples added on each side.
    groups : int, optional
        Channel groups: each sees its own share of x's channels alone.
    boundary : str or sequence of str, optional
        What is added there, in numpy.pad's words: "constant" (zeros, default), "edge", "reflect", "symmetric", "wrap".
    dtype : dtype, optional
        Of weight, bias and their gradients: float16, float32 (default) or float64. Results have NumPy's promotion of
        it and x's.
    rng : numpy.random.Generator or seed, optional
        For the first weights: uniform within +-1/sqrt(fan_in), fan_in = C_in/groups * kh * kw, weight before bias.

    Attributes
    ----------
    weight, weight_grad : array (C_out, C_in/groups, kh, kw)
        None before the number of channels is known. `weight` may be set, and changed in place.
    bias, bias_grad : array (C_out,) or None
        Likewise.
    kernel_size, stride, dilation : tuple of int
        Per spatial axis.
    padding : tuple of (before, after)
        Per spatial axis.
    groups, in_channels, out_channels : int
        As given, or found.
    transposed : bool
        False.

    Raises
    ------
    InvalidProblem
        If the arguments describe no layer, or x does not fit it.

    Notes
    -----
    x is (C_in, H, W) or (N, C_in, H, W). The first weights are PyTorch's `kaiming_uniform_(a=sqrt(5))` (He et al. 2015,
    arXiv:1502.01852, with that slope), from NumPy's generator and not from PyTorch's.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> layer = nn.Conv2D(6, 5, padding=2, rng=0)
    >>> x = np.ones((8, 1, 28, 28), np.float32)
    >>> y = layer(x)
    >>> y.shape, layer.weight.shape
    ((8, 6, 28, 28), (6, 1, 5, 5))
    >>> layer.backward(np.ones_like(y)).shape
    (8, 1, 28, 28)
    >>> layer.bias_grad
    array([6272., 6272., 6272., 6272., 6272., 6272.], dtype=float32)
    """

    ndim = 2


class Conv3D(Convolution):
    """Convolutional layer over three axes: x of shape (C_in, D, H, W) or (N, C_in, D, H, W). All else is as in Conv2D.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> nn.Conv3D(2, (1, 3, 3), padding=(0, 1, 1), rng=0)(np.ones((1, 4, 8, 8), np.float32)).shape
    (2, 4, 8, 8)
    """

    ndim = 3
