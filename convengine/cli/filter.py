"""The command that filters a file into another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

import convengine as ce
from convengine.cli import options
from convengine.cli.bands import Work
from convengine.cli.kernels import read_kernel
from convengine.cli.pictures import MAX_PIXELS, Format, Page, Pages, check_shape
from convengine.cli.reading import opened
from convengine.cli.scaling import SCALES, check_signed, opacity, output_dtype, scaled
from convengine.cli.terminal import progress
from convengine.cli.writing import check_target, write

__all__ = ["filter_"]


def _fill(context: click.Context, parameter: click.Parameter, value: str) -> int | float:
    for read in (int, float):
        try:
            return read(value)
        except ValueError:
            continue
    raise click.BadParameter(f"needed is a number; got {value!r}")


@click.command("filter", epilog=options.kernel_is)
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, readable=False))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path, readable=False))
@click.option("--kernel", "-k", required=True, help="A name, a .npy file or a list; see below.")
@options.op
@options.mode("same")
@options.boundary("reflect")
@click.option("--fill-value", default="0", callback=_fill, help="The sample beyond a constant edge.  [default: 0]")
@click.option("--scale", type=click.Choice(SCALES), help="How signed results become samples; see above.")
@click.option(
    "--dtype", type=click.Choice(options.DTYPES), help="Of OUT; default: that of IN. Integers round and saturate."
)
@options.channel_axis_of("a .npy array")
@options.backend
@options.workers
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse pictures that claim more.",
)
@click.option("--force", is_flag=True, help="Let OUT be IN.")  # fmt: skip
def filter_(
    source: Path,
    target: Path,
    kernel: str,
    scale: str | None,
    dtype: str | None,
    channel_axis: int | str | None,
    max_pixels: int,
    force: bool,
    **how: Any,
) -> None:
    """Filter the picture or array IN into OUT: PNG, JPEG, TIFF or NPY.

    Colours are filtered one by one, the pages of a TIFF file each by itself. Opacity (alpha) is kept as it is, and so
    is an ICC profile; other metadata are not. Pictures are turned upright as their EXIF data say; palettes become
    colours, single bits black and white.

    OUT has the dtype of IN unless --dtype says another. Integers round half to even and saturate, as where a
    sharpening overshoots; float TIFF and NPY keep the values. Results are signed where the kernel's taps cancel out
    (a derivative), or where IN has negative samples: an unsigned OUT then needs --scale, or in TIFF and NPY --dtype.

    \b
      --scale abs      magnitudes
      --scale offset   plus half of full scale: zero becomes mid grey
      --scale minmax   the least becomes black, the greatest white, page by page

    Pictures take kernels of two axes. A .npy array is filtered over as many of its last axes as the kernel has; a named
    kernel takes all, up to three. Say --channel-axis -1 where the last axis holds colours.

    OUT is written whole or not at all; a file that was there is replaced at the end.
    """  # noqa: D301  # click wants the backspace itself: it keeps the lines of a paragraph
    kind = check_target(target, source if source.exists() else None, force=force)
    task = Task(source, target, kind, kernel, channel_axis, scale, dtype, how)
    with opened(source, max_pixels=max_pixels, channel_axis=channel_axis) as pages:
        if kind.is_photo and pages.count > 1:
            raise click.ClickException(
                f"{target}: {kind.name} holds one picture, {source} {pages.count} pages; write TIFF or NPY"
            )
        with progress(source.name, pages.count) as advance:
            write(target, task.filtered(pages, advance), pages.count)


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with each page of a file."""

    source: Path
    target: Path
    kind: Format  # of the target
    kernel: str
    channel_axis: int | str | None
    scale: str | None
    dtype: str | None
    how: dict[str, Any]

    def filtered(self, pages: Pages, advance: Callable[[float], None]) -> Iterator[Page]:
        """Filter each page when the one before is written."""
        for page in pages.each:
            weights = self._weights(page)
            if self.kind.is_photo:
                check_shape(self.target, self.kind, page)
            dtype = output_dtype(page, self.dtype, self.scale, self.kind)
            if self.scale is None:
                check_signed(page, weights, dtype, self.dtype, self.kind)
            work = Work(kernel=weights, **self.how)
            result = work(page.samples, page.channel_axis, dtype if self.scale is None else None, advance)
            if self.scale is not None:
                result = scaled(result, self.scale, dtype)
            alpha = None if page.alpha is None else opacity(_centres(page.alpha, weights.shape, work.mode), dtype)
            yield replace(page, samples=result, alpha=alpha)

    def _weights(self, page: Page) -> np.ndarray[Any, Any]:
        """Read the kernel, for as many axes as the page has."""
        shape = page.samples.shape
        if self.source.suffix.lower() != ".npy":
            weights = read_kernel(self.kernel, 2)
            if weights.ndim == 2:
                return weights
            raise click.ClickException(
                f"a picture takes a kernel of 2 axes; got shape {weights.shape}; "
                "write [[1,-1]] for a row, [[1],[-1]] for a column"
            )
        free = len(shape) - (page.channel_axis is not None)
        weights = read_kernel(self.kernel, min(max(free, 1), 3))
        spelt_out = self.kernel.strip().startswith("[") or self.kernel.strip().lower().endswith(".npy")
        looks_coloured = len(shape) == 3 and shape[-1] in (3, 4)
        if self.channel_axis is None and looks_coloured and (weights.ndim == 2 or not spelt_out):
            raise click.ClickException(
                f"{self.source}: shape {shape} may be a picture with {shape[-1]} colours or a stack; "
                "say --channel-axis -1 or --channel-axis none"
            )
        return weights


def _centres(alpha: np.ndarray[Any, Any], shape: tuple[int, ...], mode: str) -> np.ndarray[Any, Any]:
    """The opacity of the sample under the kernel's centre at each result; beyond the edge, of the nearest."""
    if mode == "same":
        return alpha
    tap = np.zeros(shape, np.int64)
    tap[tuple(size // 2 for size in shape)] = 1
    kept: np.ndarray[Any, Any] = ce.corr2d(alpha, tap, mode=mode, boundary="edge", dtype=alpha.dtype)
    return kept
