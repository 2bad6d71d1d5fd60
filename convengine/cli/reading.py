"""Reading pictures and arrays; what a header claims is checked before its samples are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from convengine.cli.npy import read_npy
from convengine.cli.pictures import NPY, TIFF, Page, Pages, format_of

__all__ = ["opened"]


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
        raise click.ClickException(f"{path}: {'is a directory' if path.is_dir() else 'is not a regular file'}")
    if channel_axis is not None and kind is not NPY:
        raise click.ClickException(
            f"{path}: --channel-axis is for .npy files; a {kind.name} says what its channels are"
        )
    if kind is NPY:
        yield Pages(1, iter([_array(path, channel_axis)]))
    elif kind is TIFF:
        from convengine.cli.tiff import opened_tiff

        with opened_tiff(path, max_pixels) as pages:
            yield pages
    else:
        from convengine.cli.photo import read_photo

        yield Pages(1, iter([read_photo(path, kind, max_pixels)]))


def _array(path: Path, channel_axis: int | str | None) -> Page:
    samples = read_npy(path)
    if not isinstance(channel_axis, int):
        return Page(samples)
    if not -samples.ndim <= channel_axis < samples.ndim:
        raise click.ClickException(f"{path}: has no axis --channel-axis {channel_axis}; its shape is {samples.shape}")
    return Page(samples, channel_axis % samples.ndim, rgb=samples.shape[channel_axis] == 3)
