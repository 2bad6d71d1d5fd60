"""What a layer is, before it runs: its shapes, its receptive field, its parameters, and the matrix that it stands for.

`as_linear_operator` and `CorrelationOperator` need scipy, and load it when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convengine.analysis.dense import DenseLayer, dense_layer
from convengine.analysis.field import ReceptiveField, receptive_field
from convengine.analysis.parameters import ParameterCount, parameter_count
from convengine.analysis.shapes import lags, output_shape, transposed_shape
from convengine.analysis.stack import Window

if TYPE_CHECKING:
    from convengine.analysis.operators import CorrelationOperator, as_linear_operator

__all__ = [
    "CorrelationOperator",
    "DenseLayer",
    "ParameterCount",
    "ReceptiveField",
    "Window",
    "as_linear_operator",
    "dense_layer",
    "lags",
    "output_shape",
    "parameter_count",
    "receptive_field",
    "transposed_shape",
]


def __getattr__(name: str) -> Any:
    if name in ("CorrelationOperator", "as_linear_operator"):
        return getattr(import_module("convengine.analysis.operators"), name)
    raise AttributeError(f"convengine.analysis has {', '.join(__all__)}; got {name!r}")


def __dir__() -> list[str]:
    return __all__
