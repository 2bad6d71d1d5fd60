"""What this machine has for CuPy to run on, and what it lacks, in words: the driver, a device, an exact matmul."""

import ctypes
import os
import sys
from functools import cache
from typing import Any

import numpy as np

from convengine.plugin import is_installed

__all__ = ["current", "describe", "matmul_is_exact", "missing", "missing_device", "shared_memory"]

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

MOST_SHARED_MEMORY = 97  # cudaDevAttrMaxSharedMemoryPerBlockOptin

# Each lets cuBLAS multiply float32 or float64 with fewer bits, or by parts, whatever the program asks for.
REDUCING = ("NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION", "CUBLAS_EMULATE_DOUBLE_PRECISION")
FULL = (0, 1, 2, 4, 5)  # CuPy's compute types not set, default, pedantic, float32 and float64; the others are narrower


def missing() -> str:
    """What is missing, as far as shows without loading CuPy; empty if nothing."""
    if not is_installed("cupy"):
        return "cupy is not installed (pip install convengine[cupy])"
    try:
        ctypes.CDLL(DRIVER)
    except OSError as error:
        return f"no CUDA driver ({error}); install NVIDIA's driver, or choose a host backend"
    return ""


def missing_device(number: int) -> str:
    """Why CuPy can't run on this device; empty if it can. Loads CuPy."""
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # noqa: BLE001  # a broken CuPy, an old driver, no device: each has its own exception
        return f"no CUDA device: {type(error).__name__}: {error}; nvidia-smi shows what the driver sees"
    if number >= count:
        return f"no CUDA device cuda:{number}: CuPy sees {count}; CUDA_VISIBLE_DEVICES and nvidia-smi say which"
    return ""


def current() -> int:
    """The number of the device that is current. Loads CuPy."""
    import cupy

    return int(cupy.cuda.runtime.getDevice())


def describe() -> tuple[str, str, str]:
    """CuPy's version, the names of the devices, and the first one's compute capability."""
    import cupy

    found: list[Any] = [cupy.cuda.runtime.getDeviceProperties(i) for i in range(cupy.cuda.runtime.getDeviceCount())]
    names = ", ".join(f"cuda:{i} {properties['name'].decode()}" for i, properties in enumerate(found))
    return cupy.__version__, names, f"sm_{found[0]['major']}{found[0]['minor']}"


@cache
def shared_memory(number: int) -> int:
    """Bytes of shared memory that a block may ask for on this device: 48 KiB, and on most devices more by its leave."""
    import cupy

    return int(cupy.cuda.runtime.deviceGetAttribute(MOST_SHARED_MEMORY, number))


def matmul_is_exact() -> bool:
    """Whether cuBLAS forms float32 products in float32 and float64 products in float64, as far as can be told."""
    if any(os.environ.get(name, "0") not in ("", "0") for name in REDUCING):
        return False
    try:
        from cupy._core import get_compute_type  # CUPY_TF32 and set_compute_type, in one place
    except ImportError:
        return False
    return all(int(get_compute_type(dtype)) in FULL for dtype in (np.float32, np.float64))
