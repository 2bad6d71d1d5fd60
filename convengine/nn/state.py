"""Parameters in files: NumPy's .npz, written whole or not at all."""

import os
import secrets
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from convengine.errors import InvalidProblem

__all__ = ["read_state", "write_state"]

Array = np.ndarray[Any, Any]


def write_state(path: str | PathLike[str], state: Mapping[str, Array]) -> None:
    """Write named arrays to `path`, under exactly that name; if it fails, what was there is as it was."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, **dict(state))  # type: ignore[arg-type]  # a name "allow_pickle" would be the option
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def read_state(path: str | PathLike[str]) -> dict[str, Array]:
    """Read what `write_state` wrote, or any other .npz file of arrays.

    Raises
    ------
    InvalidProblem
        If it is none, or damaged.
    OSError
        If there is no such file, or it may not be read.
    """
    with Path(path).open("rb") as file:  # which np.load leaves open where it fails
        try:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array without a name")
            return {name: archive[name] for name in archive.files}
        except Exception as error:  # a damaged archive trips NumPy, zipfile and zlib in many ways
            raise InvalidProblem(
                f"{os.fspath(path)} must be an .npz file of named arrays, as save writes; it is none, or damaged: "
                f"{str(error) or type(error).__name__}"
            ) from error
