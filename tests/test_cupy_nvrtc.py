"""The CUDA kernels of the backend cupy compile, by NVRTC, for old and new GPUs, without a GPU or a driver.

NVRTC comes with CuPy's CUDA, or by itself: pip install convengine[nvrtc].
"""

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from convengine_cupy import fft_tiles, layers, variants
from convengine_cupy.variants import Tile, Variant

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "float32", "float64")
ARCHITECTURES = {"sm_75": 3, "sm_90": 1}  # the oldest that NVRTC 13 knows, for every third variant, and Hopper for all


def find_nvrtc() -> str:
    """Where the library lies: a wheel of NVIDIA's, a toolkit, or where the loader looks; empty if nowhere."""
    spec = find_spec("nvidia")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    found = [
        path for folder in folders for path in sorted(folder.glob("*/lib/libnvrtc.so.*")) if "alt" not in path.name
    ]
    toolkit = Path(os.environ.get("CUDA_PATH", "/usr/local/cuda"))
    found += [path for name in ("lib64", "lib") if (path := toolkit / name / "libnvrtc.so").exists()]
    return str(found[0]) if found else ctypes.util.find_library("nvrtc") or ""


NVRTC = find_nvrtc()
pytestmark = pytest.mark.skipif(not NVRTC, reason="needs NVRTC: pip install convengine[nvrtc], or CUDA_PATH")


def compiled(source: str, architecture: str) -> bytes:
    """What NVRTC makes of a source: a cubin."""
    library = ctypes.CDLL(NVRTC)
    program = ctypes.c_void_p()
    text, name = ctypes.c_char_p(source.encode()), ctypes.c_char_p(b"convengine.cu")
    assert library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None) == 0
    try:
        options = [option.encode() for option in (*variants.OPTIONS, f"--gpu-architecture={architecture}")]
        failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        length = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(program, ctypes.byref(length))
        log = ctypes.create_string_buffer(length.value)
        library.nvrtcGetProgramLog(program, log)
        assert not failed, log.value.decode()
        assert not log.value, log.value.decode()  # no warning either
        library.nvrtcGetCUBINSize(program, ctypes.byref(length))
        code = ctypes.create_string_buffer(length.value)
        library.nvrtcGetCUBIN(program, code)
        return code.raw
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def sums() -> Iterator[tuple[str, str]]:
    """Every type of samples, with every type that their sums may have."""
    for x in ("bool", *INTEGERS):
        short = x == "bool" or np.iinfo(x).bits < 32
        yield from product((x,), ("int32", "int64", "float32", "float64") if short else ("int64", "float64"))
    yield from product(("float16", "float32"), ("float32", "float64"))
    yield "float64", "float64"


def roundings() -> Iterator[tuple[str, str, bool]]:
    """Every rounding of a sum that a kernel does by itself."""
    yield from product(("int32", "int64"), INTEGERS, (True, False))
    yield from product(("float32", "float64"), FLOATS, (False,))


def every_layer() -> Iterator[Variant]:
    """All tiles for float32, the largest for other sums; all samples and sums, and some roundings, by small tiles."""

    def variant(tile: Tile, x: str, total: str, out: str, saturate: bool = False, wide: bool = False) -> Variant:
        tile = layers.sized(tile, np.dtype(total).itemsize)
        return Variant("layer", np.dtype(x), np.dtype(total), np.dtype(out), saturate, wide=wide, tile=tile)

    for tile in layers.TILES:
        yield variant(tile, "float32", "float32", "float32")
    for total in ("float64", "int32", "int64"):
        yield variant(layers.TILES[0], total, total, total)
    small = Tile(1, 2, 16, 16)  # compiled sooner than those that are used: types are what matters here
    for number, (x, total) in enumerate(sums()):
        yield variant(small, x, total, total, wide=number % 4 == 3)
    for total, out, saturate in list(roundings())[::3]:  # the rolling kernel has them all, by the same function
        yield variant(small, total if total[0] == "f" else "uint8", total, out, saturate)


def every_variant() -> Iterator[Variant]:
    """Filters' kernels for all samples and sums, all roundings, rolling ones of all sizes to 9, the largest; tiles."""
    for number, (x, total) in enumerate(sums()):
        types: tuple[Any, ...] = (np.dtype(x), np.dtype(total), np.dtype(total), False)
        yield Variant("general", *types, wide=number % 4 == 0)
        yield Variant("rolling", *types, height=2, width=3, adjacent=number % 2 == 0)
    for number, (total, out, saturate) in enumerate(roundings()):
        x = total if total[0] == "f" else "uint8"
        types = (np.dtype(x), np.dtype(total), np.dtype(out), saturate)
        yield Variant("rolling", *types, adjacent=number % 2 == 0)
    floats: tuple[Any, ...] = (*(np.dtype(np.float32),) * 3, False)
    for size, adjacent in product(range(1, 10), (True, False)):
        yield Variant("rolling", *floats, size, size, adjacent=adjacent)
    for total, adjacent in product(("float32", "float64", "int32", "int64"), (True, False)):
        yield Variant("rolling", *(np.dtype(total),) * 3, False, 5, 7, adjacent=adjacent, separable=True)
    yield Variant("rolling", *floats, 32, 65, adjacent=True, separable=True)
    for height, width, step in ((16, 16, 1), (9, 9, 3), (1, 256, 1)):
        yield Variant("rolling", *floats, height, width, step)
    shapes = [(ndim, *shape) for ndim, shapes in fft_tiles.SHAPES.items() for shape in shapes]
    for number, (ndim, down, along) in enumerate(shapes):
        total = np.dtype("float64" if number % 2 and down * along <= 8192 else "float32")
        yield Variant("fft", total, total, total, False, down, along, signal=ndim == 1)
    yield Variant("fft", np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float16), False, 32, 32)


def together(chosen: list[Variant]) -> str:
    """One text with many kernels, each in a namespace."""
    parts = [variants.text("samples.cuh")]
    for number, variant in enumerate(chosen):
        parts.append(f"namespace variant_{number} {{\n#undef KERNEL\n#define KERNEL kernel_{number}\n")
        parts += [variant.types, variants.text(variant.kernel + ".cu"), "}\n"]
    return "".join(parts)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("every", [every_variant, every_layer])
def test_the_variants_compile(every: Callable[[], Iterator[Variant]], architecture: str) -> None:
    chosen = list(dict.fromkeys(every()))[:: ARCHITECTURES[architecture]]
    assert compiled(together(chosen), architecture).startswith(b"\x7fELF")


def test_what_cupy_compiles_is_whole() -> None:
    variant = Variant("rolling", *(np.dtype(np.float32),) * 3, False, 3, 3, adjacent=True)
    assert variants.NAME.encode() in compiled(variant.source, "sm_90")
