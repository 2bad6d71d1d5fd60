"""Kernels from the command line: a name, a list or a .npy file; and the command that lists the names."""

import difflib
from pathlib import Path
from typing import Any

import click
import numpy as np

from convengine.cli.npy import read_npy
from convengine.cli.options import kernel_is, shown_as_json
from convengine.cli.terminal import print_json, print_table
from convengine.filters import named
from convengine.filters.parameters import check_taps

__all__ = ["kernels", "read_kernel"]


def read_kernel(text: str, ndim: int) -> np.ndarray[Any, Any]:
    """Read a kernel; `ndim` is the number of axes of one that is named: a list or a file has its own."""
    if not text.strip().lower().endswith(".npy"):
        _check_name(text, ndim)
        return named.parse(text, ndim=ndim)
    path = Path(text.strip())
    kernel = read_npy(path, lambda shape, dtype: check_taps(shape))
    if not 1 <= kernel.ndim <= 3 or not kernel.size:
        raise click.ClickException(f"{path}: a kernel needs 1 to 3 axes of 1 sample or more; got shape {kernel.shape}")
    return kernel


def _check_name(text: str, ndim: int) -> None:
    """Refuse an unknown name, and one along an axis that the array has not, in the words of the command line."""
    name = text.partition(":")[0].strip().lower()
    known = named.names()
    if name in known:
        letter = name.rpartition("-")[2]
        if (needed := -named.AXES.get(letter, -1)) > ndim:
            raise click.ClickException(f"kernel {name!r} needs an array of {needed} axes or more; this one has {ndim}")
    elif not name.startswith("["):
        close = sorted(difflib.get_close_matches(name, known), key=lambda other: (-_likeness(name, other), other))
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise click.ClickException(
            f"unknown kernel {named.SHOW.repr(name)}; {hint}needed is a list such as [[1,-1]], a .npy file, "
            f"or one of {', '.join(known)}"
        )


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, name).ratio()


@click.command(epilog=kernel_is)
@shown_as_json
def kernels(as_json: bool) -> None:
    """List the kernels that have names, with their syntax: optional numbers stand in brackets."""
    entries = {name: line.split(": ", 1) for name, line in named.names().items()}
    if as_json:
        print_json({name: {"syntax": syntax, "meaning": meaning} for name, (syntax, meaning) in entries.items()})
    else:
        print_table(["kernel", "meaning"], list(entries.values()))
