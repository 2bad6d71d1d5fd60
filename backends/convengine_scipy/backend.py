"""What SciPy is asked for: refusals that all its methods share, then each method's own answer."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from convengine import adjoint, plugin
from convengine.plugin import BackendInfo, Declined, Filter, Offer, Refusal, Solve, direct_error, is_installed
from convengine.problem import KernelFacts, Problem, kept_by_form
from convengine_scipy import ndimage, signal
from convengine_scipy.method import Method

__all__ = ["Backend"]

METHODS: tuple[Method, ...] = (ndimage.Correlate(), signal.Correlate2d(), signal.Correlate())
MISSING = "scipy is not installed (pip install scipy)"


@dataclass(frozen=True, slots=True)
class Plan:
    """One of SciPy's functions, chosen for a problem."""

    problem: Problem
    method: Method
    unseen: bool  # whether it was offered without a look at the kernel, as in a gradient

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Copy the kernel; SciPy has no other work to do ahead."""
        if self.unseen and (reason := self.method.refusal(self.problem, KernelFacts.of(kernel, self.problem.ndim))):
            raise Declined(f"{self.method.name} {reason}")
        return self.method.prepare(self.problem, kernel.copy(), None if bias is None else bias.copy())


class Backend:
    """scipy.ndimage and scipy.signal, single-threaded."""

    name = "scipy"

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offer every method that does this problem as it is; without one, refuse with each one's reason."""
        return adjoint.offers(problem, facts, self.forward_offers)

    def forward_offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offers for a forward problem."""
        if reason := _refusal(problem):
            return Refusal(reason)
        offers, reasons = [], []
        error = direct_error(problem)  # ndimage sums in double, and so errs less
        for method in METHODS:
            if reason := method.refusal(problem, facts):
                reasons.append(f"{method.name} {reason}")
            else:
                offers.append(Offer(method.name, method.seconds(problem), method.memory(problem), error))
        return offers or Refusal("; ".join(reasons))

    def least_seconds(self, problem: Problem) -> float:
        """What the fastest of its loops takes, where no sample is computed in vain."""
        if problem.op != "forward":
            return 0.0
        tap = signal.TAP_1D if problem.ndim == 1 else ndimage.TAP
        return min(signal.PLANE, ndimage.CALL) + math.prod(problem.out_shape) * (ndimage.OUTPUT + problem.taps * tap)

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> plugin.Plan:
        """Take the method that the offer names."""

        def plan_forward(forward: Problem, chosen: Offer) -> Plan:
            method = next(method for method in METHODS if method.name == chosen.method)
            return Plan(forward, method, unseen=problem.op != "forward")

        return adjoint.plan(problem, offer, self.forward_offers, plan_forward)

    def info(self) -> BackendInfo:
        """SciPy's version, without importing it."""
        try:
            return BackendInfo(usable=True, version=version("scipy"))
        except PackageNotFoundError:
            return BackendInfo(usable=False, reason=MISSING)


def _refusal(problem: Problem) -> str:
    """Why none of SciPy's functions does this problem; empty if one may."""
    return _form_refusal(problem) if is_installed("scipy") else MISSING


@kept_by_form
def _form_refusal(problem: Problem) -> str:
    if problem.memory != "host":
        return f"scipy runs on host arrays, not on {problem.memory}"
    if problem.is_layer:
        return f"scipy has no layers, only {problem.ndim}-D filters; got a kernel of shape {problem.kernel_shape}"
    if set(problem.stride) != {1}:
        return f"scipy computes every output sample; got stride {problem.stride}"
    if set(problem.dilation) != {1}:
        return f"scipy has no dilated kernels; got dilation {problem.dilation}"
    return ""
