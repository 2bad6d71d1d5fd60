"""JAX: the public operations take JAX arrays, return JAX arrays, and take part in grad, jit and vmap.

Concrete arrays are computed at once, their memory shared with NumPy; under `jax.jit` and `jax.vmap` the engine is
called back by `jax.pure_callback`. The operation and its two gradients are `jax.custom_vjp` functions, each
differentiated by the others: `convengine.interop.question` says why they close. JAX pairs cotangents without
conjugation, the engine with it, hence the conjugates around its gradients.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from convengine import api
from convengine.arguments import check_dtype, read_array, read_kernel
from convengine.errors import InvalidProblem
from convengine.interop.question import Question
from convengine.reading import read
from convengine.reading_gradients import Like, read_grad_input, read_grad_kernel

__all__ = ["apply"]

Array: TypeAlias = np.ndarray[Any, Any]


def apply(
    name: str, first: Any, second: Any, keywords: Mapping[str, Any], out: Any, backend: Any, workers: Any
) -> jax.Array:
    """Run a public operation, or one of its gradients, that has a JAX array among its arguments.

    Parameters
    ----------
    name : str
        "corr2d", "corr2d_grad_input", "corr2d_grad_kernel", ...
    first, second : array or list
        (x, kernel), (dy, kernel) or (x, dy); NumPy arrays count as `jax.numpy.asarray` of them.
    keywords : mapping
        What to compute: all keywords of the operation; in a gradient also x_shape or kernel_shape.
    out : None
        JAX arrays are not written to.
    backend, workers
        As for the operation; they hold for its gradients too.

    Returns
    -------
    jax.Array

    Raises
    ------
    InvalidProblem
        For an array on a GPU or TPU, for `out`, and for a result of 64 bits where JAX holds 32.

    Examples
    --------
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import convengine as ce
    >>> x = jnp.arange(9.0).reshape(3, 3)
    >>> jax.jit(jax.grad(lambda x: ce.corr2d(x, [[0, 1], [2, 3]]).sum()))(x)
    Array([[0., 1., 1.],
           [2., 6., 4.],
           [2., 5., 3.]], dtype=float32)
    """
    if out is not None:
        raise InvalidProblem("out= writes in place, and JAX arrays are not written to; use what is returned")
    kind, question = Question.read(name, keywords, backend, workers)
    names = {"": ("x", "kernel"), "grad_input": ("dy", "kernel"), "grad_kernel": ("x", "dy")}[kind]
    first = _operand(first, names[0])
    if names[1] == "kernel" and not hasattr(second, "dtype"):  # Python's numbers are weak
        second = read_kernel(second, first.dtype, None if question.dtype is None else np.dtype(question.dtype))
    second = _operand(second, names[1])
    if kind == "grad_input":
        return _grad_input(question)(first, second)
    if kind == "grad_kernel":
        return _grad_kernel(question)(first, second)
    bias = keywords["bias"]
    return _forward(question)(first, second, None if bias is None else _operand(bias, "bias"))


def _operand(value: Any, name: str) -> Any:
    """A JAX array or tracer of a supported dtype, in host memory."""
    if not isinstance(value, jax.Array):
        value = jnp.asarray(read_array(value, name))
    if not isinstance(value.dtype, np.dtype):
        raise InvalidProblem(f"{name} has dtype {value.dtype}, which holds no numbers")
    check_dtype(value.dtype, name)
    if not isinstance(value, jax.core.Tracer):
        for device in value.devices():
            if device.platform != "cpu":
                raise InvalidProblem(
                    f"{name} lies on {device}; JAX arrays are computed in host memory: pass "
                    f"jax.device_put({name}, jax.devices('cpu')[0])"
                )
    return value


# ---- the three functions, each for one question


def _forward(question: Question) -> Callable[..., jax.Array]:
    """Make y = F(x, kernel) + bias."""

    def run(x: Any, kernel: Any, bias: Any) -> jax.Array:
        return _ask("forward", question, x, kernel, bias)

    def pull(kept: Any, dy: Any) -> Any:
        x, kernel, bias = kept
        if dy.dtype == jax.dtypes.float0:  # of an integer result
            return None, None, None
        dx = _gradient(x, lambda: _grad_input(question.linear(x.shape))(dy.conj(), kernel))
        dkernel = _gradient(kernel, lambda: _grad_kernel(question.of(kernel.shape))(x, dy.conj()))
        return dx, dkernel, None if bias is None else _gradient(bias, lambda: _grad_bias(question, bias, dy).conj())

    return _differentiable(run, pull)


def _grad_bias(question: Question, bias: Any, dy: Any) -> Any:
    last = question.has_channels_last(dy.ndim)
    channel = (dy.ndim - 1 if last else dy.ndim - question.ndim - 1) if math.prod(bias.shape) > 1 else None
    return dy.sum(tuple(axis for axis in range(dy.ndim) if axis != channel)).reshape(bias.shape)


def _grad_input(question: Question) -> Callable[..., jax.Array]:
    """Make dx, of the question's shape, with <dy, B(u, kernel)> = <dx, u> for every u."""

    def run(dy: Any, kernel: Any) -> jax.Array:
        return _ask("grad_input", question, dy, kernel)

    def pull(kept: Any, g: Any) -> Any:
        dy, kernel = kept
        if g.dtype == jax.dtypes.float0:
            return None, None
        ddy = _gradient(dy, lambda: _forward(question.linear())(g.conj(), kernel, None))
        return ddy, _gradient(kernel, lambda: _grad_kernel(question.linear(kernel.shape))(g.conj(), dy))

    return _differentiable(run, pull)


