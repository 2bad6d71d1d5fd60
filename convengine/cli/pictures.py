"""Pictures as the commands hold them, and the file formats: what each can hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

__all__ = ["FORMATS", "MAX_PIXELS", "Format", "Page", "Pages", "check_pixels", "check_shape", "decoding", "format_of"]

MAX_PIXELS = 89_478_485  # Pillow's own limit: a quarter of a gibibyte of RGB


@dataclass(frozen=True, slots=True)
class Page:
    """One picture, or one array of a .npy file.

    Attributes
    ----------
    samples : array (H, W) or (H, W, C); any shape from a .npy file
        What is filtered.
    channel_axis : int or None
        The axis of colours, which is not filtered.
    rgb : bool
        Whether the first three channels are red, green and blue.
    alpha : array (H, W) or None
        Opacity, apart from the samples because it is kept as it is.
    premultiplied : bool
        Whether the colours are multiplied by the opacity already.
    profile : bytes or None
        The ICC colour profile.
    """

    samples: np.ndarray[Any, Any]
    channel_axis: int | None = None
    rgb: bool = False
    alpha: np.ndarray[Any, Any] | None = None
    premultiplied: bool = False
    profile: bytes | None = None

    @property
    def interleaved(self) -> np.ndarray[Any, Any]:
        """Samples with the opacity as a last channel."""
        if self.alpha is None:
            return self.samples
        colours = self.samples if self.channel_axis is not None else self.samples[..., None]
        return np.concatenate([colours, self.alpha[..., None]], axis=-1)


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages of a file: how many, and each in turn."""

    count: int
    each: Iterator[Page]


@dataclass(frozen=True, slots=True)
class Format:
    """What a file format holds."""

    name: str
    grey: tuple[str, ...] | None = None  # dtypes; None: any number
    colour: tuple[str, ...] | None = None
    alpha: bool = True

    @property
    def is_photo(self) -> bool:
        """Whether it is for looking at: samples run from black to white, and nothing lies below black."""
        return self.grey is not None


PNG, JPEG = Format("PNG", ("uint8", "uint16"), ("uint8", "uint16")), Format("JPEG", ("uint8",), ("uint8",), alpha=False)
TIFF, NPY = Format("TIFF"), Format("NPY")
FORMATS = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".tif": TIFF, ".tiff": TIFF, ".npy": NPY}


def format_of(path: Path) -> Format:
    """Return the format that a file's name says; ClickException with those there are."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(FORMATS)
        raise click.ClickException(
            f"{path}: the name must end in one of {known}; got {path.suffix or 'no ending'!r}"
        ) from None


def check_pixels(name: Path | str, width: int, height: int, limit: int) -> None:
    """Refuse a picture that claims too many pixels: a few bytes may stand for gigabytes."""
    if width * height > limit:
        raise click.ClickException(
            f"{name}: claims {width} x {height} = {width * height} pixels; the limit is {limit}; "
            "if the file is to be trusted, raise --max-pixels"
        )


def check_shape(path: Path, kind: Format, page: Page) -> None:
    """Refuse what a format for looking at can't show: it takes one picture, grey or of red, green and blue."""
    shape = page.samples.shape
    coloured = page.rgb and page.channel_axis is not None
    if not page.samples.size or len(shape) != 2 + coloured or (page.channel_axis is not None and not coloured):
        raise click.ClickException(
            f"{path}: {kind.name} takes arrays (H, W), or (H, W, 3) of colours; got {shape}; write TIFF or NPY"
        )


@contextmanager
def decoding(path: Path | str, name: str) -> Iterator[None]:
    """Turn whatever a decoder makes of a faulty file into one line."""
    try:
        yield
    except (click.ClickException, MemoryError, ModuleNotFoundError):
        raise
    except OSError as error:  # with a number it is the system's; decoders raise it for faults of the file, without
        raise click.ClickException(f"{path}: {error.strerror or f'cannot be read as {name}: {error}'}") from error
    except Exception as error:  # a decoder may trip over a corrupt file in any way
        text = str(error) or type(error).__name__
        raise click.ClickException(f"{path}: cannot be read as {name}: {text}") from error
