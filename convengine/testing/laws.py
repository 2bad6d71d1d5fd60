"""The laws that tie a backend's answers to each other: algebra, and the same bits however they are computed."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from typing import Any

import numpy as np

import convengine as ce
from convengine.testing import subjects
from convengine.testing.arguments import Array
from convengine.testing.cases import Case
from convengine.testing.examination import Examination, laid_out, overlapping
from convengine.testing.runner import Answer, bound, expected, fetch, place, require_same_bits

__all__ = ["Laws"]


class Laws(Examination):
    """The part of the contract that compares answers with answers."""

    # ---- algebra

    def test_impulse_gives_the_kernel_back(self, small: str) -> None:
        """A single one in x, mode="full": the kernel flipped for corr, as it is for conv."""
        case = subjects.small()[small]
        n = int(case.name[4])
        kernel = case.kernel[(0,) * (case.kernel.ndim - n)]
        x = np.zeros((7,) * n, case.x.dtype)
        x[(3,) * n] = 1
        case = Case(f"impulse-{small}", case.name, x, kernel, {"mode": "full"})
        wanted = np.zeros([6 + size for size in kernel.shape], kernel.dtype)
        wanted[tuple(slice(3, 3 + size) for size in kernel.shape)] = kernel if "conv" in case.name else np.flip(kernel)
        for name, answer in self.answers(case).items():
            what = f"{name} of an impulse, and the kernel,"
            self.require_near(what, answer.value - wanted, bound(answer.offer, expected(case)))

    def test_convolution_is_correlation_with_the_kernel_flipped(self, large: str) -> None:
        """Bit by bit, also for even kernels."""
        case = subjects.large()[large]
        n = int(case.name[4])
        first = 0 if case.keywords.get("channel_axis") == -1 else case.kernel.ndim - n
        flipped = np.flip(case.kernel, tuple(range(first, first + n)))
        other = case._replace(name=("conv" if "corr" in case.name else "corr") + case.name[4:], kernel=flipped)
        one, same = self.answers(case), self.answers(other)
        self.require_same_bits(one, same, f"{case.name}, and {other.name} with the kernel flipped,")

    def test_sum_is_linear_in_x(self, small: str) -> None:
        """f(3*x + y) = 3*f(x) + f(y), where 3*x + y is exact."""
        case = subjects.small()[small]
        x, y = np.round(case.x), np.flip(np.round(case.x))
        parts = [case._replace(x=values.astype(case.x.dtype)) for values in (3 * x + y, x, y)]
        references = [expected(part) for part in parts]
        for name, *given in self.shared(*parts):
            limits = [bound(answer.offer, reference) for answer, reference in zip(given, references, strict=True)]
            whole, one, other = (answer.value.astype(limits[0].dtype) for answer in given)
            what = f"{name} of 3*x + y, and of x and y apart,"
            self.require_near(what, whole - (3 * one + other), limits[0], 3 * limits[1], limits[2])

    def test_shifted_x_gives_the_shifted_answer(self, small: str) -> None:
        """On a periodic x, along every spatial axis."""
        case = subjects.small()[small]
        n = int(case.name[4])
        case = case._replace(keywords={"mode": "same", "boundary": "wrap", "groups": case.keywords.get("groups", 1)})
        steps, axes = tuple(range(1, n + 1)), tuple(range(-n, 0))
        moved = case._replace(x=np.roll(case.x, steps, axes))
        for name, one, other in self.shared(case, moved):
            limits = np.roll(bound(one.offer, expected(case)), steps, axes), bound(other.offer, expected(moved))
            difference = np.roll(one.value, steps, axes).astype(limits[0].dtype) - other.value
            self.require_near(f"{name} of a shifted x, and its answer shifted,", difference, *limits)

    def test_stride_takes_every_so_many_outputs(self, small: str) -> None:
        """f(..., stride=s) == f(...)[::s]: bit by bit within a method, and within the bound by any."""
        case = subjects.small()[small]
        n = int(case.name[4])
        dense = self.answers(case)
        for stride in [(2,) * n, (3, 2, 1)[:n], (1000,) * n]:
            strided = case._replace(keywords=case.keywords | {"stride": stride})
            self.hold(strided, expected(strided))
            for name, answer in self.answers(strided).items():
                if name in dense:
                    what = f"{self.name} ({name}) with stride {stride}, and without it, subsampled,"
                    require_same_bits(answer.value, dense[name].value[_every(stride)], what)

    def test_dilated_kernel_is_one_with_zeros_between(self, small: str) -> None:
        """f(k, dilation=d) = f(k with d - 1 zeros between its taps)."""
        case = subjects.small()[small]
        n = int(case.name[4])
        dilation = (2, 3, 4)[:n]
        widths = [d * (k - 1) + 1 for d, k in zip(dilation, case.kernel.shape[-n:], strict=True)]
        stuffed = np.zeros((*case.kernel.shape[:-n], *widths), case.kernel.dtype)
        stuffed[_every(dilation)] = case.kernel
        keywords = {"mode": "full", "boundary": "reflect", "groups": case.keywords.get("groups", 1)}
        dilated = case._replace(keywords=keywords | {"dilation": dilation})
        dense = case._replace(kernel=stuffed, keywords=keywords)
        given = [next(iter(self.answers(one).values())) for one in (dilated, dense)]
        limits = [bound(a.offer, expected(one)) for a, one in zip(given, (dilated, dense), strict=True)]
        difference = given[0].value.astype(limits[0].dtype) - given[1].value
        self.require_near(f"dilation {dilation}, and a kernel with zeros between its taps,", difference, *limits)

    # ---- the same bits, however it is computed

    def test_workers_change_no_bit(self, large: str) -> None:
        """1, 2, 3 and 5 workers."""
        case = subjects.large()[large]
        alone = self.answers(case, workers=1)
        for workers in (2, 3, 5):
            self.require_same_bits(alone, self.answers(case, workers=workers), f"1 worker and {workers} workers")

    def test_stack_has_the_bits_of_each_alone(self, large: str) -> None:
        """A batch of three images, and the three."""
        case = subjects.large()[large]
        images = [case.x, np.flip(case.x), np.roll(case.x, 1)]
        placing = {"axes": tuple(axis + 1 for axis in case.keywords["axes"])} if "axes" in case.keywords else {}
        together = self.answers(case._replace(x=np.stack(images), keywords=case.keywords | placing))
        for number, image in enumerate(images):
            slices = {name: Answer(answer.offer, answer.value[number]) for name, answer in together.items()}
            alone = self.answers(case._replace(x=image))
            self.require_same_bits(slices, alone, f"image {number} of a stack, and alone,")

    def test_memory_layout_changes_no_bit(self, large: str) -> None:
        """Of x and kernel: any strides, byte order and alignment; read-only; a row that stands for many."""
        case = subjects.large()[large]
        wanted = self.answers(case)
        for (layout, x), (_, kernel) in zip(laid_out(case.x), laid_out(case.kernel), strict=True):
            laid = self.answers(case._replace(kernel=kernel), x=place(self.name, x))
            self.require_same_bits(wanted, laid, f"contiguous arrays and {layout}")
        rows = np.broadcast_to(case.x[:1], case.x.shape)
        laid = self.answers(case, x=place(self.name, rows))
        self.require_same_bits(self.answers(case._replace(x=rows.copy())), laid, "contiguous arrays and a stride of 0")

    def test_plan_gives_the_bits_of_the_function(self, large: str) -> None:
        """Also from a pickle or a copy, and after another array."""
        case = subjects.large()[large]
        turned = np.flip(case.x)
        wanted, other = (next(iter(self.answers(case._replace(x=x)).values())).value for x in (case.x, turned))
        x = place(self.name, case.x)
        planned = ce.plan(case.name, x, case.kernel, backend=self.name, **case.keywords)
        self.require(planned.backend == self.name and planned.method != "", f"be named in its plan; got {planned!r}")
        pickled, copied = pickle.loads(pickle.dumps(planned)), deepcopy(planned)
        for what, one, filter_, array in (
            ("its plan", wanted, planned, x),
            ("its plan on a second array", other, planned, place(self.name, turned)),
            ("its plan after a second array", wanted, planned, x),
            ("its plan's pickle", wanted, pickled, x),
            ("its plan's copy", wanted, copied, x),
        ):
            require_same_bits(one, fetch(filter_(array)), f"{self.name}: a function and {what}")

    def test_plan_keeps_the_kernel_that_it_was_made_with(self) -> None:
        """Whatever happens to the array afterwards; its pickle too."""
        case = subjects.large()["layer"]
        wanted, x = fetch(self.call(case)), place(self.name, case.x)
        kernel, bias = case.kernel.copy(), case.keywords["bias"].copy()
        planned = ce.plan(case.name, x, kernel, backend=self.name, **case.keywords | {"bias": bias})
        kernel[...], bias[...] = 0, 0
        require_same_bits(wanted, fetch(planned(x)), f"{self.name}: a plan before and after its kernel was changed")
        copy = pickle.loads(pickle.dumps(planned))
        require_same_bits(wanted, fetch(copy(x)), f"{self.name}: a plan, and its pickle after its kernel was changed,")

    def test_many_threads_share_one_plan(self, large: str) -> None:
        """Eight Python threads at the same time, each with an array of its own."""
        case = subjects.large()[large]
        self.call(case)
        images = [place(self.name, np.roll(case.x, shift, axis=-1)) for shift in range(8)]
        planned = ce.plan(case.name, images[0], case.kernel, backend=self.name, **case.keywords)
        wanted = [fetch(planned(image)) for image in images]
        start = threading.Barrier(len(images), timeout=60)

        def run(image: Any) -> Array:
            start.wait()
            return fetch(planned(image))

        with ThreadPoolExecutor(len(images)) as threads:
            for number, result in enumerate(threads.map(run, images)):
                require_same_bits(wanted[number], result, f"{self.name}: one thread, and thread {number} of eight,")

    # ---- memory

    def test_out_is_written_and_returned(self, large: str) -> None:
        """By every method, for any strides; and nothing beside it."""
        self.require_out_written(subjects.large()[large])

    def test_out_in_the_other_byte_order(self) -> None:
        """Is written and returned like any."""
        case = self.on_host(subjects.large()["layer"])
        wanted = self.call(case)
        out = np.zeros(wanted.shape, wanted.dtype.newbyteorder())
        self.require(self.call(case, out=out) is out, "return the byte-swapped out that it was given")
        require_same_bits(wanted, out.astype(wanted.dtype), f"{self.name}: a new array, and a byte-swapped out,")

    def test_out_may_overlap_x(self, large: str) -> None:
        """From the first sample of x, or from a later one."""
        case = self.on_host(subjects.large()[large])
        wanted = self.call(case)
        for offset in (0, 64):
            x, out = overlapping(case.x, wanted.shape, wanted.dtype, offset)
            self.call(case, x=x, out=out)
            require_same_bits(wanted, out, f"{self.name}: a new array, and out over x from byte {offset},")

    def test_out_may_overlap_the_kernel(self, large: str) -> None:
        """Which is copied in time."""
        case = self.on_host(subjects.large()[large])
        wanted = self.call(case)
        kernel, out = overlapping(case.kernel, wanted.shape, wanted.dtype, 0)
        self.call(case._replace(kernel=kernel), out=out)
        require_same_bits(wanted, out, f"{self.name}: a new array, and out over the kernel,")

    def test_x_kernel_and_bias_are_left_alone(self, large: str) -> None:
        """Writable, with NaN and infinities in x or without."""
        case = subjects.large()[large]
        for poison in (False, True):
            kernel, bias, x = case.kernel.copy(), np.array(case.keywords.get("bias", 0)), case.x.copy()
            if poison and x.dtype.kind in "fc":
                x.flat[[0, x.size // 2, x.size - 1]] = np.nan, np.inf, -np.inf
            placed = place(self.name, x)
            given = case.keywords | ({"bias": bias} if "bias" in case.keywords else {})
            before = [x.copy(), kernel.copy(), bias.copy()]
            for method in self.methods(case._replace(kernel=kernel, keywords=given), x=placed):
                with suppress(ce.NoBackend):  # it declines
                    method(placed)
                what = f"before and after a call of {self.name} ({method.name})"
                for name, old, new in zip(("x", "kernel", "bias"), before, (fetch(placed), kernel, bias), strict=True):
                    require_same_bits(old, new, f"{name} {what}")


def _every(steps: tuple[int, ...]) -> Any:
    """The index of every so many samples of the last axes."""
    return (..., *(slice(None, None, step) for step in steps))
