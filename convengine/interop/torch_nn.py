"""torch.nn with our convolutions: `from convengine.interop import torch_nn as nn` stands for `from torch import nn`.

The layers are torch's own in signature, initialisation, parameters and state_dict; only who computes differs.
"""

from typing import Any

import torch
from torch import Tensor

from convengine import api

__all__ = ["Conv1d", "Conv2d", "Conv3d", "LazyConv1d", "LazyConv2d", "LazyConv3d"]

BOUNDARIES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class _Correlation:
    """What our layers do instead of torch's."""

    def forward(self: Any, input: Tensor) -> Tensor:
        """Correlate `input`, (C_in, *S) or (N, C_in, *S), with the weight and add the bias.

        Parameters
        ----------
        input : tensor of shape (C_in, *S) or (N, C_in, *S)
            In host memory.

        Returns
        -------
        tensor of shape (C_out, *S_out) or (N, C_out, *S_out)

        Raises
        ------
        InvalidProblem
            If the input does not fit the layer, or lies elsewhere.
        """
        result: Tensor = getattr(api, f"corr{len(self.kernel_size)}d")(
            input,
            self.weight,
            bias=self.bias,
            padding=self._pads(),
            boundary=BOUNDARIES[self.padding_mode],
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
        )
        return result

    def _pads(self: Any) -> Any:
        """Padding as the operations take it; torch's "same" puts the odd sample behind."""
        if self.padding == "valid":
            return 0
        if self.padding != "same":
            return self.padding
        totals = [step * (width - 1) for step, width in zip(self.dilation, self.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]


class Conv1d(_Correlation, torch.nn.Conv1d):
    """torch.nn.Conv1d, computed by `corr1d`; arguments, parameters and state_dict are torch's.

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (C_out, C_in/groups, kw)
    bias : torch.nn.Parameter of shape (C_out,), or None

    Examples
    --------
    >>> import torch
    >>> from convengine.interop import torch_nn as nn
    >>> layer = nn.Conv1d(1, 1, kernel_size=2, bias=False)
    >>> layer.load_state_dict({"weight": torch.tensor([[[1.0, -1.0]]])})
    <All keys matched successfully>
    >>> layer(torch.tensor([[1.0, 2.0, 4.0]])).detach()
    tensor([[-1., -2.]])
    """


class Conv2d(_Correlation, torch.nn.Conv2d):
    """torch.nn.Conv2d, computed by `corr2d`; arguments, parameters and state_dict are torch's.

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (C_out, C_in/groups, kh, kw)
    bias : torch.nn.Parameter of shape (C_out,), or None

    Examples
    --------
    >>> import torch
    >>> from convengine.interop import torch_nn as nn
    >>> layer = nn.Conv2d(3, 8, kernel_size=3, padding="same", padding_mode="reflect")
    >>> layer(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    >>> layer.load_state_dict(torch.nn.Conv2d(3, 8, 3).state_dict())
    <All keys matched successfully>
    """


class Conv3d(_Correlation, torch.nn.Conv3d):
    """torch.nn.Conv3d, computed by `corr3d`; arguments, parameters and state_dict are torch's.

    Attributes
    ----------
    weight : torch.nn.Parameter of shape (C_out, C_in/groups, kd, kh, kw)
    bias : torch.nn.Parameter of shape (C_out,), or None

    Examples
    --------
    >>> import torch
    >>> from convengine.interop import torch_nn as nn
    >>> layer = nn.Conv3d(1, 4, kernel_size=3, stride=2, padding=1)
    >>> layer(torch.zeros(2, 1, 5, 8, 8)).shape
    torch.Size([2, 4, 3, 4, 4])
    """


class LazyConv1d(_Correlation, torch.nn.LazyConv1d):
    """torch.nn.LazyConv1d: becomes our `Conv1d` when it sees the input's channels.

    Examples
    --------
    >>> import torch
    >>> from convengine.interop import torch_nn as nn
    >>> layer = nn.LazyConv1d(8, kernel_size=3)
    >>> layer(torch.zeros(2, 3, 20)).shape
    torch.Size([2, 8, 18])
    >>> type(layer) is nn.Conv1d, layer.in_channels
    (True, 3)
    """

    cls_to_become = Conv1d


class LazyConv2d(_Correlation, torch.nn.LazyConv2d):
    """torch.nn.LazyConv2d: becomes our `Conv2d` when it sees the input's channels.

    Examples
    --------
    >>> import torch
    >>> from convengine.interop import torch_nn as nn
    >>> layer = nn.LazyConv2d(8, kernel_size=3)
    >>> layer(torch.zeros(2, 3, 16, 20)).shape
    torch.Size([2, 8, 14, 18])
    >>> type(layer) is nn.Conv2d, layer.in_channels
    (True, 3)
    """

    cls_to_become = Conv2d


class LazyConv3d(_Correlation, torch.nn.LazyConv3d):
    """torch.nn.LazyConv3d: becomes our `Conv3d` when it sees the input's channels.

    Examples
    --------
    >>> import torch
    >>> from convengine.interop import torch_nn as nn
    >>> layer = nn.LazyConv3d(8, kernel_size=3)
    >>> layer(torch.zeros(2, 3, 5, 16, 20)).shape
    torch.Size([2, 8, 3, 14, 18])
    >>> type(layer) is nn.Conv3d, layer.in_channels
    (True, 3)
    """

    cls_to_become = Conv3d


def __getattr__(name: str) -> Any:
    """Everything else of torch.nn."""
    try:
        return getattr(torch.nn, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has torch.nn") from None


def __dir__() -> list[str]:
    return sorted({*__all__, *dir(torch.nn)})
