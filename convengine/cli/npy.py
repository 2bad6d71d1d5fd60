"""NumPy's .npy files: in, with every claim of the header checked before memory is asked for, and out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

from convengine.cli.pictures import decoding

__all__ = ["read_npy", "write_npy"]

Check = Callable[[tuple[int, ...], np.dtype[Any]], None]


def read_npy(path: Path, check: Check | None = None) -> np.ndarray[Any, Any]:
    """Read an array of numbers; `check` may refuse its shape and dtype before the samples are read.

    Raises
    ------
    ClickException
        If the file is no .npy file, holds objects, or is shorter than its header says.
    """
    with decoding(path, "NPY"), path.open("rb") as file:
        try:
            shape, dtype = _header(file)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # numpy parses the header as Python, which fails in many ways
            raise click.ClickException(f"{path}: not a .npy file of numbers, or its header is corrupt") from error
        if min(shape, default=0) < 0:
            raise click.ClickException(f"{path}: corrupt: its header says shape {shape}")
        if dtype.hasobject or dtype.kind not in "biufc":
            raise click.ClickException(f"{path}: a .npy file of numbers is needed; this one holds {dtype}")
        needed, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if held < needed:
            raise click.ClickException(
                f"{path}: truncated or corrupt: its header says {dtype} of shape {shape}, {needed} bytes; it has {held}"
            )
        if check is not None:
            check(shape, dtype)
        file.seek(0)
        array: np.ndarray[Any, Any] = np.load(file, allow_pickle=False)
    return array


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype; format 3.0 exists for structured dtypes with names beyond Latin-1."""
    match np.lib.format.read_magic(file):
        case (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        case (2, 0):
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        case version:
            raise ValueError(f"format {version} is for structured arrays")
    return shape, dtype


def write_npy(file: BinaryIO, path: Path, arrays: list[np.ndarray[Any, Any]]) -> None:
    """Write an array; several of one shape become the first axis of one."""
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = ", ".join(sorted({f"{array.dtype} {array.shape}" for array in arrays}))
        raise click.ClickException(f"{path}: NPY holds one array, but the pages are {shapes}; write TIFF")
    np.lib.format.write_array(file, arrays[0] if len(arrays) == 1 else np.stack(arrays), allow_pickle=False)
