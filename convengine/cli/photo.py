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

from convengine.cli.pictures import JPEG, Format, Page, decoding

__all__ = ["opened_image", "read_photo", "write_photo"]

COLOUR_16 = {2: "RGB", 4: "grey with opacity", 6: "RGB with opacity"}  # PNG's colour types whose 16 bits Pillow halves
JPEG_QUALITY: dict[str, Any] = {"quality": 95, "subsampling": 0}  # a feature map's fine lines show what less would lose
JPEG_SIDE = 65_535


@contextmanager
def opened_image(path: Path, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; Pillow's own warning of a bomb, at `max_pixels`, is an error."""
    usual, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
    try:
        with decoding(path, name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata; what spoils the samples raises
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=[name]) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise click.ClickException(f"{path}: {error} If the file is to be trusted, raise --max-pixels.") from error
    finally:
        Image.MAX_IMAGE_PIXELS = usual
