"""What stands for CuPy and its devices where there are none: it notes what is compiled and launched, and where."""

import ctypes
import importlib.machinery
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Never

import numpy as np
import pytest
import scipy.ndimage
from convengine_cupy import Backend, backend, device
from device_arrays import XP, Device, facts_of

from convengine.plugin import Offer, Refusal
from convengine.problem import Problem
from convengine.reading import Reading

PROPERTIES = {"name": b"NVIDIA H100", "major": 9, "minor": 0}
ATTRIBUTES = {97: 227 * 1024}  # cudaDevAttrMaxSharedMemoryPerBlockOptin


class Library(types.ModuleType):
    """A module whose functions are NumPy's, on device arrays, but for what is set on it."""

    __path__: tuple[str, ...] = ()

    def __init__(self, name: str, **contents: Any) -> None:
        super().__init__(name)
        vars(self).update(contents, __spec__=importlib.machinery.ModuleSpec(name, None))

    def __getattr__(self, name: str) -> Any:
        return getattr(XP, name)


class Driver:
    """Two GPUs that compute nothing: which was made current, what was compiled and launched on it."""

    def __init__(self) -> None:
        self.count = 2
        self.failure = ""  # why devices cannot be counted
        self.compute_type = {np.float32: 1, np.float64: 1}
        self.current: list[int] = []
        self.left: list[int] = []
        self.compiled: list[int] = []  # the device of each module
        self.launched: list[tuple[int, ...]] = []  # the device and the grid of each launch

    def device_count(self) -> int:
        """Count them, as cudaGetDeviceCount does."""
        if self.failure:
            raise RuntimeError(self.failure)
        return self.count

    @contextmanager
    def device(self, number: int) -> Iterator[None]:
        """Make one current."""
        self.current.append(number)
        yield
        self.left.append(number)

    def module(self, code: str, options: tuple[str, ...]) -> SimpleNamespace:
        """Compile a kernel that writes the number of its compilation."""
        assert "extern" in code and options == ("-std=c++17",)
        self.compiled.append(self.current[-1])

        def get_function(name: str) -> Any:
            assert f"#define KERNEL {name}\n" in code

            def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...], shared_mem: int = 0) -> None:
                assert shared_mem == getattr(launch, "max_dynamic_shared_size_bytes", 0)
                assert block in ((128,), (256,), (512,)) and all(type(array) is Device for array in arguments[:-1])
                self.launched.append((self.current[-1], *grid))
                arguments[1].fill(len(self.compiled))

            return launch

        return SimpleNamespace(get_function=get_function)


@contextmanager
def stand_in(patch: pytest.MonkeyPatch) -> Iterator[Driver]:
    """Be what `import cupy` finds; the devices that were made current were all left in the end."""
    driver = Driver()
    runtime = SimpleNamespace(
        getDeviceCount=driver.device_count,
        getDevice=lambda: 0,
        getDeviceProperties=lambda number: PROPERTIES,
        deviceGetAttribute=lambda attribute, number: ATTRIBUTES[attribute],
    )
    for module in (
        Library(
            "cupy",
            __version__="14.2.0",
            RawModule=driver.module,
            cuda=SimpleNamespace(Device=driver.device, runtime=runtime),
        ),
        Library("cupy._core", get_compute_type=lambda dtype: driver.compute_type[dtype]),
        Library("cupyx"),
        Library("cupyx.scipy"),
        Library("cupyx.scipy.ndimage", correlate=scipy.ndimage.correlate),
    ):
        patch.setitem(sys.modules, module.__name__, module)
    for name in device.REDUCING:
        patch.delenv(name, raising=False)
    patch.setattr(ctypes, "CDLL", lambda name: None)
    backend._function.cache_clear()
    device.shared_memory.cache_clear()
    yield driver
    assert driver.current == driver.left
    backend._function.cache_clear()
    device.shared_memory.cache_clear()


def offers_of(reading: Reading) -> dict[str, Offer]:
    """What is offered, by method."""
    answer = Backend().offers(reading.problem, facts_of(reading))
    assert not isinstance(answer, Refusal), answer
    return {offer.method: offer for offer in answer}


def unneeded(problem: Problem) -> Never:
    """Stand for the engine, which solves what a backend passes on."""
    raise AssertionError(f"no other backend is needed for {problem}")
