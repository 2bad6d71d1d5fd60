"""NumPy's .npy files: in, with every claim of the header checked before memory is asked for, and out."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

__all__ = ["read_npy", "write_npy"]

Check = Callable[[tuple[int, ...], np.dtype[Any]], None]


def read_npy(path: Path, check: Check | None = None) -> np.ndarray[Any, Any]:
    """Read an array of numbers; `check` may refuse its shape and dtype before the samples are read.

    Raises
    ------
    ClickException
        If the file is no .npy file, holds objects, or is shorter than its header says.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:  # 3.0 exists for structured dtypes with names beyond Latin-1
                raise ValueError(f"format version {version} is for structured arrays")
            shape, _, dtype = read_header(file)
        except (ValueError, EOFError) as error:
            raise click.ClickException(f"{path}: not a .npy file of numbers: {error}") from error
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


def write_npy(file: BinaryIO, path: Path, arrays: list[np.ndarray[Any, Any]]) -> None:
    """Write an array; several of one shape become the first axis of one."""
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = ", ".join(sorted({f"{array.dtype} {array.shape}" for array in arrays}))
        raise click.ClickException(f"{path}: NPY holds one array, but the pages are {shapes}; write TIFF")
    np.lib.format.write_array(file, arrays[0] if len(arrays) == 1 else np.stack(arrays), allow_pickle=False)
