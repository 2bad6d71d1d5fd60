"""The operation and its two gradients as torch.autograd.Functions, each differentiated by the others.

`convengine.interop.question` says why they close. Operands are tensors, or anything else that an operation takes, which
then is a constant.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from convengine.errors import InvalidProblem
from convengine.interop.question import Question

__all__ = ["Forward", "GradInput", "GradKernel", "on_host"]

# By functorch's protocol, vmap returns its results and the axis of each along which it stacked them.
Stacked = tuple[Tensor, int]


def on_host(operand: Any) -> Any:
    """The memory of a tensor as a NumPy array; anything else as it is."""
    if not isinstance(operand, Tensor):
        return operand
    try:
        return operand.detach().resolve_conj().resolve_neg().numpy()
    except RuntimeError as error:  # the tensors of torch's modes say what they are only here
        raise InvalidProblem(
            "a tensor has no memory that NumPy could look at, as under autograd.grad(is_grads_batched=True), which "
            f"torch.vmap and torch.func can do instead, or in a fake mode: {str(error).splitlines()[0]}"
        ) from error


class Forward(Function):
    """y = F(x, kernel) + bias."""

    @staticmethod
    def forward(x: Any, kernel: Any, bias: Any, question: Question) -> Tensor:
        """Run the operation."""
        return torch.from_numpy(question.forward(on_host(x), on_host(kernel), on_host(bias)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the gradients need."""
        x, kernel, bias, ctx.question = inputs
        _keep(ctx, x, kernel, output)
        ctx.bias = _kind(bias)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        """Gradients in x, kernel and bias."""
        question, needed = ctx.question, ctx.needs_input_grad
        (x, x_kind), (kernel, kernel_kind) = _kept(ctx)
        dx = dkernel = dbias = None
        if needed[0]:
            dx = _cast(GradInput.apply(dy, kernel, question.linear(x_kind[0])), x_kind[1])
        if needed[1]:
            dkernel = _cast(GradKernel.apply(x, dy, question.of(kernel_kind[0])), kernel_kind[1])
        if needed[2]:
            shape, dtype = ctx.bias
            channel = _channel(question, dy.ndim) if math.prod(shape) > 1 else None
            others = [axis for axis in range(dy.ndim) if axis != channel]
            dbias = _cast(dy.sum(others).reshape(shape), dtype)
        return dx, dkernel, dbias, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, dkernel: Any, dbias: Any, _: None) -> Any:
        """Tangent of y."""
        (x, _), (kernel, _) = _kept(ctx)
        parts = []
        if dx is not None:
            parts.append(Forward.apply(dx, kernel, None, ctx.question.linear()))
        if dkernel is not None:
            parts.append(Forward.apply(x, dkernel, None, ctx.question.of()))
        if dbias is not None:
            shape = [1] * len(ctx.out_kind[0])
            shape[_channel(ctx.question, len(shape))] = dbias.numel()
            parts.append(dbias.reshape(shape).expand(ctx.out_kind[0]))
        return _sum(parts, ctx.out_kind[1])

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, kernel: Any, bias: Any, question: Question) -> Stacked:
        """Several x under one kernel are one call."""
        if in_dims[0] is None or in_dims[1] is not None or in_dims[2] is not None:
            return _one_by_one(Forward, info, in_dims, x, kernel, bias, question)
        x, layer = x.movedim(in_dims[0], 0), _is_layer(kernel, question)
        if layer and x.ndim == question.ndim + 3:
            return Forward.apply(x.flatten(0, 1), kernel, bias, question).unflatten(0, x.shape[:2]), 0
        return Forward.apply(x, kernel, bias, question.stacked(info.batch_size, layer)), 0