def _grad_kernel(question: Question) -> Callable[..., jax.Array]:
    """Make dkernel, of the question's shape, with <dy, F(x, v)> = <dkernel, v> for every v."""

    def run(x: Any, dy: Any) -> jax.Array:
        return _ask("grad_kernel", question, x, dy)

    def pull(kept: Any, g: Any) -> Any:
        x, dy = kept
        if g.dtype == jax.dtypes.float0:
            return None, None
        dx = _gradient(x, lambda: _grad_input(question.linear(x.shape))(dy, g.conj()))
        return dx, _gradient(dy, lambda: _forward(question.of())(x, g.conj(), None))

    return _differentiable(run, pull)


def _differentiable(run: Callable[..., jax.Array], pull: Callable[..., Any]) -> Callable[..., jax.Array]:
    """Make a function of `run`, with `pull` from its operands and its result's cotangent to theirs."""
    function: Any = jax.custom_vjp(run)

    def keep(*operands: Any) -> Any:
        return function(*operands), operands  # not `run`, for derivatives of this one

    function.defvjp(keep, pull)
    made: Callable[..., jax.Array] = function
    return made


def _gradient(operand: Any, compute: Callable[[], Any]) -> Any:
    """The cotangent of an operand from its gradient: conjugated, real where the operand is; None for integers."""
    if not jnp.issubdtype(operand.dtype, jnp.inexact):
        return None
    value = compute().conj()
    if not jnp.issubdtype(operand.dtype, jnp.complexfloating):
        value = value.real
    return value.astype(operand.dtype)


# ---- asking the engine


def _ask(function: str, question: Question, *operands: Any) -> jax.Array:
    """Ask the engine about concrete arrays at once, about traced ones when they have values."""
    given = [operand for operand in operands if operand is not None]
    if not any(isinstance(operand, jax.core.Tracer) for operand in given):
        result = getattr(question, function)(*map(np.asarray, given))
        _require_held(result.dtype)
        return jnp.asarray(result)
    ranks = [operand.ndim for operand in given]

    def called_back(*arrays: Any) -> Array:
        return _each(getattr(question, function), [np.asarray(array) for array in arrays], ranks)

    answer = _answer(function, question, *given)
    traced: jax.Array = jax.pure_callback(called_back, answer, *given, vmap_method="expand_dims")
    return traced


def _each(function: Callable[..., Array], arrays: Sequence[Array], ranks: Sequence[int]) -> Array:
    """Call a function for each place on the axes that vmap put before those that it knows."""
    mapped = [array.shape[: array.ndim - rank] for array, rank in zip(arrays, ranks, strict=True)]
    if not mapped[0]:
        return function(*arrays)
    places = np.broadcast_shapes(*mapped)  # an operand that is not mapped has one place

    def at(place: tuple[int, ...]) -> Array:
        chosen = (
            array[tuple(min(index, size - 1) for index, size in zip(place, sizes, strict=True))]
            for array, sizes in zip(arrays, mapped, strict=True)
        )
        return function(*chosen)

    results = [at(place) for place in np.ndindex(*places)]
    return np.stack(results).reshape(*places, *results[0].shape)


def _answer(function: str, question: Question, first: Any, second: Any, bias: Any = None) -> jax.ShapeDtypeStruct:
    """Shape and dtype of what the engine will answer; raises what it would raise for such shapes and dtypes."""
    ndim, flip, _ = api.OPERATIONS[question.operation]
    x = Like(first.shape, first.dtype, "host")
    other = np.broadcast_to(np.zeros((), second.dtype), second.shape)
    said = {**question.keywords, "dtype": question.dtype, "bias": None, "out": None, "memory": "host"}
    if function == "forward":
        said["bias"] = None if bias is None else np.zeros(bias.shape, bias.dtype)
        reading = read(ndim, flip, x, other, **said)
    elif function == "grad_input":
        reading = read_grad_input(ndim, flip, x, other, x_shape=question.shape, **said)
    else:
        reading = read_grad_kernel(ndim, flip, x, other, kernel_shape=question.shape, **said)
    dtype = reading.problem.result_dtype
    _require_held(dtype)
    return jax.ShapeDtypeStruct(reading.out_shape, dtype)


def _require_held(dtype: np.dtype[Any]) -> None:
    """Raise where JAX would cut a result down to 32 bits."""
    held = jax.dtypes.canonicalize_dtype(dtype)
    if held != dtype:
        raise InvalidProblem(
            f"the result has dtype {dtype}, which JAX holds as {held} unless jax_enable_x64 is set; set it, or a dtype"
        )
