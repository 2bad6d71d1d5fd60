"""What CuPy is asked for: refusals first, then the prices; device and stream stand here alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from convengine import adjoint, plugin
from convengine.factoring import Promise, factor, promise
from convengine.plugin import BackendInfo, Offer, Refusal, Solve, direct_error, transfer_allowed
from convengine.problem import KernelFacts, Problem, largest_magnitude
from convengine_cupy import device, direct, elementwise, fft, fft_tiles, layers, ndimage, transfer, variants
from convengine_cupy.variants import Variant

__all__ = ["Backend"]

DIRECT = "direct"
SEPARABLE = "separable"
IMPLICIT = "implicit gemm"
ELEMENTWISE = "elementwise"
MATMUL = "elementwise, matmul over channels"
NDIMAGE = "cupyx.scipy.ndimage.correlate"

# Not measured: taken from NVIDIA's figures for one H100 SXM (3.35 TB/s, 67 TFLOP/s in float32), and from what a call
# of CuPy commonly costs. A slower GPU slows all methods, so that their order mostly holds.
BYTES_PER_SECOND = 2e12
PRODUCTS_PER_SECOND = 1e13  # matmul
TAPS_PER_SECOND = 5e11  # ndimage: a test of the border and an integer division of indices for each
SECONDS_PER_LAUNCH = 1e-5  # of Python and of CUDA
# Multiply-adds of the direct kernel's strips, 0.7 of what the figures allow: int32 has half the units of float32, int64
# takes some eight instructions. The general kernel reads two numbers for each.
SUMS_PER_SECOND = {"float32": 2.3e13, "float64": 1.15e13, "int32": 1.15e13, "int64": 3e12}
READS_PER_SECOND = 2e12
SECONDS_PER_TERM = 2e-8  # of one thread, at least: a read, from the cache, and the addition that waits for it


@dataclass(frozen=True, slots=True)
class Filter:
    """A prepared kernel on its device."""

    number: int
    inner: plugin.Filter

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(getattr(self.inner, "nbytes", 0))

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x on the current stream of the kernel's device, without waiting for it."""
        import cupy

        with cupy.cuda.Device(self.number):
            if out is None:
                return self.inner(cupy.asarray(x))
            self.inner(cupy.asarray(x), cupy.asarray(out))
            return out


@dataclass(frozen=True, slots=True)
class HostFilter:
    """A prepared kernel for arrays on the host."""

    number: int
    inner: transfer.Transfer

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Filter x on the device, and wait for the result."""
        import cupy

        with cupy.cuda.Device(self.number):
            return self.inner(x, out)


@dataclass(frozen=True, slots=True)
class HostPlan:
    """A method for one problem on the host, computed on the device that is current when it is prepared."""

    problem: Problem
    offer: Offer

    def prepare(self, kernel: Any, bias: Any = None) -> HostFilter:
        """Keep the kernel, for each size of chunk."""
        number, kernel = device.current(), kernel.copy()
        offer = replace(self.offer, method=self.offer.method.removesuffix(transfer.SUFFIX))

        def prepare(chunk: Problem) -> plugin.Filter:
            return Plan(replace(chunk, memory=f"cuda:{number}"), offer).prepare(kernel, bias)

        return HostFilter(number, transfer.Transfer(self.problem, prepare, transfer.CupyLink(), {}))


@dataclass(frozen=True, slots=True)
class Plan:
    """A method for one problem on one device."""

    problem: Problem
    offer: Offer
    there: bool = False  # whether the kernel is on the device, as the gradient of an output is

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Copy the kernel to the device."""
        import cupy

        number, method = _number(self.problem.memory), self.offer.method
        with cupy.cuda.Device(number):
            if self.there and method == DIRECT:
                return Filter(number, direct.prepare_there(self.problem, kernel, _compiled(number), cupy))
            if method in (DIRECT, SEPARABLE):
                promised = Promise(1, self.offer.error, self.offer.normwise)
                factors = factor(self.problem, kernel, promised) if method == SEPARABLE else None
                load = _compiled(number)
                return Filter(number, direct.prepare(self.problem, kernel, bias, load, cupy, factors))
            if method.startswith(fft_tiles.METHOD):
                return Filter(number, self._tiled(kernel, bias, number))
            if method == IMPLICIT:
                return Filter(number, layers.prepare(self.problem, kernel, bias, _compiled(number), cupy))
            if method != NDIMAGE:
                return Filter(number, elementwise.prepare(self.problem, kernel, bias, method == MATMUL, cupy))
            from cupyx.scipy.ndimage import correlate

            return Filter(number, ndimage.prepare(self.problem, kernel, bias, correlate, cupy))

    def _tiled(self, kernel: Any, bias: Any, number: int) -> plugin.Filter:
        """Go by the tile that the offer named."""
        import cupy

        lengths = tuple(map(int, self.offer.method.removeprefix(fft_tiles.METHOD).split("x")))
        tiles = fft_tiles.Tiles.of(self.problem, fft_tiles.shape_of(lengths))
        return fft.prepare(self.problem, kernel, bias, _compiled(number), cupy, tiles)


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """Methods for the forward problems that make up a gradient, on one device."""

    problem: Problem
    offer: Offer
    forward: Callable[[Problem, KernelFacts], Sequence[Offer] | Refusal]

    def prepare(self, kernel: Any, bias: Any = None) -> Filter:
        """Copy the kernel to the device, part by part; the gradient of an output, in its place, if it is not there."""
        import cupy

        number, there = _number(self.problem.memory), self.problem.op == "grad_kernel"

        def plan_forward(problem: Problem, offer: Offer) -> Plan:
            return Plan(problem, offer, there)

        with cupy.cuda.Device(number):
            plan = adjoint.plan(self.problem, self.offer, self.forward, plan_forward, xp=cupy)
            return Filter(number, Gradient(plan.prepare(cupy.asarray(kernel) if there else kernel), cupy))


