"""Array libraries beside NumPy and CuPy: whose arrays the operations take, and the module that knows how.

A module is loaded when the first array of its library arrives. It stands above the operations that it calls, so it is
found by name, as a backend is.
"""

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


_found: dict[type, str] = {}  # by class; a class of no such library has the empty name
_loaded: dict[str, Any] = {}  # by name; in sys.modules stand modules, too, that another thread has not finished


def _adapter_of(kind: type) -> str:
    """The module for arrays of a class or of a class derived from it; empty where there is none."""
    if kind not in _found:
        names = (base.__module__.partition(".")[0] for base in kind.__mro__)
        _found[kind] = next((ADAPTERS[name] for name in names if name in ADAPTERS), "")
    return _found[kind]


def adapter(*values: Any) -> Any:
    """Return the module for the first value that is an array of another library; None if none is."""
    for value in values:
        if found := _adapter_of(type(value)):
            if found not in _loaded:  # what is, torch.compile can follow
                _loaded[found] = import_module(found)
            return _loaded[found]
    return None
