"""A plug-in by somebody who read convengine.plugin's documentation: real filters on the host, by shifted sums."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from convengine.plugin import API, BackendInfo, Offer, Refusal, direct_error, finish


class Backend:
    """Pads with numpy.pad, whose words the boundaries are; then adds one shifted copy of x for each tap."""

    name = "foreign"
    api = API

    def info(self) -> BackendInfo:
        return BackendInfo(usable=True, version="1.0")

    def offers(self, problem: Any, facts: Any) -> list[Offer] | Refusal:
        if problem.op != "forward":
            return Refusal(f"computes the forward operation only, not {problem.op}")
        if problem.memory != "host":
            return Refusal(f"runs on arrays in host memory, not {problem.memory}")
        if problem.is_layer:
            return Refusal(f"does filters only, not a layer with a kernel of shape {problem.kernel_shape}")
        if problem.sum_dtype.kind == "c":
            return Refusal(f"does real numbers only, not {problem.sum_dtype}")
        if 0 in problem.spatial or 0 in problem.out_shape:
            return Refusal(f"needs samples; got x {problem.x_shape} and out {problem.out_shape}")
        seconds = 1e-4 * problem.taps + 2e-9 * problem.multiplications
        return [Offer("shifted sums", seconds, 4 * 8 * int(np.prod(problem.x_shape)), direct_error(problem))]

    def plan(self, problem: Any, offer: Offer, solve: Any) -> "ShiftedSums":
        return ShiftedSums(problem)


@dataclass
class ShiftedSums:
    problem: Any
    kernel: Any = None
    bias: Any = None

    def prepare(self, kernel: Any, bias: Any = None) -> "ShiftedSums":
        bias = None if bias is None else bias.copy()
        return ShiftedSums(self.problem, kernel.astype(self.problem.sum_dtype), bias)

    def __call__(self, x: Any, out: Any = None) -> Any:
        problem = self.problem
        total = np.zeros(problem.out_shape, problem.sum_dtype)
        padded = self.pad(x).astype(problem.sum_dtype)
        with np.errstate(all="ignore"):  # NaN and infinity are answers
            for tap in product(*map(range, self.kernel.shape)):
                window = [
                    slice(at * d, at * d + s * (n - 1) + 1, s)
                    for at, d, s, n in zip(tap, problem.dilation, problem.stride, problem.out_spatial, strict=True)
                ]
                total += padded[(..., *window)] * self.kernel[tap]
            return finish(problem, total, self.bias, out)

    def pad(self, x: Any) -> Any:
        problem = self.problem
        first = x.ndim - problem.ndim
        for axis, (pads, rule) in enumerate(zip(problem.pads, problem.boundary, strict=True)):
            widths = [(0, 0)] * x.ndim
            widths[first + axis] = pads
            fill = {"constant_values": problem.fill_value} if rule == "constant" else {}
            x = np.pad(x, widths, mode=str(rule), **fill)
        return x
