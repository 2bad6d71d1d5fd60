"""Arrays and an array module that stand for CuPy's where there is no device, and the problems that CuPy is asked.

`Device` arrays are what CuPy's are where it matters: they never mix with NumPy's.
"""

import math
import weakref
from contextlib import AbstractContextManager
from functools import cache
from types import SimpleNamespace
from typing import Any, Never

import numpy as np
import pytest
from numpy.typing import NDArray

from convengine.api import DEFAULTS, GRADIENTS, OPERATIONS
from convengine.arguments import read_array
from convengine.factoring import Promise
from convengine.plugin import Offer, direct_error
from convengine.problem import KernelFacts, Problem
from convengine.reading import Reading, read
from convengine.reading_gradients import read_grad_input, read_grad_kernel
from convengine.testing.arguments import BOUNDARIES
from convengine.testing.bounds import check, componentwise, normwise
from convengine.testing.cases import Case, Seeded, assemble, covering_cases, draw_row
from convengine.testing.gradient_cases import grad_input_cases, grad_kernel_cases
from convengine.testing.oracle import Reference, reference
from convengine.testing.oracle_gradients import gradient_reference

Array = NDArray[Any]
ALIGNED = 512  # bytes, as the memory of CuPy's pool


class Device(np.ndarray[Any, Any]):
    """An array that refuses what CuPy's arrays refuse."""

    bounded = True  # whether a Python integer beyond the dtype is an error, as CuPy 14 has it

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        outs = keywords.pop("out", ())
        arrays = [value for value in (*inputs, *outs) if isinstance(value, np.ndarray)]
        if any(type(array) is not Device for array in arrays):
            raise TypeError(f"{ufunc.__name__} of device and host arrays")
        for value in inputs:
            if self.bounded and type(value) is int and (dtype := arrays[0].dtype).kind in "iu":
                dtype.type(value)
        bare = [value.view(np.ndarray) if isinstance(value, np.ndarray) else value for value in inputs]
        if outs:
            keywords["out"] = tuple(out.view(np.ndarray) for out in outs)
        result = getattr(ufunc, method)(*bare, **keywords)
        return outs[0] if outs else on_device(result)

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(value, np.ndarray) and type(value) is not Device:
            raise TypeError("a host array put into a device array")
        super().__setitem__(key, value)


def on_device(value: Any) -> Any:
    return np.asarray(value).view(Device) if isinstance(value, np.ndarray | np.generic) else value


class Module:
    """NumPy, with device arrays in and out, allocated where CUDA would: which kernel runs depends on it."""

    @staticmethod
    def empty(shape: int | tuple[int, ...], dtype: Any = float) -> Any:
        """Allocate what holds NaN, or -1."""
        size = math.prod(np.atleast_1d(shape).tolist()) * np.dtype(dtype).itemsize
        memory = np.full(size + ALIGNED, 0xFF, np.uint8)
        first = -memory.ctypes.data % ALIGNED
        return memory[first : first + size].view(dtype).reshape(shape).view(Device)

    @classmethod
    def zeros(cls, shape: int | tuple[int, ...], dtype: Any = float) -> Any:
        """Allocate zeros."""
        made = cls.empty(shape, dtype)
        made.fill(0)
        return made

    @classmethod
    def empty_like(cls, array: Any) -> Any:
        """Allocate an array of the same shape and dtype."""
        return cls.empty(array.shape, array.dtype)

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)

        def call(*args: Any, **keywords: Any) -> Any:
            if name not in ("asarray", "array") and any(type(value) is np.ndarray for value in args):
                raise TypeError(f"{name} of a host array")
            return on_device(function(*args, **keywords))

        return call


XP = Module()


class Stream(AbstractContextManager["Stream"]):
    """Work that is not done before somebody waits."""

    def __init__(self, link: "Link") -> None:
        self.link = link
        self.work: list[Any] = []

    def __enter__(self) -> "Stream":
        self.link.current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.link.current.pop()


class Link:
    """Memory is used again as soon as nobody holds it, as that of a pool is; copies are made at the latest moment."""

    def __init__(self) -> None:
        self.current: list[Stream] = []
        self.free: list[Any] = []
        self.most = self.held = 0

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        size = int(np.prod(shape)) * dtype.itemsize
        memory = next((one for one in self.free if len(one) >= size), None)
        if memory is None:
            memory = bytearray(max(size, 1))
            self.held += len(memory)
        else:
            self.free.remove(memory)
        memory[:] = b"\xee" * len(memory)
        made = np.frombuffer(memory, dtype, int(np.prod(shape))).reshape(shape)
        weakref.finalize(made, self.free.append, memory)
        return made

    def stream(self) -> Stream:
        return Stream(self)

    def bring(self, samples: Array) -> Any:
        memory, before = _memory(samples), samples.tobytes()

        def check() -> None:
            assert bytes(memory[: len(before)]) == before, "samples were overwritten before they were copied"

        self.current[-1].work.append(check)
        return on_device(samples.copy())

    def send(self, result: Any, target: Array) -> None:
        assert type(result) is Device and result.shape == target.shape and result.dtype == target.dtype
        memory, values = _memory(target), result.view(np.ndarray).tobytes()

        def copy() -> None:
            memory[: len(values)] = values

        self.current[-1].work.append(copy)

    def wait(self, stream: Stream) -> None:
        for work in stream.work:
            work()
        stream.work.clear()


