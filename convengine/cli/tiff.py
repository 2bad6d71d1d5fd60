"""TIFF files: pages in, one at a time, and pages out."""

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

from convengine.cli.pictures import Page, Pages, check_pixels, decoding

__all__ = ["opened_tiff", "write_tiff"]

PREMULTIPLIED, OPACITY = 1, (1, 2)  # ExtraSamples
BLACK_IS_ZERO, WHITE_IS_ZERO, RGB, PALETTE = 1, 0, 2, 3  # PhotometricInterpretation
UNCOMPRESSED = 1
PROFILE, UNDEFINED = 34675, 7  # the tag of an ICC profile, and its type
BIG = 2**32 - 2**26  # bytes beyond which a classic TIFF's offsets end, with room for the headers


class _Log(logging.Handler):
    """Keeps what tifffile says of a file's chain of pages: it stops there without raising, and pages would be lost."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lost: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "TiffPages" in text:
            self.lost.append(text.rpartition("> ")[2])


@contextmanager
def opened_tiff(path: Path, max_pixels: int) -> Iterator[Pages]:
    """Open a TIFF file; its pages are decoded as they are asked for."""
    logger, log = logging.getLogger("tifffile"), _Log()
    logger.addHandler(log)
    logger.propagate = False
    try:
        with path.open("rb") as file:
            with decoding(path, "TIFF"):
                from tifffile import TiffFile

                tiff = TiffFile(file)
                count = len(tiff.pages)
                samples = sum(math.prod(page.shape) for page in tiff.pages)
                claimed = sum(math.prod(series.shape) for series in tiff.series)
            if log.lost or not count:
                raise click.ClickException(f"{path}: truncated or corrupt: {', '.join(log.lost) or 'it has no page'}")
            if claimed > samples:
                raise click.ClickException(
                    f"{path}: holds {claimed} samples behind {count} page headers for {samples}; "
                    "save it with a header for each page, or as NPY"
                )
            yield Pages(count, _each(tiff, path, max_pixels))
    finally:
        logger.removeHandler(log)
        logger.propagate = True


def _each(tiff: Any, path: Path, max_pixels: int) -> Iterator[Page]:
    for number, page in enumerate(tiff.pages, start=1):
        name = f"{path}, page {number}" if len(tiff.pages) > 1 else str(path)
        with decoding(name, "TIFF"):
            read = _page(page.aspage(), path, name, max_pixels)
        yield read


def _page(page: Any, path: Path, name: str, max_pixels: int) -> Page:
    """Check a page's claims, decode it, and sort its channels."""
    check_pixels(name, page.imagewidth, page.imagelength * page.imagedepth * -(-page.samplesperpixel // 4), max_pixels)
    needed = -(-math.prod(page.shape) * page.bitspersample // 8)
    size, held = path.stat().st_size, sum(page.databytecounts)
    end = max((at + count for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > size or (page.compression == UNCOMPRESSED and held < needed):
        raise click.ClickException(
            f"{name}: truncated or corrupt: {page.dtype} of shape {page.shape} needs {needed} bytes; "
            f"the file has {size} and the page's samples {held}, up to byte {end}"
        )
    if page.axes not in ("YX", "YXS", "SYX") or page.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE):
        kind = getattr(page.photometric, "name", page.photometric)
        raise click.ClickException(f"{name}: {kind} with axes {page.axes} is not filtered; save it as grey or RGB")
    return _sorted_channels(page, name, _decoded(page, path, name, max_pixels))


def _decoded(page: Any, path: Path, name: str, max_pixels: int) -> np.ndarray[Any, Any]:
    """The samples by tifffile; where its compression needs another package, by Pillow, if that keeps every bit."""
    try:
        samples: np.ndarray[Any, Any] = page.asarray()
        return samples
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    from convengine.cli.photo import opened_image

    kept = page.bitspersample == 8 or (page.bitspersample == 16 and page.samplesperpixel == 1)
    if kept and page.axes != "SYX" and not page.extrasamples and page.photometric != WHITE_IS_ZERO:
        with opened_image(path, "TIFF", max_pixels) as image:
            image.seek(page.index)
            samples = np.asarray(image)
        if samples.shape == page.shape and samples.dtype == page.dtype:
            return samples
    raise click.ClickException(
        f"{name}: is compressed by {page.compression.name}, which needs: pip install imagecodecs"
    )


def _sorted_channels(page: Any, name: str, samples: np.ndarray[Any, Any]) -> Page:
    samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
    if page.photometric == PALETTE:
        colours = page.colormap.T[samples]
        samples = (colours >> 8).astype(np.uint8) if page.bitspersample <= 8 else colours
    elif page.photometric == WHITE_IS_ZERO:
        if samples.dtype.kind in "ifc":
            raise click.ClickException(f"{name}: {samples.dtype} where white is zero is not filtered; save it as grey")
        samples = samples ^ np.array(2**page.bitspersample - 1, samples.dtype)  # white - samples, for bool too
    if samples.dtype.kind == "b":
        samples = samples * np.uint8(255)
    alpha, premultiplied = None, False
    if samples.ndim == 3 and len(page.extrasamples) == 1 and page.extrasamples[0] in OPACITY:
        premultiplied = page.extrasamples[0] == PREMULTIPLIED
        samples, alpha = samples[..., :-1], samples[..., -1]
        samples = samples[..., 0] if samples.shape[-1] == 1 else samples
    rgb = page.photometric in (RGB, PALETTE)
    return Page(samples, -1 if samples.ndim == 3 else None, rgb, alpha, premultiplied, page.tags.valueof(PROFILE))


def write_tiff(file: BinaryIO, path: Path, pages: Iterable[Page], count: int) -> None:
    """Write pages, uncompressed; an array of three axes without colours is a stack of grey ones."""
    from tifffile import TiffWriter

    writer = None
    for page in pages:
        if writer is None:
            writer = TiffWriter(file, bigtiff=page.samples.nbytes * count > BIG)
        for plane in _planes(path, page):
            pixels = plane.interleaved
            channels = pixels.shape[-1] if pixels.ndim == 3 else 1
            extra = [0] * (channels - (3 if plane.rgb else 1))
            if plane.alpha is not None:
                extra[-1] = PREMULTIPLIED if plane.premultiplied else OPACITY[1]
            writer.write(
                pixels,
                photometric=RGB if plane.rgb else BLACK_IS_ZERO,
                planarconfig=1 if channels > 1 else None,
                extrasamples=extra or None,
                extratags=[(PROFILE, UNDEFINED, len(plane.profile), plane.profile, True)] if plane.profile else [],
                metadata=None,
                contiguous=False,
            )
    if writer is not None:
        writer.close()


def _planes(path: Path, page: Page) -> Iterator[Page]:
    """The pictures that an array is: one, with its colours last, or a stack of grey ones."""
    samples, axis = page.samples, page.channel_axis
    if not samples.size or samples.ndim - (axis is not None) not in (2, 3) or samples.ndim > 3:
        raise click.ClickException(
            f"{path}: TIFF takes arrays (H, W), (N, H, W) and (H, W, C); got {samples.shape}; write NPY"
        )
    if samples.ndim == 2:
        yield page
    elif axis is None:
        yield from (replace(page, samples=plane) for plane in samples)
    else:
        yield replace(page, samples=np.moveaxis(samples, axis, -1), channel_axis=-1)
