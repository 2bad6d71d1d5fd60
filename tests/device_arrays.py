"""Arrays and an array module that stand for CuPy's where there is no device, and the problems that CuPy is asked.

`Device` arrays are what CuPy's are where it matters: they never mix with NumPy's.
"""

import weakref
from contextlib import AbstractContextManager
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convengine.api import DEFAULTS, OPERATIONS
from convengine.factoring import Promise
from convengine.plugin import Offer, direct_error
from convengine.problem import KernelFacts, Problem
from convengine.reading import Reading, read, read_array
from convengine.testing.arguments import BOUNDARIES
from convengine.testing.bounds import check, componentwise, normwise
from convengine.testing.cases import Case, Seeded, assemble, covering_cases, draw_row
from convengine.testing.oracle import Reference, reference

Array = NDArray[Any]


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
    """NumPy, with device arrays in and out."""

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