def nothing_waits(patch: pytest.MonkeyPatch) -> None:
    """Make an error of whatever brings a number from the device, and so waits for it."""

    def wait(*_: Any) -> Never:
        raise AssertionError("a number was asked for, which waits for the device")

    for name in ("__bool__", "__float__", "__int__", "__index__", "item", "tolist"):
        patch.setattr(Device, name, wait, raising=False)


def _memory(array: Array) -> Any:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base


@cache
def problems() -> tuple[tuple[Case, Reading, Reference], ...]:
    """Every sort of problem that is not empty, and some that suit ndimage, with the oracle's answers."""
    choose = Seeded(4)
    only = {
        "kind": ("filter", "batch", "axes", "colour"),
        "stride": (1,),
        "dilation": (1,),
        "mode": ("same", "center"),
        "boundary": BOUNDARIES,
        "shape": ("odd", "even"),
        "values": ("plain",),
    }
    suited = (assemble(choose, draw_row(choose, only), f"{index:03d}-ndimage-") for index in range(200))
    found = []
    for case in (*covering_cases(), *suited):
        reading = reading_of(case.name, case.x, case.kernel, **case.keywords)
        if 0 not in (*reading.problem.x_shape, *reading.problem.out_shape) and reading.problem.taps:
            found.append((case, reading, reference(case.name, case.x, case.kernel, **case.keywords)))
    return tuple(found)


def reading_of(name: str, x: Any, kernel: Any, memory: str = "cuda:0", **keywords: Any) -> Reading:
    ndim, flip, _ = OPERATIONS[name]
    return read(ndim, flip, read_array(x, "x"), kernel, **(DEFAULTS | keywords), out=None, memory=memory)


def facts_of(reading: Reading) -> KernelFacts:
    return KernelFacts.of(reading.kernel, reading.problem.ndim)


def canonical(reading: Reading, x: Any) -> Any:
    return on_device(read_array(x, "x").transpose(reading.x_axes))


def as_user(reading: Reading, answer: Any) -> Array:
    assert type(answer) is Device
    return answer.view(np.ndarray).transpose(np.argsort(reading.out_axes))


def gradient_reading_of(case: Case) -> Reading:
    """The problem of a gradient; in the place of the kernel, an output's gradient is on the device."""
    kind, keywords = GRADIENTS[case.name], DEFAULTS | case.keywords
    first = read_array(case.x, "x")
    if kind.op == "grad_input":
        return read_grad_input(kind.ndim, kind.flip, first, case.kernel, out=None, memory="cuda:0", **keywords)
    dy = read_array(case.kernel, "dy")
    reading = read_grad_kernel(kind.ndim, kind.flip, first, dy, out=None, memory="cuda:0", **keywords)
    return reading._replace(kernel=on_device(reading.kernel))


@cache
def gradients(op: str = "grad_input") -> tuple[tuple[Case, Reading, Reference], ...]:
    """Gradients that are not empty and not large, with the oracle's."""
    cases = grad_input_cases() if op == "grad_input" else grad_kernel_cases()
    found = [(case, gradient_reading_of(case)) for case in cases.values()]
    return tuple(
        (case, reading, gradient_reference(*case[1:4], **case.keywords))
        for case, reading in found
        if 0 not in (*reading.problem.out_shape, *reading.problem.x_shape, *reading.problem.kernel_shape)
        and reading.problem.multiplications <= 300_000  # some 20 ns each on the host
    )


def as_user_gradient(case: Case, reading: Reading, gradient: Array) -> Array:
    """What convengine.call makes of a kernel's gradient: the axes of the user, flipped and conjugated."""
    problem = reading.problem
    if problem.op == "grad_kernel":
        if GRADIENTS[case.name].flip:
            gradient = gradient[(..., *(slice(None, None, -1),) * problem.ndim)]
        if problem.sum_dtype.kind == "c" and not case.keywords.get("conjugate"):
            gradient = gradient.conj()
    return as_user(reading, gradient)


def bound_of(problem: Problem, promised: Offer | Promise, expected: Reference) -> Array:
    """The error that is allowed to what was promised."""
    if promised.normwise:
        return normwise(expected, promised.error)
    factor = promised.error / direct_error(problem) if promised.error else 1
    return max(factor, 1) * componentwise(expected)  # roundings of the result are in the bound, and are not scaled down


def bound_holds(case_id: str, got: Array, expected: Reference, bound: Array | None = None) -> None:
    try:
        assert check(got, expected, componentwise(expected) if bound is None else bound) <= 1
    except AssertionError as error:
        raise AssertionError(f"{case_id}: {error}") from error
