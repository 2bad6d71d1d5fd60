"""From results to the samples of a file: dtypes, and what becomes of values that black and white don't span."""

from typing import Any

import click
import numpy as np

from convengine.cli.pictures import Format, Page

__all__ = ["SCALES", "check_signed", "is_signed", "opacity", "output_dtype", "scaled"]

Array = np.ndarray[Any, Any]
SCALES = ("abs", "offset", "minmax")
BALANCE = 0.01  # of sum|k|; derivatives and Gabor waves stay below 0.004, a sharpening of 12 times above


def is_signed(kernel: Array) -> bool:
    """Whether results are about as often negative as positive: the taps cancel out, or more than that."""
    return bool(kernel.any() and kernel.sum().real <= BALANCE * np.abs(kernel).sum())


def output_dtype(page: Page, asked: str | None, scale: str | None, kind: Format) -> np.dtype[Any]:
    """The dtype to write: what is asked for, else the page's own; ClickException if the format can't hold it."""
    own = page.samples.dtype.newbyteorder("=")
    holds = (kind.colour if page.channel_axis is not None else kind.grey) or ()
    if asked is not None:
        dtype = np.dtype(asked)
    elif own.kind == "b":
        raise click.ClickException("the input holds bool; give --dtype: uint8 counts, float32 keeps fractions")
    elif scale == "minmax" and kind.is_photo and own.name not in holds:
        dtype = np.dtype(np.uint8)
    elif scale == "abs" and own.kind == "c":
        dtype = np.dtype(np.float32 if own == np.complex64 else np.float64)
    else:
        dtype = own
    if kind.is_photo and dtype.name not in holds:
        if own.kind == "c":
            raise click.ClickException(
                f"{kind.name} holds real samples; got {own}; give --scale abs with --dtype {holds[0]}, "
                "or write TIFF or NPY"
            )
        what = "colour" if page.channel_axis is not None else "grey"
        raise click.ClickException(
            f"{kind.name} holds {what} in {' or '.join(holds)}; got {dtype}; give --dtype {holds[0]}, which rounds and "
            "saturates, or --scale minmax, or write TIFF or NPY"
        )
    return dtype


def check_signed(page: Page, kernel: Array, dtype: np.dtype[Any], asked: str | None, kind: Format) -> None:
    """Refuse to cut off what is negative: always in a format for looking at, else unless --dtype was given.

    What is imaginary is never cut off.
    """
    held = np.result_type(page.samples, kernel)
    if held.kind == "c" and dtype.kind != "c":
        raise click.ClickException(
            f"results are {held}, which {dtype} cannot hold; give --scale abs with --dtype {dtype}"
        )
    if dtype.kind != "u" or (asked is not None and not kind.is_photo):
        return
    if is_signed(kernel):
        why = f"this kernel's taps cancel out (their sum is {kernel.sum():.3g}), so that results are signed"
    elif page.samples.dtype.kind in "if" and page.samples.size and page.samples.min() < 0:
        why = f"the input is signed, down to {page.samples.min():.6g}"
    else:
        return
    other = "write TIFF or NPY with --dtype float32" if kind.is_photo else "give --dtype"
    raise click.ClickException(
        f"{why}, which {dtype} in {kind.name} cannot hold; give --scale abs, offset or minmax, or {other}"
    )


def _full(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0


def scaled(result: Array, scale: str, dtype: np.dtype[Any]) -> Array:
    """Bring exact results to samples of `dtype`, rounded half to even and saturated.

    abs takes magnitudes; offset adds half of full scale, so that 0 is mid grey; minmax maps the least value to 0 and
    the greatest to full scale, which is 1 for floats.
    """
    if scale == "abs":
        values = np.abs(result).astype(np.float64)
    elif result.dtype.kind == "c":
        raise click.ClickException(
            f"--scale {scale} needs real results; these are {result.dtype}; give --scale abs with --dtype {dtype}"
        )
    else:
        values = result.astype(np.float64)
    if dtype.kind in "iu" and values.size and not np.isfinite(values).all():
        raise click.ClickException(f"results hold NaN or infinity, which {dtype} can't; write TIFF or NPY in float32")
    full = _full(dtype)
    if scale == "offset":
        values += np.ceil(full / 2) if dtype.kind in "iu" else 0.5
    elif scale == "minmax" and values.size:
        low, high = np.nanmin(values), np.nanmax(values)
        values -= low
        if high > low:
            values *= full / (high - low)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        greatest = (
            np.float64(info.max) if info.bits < 64 else np.nextafter(np.float64(info.max), 0)
        )  # 2**64 - 1 is no float
        values = np.clip(np.rint(values), info.min, greatest)
    samples: Array = values.astype(dtype)
    return samples


def opacity(alpha: Array, dtype: np.dtype[Any]) -> Array:
    """Hold an opacity in another dtype: the same share of full scale in integers, the same numbers in floats."""
    if dtype.kind not in "iu" or alpha.dtype == dtype:
        return alpha.astype(dtype)
    share = np.clip(np.nan_to_num(alpha / _full(alpha.dtype)), 0, 1)
    held: Array = np.rint(share * _full(dtype)).astype(dtype)
    return held
