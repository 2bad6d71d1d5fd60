"""PNG and JPEG files: in, upright and without palettes, and out; through Pillow but for 16-bit colour."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import click
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convengine.cli.pictures import JPEG, PNG, Format, Page, check_pixels, check_shape, decoding

__all__ = ["opened_image", "read_photo", "write_photo"]

Array = np.ndarray[Any, Any]
HALVED = (2, 4, 6)  # PNG's colour types whose 16 bits Pillow halves: RGB, grey with opacity, RGB with opacity
ORIENTATION = 0x0112  # EXIF's tag
UPRIGHT: dict[int, Callable[[Array], Array]] = {
    2: np.fliplr,
    3: lambda samples: np.rot90(samples, 2),
    4: np.flipud,
    5: lambda samples: np.swapaxes(samples, 0, 1),
    6: lambda samples: np.rot90(samples, -1),
    7: lambda samples: np.swapaxes(np.rot90(samples, 2), 0, 1),
    8: np.rot90,
}
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
        if kind is PNG and (frames := getattr(image, "n_frames", 1)) > 1:
            raise click.ClickException(f"{path}: an animation of {frames} frames; save them as files or as TIFF")
        profile = image.info.get("icc_profile")
        if deep and header[25] in HALVED:
            from convengine.cli.deep_png import read_deep

            samples = read_deep(path)
            orientation = image.getexif().get(ORIENTATION)
            samples = UPRIGHT[orientation](samples) if orientation in UPRIGHT else samples
        else:
            samples = _samples(path, ImageOps.exif_transpose(image), deep)
    alpha = None
    if samples.ndim == 3 and samples.shape[-1] in (2, 4):
        samples, alpha = samples[..., :-1], samples[..., -1]
        samples = samples[..., 0] if samples.shape[-1] == 1 else samples
    coloured = samples.ndim == 3
    return Page(samples, -1 if coloured else None, coloured, alpha, profile=profile)


def _samples(path: Path, image: Image.Image, deep: bool) -> Array:
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
    check_shape(path, kind, page)
    if page.channel_axis is not None:
        page = replace(page, samples=np.moveaxis(page.samples, page.channel_axis, -1), channel_axis=-1)
    if page.alpha is not None and not kind.alpha:
        _refuse(path, f"{kind.name} holds no opacity, which the input has")
    if page.premultiplied:
        _refuse(path, f"{kind.name} holds no premultiplied colours, which the input has")
    pixels = np.ascontiguousarray(page.interleaved)
    if kind is JPEG and max(pixels.shape[:2]) > JPEG_SIDE:
        _refuse(path, f"JPEG holds {JPEG_SIDE} pixels a side; got {pixels.shape[0]} x {pixels.shape[1]}")
    if pixels.dtype == np.uint16 and pixels.ndim == 3:
        from convengine.cli.deep_png import write_deep

        write_deep(file, pixels, page.profile)
        return
    keep: dict[str, Any] = {"icc_profile": page.profile} if page.profile else {}
    Image.fromarray(pixels).save(file, format=kind.name, **keep, **(JPEG_QUALITY if kind is JPEG else {}))


def _refuse(path: Path, what: str) -> NoReturn:
    raise click.ClickException(f"{path}: {what}; write TIFF or NPY")
