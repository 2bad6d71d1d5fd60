"""PNG files of 16-bit colour, or of grey with opacity, which Pillow halves: in and out through pypng."""

import io
import itertools
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
import png

__all__ = ["read_deep", "write_deep"]

BLOCK = 1 << 20  # bytes decompressed at a time
PROFILE_HEAD = b"ICC Profile\0\0"  # a name, and compression method 0: deflate


def read_deep(path: Path) -> np.ndarray[Any, Any]:
    """Read the samples, (H, W, C) of uint16, of a PNG whose size has been checked."""
    data = path.read_bytes()
    _check_length(path, png.Reader(bytes=data))
    width, height, rows, info = png.Reader(bytes=data).read()
    if "transparent" in info:
        raise click.ClickException(
            f"{path}: holds 16-bit samples with a transparent value, which are not filtered; save it as grey or RGB"
        )
    samples = np.empty((height, width * info["planes"]), np.uint16)
    for line, row in zip(samples, rows, strict=True):
        line[:] = row
    return samples.reshape(height, width, info["planes"])


def _check_length(path: Path, reader: Any) -> None:
    """Refuse compressed data that stand for other than the header says: pypng would decompress them all."""
    reader.preamble()
    least = most = reader.height * (reader.row_bytes + 1)  # a row begins with a byte that says how it is filtered
    if reader.interlace:  # seven passes: up to twice as many rows
        most += reader.height + 8
    decompressor, size = zlib.decompressobj(), 0
    for kind, data in reader.chunks():
        while kind == b"IDAT" and data and not decompressor.eof:
            size += len(decompressor.decompress(data, BLOCK))
            data = decompressor.unconsumed_tail
            if size > most:
                raise click.ClickException(f"{path}: corrupt: it holds more samples than its header says")
    if not decompressor.eof or size < least:
        raise click.ClickException(f"{path}: truncated or corrupt: its samples end after {size} bytes")


def write_deep(file: BinaryIO, pixels: np.ndarray[Any, Any], profile: bytes | None) -> None:
    """Write (H, W, C) of uint16: C is 2 for grey and 3 for colours, 4 with opacity."""
    height, width, channels = pixels.shape
    writer = png.Writer(width, height, bitdepth=16, greyscale=channels == 2, alpha=channels != 3)
    written = io.BytesIO()
    writer.write_packed(written, (row.astype(">u2").tobytes() for row in pixels))
    header, *rest = png.Reader(bytes=written.getvalue()).chunks()
    coloured = [(b"iCCP", PROFILE_HEAD + zlib.compress(profile))] if profile else []
    png.write_chunks(file, itertools.chain([header], coloured, rest))
