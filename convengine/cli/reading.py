"""Reading pictures and arrays: what a header claims is checked before its samples are decoded."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from convengine.cli.npy import read_npy
from convengine.cli.pictures import NPY, TIFF, Page, Pages, decoding, format_of

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["opened"]

COLOUR_16 = {
    2: "RGB",
    4: "grey with opacity",
    6: "RGB with opacity",
}  # PNG's colour types, where Pillow drops 8 of 16 bits


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
        yield Pages(1, iter([_picture(path, kind.name, max_pixels)]))


def _array(path: Path, channel_axis: int | str | None) -> Page:
    samples = read_npy(path)
    if not isinstance(channel_axis, int):
        return Page(samples)
    if not -samples.ndim <= channel_axis < samples.ndim:
        raise click.ClickException(f"{path}: has no axis --channel-axis {channel_axis}; its shape is {samples.shape}")
    return Page(samples, channel_axis % samples.ndim, rgb=samples.shape[channel_axis] == 3)


def _picture(path: Path, name: str, max_pixels: int) -> Page:
    """Read a PNG or JPEG, upright as its EXIF data say, with palettes and single bits as 8-bit samples."""
    from PIL import ImageOps

    with decoding(path, name), path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata; what spoils the samples raises
        header = file.read(26)
        file.seek(0)
        image = _open_image(path, file, name, max_pixels)
        deep = name == "PNG" and header[24] == 16
        if deep and header[25] in COLOUR_16:
            raise click.ClickException(
                f"{path}: a PNG of {COLOUR_16[header[25]]} in 16 bits, which Pillow reads in 8; save it as TIFF or NPY"
            )
        if name == "PNG" and (frames := getattr(image, "n_frames", 1)) > 1:
            raise click.ClickException(f"{path}: an animation of {frames} frames; save them as files or as TIFF")
        profile = image.info.get("icc_profile")
        samples = _samples(path, ImageOps.exif_transpose(image), deep)
    if samples.ndim == 3 and samples.shape[-1] in (2, 4):
        colours, alpha = samples[..., :-1], samples[..., -1]
    else:
        colours, alpha = samples, None
    colours = colours[..., 0] if colours.ndim == 3 and colours.shape[-1] == 1 else colours
    return Page(colours, -1 if colours.ndim == 3 else None, colours.ndim == 3, alpha, profile=profile)


def _open_image(path: Path, file: Any, name: str, max_pixels: int) -> "Image":
    """Open and decode; Pillow's own warning of a bomb, at `max_pixels`, is an error."""
    from PIL import Image, UnidentifiedImageError

    usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(file, formats=[name])
        image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise click.ClickException(f"{path}: {error} If the file is to be trusted, raise --max-pixels.") from error
    except UnidentifiedImageError as error:
        raise click.ClickException(f"{path}: not a {name} file, or corrupt from the start") from error
    finally:
        Image.MAX_IMAGE_PIXELS = usual
    return image


def _samples(path: Path, image: "Image", deep: bool) -> np.ndarray[Any, Any]:
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
            raise click.ClickException(f"{path}: holds {what}, which are not filtered; save it as grey or RGB first")
    return np.asarray(image)
