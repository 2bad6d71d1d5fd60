"""Reading pictures and arrays: every claim of a header is checked before its samples are decoded."""

import logging
import math
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from convengine.cli.npy import read_npy
from convengine.cli.pictures import JPEG, NPY, PNG, TIFF, Page, Pages, format_of

__all__ = ["opened"]

OPACITY = (1, 2)  # TIFF's ExtraSamples: premultiplied, and not


@contextmanager
def opened(path: Path, *, max_pixels: int, channel_axis: int | str | None = None) -> Iterator[Pages]:
    """Open a picture, a multi-page TIFF or a .npy array; `channel_axis` is for the last alone.

    Raises
    ------
    ClickException
        In one line: if the file is missing, no such picture, truncated, corrupt, too large, or of a kind that is not
        filtered, such as CMYK.
    """
    kind = format_of(path)
    if not path.exists():
        raise click.ClickException(f"{path}: no such file")
    if not path.is_file():
        raise click.ClickException(f"{path}: a file is needed; this is {'a directory' if path.is_dir() else 'none'}")
    if channel_axis is not None and kind is not NPY:
        raise click.ClickException(f"{path}: --channel-axis is for .npy files; a {kind.name} says itself what its channels are")
    if kind is NPY:
        yield Pages(1, iter([_array(path, channel_axis)]))
    elif kind is TIFF:
        with _decoding(path, kind.name):
            from tifffile import TiffFile

            logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what matters of a faulty file is raised
            with path.open("rb") as file:
                tiff = TiffFile(file)
                count = len(tiff.pages)
                held = sum(math.prod(series.shape) for series in tiff.series)
        ...
    else:
        yield Pages(1, iter([_picture(path, kind.name, max_pixels)]))