class GradInput(Function):
    """dx, of the question's shape, with <dy, B(u, kernel)> = <dx, u> for every u."""

    @staticmethod
    def forward(dy: Any, kernel: Any, question: Question) -> Tensor:
        """Run the adjoint."""
        return torch.from_numpy(question.grad_input(on_host(dy), on_host(kernel)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the gradients need."""
        dy, kernel, ctx.question = inputs
        _keep(ctx, dy, kernel, output)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Gradients in dy and kernel."""
        question, needed = ctx.question, ctx.needs_input_grad
        (dy, dy_kind), (kernel, kernel_kind) = _kept(ctx)
        ddy = dkernel = None
        if needed[0]:
            ddy = _cast(Forward.apply(g, kernel, None, question.linear()), dy_kind[1])
        if needed[1]:
            dkernel = _cast(GradKernel.apply(g, dy, question.linear(kernel_kind[0])), kernel_kind[1])
        return ddy, dkernel, None

    @staticmethod
    def jvp(ctx: Any, ddy: Any, dkernel: Any, _: None) -> Any:
        """Tangent of dx: it is linear in dy, and in the kernel."""
        (dy, _), (kernel, _) = _kept(ctx)
        question = ctx.question.of(ctx.question.shape)
        pairs = [(ddy, kernel)] * (ddy is not None) + [(dy, dkernel)] * (dkernel is not None)
        return _sum([GradInput.apply(*pair, question) for pair in pairs], ctx.out_kind[1])

    @staticmethod
    def vmap(info: Any, in_dims: Any, dy: Any, kernel: Any, question: Question) -> Stacked:
        """Several dy under one kernel are one call."""
        if in_dims[0] is None or in_dims[1] is not None:
            return _one_by_one(GradInput, info, in_dims, dy, kernel, question)
        dy, layer = dy.movedim(in_dims[0], 0), _is_layer(kernel, question)
        if layer and dy.ndim == question.ndim + 3:
            images, *rest = question.shape or ()
            together = replace(question, shape=(info.batch_size * images, *rest))
            return GradInput.apply(dy.flatten(0, 1), kernel, together).unflatten(0, dy.shape[:2]), 0
        return GradInput.apply(dy, kernel, question.stacked(info.batch_size, layer)), 0


class GradKernel(Function):
    """dkernel, of the question's shape, with <dy, F(x, v)> = <dkernel, v> for every v."""

    @staticmethod
    def forward(x: Any, dy: Any, question: Question) -> Tensor:
        """Run the adjoint."""
        return torch.from_numpy(question.grad_kernel(on_host(x), on_host(dy)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what the gradients need."""
        x, dy, ctx.question = inputs
        _keep(ctx, x, dy, output)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        """Gradients in x and dy."""
        question, needed = ctx.question, ctx.needs_input_grad
        (x, x_kind), (dy, dy_kind) = _kept(ctx)
        dx = ddy = None
        if needed[0]:
            dx = _cast(GradInput.apply(dy, g, question.linear(x_kind[0])), x_kind[1])
        if needed[1]:
            ddy = _cast(Forward.apply(x, g, None, question.of()), dy_kind[1])
        return dx, ddy, None

    @staticmethod
    def jvp(ctx: Any, dx: Any, ddy: Any, _: None) -> Any:
        """Tangent of dkernel: it is affine in x, and linear in dy."""
        (x, _), (dy, _) = _kept(ctx)
        shape, parts = ctx.question.shape, []
        if dx is not None:
            parts.append(GradKernel.apply(dx, dy, ctx.question.linear(shape)))
        if ddy is not None:
            parts.append(GradKernel.apply(x, ddy, ctx.question.of(shape)))
        return _sum(parts, ctx.out_kind[1])

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, dy: Any, question: Question) -> Stacked:
        """Each has a gradient of its own, and so a call."""
        return _one_by_one(GradKernel, info, in_dims, x, dy, question)


def _one_by_one(function: Any, info: Any, in_dims: Any, *arguments: Any) -> Stacked:
    """Call a function once for each sample of a batch."""
    pairs = list(zip(arguments, in_dims, strict=True))
    results = [
        function.apply(*(value if axis is None else value.select(axis, sample) for value, axis in pairs))
        for sample in range(info.batch_size)
    ]
    return torch.stack(results), 0


def _keep(ctx: Any, first: Any, second: Any, output: Tensor) -> None:
    """Keep two operands, each of which the other's gradient needs: for backward, only if that gradient is asked for."""
    tensors = [operand if isinstance(operand, Tensor) else None for operand in (first, second)]
    needed = ctx.needs_input_grad
    ctx.save_for_backward(tensors[0] if needed[1] else None, tensors[1] if needed[0] else None)
    ctx.save_for_forward(*tensors)
    ctx.constants = [None if isinstance(operand, Tensor) else operand for operand in (first, second)]
    ctx.kinds = [_kind(first), _kind(second)]
    ctx.out_kind = _kind(output)
    if not (output.is_floating_point() or output.is_complex()):
        ctx.mark_non_differentiable(output)


def _kept(ctx: Any) -> list[tuple[Any, Any]]:
    """The two operands, each with its shape and dtype."""
    operands = [
        constant if tensor is None else tensor
        for tensor, constant in zip(ctx.saved_tensors, ctx.constants, strict=True)
    ]
    return list(zip(operands, ctx.kinds, strict=True))


def _kind(operand: Any) -> tuple[tuple[int, ...], torch.dtype] | None:
    return (tuple(operand.shape), operand.dtype) if isinstance(operand, Tensor) else None


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """As a gradient of something of `dtype`: its real part where that is real."""
    return (value.real if value.is_complex() and not dtype.is_complex else value).to(dtype)


def _sum(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor | None:
    """The tangent of a result of `dtype`; None where it has none."""
    if not (parts and (dtype.is_floating_point or dtype.is_complex)):
        return None
    return _cast(reduce(torch.add, parts), dtype)


def _is_layer(kernel: Any, question: Question) -> bool:
    """Whether the kernel has channel axes."""
    return (kernel.ndim if isinstance(kernel, Tensor) else np.ndim(kernel)) == question.ndim + 2


def _channel(question: Question, y_ndim: int) -> int:
    """The axis of a layer's result that its bias runs along."""
    return y_ndim - 1 if question.has_channels_last(y_ndim) else y_ndim - question.ndim - 1
