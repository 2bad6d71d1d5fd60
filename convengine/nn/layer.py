"""What all layers share: forward and backward with their checks, parameters by name, and state in and out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from convengine.arguments import read_array
from convengine.errors import InvalidProblem
from convengine.nn.state import read_state, write_state

__all__ = ["Array", "Layer", "Parameter", "Weighted", "read_samples"]

Array = np.ndarray[Any, Any]
FLOATS = ("float16", "float32", "float64")


class Parameter:
    """An array that is learned, with its gradient.

    Parameters
    ----------
    shape : tuple of int or None
        None for a size that the first array decides.
    dtype : numpy.dtype
        Of value and gradient.

    Attributes
    ----------
    value, grad : array or None
        None as long as the shape is not known. They stay the same two arrays from then on: changed in place.

    Examples
    --------
    >>> from convengine import nn
    >>> layer = nn.Conv1D(1, 2, in_channels=1, rng=0)
    >>> {name: parameter.value.shape for name, parameter in layer.parameters().items()}
    {'weight': (1, 1, 2), 'bias': (1,)}
    """

    __slots__ = ("dtype", "grad", "shape", "value")

    def __init__(self, shape: tuple[int | None, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype
        self.value: Array | None = None
        self.grad: Array | None = None

    def fitting(self, name: str, value: Any) -> Array:
        """Return the values that this parameter would take on, a copy in its dtype, or raise InvalidProblem."""
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # what other libraries raise from __array__
            raise InvalidProblem(f"{name} must be an array of numbers; got {type(value).__name__} ({error})") from error
        if array.dtype.kind not in "biuf":
            raise InvalidProblem(f"{name} must be an array of real numbers; got dtype {array.dtype}")
        fits = len(array.shape) == len(self.shape) and all(
            want in (None, got) for want, got in zip(self.shape, array.shape, strict=True)
        )
        if not fits or not array.size:
            sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
            raise InvalidProblem(f"{name} must have shape ({sizes}); got {array.shape}")
        return np.array(array, self.dtype, order="C")

    def put(self, array: Array) -> None:
        """Take on the values of an array that is `fitting`."""
        if self.value is None:
            self.value = np.array(array, self.dtype, order="C")
            self.grad = np.zeros_like(self.value)
            self.shape = self.value.shape
        else:
            self.value[...] = array

    def add_to_grad(self, gradient: Array) -> None:
        """Add what one backward pass found."""
        assert self.grad is not None  # forward has run
        self.grad += gradient.astype(self.dtype, copy=False)


def read_samples(value: Any, name: str) -> Array:
    """Return an array of real numbers in host memory, or raise InvalidProblem."""
    array = read_array(value, name)
    if not isinstance(array, np.ndarray):
        raise InvalidProblem(f"{name} must be a NumPy array: layers run on the host; got {type(array).__name__}")
    if array.dtype.kind == "c":
        raise InvalidProblem(f"{name} must be real: layers have real weights; got {array.dtype}; take .real and .imag")
    return array


class Layer(ABC):
    """A step of a network: an array in, an array out, and the gradient back.

    A layer of your own says how in `_forward` and `_backward`; one that learns names its arrays in `parameters`. A
    layer stands at one place of one network, for it remembers its last forward pass.

    Examples
    --------
    >>> import numpy as np
    >>> from convengine import nn
    >>> class Square(nn.Layer):
    ...     def _forward(self, x):
    ...         return x * x, x
    ...     def _backward(self, dy, kept):
    ...         return 2 * kept * dy
    >>> layer = Square()
    >>> layer(np.array([1.0, 3.0]))
    array([1., 9.])
    >>> layer.backward(np.array([1.0, 1.0]))
    array([2., 6.])
    """

    _kept: Any = None
    _out: tuple[int, ...] | None = None

    @abstractmethod
    def _forward(self, x: Array) -> tuple[Array, Any]:
        """Return the result, and what `_backward` will need."""

    @abstractmethod
    def _backward(self, dy: Array, kept: Any) -> Array:
        """Return the gradient by x, and add the gradients by the parameters to theirs."""

    def __call__(self, x: Any) -> Array:
        """Run `forward`."""
        return self.forward(x)

    def forward(self, x: Any) -> Array:
        """Compute the layer's result.

        Parameters
        ----------
        x : array
            Kept, not copied, for `backward`: leave it as it is until then.

        Returns
        -------
        array

        Raises
        ------
        InvalidProblem
            If x does not fit the layer; the text carries the values.
        """
        self._kept = self._out = None
        y, kept = self._forward(read_samples(x, "x"))
        self._kept, self._out = kept, y.shape
        return y

    def backward(self, dy: Any) -> Array:
        """Compute the gradient of the loss by x, from that by the last forward pass's result.

        Parameters
        ----------
        dy : array of the shape of that result
            Gradient of the loss by it.

        Returns
        -------
        array of the shape of x
            The gradients by the parameters are added to theirs; `zero_grad` starts anew.

        Raises
        ------
        InvalidProblem
            If there was no forward pass, or dy has another shape.
        """
        if self._out is None:
            raise InvalidProblem(f"backward needs a forward pass before it: call layer(x) first; the layer is {self!r}")
        dy = read_samples(dy, "dy")
        if dy.shape != self._out:
            raise InvalidProblem(f"dy must have the shape {self._out} of the last result; got {dy.shape}; in {self!r}")
        if dy.dtype.kind != "f":
            dy = dy.astype(np.float64)
        return self._backward(dy, self._kept)

    def parameters(self) -> dict[str, Parameter]:
        """Return what is learned, under PyTorch's names: "weight", "bias"; in a Sequential "0.weight", and so on.

        Returns
        -------
        dict of str to Parameter
            The parameters themselves; none for a layer that does not learn.
        """
        return {}

    def zero_grad(self) -> None:
        """Set the gradients of all parameters to zero."""
        for parameter in self.parameters().values():
            if parameter.grad is not None:
                parameter.grad[...] = 0

    def state_dict(self) -> dict[str, Array]:
        """Return a copy of every parameter under its name, as PyTorch's `load_state_dict` takes them once wrapped.

        Returns
        -------
        dict of str to array

        Raises
        ------
        InvalidProblem
            If the number of inputs is not known yet.
        """
        state = {}
        for name, parameter in self.parameters().items():
            if parameter.value is None:
                raise InvalidProblem(
                    f"{name} has no values yet: they are drawn at the first forward pass, or give in_channels"
                )
            state[name] = parameter.value.copy()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take on the values of all parameters: arrays under their names, PyTorch's tensors as well.

        Parameters
        ----------
        state : mapping of str to array
            One for each parameter, of its shape; copied, in the layer's dtype.

        Raises
        ------
        InvalidProblem
            If names are missing or unknown or a shape differs; nothing is changed then.
        """
        parameters = self.parameters()
        missing, unknown = parameters.keys() - state.keys(), state.keys() - parameters.keys()
        if missing or unknown:
            raise InvalidProblem(
                f"the state must hold {', '.join(parameters) or 'nothing'}; missing: "
                f"{', '.join(sorted(missing)) or 'none'}; unknown: {', '.join(sorted(unknown)) or 'none'}"
            )
        fitting = {name: parameter.fitting(name, state[name]) for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.put(fitting[name])

    def save(self, path: str | PathLike[str]) -> None:
        """Write all parameters to an .npz file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            Exactly this name: no suffix is added. A file that is there already is replaced.

        Raises
        ------
        InvalidProblem
            As `state_dict`.
        OSError
            If the file can't be written.
        """
        write_state(path, self.state_dict())

    def load(self, path: str | PathLike[str]) -> None:
        """Take on the parameters that `save` wrote.

        Parameters
        ----------
        path : str or path-like
            Or any .npz file that holds arrays under the parameters' names.

        Raises
        ------
        InvalidProblem
            If the file holds no arrays, or those of another network.
        OSError
            If there is no such file, or it may not be read.
        """
        self.load_state_dict(read_state(path))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Weighted(Layer):
    """A layer with a weight (outputs first or inputs first, as PyTorch has it) and, if asked for, a bias.

    What has no values when the number of inputs becomes known is drawn as PyTorch draws it: uniform within
    +-1/sqrt(fan_in), the weight first.
    """

    def __init__(self, shape: tuple[int | None, ...], outputs: int, *, bias: bool, dtype: Any, rng: Any) -> None:
        try:
            self.dtype = np.dtype(dtype).newbyteorder("=")
        except TypeError:
            raise InvalidProblem(f"dtype must be one of {', '.join(FLOATS)}; got {dtype!r}") from None
        if self.dtype.name not in FLOATS:
            raise InvalidProblem(f"dtype must be one of {', '.join(FLOATS)}; got {self.dtype}")
        self._rng = np.random.default_rng(rng)
        self._weight = Parameter(shape, self.dtype)
        self._bias = Parameter((outputs,), self.dtype) if bias else None
        if None not in shape:
            self._draw()

    def _draw(self) -> None:
        """Give values to what has none; the weight's shape is known."""
        for parameter in self.parameters().values():
            if parameter.value is None:
                shape = [size for size in parameter.shape if size is not None]
                reach = 1 / math.sqrt(math.prod(size for size in self._weight.shape[1:] if size is not None))
                parameter.put(self._rng.uniform(-reach, reach, shape))

    def _settle(self, axis: int, size: int) -> tuple[Array, Array | None]:
        """Weight and bias, drawn now if the first x has just said how long `axis` of the weight is."""
        if self._weight.value is None:
            shape = self._weight.shape
            self._weight.shape = (*shape[:axis], size, *shape[axis + 1 :])
        self._draw()
        assert self._weight.value is not None
        return self._weight.value, None if self._bias is None else self._bias.value

    def parameters(self) -> dict[str, Parameter]:
        """Return "weight", and "bias" where there is one."""
        return {"weight": self._weight} | ({} if self._bias is None else {"bias": self._bias})

    @property
    def weight(self) -> Array | None:
        """The weight itself, to read and to change in place; None before the number of inputs is known."""
        return self._weight.value

    @weight.setter
    def weight(self, value: Any) -> None:
        self._weight.put(self._weight.fitting("weight", value))

    @property
    def bias(self) -> Array | None:
        """The bias itself; None where there is none, and before the number of inputs is known."""
        return None if self._bias is None else self._bias.value

    @bias.setter
    def bias(self, value: Any) -> None:
        if self._bias is None:
            raise InvalidProblem(f"this layer has no bias to set: it was made with bias=False; the layer is {self!r}")
        self._bias.put(self._bias.fitting("bias", value))

    @property
    def weight_grad(self) -> Array | None:
        """The gradient of the loss by the weight, summed over the backward passes since `zero_grad`."""
        return self._weight.grad

    @property
    def bias_grad(self) -> Array | None:
        """The gradient of the loss by the bias, likewise."""
        return None if self._bias is None else self._bias.grad

    def _add_bias_grad(self, dy: Array, channel: int) -> None:
        """Add the sum of dy over all axes but that of the outputs."""
        if self._bias is not None:
            others = tuple(axis for axis in range(dy.ndim) if axis != channel % dy.ndim)
            rows = np.ascontiguousarray(dy)  # so that the order of the sum is not that of memory
            self._bias.add_to_grad(rows.sum(axis=others, dtype=np.result_type(dy.dtype, np.float32)))
