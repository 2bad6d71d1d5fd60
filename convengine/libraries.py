"""Array libraries beside NumPy and CuPy: whose arrays the operations take, and the module that knows how.

A module is loaded when the first array of its library arrives. It stands above the operations that it calls, so it is
found by name, as a backend is.
"""

from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["ADAPTERS", "adapter"]

# The first word of a class's module, and the module here whose
# `apply(name, first, second, keywords, out, backend, workers)` runs the operation `name` on arrays of that library.
ADAPTERS = {
    "torch": "convengine.interop.torch",
    "jax": "convengine.interop.jax",
    "jaxlib": "convengine.interop.jax",
}


@lru_cache(maxsize=256)
def _adapter_of(kind: Any) -> str:
    """The module for arrays of a class or of a class derived from it; empty where there is none."""
    names = (base.__module__.partition(".")[0] for base in kind.__mro__)
    return next((ADAPTERS[name] for name in names if name in ADAPTERS), "")


def adapter(*values: Any) -> Any:
    """Return the module for the first value that is an array of another library; None if none is."""
    for value in values:
        if found := _adapter_of(value.__class__):
            return import_module(found)
    return None
