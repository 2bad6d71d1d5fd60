"""The laws of the gradients: within their bounds, adjoint to the forward operation, its derivative, the same bits."""

from typing import Any

import numpy as np
import pytest

from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.cases import Case
from convengine.testing.examination import Examination, laid_out, problem
from convengine.testing.runner import Answer, bound, expected, place, require_same_bits

__all__ = ["GradientLaws"]

RNG_SEED = 37
EDGES = ("edge", "reflect", "symmetric", "wrap", "constant")


def _sum(*products: Array) -> Any:
    """The real part of an inner product, in longdouble."""
    wide = np.clongdouble if any(p.dtype.kind == "c" for p in products) else np.longdouble
    one, other = (p.astype(wide) for p in products)
    return np.sum(one.conj() * other).real


class GradientLaws(Examination):
    """The part of the contract that is about gradients."""

    def test_input_gradient_is_within_its_bound(self, grad_input: str) -> None:
        """Every sort of problem, against the oracle, which sends each product back to where it came from."""
        self.hold(*problem("grad_input", grad_input))

    def test_kernel_gradient_is_within_its_bound(self, grad_kernel: str) -> None:
        """Every sort of problem, against the oracle."""
        self.hold(*problem("grad_kernel", grad_kernel))

    def test_gradients_are_adjoint(self, small: str) -> None:
        """<dy, f(x, k)> = <grad_input(dy, k), x> = <grad_kernel(x, dy), k>, for every boundary, within the bounds."""
        for boundary in EDGES:
            case = subjects.small()[small]
            keywords = case.keywords | {"boundary": boundary, "fill_value": 0}
            forward, to_input, to_kernel = self._three(case._replace(keywords=keywords))
            dy = to_input.x
            for what, one, other, weights in (
                ("x", forward, to_input, (dy, case.x)),
                ("the kernel", forward, to_kernel, (dy, case.kernel)),
            ):
                for name, y, gradient in self.shared(one, other):
                    difference = _sum(weights[0], y.value) - _sum(gradient.value, weights[1])
                    allowed = self._allowed(y, one, weights[0]) + self._allowed(gradient, other, weights[1])
                    text = f"{name}, {boundary}: <dy, y>, and <gradient of {what}, {what}>,"
                    self.require_near(text, np.array([difference]), np.array([allowed]))

    def test_gradients_are_derivatives(self, small: str) -> None:
        """Finite differences of sum(dy * f(x, k)) along a direction; f is linear in each, so that they are exact."""
        case = subjects.small()[small]
        case = case._replace(keywords=case.keywords | {"stride": 2, "dilation": 2, "mode": "full", "padding": None})
        forward, to_input, to_kernel = self._three(case)
        rng, dy = np.random.default_rng(RNG_SEED), to_input.x
        for what, gradient, moved in (("x", to_input, "x"), ("the kernel", to_kernel, "kernel")):
            start = getattr(case, moved)
            step = rng.integers(-5, 5, start.shape).astype(start.dtype)
            ahead = forward._replace(**{moved: start + step})
            for name, here, there, slope in self.shared(forward, ahead, gradient):
                difference = _sum(dy, there.value) - _sum(dy, here.value) - _sum(slope.value, step)
                allowed = self._allowed(here, forward, dy) + self._allowed(there, ahead, dy)
                allowed += self._allowed(slope, gradient, step)
                text = f"{name}: the change along a step of {what}, and <gradient, step>,"
                self.require_near(text, np.array([difference]), np.array([allowed]))

    @pytest.mark.parametrize(
        "size", ["layer", "blocks", "layer-last", "wide-kernel"]
    )  # a plain filter takes long for more
    def test_workers_change_no_bit_of_a_gradient(self, size: str) -> None:
        """1, 2, 3 and 5 workers."""
        for case in self._three(subjects.large()[size])[1:]:
            alone = self.answers(case, workers=1)
            for workers in (2, 3, 5):
                self.require_same_bits(alone, self.answers(case, workers=workers), f"1 worker and {workers} workers")

    def test_memory_layout_changes_no_bit_of_a_gradient(self, small: str) -> None:
        """Of both operands: any strides, byte order and alignment; read-only."""
        for case in self._three(subjects.small()[small])[1:]:
            wanted = self.answers(case)
            for (layout, first), (_, second) in zip(laid_out(case.x), laid_out(case.kernel), strict=True):
                laid = self.answers(case._replace(kernel=second), x=place(self.name, first))
                self.require_same_bits(wanted, laid, f"contiguous arrays and {layout}")

    def test_gradient_is_written_to_out(self, small: str) -> None:
        """By every method, for any strides; operands are left alone."""
        for case in self._three(subjects.small()[small])[1:]:
            before = case.x.copy(), case.kernel.copy()
            self.require_out_written(case)
            for operand, old in zip((case.x, case.kernel), before, strict=True):
                require_same_bits(old, operand, f"{self.name}: an operand of a gradient before and after")

    # ---- what they are made of

    def _three(self, case: Case) -> tuple[Case, Case, Case]:
        """A forward problem and its two gradients, for whole numbers as the gradient of out."""
        answer = expected(case)
        rng = np.random.default_rng(RNG_SEED)
        dtype = case.x.dtype if answer.sum_dtype.kind == "i" else answer.sum_dtype
        dy = rng.integers(-9, 9, answer.value.shape).astype(dtype)
        to_input = Case(
            f"input-{case.id}", f"{case.name}_grad_input", dy, case.kernel, case.keywords | {"x_shape": case.x.shape}
        )
        to_kernel = Case(
            f"kernel-{case.id}",
            f"{case.name}_grad_kernel",
            case.x,
            dy,
            case.keywords | {"kernel_shape": case.kernel.shape},
        )
        return case, to_input, to_kernel

    def _allowed(self, answer: Answer, case: Case, weights: Array) -> Any:
        """How far an inner product of an answer with weights may be off: its bounds, and the sum's own rounding."""
        reference = expected(case)
        limit = bound(answer.offer, reference)
        finite = np.abs(reference.value).astype(np.longdouble)
        moduli = np.abs(weights).astype(np.longdouble)
        parts = limit.real + limit.imag if limit.dtype.kind == "c" else limit
        rounding = 4 * weights.size * np.finfo(np.longdouble).eps
        return np.sum(moduli * (parts + rounding * finite))
