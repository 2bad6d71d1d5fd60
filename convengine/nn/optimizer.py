"""Stochastic gradient descent."""

from collections.abc import Mapping

import numpy as np

from convengine.errors import InvalidProblem
from convengine.filters.parameters import nonnegative
from convengine.nn.layer import Array, Parameter

__all__ = ["SGD"]


class SGD:
    """Steps down the gradient, with momentum, as torch.optim.SGD.

    Parameters
    ----------
    parameters : mapping of str to Parameter
        What `Layer.parameters` returns.
    lr : float
        Learning rate: the step, per unit of gradient. May be changed between steps.
    momentum : float, optional
        What share of the velocity is kept from step to step.

    Notes
    -----
    velocity = momentum * velocity + gradient; value -= lr * velocity (Sutskever et al. 2013, in PyTorch's scaling).

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> layer = nn.Linear(1, in_features=1, bias=False)
    >>> layer.weight = [[0.0]]
    >>> descent = nn.SGD(layer.parameters(), lr=0.1)
    >>> for _ in range(20):
    ...     error = layer(np.array([[2.0]])) - 6.0
    ...     layer.zero_grad()
    ...     _ = layer.backward(2 * error)
    ...     descent.step()
    >>> layer.weight.round(3)
    array([[3.]], dtype=float32)
    """

    def __init__(self, parameters: Mapping[str, Parameter], *, lr: float, momentum: float = 0.0) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            raise InvalidProblem(f"parameters must be what layer.parameters() returns, not empty; got {parameters!r}")
        self.parameters = dict(parameters)
        self.lr, self.momentum = nonnegative("lr", lr), nonnegative("momentum", momentum)
        self._velocities: dict[str, Array] = {}

    def step(self) -> None:
        """Change every parameter once, in place.

        Raises
        ------
        InvalidProblem
            If one has no values yet; nothing is changed then.
        """
        if unknown := [name for name, parameter in self.parameters.items() if parameter.value is None]:
            raise InvalidProblem(f"{', '.join(unknown)} need a forward and a backward pass before the first step")
        for name, parameter in self.parameters.items():
            assert parameter.value is not None and parameter.grad is not None
            step = parameter.grad
            if self.momentum:
                step = self._velocities.setdefault(name, np.zeros_like(parameter.grad))
                step *= self.momentum
                step += parameter.grad
            parameter.value -= self.lr * step
