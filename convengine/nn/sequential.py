"""Layers one after the other."""

from collections.abc import Iterator
from typing import Any

from convengine.errors import InvalidProblem
from convengine.nn.layer import Array, Layer, Parameter

__all__ = ["Sequential"]


class Sequential(Layer):
    """A network of layers, each taking what the one before it gives; may stand in another.

    Parameters
    ----------
    *layers : Layer
        Each a layer of its own: one object can't stand at two places, for it remembers one forward pass.

    Notes
    -----
    Parameters are named as PyTorch names those of torch.nn.Sequential: the layer's number, a dot, its own name.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> net = nn.Sequential(nn.Conv2D(8, 3, rng=0), nn.ReLU(), nn.Flatten(), nn.Linear(10, rng=1))
    >>> scores = net(np.zeros((4, 1, 8, 8), np.float32))
    >>> scores.shape
    (4, 10)
    >>> {name: array.shape for name, array in net.state_dict().items()}
    {'0.weight': (8, 1, 3, 3), '0.bias': (8,), '3.weight': (10, 288), '3.bias': (10,)}
    """

    def __init__(self, *layers: Layer) -> None:
        for number, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise InvalidProblem(f"layer {number} must be a layer of convengine.nn; got {layer!r}")
        self.layers = layers
        if len(set(map(id, self._within()))) < len(list(self._within())):
            raise InvalidProblem("a layer stands at two places, and can remember one forward pass only; make it twice")

    def _within(self) -> Iterator[Layer]:
        """All layers, those of inner networks included."""
        for layer in self.layers:
            yield layer
            if isinstance(layer, Sequential):
                yield from layer._within()

    def _forward(self, x: Array) -> tuple[Array, Any]:
        for number, layer in enumerate(self.layers):
            try:
                x = layer.forward(x)
            except InvalidProblem as error:
                error.add_note(f"at layer {number} of the Sequential, {layer!r}")
                raise
        return x, None

    def _backward(self, dy: Array, kept: Any) -> Array:
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def parameters(self) -> dict[str, Parameter]:
        """Return the parameters of all layers, their names after the number of the layer and a dot."""
        return {
            f"{number}.{name}": parameter
            for number, layer in enumerate(self.layers)
            for name, parameter in layer.parameters().items()
        }

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, number: int) -> Layer:
        return self.layers[number]

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"
