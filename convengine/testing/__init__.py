"""The proof of the engine, for its own tests and for every plug-in: oracle, bounds, cases and strategies.

`strategies` needs hypothesis and is loaded when it is asked for.
"""

from importlib import import_module
from typing import Any

from convengine.testing.bounds import check, componentwise, fft_constant, gamma, normwise, unit_roundoff
from convengine.testing.cases import Case, covering_cases
from convengine.testing.oracle import Reference, reference
from convengine.testing.oracle_gradients import gradient_reference

__all__ = [
    "Case",
    "Reference",
    "check",
    "componentwise",
    "covering_cases",
    "fft_constant",
    "gamma",
    "gradient_reference",
    "normwise",
    "reference",
    "strategies",
    "unit_roundoff",
]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module("convengine.testing.strategies")
    raise AttributeError(f"convengine.testing has {', '.join(__all__)}; got {name!r}")
