"""Wrong backends: each is the toy with one mistake that people make. The contract must catch every one."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import toy_backend

from convengine.boundary import Boundary
from convengine.plugin import Offer, finish, workers

MUTANTS: dict[str, type[toy_backend.Backend]] = {}


def mutant(kind: type[toy_backend.Filter]) -> type[toy_backend.Backend]:
    """Make the backend of a wrong filter; the name is the class's, in lower case with hyphens."""
    name = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__).lstrip("-")
    MUTANTS[name] = type(kind.__name__, (toy_backend.Backend,), {"name": name, "filter": kind})
    return MUTANTS[name]


class WithKernel(toy_backend.Filter):
    def __init__(self, problem: Any, kernel: Any, bias: Any) -> None:
        super().__init__(problem, self.wrong(kernel, problem), bias)

    def wrong(self, kernel: Any, problem: Any) -> Any:
        raise NotImplementedError  # each mutant has a fault of its own


@mutant
class Flipped(WithKernel):
    def wrong(self, kernel: Any, problem: Any) -> Any:
        return np.flip(kernel, tuple(range(-problem.ndim, 0)))


@mutant
class Unconjugated(WithKernel):  # or conjugated once too often: the mistake is the same
    def wrong(self, kernel: Any, problem: Any) -> Any:
        return kernel.conj()


@mutant
class ChannelsSwapped(WithKernel):
    def wrong(self, kernel: Any, problem: Any) -> Any:
        return np.flip(kernel, 1) if problem.is_layer else kernel


