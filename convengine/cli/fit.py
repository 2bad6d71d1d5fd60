"""The command that learns the kernel between two files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from convengine.cli import options
from convengine.cli.npy import write_npy
from convengine.cli.pictures import MAX_PIXELS, NPY, Page
from convengine.cli.reading import opened
from convengine.cli.terminal import print_json, progress
from convengine.cli.writing import check_target, replacing
from convengine.filters.parameters import check_taps

if TYPE_CHECKING:
    from convengine.nn import Fit

__all__ = ["fit"]

DESCENT = ("lr", "epochs", "seed")  # options of the descent alone


def _size(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    parts = value.lower().split("x")
    if not all(part.isascii() and part.isdigit() for part in parts) or len(parts) > 3 or "0" in parts:
        raise click.BadParameter(f"needed are 1 to 3 sizes such as 1x2; got {value!r}")
    shape = tuple(map(int, parts))
    check_taps(shape)
    return shape


@click.command("fit")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, readable=False))
@click.argument("wanted", metavar="OUT", type=click.Path(path_type=Path, readable=False))
@click.option("--kernel-size", required=True, metavar="HxW", callback=_size, help="1x2 is a row of two taps.")
@click.option(
    "--method",
    type=click.Choice(["lstsq", "gradient"]),
    default="lstsq",
    show_default=True,
    help="Least squares, exact; or gradient descent, with its trace.",
)
@options.op
@click.option(
    "--mode",
    type=click.Choice(["valid", "same", "full"]),
    help="Where the kernel stood; default: what the sizes of IN and OUT say.",
)
@options.boundary("reflect")
@click.option("--bias", is_flag=True, help="Learn a number that was added, too.")
@click.option("--lr", type=float, help="Step of the descent; default: one that cannot diverge.")
@click.option("--epochs", type=click.IntRange(min=1), help="Steps of the descent.  [default: 10]")
@click.option("--seed", type=click.IntRange(min=0), help="Of the first kernel of the descent.  [default: 0]")
@options.channel_axis_of(".npy arrays")
@click.option("--save", metavar="FILE.npy", type=click.Path(path_type=Path), help="Write the kernel to a file.")
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse pictures that claim more.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fit(
    source: Path,
    wanted: Path,
    kernel_size: tuple[int, ...],
    method: str,
    op: str,
    mode: str | None,
    boundary: str,
    bias: bool,
    channel_axis: int | str | None,
    save: Path | None,
    max_pixels: int,
    as_json: bool,
    **descent: Any,
) -> None:
    """Learn the kernel that makes OUT from IN: two pictures, or two arrays.

    The kernel found is the one whose result differs least from OUT, in the sum of squares. Colours have one kernel for
    all; opacity has no part in it. `convengine filter IN ... --kernel FILE.npy` applies what --save wrote, with the
    same --op, --mode and --boundary.

    Pictures take kernels of two axes; a .npy array is filtered over as many of its last axes as --kernel-size has.
    """
    from convengine.nn import fit_kernel

    given = {name: value for name, value in descent.items() if value is not None}
    if given and method != "gradient":
        raise click.UsageError(f"--{', --'.join(given)} needs --method gradient")
    if save is not None:
        _check_save(save, source, wanted)
    arrays = [path for path in (source, wanted) if path.suffix.lower() == ".npy"]
    x, y = (
        _samples(path, len(kernel_size), max_pixels, None if arrays and path not in arrays else channel_axis)
        for path in (source, wanted)
    )
    how: dict[str, Any] = {"mode": mode or _mode(source, x, wanted, y, kernel_size), "boundary": boundary, "bias": bias}
    epochs = given.get("epochs", 10)
    if method == "gradient":
        how |= {"lr": given.get("lr"), "epochs": epochs, "rng": given.get("seed", 0)}
    with progress(f"{source.name} to {wanted.name}", epochs) as advance:
        found = fit_kernel(x, y, kernel_size, method=method, progress=lambda epoch, loss: advance(1), **how)
    kernel = np.flip(found.kernel) if op == "conv" else found.kernel
    if save is not None:
        with replacing(save) as file:
            write_npy(file, save, [kernel])
    rms = float(np.sqrt(found.losses[-1] / y.size))
    if as_json:
        print_json(
            {
                "kernel": kernel.tolist(),
                "bias": found.bias,
                "method": method,
                "op": op,
                "mode": how["mode"],
                "boundary": boundary,
                "losses": found.losses,
                "rms": rms,
                "rank": found.rank,
            }
        )
    else:
        _print(found, kernel, rms, bias)


def _check_save(save: Path, *inputs: Path) -> None:
    """Refuse a file that can't hold the kernel, or that the kernel must not replace."""
    if check_target(save) is not NPY:
        raise click.ClickException(f"{save}: a kernel is saved as .npy")
    if save.exists() and any(path.exists() and save.samefile(path) for path in inputs):
        raise click.ClickException(f"{save}: is an input itself; save the kernel to another file")


