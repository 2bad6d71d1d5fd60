"""PNG and JPEG files through Pillow: in, upright and without palettes, and out."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convengine.cli.pictures import JPEG, PNG, Format, Page, check_pixels, decoding

__all__ = ["opened_image", "read_photo", "write_photo"]

COLOUR_16 = {2: "RGB", 4: "grey with opacity", 6: "RGB with opacity"}  # PNG's colour types whose 16 bits Pillow halves
JPEG_QUALITY: dict[str, Any] = {"quality": 95, "subsampling": 0}  # a feature map's fine lines show what less would lose
JPEG_SIDE = 65_535


@contextmanager
def opened_image(path: Path, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image, and check its size before it is decoded."""
    usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # its limit is told without width and height
    try:
        with decoding(path, name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; what spoils the samples raises
            with _identified(path, name) as image:
                check_pixels(path, *image.size, max_pixels)
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = usual


def _identified(path: Path, name: str) -> Image.Image:
    try:
        return Image.open(path, formats=[name])
    except UnidentifiedImageError as error:
        raise click.ClickException(f"{path}: not a {name} file, or corrupt from the start") from error


def read_photo(path: Path, kind: Format, max_pixels: int) -> Page:
    """Read a PNG or JPEG, upright as its EXIF data say, with palettes and single bits as 8-bit samples."""
    with opened_image(path, kind.name, max_pixels) as image:
        with path.open("rb") as file:
            header = file.read(26)
        deep = kind is PNG and header[24] == 16
        if deep and header[25] in COLOUR_16:
            raise click.ClickException(
                f"{path}: a PNG of {COLOUR_16[header[25]]} in 16 bits, which Pillow reads in 8; save it as TIFF or NPY"
            )
        if kind is PNG and (frames := getattr(image, "n_frames", 1)) > 1:
            raise click.ClickException(f"{path}: an animation of {frames} frames; save them as files or as TIFF")
        profile = image.info.get("icc_profile")
        samples = _samples(path, ImageOps.exif_transpose(image), deep)
    alpha = None
    if samples.ndim == 3 and samples.shape[-1] in (2, 4):
        samples, alpha = samples[..., :-1], samples[..., -1]
        samples = samples[..., 0] if samples.shape[-1] == 1 else samples
    coloured = samples.ndim == 3
    return Page(samples, -1 if coloured else None, coloured, alpha, profile=profile)


def _samples(path: Path, image: Image.Image, deep: bool) -> np.ndarray[Any, Any]:
    """The samples of an image, (H, W) or (H, W, C), of 8 or 16 bits."""
    clear = "transparency" in image.info
    match image.mode:
        case "P" | "PA":
            image = image.convert("RGBA" if clear or image.mode == "PA" else "RGB")
        case "1" | "L":
            image = image.convert("LA" if clear else "L")
        case "RGB" if clear:
            image = image.convert("RGBA")
        case "LA" | "RGB" | "RGBA":
            pass
        case "I" | "I;16" | "I;16B" | "I;16L" if deep and not clear:
            return np.asarray(image).astype(np.uint16)
        case mode:
            what = "16-bit samples with a transparent value" if deep else f"{mode} colours"
            raise click.ClickException(f"{path}: holds {what}, which are not filtered; save it as grey or RGB")
    return np.asarray(image)


def write_photo(file: BinaryIO, path: Path, kind: Format, page: Page) -> None:
    """Write a PNG or JPEG."""
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


def _refuse(path: Path, what: str) -> NoReturn:
    raise click.ClickException(f"{path}: {what}; write TIFF or NPY")
