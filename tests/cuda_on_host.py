"""Kernels of convengine_cupy, compiled for the host in one library, and called as CuPy would call them."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convengine_cupy import variants
from convengine_cupy.variants import Variant

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") or shutil.which("clang++")
FLAGS = ("-std=c++17", "-O0", "-g0", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w")

ENTRY = """
}}
static void call_{number}(void** given) {{
    using namespace variant_{number};
    kernel_{number}(*(const X**)given[0], *(O**)given[1], *(const S**)given[2], *(const Arguments*)given[3]);
}}
extern "C" const char* run_{number}(unsigned grid, unsigned block, void** given, const uintptr_t* ranges,
                                    long long* written) {{
    return launch(call_{number}, {meeting}, grid, block, given, ranges, written);
}}
"""


def together(chosen: Iterable[Variant]) -> str:
    """One text that holds many variants, each in a namespace and with an entry of its own."""
    parts = [f'#include "{HERE / "cuda_on_host.h"}"\n', variants.text("samples.cuh")]
    for number, variant in enumerate(chosen):
        parts.append(f"namespace variant_{number} {{\n#undef KERNEL\n#define KERNEL kernel_{number}\n")
        parts += [variant.types, variants.text(variant.kernel + ".cu")]
        tile = variant.tile  # what meets at its barriers
        meeting = tile.threads if tile else {"rolling": 32, "general": 1, "fft": variant.threads}[variant.kernel]
        parts.append(ENTRY.format(number=number, meeting=meeting))
    return "".join(parts)


class Wanted:
    """Stands for a library that is not compiled yet: notes which variants are asked for."""

    def __init__(self) -> None:
        self.variants: dict[Variant, None] = {}

    def load(self, variant: Variant) -> Callable[..., None]:
        """Note it; what stands for a launch of it fills the result with zeros."""
        self.variants[variant] = None
        return lambda grid, block, arguments: arguments[1].fill(0)


class Library:
    """Compiled variants; `changed` may plant a bug in the text."""

    def __init__(self, chosen: Iterable[Variant], folder: Path, changed: Callable[[str], str] = str) -> None:
        if COMPILER is None:  # convengine itself is in C: a machine that builds it need have none for C++
            pytest.skip("needs a C++ compiler, g++ or clang++, on the PATH")
        self.numbers = {variant: number for number, variant in enumerate(dict.fromkeys(chosen))}
        source, library = folder / "variants.cpp", folder / "variants.so"
        source.write_text(changed(together(self.numbers)), encoding="utf-8")
        subprocess.run([str(COMPILER), *FLAGS, "-o", str(library), str(source)], check=True)
        self.library = ctypes.CDLL(str(library))

    def load(self, variant: Variant) -> Callable[..., None]:
        """What stands for `RawModule.get_function`."""
        run = self.library[f"run_{self.numbers[variant]}"]
        run.restype = ctypes.c_char_p

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            *arrays, given = arguments
            pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
            places = [ctypes.cast(ctypes.pointer(pointer), ctypes.c_void_p) for pointer in pointers]
            passed = (ctypes.c_void_p * 4)(*places, given.ctypes.data)
            ranges = (ctypes.c_size_t * 6)(*(end for array in arrays for end in ends(array)))
            written = ctypes.c_longlong()
            fault = run(ctypes.c_uint(grid[0]), ctypes.c_uint(block[0]), passed, ranges, ctypes.byref(written))
            assert not fault, f"{fault.decode()}: {variant}"
            assert written.value == arrays[1].size, f"{written.value} writes of {arrays[1].size} results: {variant}"

        return launch


def replacing(right: str, wrong: str) -> Callable[[str], str]:
    """What plants a bug in a text that has the right words."""

    def changed(text: str) -> str:
        assert right in text
        return text.replace(right, wrong)

    return changed


def ends(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The first address of an array, and the one after its last."""
    reaches = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)] if array.size else []
    first = int(array.ctypes.data) + sum(min(reach, 0) for reach in reaches)
    return first, first + sum(abs(reach) for reach in reaches) + array.itemsize * bool(array.size)