@mutant
class ShiftedByOne(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        return np.roll(super().total(padded), 1, axis=-1)


@mutant
class WrongBorder(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        swapped = {Boundary.REFLECT: Boundary.SYMMETRIC, Boundary.SYMMETRIC: Boundary.REFLECT}
        self.boundary = tuple(swapped.get(rule, rule) for rule in self.problem.boundary)
        return super().padded(x)


@mutant
class FillForgotten(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        self.fill_value = 0
        return super().padded(x)


@mutant
class BiasForgotten(toy_backend.Filter):
    def finish(self, total: Any, out: Any) -> Any:
        return finish(self.problem, total, None, out)


@mutant
class NanSmeared(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        if np.isnan(padded).any() and total.dtype.kind in "fc":
            total[...] = np.nan
        return total


@mutant
class InfinityTurnedNan(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        if total.dtype.kind in "fc":
            total[np.isinf(total)] = np.nan
        return total


@mutant
class ZeroTapsSkipped(toy_backend.Filter):
    def taps(self) -> list[tuple[int, ...]]:
        return [tap for tap in super().taps() if self.kernel[(slice(None), slice(None), *tap)].any()]


@mutant
class IntegerWrapped(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        return total.astype(np.int32).astype(total.dtype) if self.problem.is_integer else total


@mutant
class IntegerThroughFloat(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        return super().padded(x).astype(np.float64) if self.problem.is_integer else super().padded(x)

    def finish(self, total: Any, out: Any) -> Any:
        return super().finish(total.astype(self.problem.sum_dtype), out)


@mutant
class SaturationWrapped(toy_backend.Filter):
    def finish(self, total: Any, out: Any) -> Any:
        return finish(replace(self.problem, overflow="wrap"), total, self.bias, out)


@mutant
class OverflowNotRaised(toy_backend.Filter):
    def finish(self, total: Any, out: Any) -> Any:
        rule = self.problem.overflow.replace("raise", "saturate")
        return finish(replace(self.problem, overflow=rule), total, self.bias, out)


@mutant
class HalfUp(toy_backend.Filter):
    def finish(self, total: Any, out: Any) -> Any:
        if self.problem.out_dtype.kind in "iu" and total.dtype.kind == "f":
            total = np.floor(total + 0.5)
        return super().finish(total, out)


@mutant
class StrideOffByOne(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        padded = super().padded(x)
        return np.roll(padded, -1, axis=-1) if self.stride[-1] > 1 else padded


@mutant
class DilationIgnored(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        self.dilation = (1,) * self.problem.ndim
        return super().total(padded)


@mutant
class OutIgnored(toy_backend.Filter):
    def finish(self, total: Any, out: Any) -> Any:
        super().finish(total, np.ascontiguousarray(out))  # a copy, where out is not contiguous
        return out


@mutant
class XModified(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        padded = super().padded(x)
        if x.flags.writeable and x.dtype.kind in "fc":
            x[~np.isfinite(x)] = 0
        return padded


@mutant
class WorkersShow(toy_backend.Filter):
    def taps(self) -> list[tuple[int, ...]]:
        return super().taps()[:: 1 if workers() < 3 else -1]


@mutant
class BatchShows(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        if self.problem.is_integer:
            return super().total(padded)
        total = super().total(padded - padded.dtype.type(mean := np.mean(padded)))
        weights = self.kernel.sum(axis=tuple(range(2, self.kernel.ndim))).reshape(-1, *[1] * self.problem.ndim)
        return (total + mean * (weights if self.problem.is_layer else weights[0])).astype(total.dtype)


@mutant
class LayoutAssumed(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        return super().padded(x.ravel(order="K").reshape(x.shape))


@mutant
class BufferShared(toy_backend.Filter):
    buffer: Any = None

    def total(self, padded: Any) -> Any:
        self.buffer = padded
        time.sleep(0.01)  # long enough for another thread to come by
        return super().total(self.buffer)


@mutant
class AnswerRemembered(toy_backend.Filter):
    first: Any = None

    def total(self, padded: Any) -> Any:
        self.first = super().total(padded) if self.first is None else self.first
        return self.first.copy()


@mutant
class SubnormalsFlushed(toy_backend.Filter):
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        if total.dtype.kind == "f":
            total[np.abs(total) < np.finfo(total.dtype).tiny] = 0
        return total


@mutant
class SummedInSingle(toy_backend.Filter):
    def padded(self, x: Any) -> Any:
        padded = super().padded(x)
        return padded.astype(np.float32) if padded.dtype == np.float64 else padded


@mutant
class SeamLost(toy_backend.Filter):  # one row between two bands of a large image
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        if self.problem.ndim == 2 and total.shape[-2] > 256:
            total[..., 256, :] = total[..., 255, :]
        return total


@mutant
class VectorTailLost(toy_backend.Filter):  # what is left of a row after whole vectors of 16
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        if total.shape[-1] > 16 and total.shape[-1] % 16:
            total[..., -1] = 0
        return total


class Boastful(toy_backend.Backend):  # promises a smaller error than it makes
    name = "boastful"

    def offers(self, problem: Any, facts: Any) -> Any:
        offers = super().offers(problem, facts)
        return [replace(offer, error=offer.error / 100) for offer in offers] if isinstance(offers, list) else offers


class Everywhere(toy_backend.Backend):  # takes x wherever it lives
    name = "everywhere"

    def offers(self, problem: Any, facts: Any) -> Any:
        return super().offers(replace(problem, memory="host"), facts)


@mutant
class SmallDrowned(toy_backend.Filter):  # errs as a transform does, and promises what a sum keeps
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        if self.problem.is_integer or not padded.size:
            return total
        known = np.abs(np.where(np.isfinite(padded), padded, 0))
        return total + total.dtype.type(known.max() * np.finfo(total.dtype).eps)


@mutant
class BelowZero(toy_backend.Filter):  # by next to nothing
    def total(self, padded: Any) -> Any:
        total = super().total(padded)
        return np.where(total == 0, -np.finfo(total.dtype).tiny, total) if total.dtype.kind == "f" else total


class Greedy(toy_backend.Backend):  # takes what it did not ask for
    name = "greedy"

    def memory(self, problem: Any) -> int:
        return super().memory(problem) // 4


class Moody(toy_backend.Backend):  # needs more the less it is given
    name = "moody"
    asked = 0

    def memory(self, problem: Any) -> int:
        Moody.asked += 1
        return super().memory(problem) + Moody.asked


class Underpriced(toy_backend.Backend):  # promises to be done before it has begun
    name = "underpriced"

    def offers(self, problem: Any, facts: Any) -> Any:
        offers = super().offers(problem, facts)
        return [replace(offer, seconds=1e-7) for offer in offers] if isinstance(offers, list) else offers


class Unpriced(toy_backend.Backend):
    name = "unpriced"

    def offers(self, problem: Any, facts: Any) -> Any:
        return [Offer("loops", 0.0, 0, 0.0 if problem.is_integer else 1e-3)]


class Discouraging(toy_backend.Backend):  # says that it costs more than it does
    name = "discouraging"

    def least_seconds(self, problem: Any) -> float:
        return 1.0


class BorderDropped(toy_backend.Backend):  # what the border was made from gets nothing back
    name = "border-dropped"

    def plan(self, problem: Any, offer: Any, solve: Any) -> Any:
        if problem.op == "grad_input":
            problem = replace(problem, boundary=(Boundary.CONSTANT,) * problem.ndim)
        return super().plan(problem, offer, solve)


class GradientFlipped(toy_backend.Backend):  # the kernel as it came forward
    name = "gradient-flipped"

    def plan(self, problem: Any, offer: Any, solve: Any) -> Any:
        plan = super().plan(problem, offer, solve)
        return Turned(plan, problem.ndim) if problem.op == "grad_input" else plan


class Turned:
    def __init__(self, plan: Any, ndim: int) -> None:
        self.plan, self.axes = plan, tuple(range(-ndim, 0))

    def prepare(self, kernel: Any, bias: Any = None) -> Any:
        return self.plan.prepare(np.ascontiguousarray(np.flip(kernel, self.axes)), bias)


class ImageLost(toy_backend.Backend):  # the kernel's gradient sums over the batch; here without its last image
    name = "image-lost"

    def plan(self, problem: Any, offer: Any, solve: Any) -> Any:
        plan = super().plan(problem, offer, solve)
        return WithoutLast(plan) if problem.op == "grad_kernel" and problem.batch else plan


class WithoutLast:
    def __init__(self, plan: Any) -> None:
        self.plan = plan

    def prepare(self, dy: Any, bias: Any = None) -> Any:
        dy = dy.copy()
        dy[-1:] = 0
        return self.plan.prepare(dy, bias)


WRONG_GRADIENTS = (BorderDropped, GradientFlipped, ImageLost)
MUTANTS |= {kind.name: kind for kind in WRONG_GRADIENTS}
MUTANTS |= {kind.name: kind for kind in (Boastful, Discouraging, Everywhere, Greedy, Moody, Underpriced, Unpriced)}
