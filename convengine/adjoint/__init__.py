"""Gradients by forward problems: how a backend that correlates computes the adjoints too.

The gradient of x is a correlation of out's gradient, zeros around it, with the kernel flipped and its channels
exchanged. Under a stride s that gradient would have s - 1 zeros between its samples; instead every residue modulo s, a
phase, is a problem of its own with the taps that reach it, so that no zero is multiplied. What reaches a border made
from samples is computed strip by strip, and added to these samples.

The gradient of the kernel is a correlation of x with out's gradient as the kernel, stride and dilation exchanged, the
images of the batch as channels.

A backend routes its own `offers` and `plan` through those of this module:

    def offers(self, problem, facts):
        return adjoint.offers(problem, facts, self.forward_offers)

    def plan(self, problem, offer, solve):
        return adjoint.plan(problem, offer, self.forward_offers, ForwardPlan)

Offers for these forward problems are asked with facts that are not the very kernel's (`KernelFacts.unknown`, or those
of the kernel before its channels were exchanged), so the plan's `prepare` must decline a kernel that its method cannot
take.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from convengine.adjoint.of_input import Forward, InputGradient, PlanForward, input_offers
from convengine.adjoint.of_kernel import KernelGradient, kernel_offers
from convengine.plugin import Offer, Plan, Refusal
from convengine.problem import KernelFacts, Problem

__all__ = ["offers", "plan"]


def offers(problem: Problem, facts: KernelFacts, forward: Forward) -> Sequence[Offer] | Refusal:
    """Offers for any problem, from a function that makes them for forward ones."""
    match problem.op:
        case "forward":
            return forward(problem, facts)
        case "grad_input":
            return input_offers(problem, facts, forward)
        case "grad_kernel":
            return kernel_offers(problem, facts, forward)


def plan(problem: Problem, offer: Offer, forward: Forward, plan_forward: PlanForward, *, xp: Any = np) -> Plan:
    """Plan of one of these offers, from functions that make offers and plans for forward problems.

    `xp` is the array library of what the filters take and give, and of the output's gradient in the kernel's place; the
    kernel of an input gradient is NumPy's.
    """
    match problem.op:
        case "forward":
            return plan_forward(problem, offer)
        case "grad_input":
            return InputGradient(problem, offer, forward, plan_forward, xp)
        case "grad_kernel":
            return KernelGradient(problem, offer, forward, plan_forward, xp)
