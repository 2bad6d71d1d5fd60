"""One layer by oneDNN: an image at a time, so that a batch has the bits of its images alone."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from convengine.boundary import Boundary, window
from convengine.plugin import Declined, finish, loaded_at_fork, workers
from convengine.problem import Problem

__all__ = ["BlockedLayer"]

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class BlockedLayer:
    """The plan: nothing but the problem; oneDNN plans within torch, by shapes."""

    problem: Problem

    def prepare(self, kernel: Array, bias: Array | None = None) -> "LayerFilter":
        """Copy kernel and bias to tensors."""
        if not torch.backends.mkldnn.is_available():
            raise Declined("this torch was built without oneDNN")
        finite = bool(np.isfinite(kernel).all())
        weight = torch.from_numpy(_flat(kernel.astype(np.float32), self.problem))
        return LayerFilter(self.problem, weight, None if bias is None else torch.from_numpy(bias.copy()), finite)


@dataclass(frozen=True, slots=True, eq=False)
class LayerFilter:
    """The filter: holds the weight as a tensor, which oneDNN reorders into blocks anew at each call."""

    problem: Problem
    weight: Any
    bias: Any
    finite: bool  # the weight

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(self.weight.nbytes)

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Filter x image by image."""
        problem = self.problem
        _require_state()
        if out is None:
            out = np.empty(problem.out_shape, problem.out_dtype)
        # oneDNN pads with zeros alone, as much before as after, and leaves out the taps on them.
        native = self.finite and all(_is_native(problem, axis) for axis in range(problem.ndim))
        pads = [before for before, _ in problem.pads] if native else [0] * problem.ndim
        row = int(problem.ndim == 1)  # oneDNN's signals are images of one row
        stride, dilation = [1] * row + list(problem.stride), [1] * row + list(problem.dilation)
        how = [0] * row + pads, stride, dilation, problem.groups
        for index in np.ndindex(*problem.batch):
            image = _tensor(_samples(x[index], problem, native), problem)
            y = torch.mkldnn_convolution(image, self.weight, self.bias, *how)
            finish(problem, y.numpy().reshape(out[index].shape), None, out[index])
        return out


def _require_state() -> None:
    """Decline where torch's own settings would break a promise: they are the process's, and the user's to change."""
    if (threads := torch.get_num_threads()) > workers():
        raise Declined(f"torch runs on {threads} threads here, workers={workers()}; call torch.set_num_threads")
    if threads > 1 and loaded_at_fork("torch"):
        raise Declined(
            f"this process was forked from one that had loaded torch, whose {threads} threads would be waited for "
            "without end; call torch.set_num_threads(1) here, or start processes by spawn"
        )
    if (precision := torch.backends.mkldnn.conv.fp32_precision) not in ("none", "ieee"):
        raise Declined(f"torch.backends.mkldnn.conv.fp32_precision={precision!r} lets oneDNN round float32 down")


def _is_native(problem: Problem, axis: int) -> bool:
    """Whether oneDNN can pad an axis itself, within the blocked kernels: by less than the kernel's width."""
    before, after = problem.pads[axis]
    if not (before or after):
        return True
    zeros = problem.boundary[axis] is Boundary.CONSTANT and problem.fill_value == 0
    return zeros and before == after <= problem.dilation[axis] * (problem.kernel_spatial[axis] - 1)


def _samples(image: Array, problem: Problem, native: bool) -> Array:
    """The samples of one image, (C, *S), with their border where oneDNN does not make it; contiguous and writable."""
    if not native:
        starts = [-before for before, _ in problem.pads]
        stops = [n + after for n, (_, after) in zip(problem.spatial, problem.pads, strict=True)]
        image = window(image, starts, stops, problem.boundary, problem.fill_value)
    return np.require(image, np.float32, ["C", "W"])  # torch warns of an array that it might be asked to write to


def _flat(array: Array, problem: Problem) -> Array:
    """An array of a signal's layer with an axis of one row before its last."""
    return array[..., None, :] if problem.ndim == 1 else array


def _tensor(image: Array, problem: Problem) -> Any:
    return torch.from_numpy(_flat(image, problem)[None])
