"""PyTorch: the public operations take tensors, return tensors, and take part in autograd.

Tensors in host memory are shared with NumPy, never copied; `torch_autograd` has the derivatives, `torch_nn` the layers.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from convengine.errors import InvalidProblem
from convengine.interop.question import Question
from convengine.interop.torch_autograd import Forward, GradInput, GradKernel, on_host
from convengine.interop.torch_nn import Conv1d, Conv2d, Conv3d, LazyConv1d, LazyConv2d, LazyConv3d

__all__ = ["Conv1d", "Conv2d", "Conv3d", "LazyConv1d", "LazyConv2d", "LazyConv3d", "apply"]

DTYPES = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.uint32: np.uint32,
    torch.uint64: np.uint64,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
}

# `_apply` as a step that torch.compile leaves alone, breaking the graph; empty until the compiler is loaded, which
# takes longer than loading torch. Not a cached function, since the compiler warns of those.
UNCOMPILED: list[Callable[..., Tensor]] = []
REASON = "convengine's operations are compiled already; torch.compile breaks the graph around them"


def apply(
    name: str, first: Any, second: Any, keywords: Mapping[str, Any], out: Any, backend: Any, workers: Any
) -> Tensor:
    """Run a public operation, or one of its gradients, that has a tensor among its arguments.

    Parameters
    ----------
    name : str
        "corr2d", "corr2d_grad_input", "corr2d_grad_kernel", ...
    first, second : tensor, array or list
        (x, kernel), (dy, kernel) or (x, dy).
    keywords : mapping
        What to compute: all keywords of the operation; in a gradient also x_shape or kernel_shape. bias may be a
        tensor, dtype torch's or NumPy's.
    out : tensor or None
        Written in place.
    backend, workers
        As for the operation; they hold for its gradients too.

    Returns
    -------
    tensor
        In host memory; part of the autograd graph where an operand requires grad.

    Raises
    ------
    InvalidProblem
        For a tensor elsewhere than in plain host memory, or of a dtype that is not supported; for an `out` that
        autograd could not follow.

    Examples
    --------
    >>> import torch
    >>> import convengine as ce
    >>> x = torch.arange(9.0).reshape(3, 3).requires_grad_()
    >>> y = ce.corr2d(x, [[0, 1], [2, 3]])
    >>> y.sum().backward()
    >>> x.grad
    tensor([[0., 1., 1.],
            [2., 6., 4.],
            [2., 5., 3.]])
    """
    if "torch._dynamo" not in sys.modules:
        return _apply(name, first, second, keywords, out, backend, workers)
    if not UNCOMPILED:
        UNCOMPILED.append(torch.compiler.disable(_apply, reason=REASON))
    return UNCOMPILED[0](name, first, second, keywords, out, backend, workers)


def _apply(
    name: str, first: Any, second: Any, keywords: Mapping[str, Any], out: Any, backend: Any, workers: Any
) -> Tensor:
    if torch.jit.is_tracing():
        raise InvalidProblem(f"torch.jit.trace would record the result of {name} as a constant; trace without it")
    if isinstance(dtype := keywords["dtype"], torch.dtype):
        keywords = {**keywords, "dtype": _numpy_dtype(dtype, "dtype")}
    kind, question = Question.read(name, keywords, backend, workers)
    bias = keywords["bias"] if kind == "" else None  # which no gradient contains
    function: Any = {"": Forward, "grad_input": GradInput, "grad_kernel": GradKernel}[kind]
    names = {"": ("x", "kernel"), "grad_input": ("dy", "kernel"), "grad_kernel": ("x", "dy")}[kind]
    for operand, called in zip((first, second, bias, out), (*names, "bias", "out"), strict=True):
        if isinstance(operand, Tensor):
            _require_shareable(operand, called)
    operands = (first, second, bias) if kind == "" else (first, second)
    if out is None:
        result: Tensor = function.apply(*operands, question)
        return result
    _require_writable(out, operands)
    getattr(question, kind or "forward")(*map(on_host, operands), out=out.detach().numpy())
    increment_version(out)  # so that autograd finds out where it had kept out's old samples
    returned: Tensor = out
    return returned


def _numpy_dtype(dtype: torch.dtype, name: str) -> Any:
    if dtype not in DTYPES:
        supported = ", ".join(str(known).removeprefix("torch.") for known in DTYPES)
        raise InvalidProblem(f"{name} has dtype {dtype}; supported are {supported}; convert it first, as by .float()")
    return np.dtype(DTYPES[dtype])


def _require_shareable(tensor: Tensor, name: str) -> None:
    """Raise unless NumPy can look at the memory of a tensor."""
    if (
        type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__ or tensor.is_nested
    ):  # its memory is not its own
        raise InvalidProblem(f"{name} is a {type(tensor).__name__}, which wraps other tensors; pass a plain tensor")
    if tensor.device.type != "cpu":
        raise InvalidProblem(
            f"{name} is a tensor on {tensor.device}; tensors are computed in host memory: pass {name}.cpu()"
        )
    if tensor.layout is not torch.strided:
        raise InvalidProblem(f"{name} is a tensor of layout {tensor.layout}; pass {name}.to_dense()")
    _numpy_dtype(tensor.dtype, name)


def _require_writable(out: Any, operands: tuple[Any, ...]) -> None:
    """Raise unless out is a tensor that autograd need not know about."""
    if not isinstance(out, Tensor):
        raise InvalidProblem(f"out must be an array of x's library, a torch.Tensor; got {type(out).__name__}")
    if torch.is_grad_enabled() and any(isinstance(value, Tensor) and value.requires_grad for value in (*operands, out)):
        raise InvalidProblem(
            "out= takes no part in autograd, and an argument requires grad; leave out= away, or use torch.no_grad()"
        )
    if out.is_conj() or out.is_neg():
        raise InvalidProblem("out is a lazily conjugated or negated view; pass out.resolve_conj().resolve_neg()")
