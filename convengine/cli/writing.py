"""Writing pictures and arrays: whole or not at all."""

import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click
import numpy as np

from convengine.cli.pictures import JPEG, NPY, TIFF, Format, Page, format_of

__all__ = ["check_target", "replacing", "write"]

JPEG_QUALITY = {"quality": 95, "subsampling": 0}  # a feature map's fine lines show what a lower one loses
JPEG_SIDE = 65_535


class _Descriptor(io.FileIO):
    """A file without a number: libraries that write to the number lose the reason of a failure."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("write through the object")

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        os.fsync(super().fileno())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when the block ends; if it raises, `path` is as it was before.

    A temporary file in the same folder is written, synced and renamed. A link's target is replaced, not the link; the
    permissions of a file that was there are kept.

    Raises
    ------
    ClickException
        If the file system refuses: no room, no permission.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".convengine-{secrets.token_hex(8)}.tmp")
    try:
        try:
            raw = _Descriptor(temporary, "x+")
            with io.BufferedRandom(raw, 1 << 20) as file:
                yield file
                file.flush()
                raw.sync()
            if target.exists():
                temporary.chmod(stat.S_IMODE(target.stat().st_mode))
            temporary.replace(target)
        except BaseException:  # Ctrl-C too
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise click.ClickException(f"{path}: cannot be written: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power failure, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_target(path: Path, source: Path | None = None, *, force: bool = False) -> Format:
    """Say in what format `path` is to be written; ClickException if it can't be, before any work is done."""
    kind = format_of(path)
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise click.ClickException(f"{path}: there is no folder {target.parent}")
    if target.exists():
        if not target.is_file():
            raise click.ClickException(f"{path}: {'is a directory' if target.is_dir() else 'is not a regular file'}")
        if not os.access(target, os.W_OK):
            raise click.ClickException(f"{path}: cannot be written: it is read-only")
        if source is not None and not force and target.samefile(source):
            raise click.ClickException(f"{path}: is the input itself; write another file, or replace it by --force")
    return kind


def write(path: Path, pages: Iterable[Page], count: int) -> None:
    """Write pages in the format that the name says, taking each when the one before is written."""
    kind = format_of(path)
    with replacing(path) as file:
        if kind is NPY:
            _write_npy(file, path, [page.interleaved for page in pages])
        elif kind is TIFF:
            from convengine.cli.tiff import write_tiff

            planes = chain.from_iterable(_planes(path, page) for page in pages)
            write_tiff(file, planes, count)
        else:
            for page in pages:
                _write_picture(file, path, kind, page)


def _write_npy(file: BinaryIO, path: Path, arrays: list[np.ndarray[Any, Any]]) -> None:
    """Write an array; pages of one shape become its first axis."""
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        shapes = ", ".join(sorted({str(array.shape) for array in arrays}))
        raise click.ClickException(f"{path}: NPY holds one array, but the pages are of shapes {shapes}; write TIFF")
    np.lib.format.write_array(file, arrays[0] if len(arrays) == 1 else np.stack(arrays), allow_pickle=False)


def _planes(path: Path, page: Page) -> Iterator[Page]:
    """The pictures that an array is in a TIFF file: colours last, or else a stack of grey ones."""
    samples, axis = page.samples, page.channel_axis
    if not samples.size or not 2 <= samples.ndim <= 3 or (axis is not None and samples.ndim == 2):
        raise click.ClickException(
            f"{path}: TIFF takes arrays (H, W), (N, H, W) and (H, W, C); got {samples.shape}; write NPY"
        )
    if samples.ndim == 3 and axis is None:
        yield from (Page(plane) for plane in samples)
    elif axis not in (None, -1, 2):
        yield Page(np.moveaxis(samples, axis, -1), -1, page.rgb)
    else:
        yield page


def _refuse(path: Path, what: str) -> NoReturn:
    raise click.ClickException(f"{path}: {what}; write TIFF or NPY")


def _write_picture(file: BinaryIO, path: Path, kind: Format, page: Page) -> None:
    from PIL import Image

    samples = page.samples
    if samples.ndim == 3 and page.rgb and page.channel_axis is not None:
        page = replace(page, samples=np.moveaxis(samples, page.channel_axis, -1), channel_axis=-1)
    elif samples.ndim != 2 or page.channel_axis is not None or not samples.size:
        _refuse(path, f"{kind.name} takes arrays (H, W), or (H, W, 3) of colours; got {samples.shape}")
    if page.alpha is not None and not kind.alpha:
        _refuse(path, f"{kind.name} holds no opacity, which the input has")
    if page.premultiplied:
        _refuse(path, f"{kind.name} holds no premultiplied colours, which the input has")
    pixels = np.ascontiguousarray(page.interleaved)
    if page.alpha is not None and pixels.dtype != np.uint8:
        _refuse(path, f"{kind.name} holds opacity in 8 bits; got {pixels.dtype}")
    if kind is JPEG and max(pixels.shape[:2]) > JPEG_SIDE:
        _refuse(path, f"JPEG holds {JPEG_SIDE} pixels a side; got {pixels.shape[0]} x {pixels.shape[1]}")
    keep: dict[str, Any] = {"icc_profile": page.profile} if page.profile else {}
    Image.fromarray(pixels).save(file, format=kind.name, **keep, **(JPEG_QUALITY if kind is JPEG else {}))
