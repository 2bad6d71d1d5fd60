"""The torch backend: the convolutions of PyTorch's layers (oneDNN), for single-precision layers of many channels.

Found by its entry point in the group ``convengine.backends``; torch loads when a problem is planned.
"""

from convengine_torch.backend import Backend

__all__ = ["Backend"]