@dataclass(frozen=True, slots=True)
class Gradient:
    """A gradient that is written to `out` piece by piece, and so to an array of its own where that shares memory."""

    inner: plugin.Filter
    xp: Any

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return int(getattr(self.inner, "nbytes", 0))

    def __call__(self, x: Any, out: Any = None) -> Any:
        """Compute the gradient."""
        if out is None or not self.xp.may_share_memory(x, out):
            return self.inner(x, out)
        out[...] = self.inner(x)
        return out


def _compiled(number: int) -> Callable[[Variant], direct.Launch]:
    """What makes a launch of a variant, on this device, which is current then."""

    def load(variant: Variant) -> direct.Launch:
        return _function(variant, number)

    return load


@lru_cache(maxsize=1024)
def _function(variant: Variant, number: int) -> direct.Launch:
    """Compile a variant, or find it in CuPy's cache on disk; a module is loaded on the device that is current."""
    import cupy

    function: Any = cupy.RawModule(code=variant.source, options=variants.OPTIONS).get_function(variants.NAME)
    launch: direct.Launch = function
    if variant.shared:
        function.max_dynamic_shared_size_bytes = variant.shared  # beyond 48 KiB only by leave
        launch = partial(function, shared_mem=variant.shared)
    return launch


class Backend:
    """CuPy, for arrays that lie on a CUDA device."""

    name = "cupy"

    def offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer] | Refusal:
        """Offer what is offered for forward problems, and the same for those of which gradients are made."""
        if reason := _refusal(problem):
            return Refusal(reason)
        if problem.memory == "host":
            there = self.offers(replace(problem, memory=f"cuda:{device.current()}"), facts)
            if isinstance(there, Refusal):
                return there
            # Rows of a chunk bring their border along, and cupyx's ndimage wants pads of its own.
            return [transfer.priced(problem, offer) for offer in there if offer.method != NDIMAGE]
        return adjoint.offers(problem, facts, self._forward(problem.op))

    def least_seconds(self, problem: Problem) -> float:
        """Infinity for host arrays, most of all problems, unless they may be copied."""
        return math.inf if problem.memory == "host" and not transfer_allowed() else 0.0

    def _forward(self, op: str) -> Callable[[Problem, KernelFacts], Sequence[Offer]]:
        return {"forward": self.forward_offers, "grad_input": self.unseen_offers, "grad_kernel": self.offers_there}[op]

    def unseen_offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer]:
        """Offers for a forward problem whose kernel is not the one of the facts: sums, which rely on none of them."""
        error = direct_error(problem)
        found = [_elementwise(problem, error)]
        if not direct.refusal(problem):
            found.append(_by_kernel(problem, DIRECT, problem.taps, direct.rolls(problem), Promise(0, error, False)))
        if not layers.refusal(problem):
            found.append(_implicit(problem, error))
        if _has_matmul(problem):
            found.append(_matmul(problem, error))
        return found

    def offers_there(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer]:
        """Offers for a forward problem whose kernel is a device array: no strips, whose taps are the host's."""
        found = [offer for offer in self.unseen_offers(problem, facts) if offer.method != DIRECT]
        if not direct.refusal(problem):
            promised = Promise(0, direct_error(problem), False)
            found.append(_by_kernel(problem, DIRECT, problem.taps, False, promised))
        return found

    def forward_offers(self, problem: Problem, facts: KernelFacts) -> Sequence[Offer]:
        """Offer elementwise code for every forward problem, and what is faster where it holds: kernels of our own."""
        found = [*self.unseen_offers(problem, facts)]
        promised = None if direct.refusal(problem) else promise(problem, facts)
        if promised and promised.rank == 1 and direct.rolls_separably(problem):
            found.append(_by_kernel(problem, SEPARABLE, sum(problem.kernel_spatial), True, promised))
        if not fft_tiles.refusal(problem):
            found += fft_tiles.offers(problem, facts, device.shared_memory(_number(problem.memory)))
        if not ndimage.refusal(problem, facts):
            seconds = max(_seconds_of_memory(problem), problem.multiplications / TAPS_PER_SECOND)
            found.append(Offer(NDIMAGE, SECONDS_PER_LAUNCH + seconds, ndimage.memory(problem), direct_error(problem)))
        return found

    def plan(self, problem: Problem, offer: Offer, solve: Solve) -> plugin.Plan:
        """Take the method that the offer names, or the methods of the parts of a gradient."""
        if problem.memory == "host":
            return HostPlan(problem, offer)
        if problem.op == "forward":
            return Plan(problem, offer)
        return GradientPlan(problem, offer, self._forward(problem.op))

    def info(self) -> BackendInfo:
        """CuPy's version and the devices' names, or what is missing."""
        if reason := device.missing() or device.missing_device(0):
            return BackendInfo(usable=False, reason=reason, device="")
        version, names, capability = device.describe()
        return BackendInfo(usable=True, version=version, device=names, isa=capability)


