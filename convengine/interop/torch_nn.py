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

        Returns
        -------
        tensor of shape (C_out, *S_out) or (N, C_out, *S_out)
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
    """torch.nn.Conv1d, computed by `corr1d`; arguments, parameters and state_dict are torch's."""


class Conv2d(_Correlation, torch.nn.Conv2d):
    """torch.nn.Conv2d, computed by `corr2d`; arguments, parameters and state_dict are torch's.

    Examples
    --------
    >>> import torch
    >>> layer = Conv2d(3, 8, kernel_size=3, padding="same", padding_mode="reflect")
    >>> layer(torch.zeros(1, 3, 16, 16)).shape
    torch.Size([1, 8, 16, 16])
    >>> layer.load_state_dict(torch.nn.Conv2d(3, 8, 3).state_dict())
    <All keys matched successfully>
    """


class Conv3d(_Correlation, torch.nn.Conv3d):
    """torch.nn.Conv3d, computed by `corr3d`; arguments, parameters and state_dict are torch's."""


class LazyConv1d(_Correlation, torch.nn.LazyConv1d):
    """torch.nn.LazyConv1d: becomes our `Conv1d` when it sees the input's channels."""

    cls_to_become = Conv1d


class LazyConv2d(_Correlation, torch.nn.LazyConv2d):
    """torch.nn.LazyConv2d: becomes our `Conv2d` when it sees the input's channels."""

    cls_to_become = Conv2d


class LazyConv3d(_Correlation, torch.nn.LazyConv3d):
    """torch.nn.LazyConv3d: becomes our `Conv3d` when it sees the input's channels."""

    cls_to_become = Conv3d


def __getattr__(name: str) -> Any:
    """Everything else of torch.nn."""
    try:
        return getattr(torch.nn, name)
    except AttributeError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}, nor has torch.nn") from None


def __dir__() -> list[str]:
    return sorted({*__all__, *dir(torch.nn)})
