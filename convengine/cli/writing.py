"""Writing pictures and arrays: whole or not at all."""

import io
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

from convengine.cli.npy import write_npy
from convengine.cli.pictures import NPY, TIFF, Format, Page, format_of

__all__ = ["check_place", "check_target", "replacing", "write"]


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
    target = check_place(path)
    if target.exists() and source is not None and not force and target.samefile(source):
        raise click.ClickException(f"{path}: is the input itself; write another file, or replace it by --force")
    return kind


def check_place(path: Path) -> Path:
    """The file that `path` leads to; ClickException if it can't be written, before any work is done."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise click.ClickException(f"{path}: there is no folder {target.parent}")
    if target.exists():
        if not target.is_file():
            raise click.ClickException(f"{path}: {'is a directory' if target.is_dir() else 'is not a regular file'}")
        if not os.access(target, os.W_OK):
            raise click.ClickException(f"{path}: cannot be written: it is read-only")
    return target


def write(path: Path, pages: Iterable[Page], count: int) -> None:
    """Write pages in the format that the name says, taking each when the one before is written."""
    kind = format_of(path)
    with replacing(path) as file:
        if kind is NPY:
            write_npy(file, path, [page.interleaved for page in pages])
        elif kind is TIFF:
            from convengine.cli.tiff import write_tiff

            write_tiff(file, path, pages, count)
        else:
            from convengine.cli.photo import write_photo

            for page in pages:
                write_photo(file, path, kind, page)
