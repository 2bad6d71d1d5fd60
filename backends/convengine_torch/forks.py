"""Whether this process was forked from one that had loaded torch: OpenMP would wait for threads that a fork lacks."""

import os
import sys

__all__ = ["after_torch"]

_forks: list[bool] = []  # of this process and those before it: whether torch was loaded


def after_torch() -> bool:
    """Tell whether torch may have started threads before this process was forked from its parent."""
    return any(_forks)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=lambda: _forks.append("torch" in sys.modules))