def _number(memory: str) -> int:
    return int(memory.removeprefix("cuda:"))


def _refusal(problem: Problem) -> str:
    if reason := device.missing():
        return reason
    if problem.memory == "host":
        if not transfer_allowed():
            return (
                "x is a host array, and CuPy runs on device arrays: pass cupy.asarray(x), or allow it to be copied "
                "there and back, with ce.options(transfer=True)"
            )
        if problem.op != "forward":
            return f"host arrays go by way of a device in op='forward' only, not {problem.op!r}: pass device arrays"
        return device.missing_device(0)
    if not problem.memory.startswith("cuda:"):
        return f"runs on arrays of a CUDA device, not {problem.memory}"
    if problem.op == "grad_kernel" and problem.is_integer and (reach := _reach(problem)) >= 2**63:
        return (
            f"the gradient of a kernel by {problem.x_dtype} and {problem.out_dtype} may reach {reach}, past int64; "
            "whether it does is not looked up on a device: use float64 or smaller dtypes"
        )
    return device.missing_device(_number(problem.memory))


def _reach(problem: Problem) -> int:
    """What an integer gradient of a kernel may be at most, by its dtypes."""
    return largest_magnitude(problem.x_dtype) * largest_magnitude(problem.out_dtype) * problem.terms


def _has_matmul(problem: Problem) -> bool:
    """Whether channels may be summed by matmul: complex products of infinities would not be the textbook's."""
    several = problem.channels[0] // problem.groups > 1
    return problem.is_layer and several and problem.sum_dtype.kind != "c" and device.matmul_is_exact()


def _seconds_of_memory(problem: Problem) -> float:
    """Reading x once and writing the result once."""
    x = math.prod(problem.x_shape) * problem.x_dtype.itemsize
    return (x + math.prod(problem.out_shape) * problem.out_dtype.itemsize) / BYTES_PER_SECOND


def _by_kernel(problem: Problem, method: str, terms: int, rolls: bool, promised: Promise) -> Offer:
    """One launch of a kernel for filters."""
    rate = SUMS_PER_SECOND[problem.sum_dtype.name] if rolls else READS_PER_SECOND
    alone = 0 if rolls else terms * SECONDS_PER_TERM  # what the last output takes
    return _launched(problem, method, max(math.prod(problem.out_shape) * terms / rate, alone), promised)


def _launched(problem: Problem, method: str, seconds: float, promised: Promise) -> Offer:
    """X is read and the result written once, or the multiply-adds take longer; then what `finish` does."""
    memory = direct.temporaries(problem)
    seconds = max(_seconds_of_memory(problem), seconds)
    if memory:
        seconds += 10 * SECONDS_PER_LAUNCH + 2 * memory / BYTES_PER_SECOND
    return Offer(method, SECONDS_PER_LAUNCH + seconds, memory, promised.error, promised.normwise)


def _implicit(problem: Problem, error: float) -> Offer:
    """One launch, then what `finish` does."""
    seconds = layers.seconds(problem, layers.tile_of(problem))
    return _launched(problem, IMPLICIT, seconds, Promise(0, error, False))


def _elementwise(problem: Problem, error: float) -> Offer:
    """Two launches for each tap and channel: a product written and read, a sum read and written, a sample read."""
    pieces = elementwise.Pieces.of(problem, matmul=False)
    launches = len(pieces) * problem.taps * 2
    moved = 5 * problem.multiplications * problem.sum_dtype.itemsize
    return Offer(ELEMENTWISE, launches * SECONDS_PER_LAUNCH + moved / BYTES_PER_SECOND, pieces.memory, error)


def _matmul(problem: Problem, error: float) -> Offer:
    """Three launches for each tap: the samples copied, the product written, the sum read and written."""
    pieces = elementwise.Pieces.of(problem, matmul=True)
    taps, inputs, outputs = math.prod(problem.kernel_spatial), *problem.channels
    samples = math.prod(problem.batch) * math.prod(problem.out_spatial) * taps
    moved = samples * (3 * inputs + 4 * outputs) * problem.sum_dtype.itemsize
    seconds = len(pieces) * taps * 3 * SECONDS_PER_LAUNCH + moved / BYTES_PER_SECOND
    return Offer(MATMUL, seconds + problem.multiplications / PRODUCTS_PER_SECOND, pieces.memory, error)