def _samples(path: Path, ndim: int, max_pixels: int, channel_axis: int | str | None) -> np.ndarray[Any, Any]:
    """Samples of a file, colours first."""
    with opened(path, max_pixels=max_pixels, channel_axis=channel_axis) as pages:
        if pages.count > 1:
            raise click.ClickException(f"{path}: has {pages.count} pages; needed is one picture")
        page: Page = next(pages.each)
    if path.suffix.lower() != ".npy" and ndim != 2:
        raise click.ClickException(
            f"{path}: a picture takes a kernel of 2 axes; got --kernel-size of {ndim}; write 1x5 for a row, 5x1 for a "
            "column"
        )
    shape = page.samples.shape
    if path.suffix.lower() == ".npy" and channel_axis is None and ndim == 2 and len(shape) == 3 and shape[-1] in (3, 4):
        raise click.ClickException(
            f"{path}: shape {shape} may be a picture with {shape[-1]} colours or a stack; "
            "say --channel-axis -1 or --channel-axis none"
        )
    samples = page.samples if page.channel_axis is None else np.moveaxis(page.samples, page.channel_axis, 0)
    if samples.ndim < ndim:
        raise click.ClickException(f"{path}: has shape {shape}, too few axes for a kernel of {ndim}")
    return samples


def _mode(
    source: Path, x: np.ndarray[Any, Any], wanted: Path, y: np.ndarray[Any, Any], kernel_size: tuple[int, ...]
) -> str:
    """Where the kernel must have stood, for a result of this size."""
    ndim = len(kernel_size)
    lead, sizes = x.shape[:-ndim], x.shape[-ndim:]
    more = {"same": 0, "valid": -1, "full": 1}
    shapes = {
        mode: (*lead, *(n + sign * (k - 1) for n, k in zip(sizes, kernel_size, strict=True)))
        for mode, sign in more.items()
    }
    for mode, shape in shapes.items():
        if y.shape == shape:
            return mode
    needed = ", ".join(f"{shape} ({mode})" for mode, shape in shapes.items())
    raise click.ClickException(
        f"{wanted}: does not have the size of a result: needed is {needed}, colours first; got {y.shape}, and "
        f"{source} has {x.shape}"
    )


def _print(found: "Fit", kernel: np.ndarray[Any, Any], rms: float, bias: bool) -> None:
    """Print the trace of a descent, the kernel as --kernel takes it, and what is left of the difference."""
    if found.rank is None and len(found.losses) > 1:
        click.echo(found.trace(max(1, len(found.losses) // 5)))
    click.echo(f"kernel  {_rounded(kernel)}")
    if bias:
        click.echo(f"bias    {found.bias:.6g}")
    click.echo(f"rms     {rms:.6g}")
    unknown = kernel.size + bias
    if found.rank is not None and found.rank < unknown:
        click.echo(f"note    IN determines {found.rank} of {unknown} numbers; this is the smallest kernel of the best")


def _rounded(kernel: np.ndarray[Any, Any]) -> list[Any]:
    """The kernel in six digits of its largest tap."""
    largest = np.abs(kernel).max()
    digits = 5 - int(np.floor(np.log10(largest))) if largest else 0
    rounded: list[Any] = (np.round(kernel, digits) + 0.0).tolist()  # the sum turns -0.0 into 0.0
    return rounded
