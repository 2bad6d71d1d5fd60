"""The torch backend as the engine sees it: what it refuses, and its price for the rest.

Its method is oneDNN's direct convolution, whose blocked kernels sum each result in an order that depends on neither
threads nor batch. So it was found by comparing bits under 1 to 16 threads for some hundreds of random layers (torch
2.13.0, oneDNN 3.12.0, AVX-512; dozens with AVX2 and SSE4.1), and tests go on comparing. The layers for which oneDNN
turns to something else are refused here, for bits that did change: kernels of one tap, and matrix products, where
channels fill no block or the kernel is wider than x.
"""

import math
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from convengine.plugin import API, BackendInfo, Offer, Plan, Refusal, Solve, direct_error, is_installed, workers
from convengine.problem import KernelFacts, Problem, kept_by_form

__all__ = ["Backend"]

MISSING = "torch is not installed (pip install convengine[torch])"
BLOCK = 16  # channels in a block of oneDNN's: one AVX-512 register, two of AVX2

# Rough: torch 2.13.0, one thread of 2 cores of AMD Zen 4 (AVX-512), 2026-11, others at work on them: the best of 7
# calls of torch.mkldnn_convolution by time.perf_counter, float32 layers 64 to 256 channels wide, 3x3 and 5x5, x of 14^2
# to 56^2; 16 channels on 20^2 took what CALL says beside it.
RATE = 50e9  # products a second and thread
DEPTHWISE_RATE = 19e9
CALL = 45e-6  # seconds an image
LOAD = 1.5  # seconds, once, in a process that has not loaded torch


class Backend:
    """torch.mkldnn_convolution, which torch's own layers run on, image by image."""

    name = "torch"
    api = API

    def info(self) -> BackendInfo:
        """Usable where torch is installed, on the CPUs whose kernels were tried."""
        if reason := _missing():
            return BackendInfo(False, reason)
        return BackendInfo(True, version=f"torch {version('torch')}")

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offer the blocked kernels."""
        if reason := _refusal(problem) or _missing() or _off_the_blocks(problem):
            return Refusal(reason)
        rate = DEPTHWISE_RATE if _is_depthwise(problem) else RATE
        images = math.prod(problem.batch)
        seconds = images * CALL + problem.multiplications / (rate * workers())
        padded = math.prod(n + sum(pads) for n, pads in zip(problem.spatial, problem.pads, strict=True))
        samples = problem.channels[0] * padded + math.prod(problem.out_shape) // max(images, 1)
        return [
            Offer(
                method="oneDNN, stride " + "x".join(map(str, problem.stride)),  # each may have a kernel of its own
                seconds=seconds + (0 if "torch" in sys.modules else LOAD),
                memory=8 * samples + 8 * math.prod(problem.kernel_shape),  # oneDNN reorders each into blocks
                error=direct_error(problem),
            )
        ]

    def least_seconds(self, problem: Problem) -> float:
        """Infinity for what is no layer, most of all problems."""
        return 0.0 if problem.is_layer else math.inf

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> Plan:
        """Plan; torch loads here."""
        from convengine_torch.onednn import BlockedLayer

        return BlockedLayer(problem)


def _missing() -> str:
    if not is_installed("torch"):
        return MISSING
    if (machine := platform.machine()) not in ("x86_64", "AMD64"):
        return f"its bits were compared under several numbers of threads on x86-64 only; this is {machine}"
    return ""


@kept_by_form
def _refusal(problem: Problem) -> str:
    if problem.op != "forward":
        return f"computes op='forward' only, not {problem.op!r}"
    if problem.memory != "host":
        return f"runs on arrays in host memory, not {problem.memory}"
    if not problem.is_layer:
        return f"torch has layers, not filters; got a {problem.ndim}-D filter of shape {problem.kernel_shape}"
    if problem.is_integer or problem.sum_dtype != np.float32:
        return f"oneDNN's layers sum in float32; this one sums in {problem.sum_dtype}"
    return ""


def _is_depthwise(problem: Problem) -> bool:
    return problem.ndim < 3 and problem.groups == problem.channels[0] == problem.channels[1]


def _off_the_blocks(problem: Problem) -> str:
    """Why oneDNN would turn to a method whose order of summation depends on the number of threads."""
    ordered = "only then is oneDNN's order of summation the same for any number of threads"
    c_in, c_out = (count // problem.groups for count in problem.channels)
    if _is_depthwise(problem):
        if problem.groups % BLOCK:
            return f"a depthwise layer must have a multiple of {BLOCK} channels, {ordered}; got {problem.groups}"
    elif c_in % BLOCK or c_out % BLOCK:
        return f"channels per group must be multiples of {BLOCK}, {ordered}; got {c_in} to {c_out}"
    if set(problem.kernel_spatial) == {1}:
        return f"a kernel must have several taps, {ordered}; got {problem.kernel_spatial}"
    reach = tuple(d * (k - 1) + 1 for d, k in zip(problem.dilation, problem.kernel_spatial, strict=True))
    if any(width > n for width, n in zip(reach, problem.spatial, strict=True)):
        return f"a kernel must fit inside x, {ordered}; got {reach}, dilated, and x {problem.spatial}"
    return ""
