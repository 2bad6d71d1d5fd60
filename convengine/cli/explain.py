"""The commands that say what would run: the installed backends, and the choice for one problem."""

import re
from typing import Any

import click
import numpy as np

import convengine as ce
from convengine.cli import options
from convengine.cli.kernels import read_kernel
from convengine.cli.terminal import print_json, print_table
from convengine.tables import bytes_text, seconds_text

__all__ = ["backends", "explain"]


@click.command()
@options.shown_as_json
def backends(as_json: bool) -> None:
    """List the installed backends: usable or why not, version, device, instruction set."""
    found = ce.backends()
    if as_json:
        fields = ("usable", "reason", "version", "device", "isa")
        print_json({name: {field: getattr(info, field) for field in fields} for name, info in found.items()})
        return
    rows = [
        [name, "yes" if info.usable else "no", info.version, info.device, info.isa, info.reason]
        for name, info in found.items()
    ]
    print_table(["backend", "usable", "version", "device", "isa", "reason"], rows)


def _sizes(text: str) -> tuple[int, ...] | None:
    """Read 1024x768 as a shape; None where the text is none."""
    if not re.fullmatch(r"\d+(x\d+)*", text.strip(), re.IGNORECASE | re.ASCII):
        return None
    return tuple(int(size) for size in text.lower().split("x"))


def _shape(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    shape = _sizes(value)
    if shape is None or np.prod(shape, dtype=float) > 2.0**60:
        raise click.BadParameter(f"needed is a shape such as 1024x1024, below 2**60 samples; got {value!r}")
    return shape


def _stand_in(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """A kernel of which nothing is special: not separable, not symmetric."""
    if np.prod(shape, dtype=float) > 2**24:
        raise click.ClickException(f"a kernel has at most 2**24 taps; got {'x'.join(map(str, shape))}; make it smaller")
    rng = np.random.default_rng(0)
    if dtype.kind in "biu":
        return rng.integers(1, 8, shape, np.int8)
    return rng.uniform(-1, 1, shape).astype(dtype)


@click.command(epilog=options.kernel_is + " A shape such as 7x7 stands for any dense kernel; 4 or 5 axes are a layer.")
@click.argument("shape", callback=_shape)
@click.argument("kernel")
@click.option("--dtype", type=click.Choice(options.DTYPES), default="float32", show_default=True, help="Of the array.")
@options.op
@options.mode("valid")
@options.boundary("constant")
@options.channel_axis_of("the array")
@click.option("--stride", type=click.IntRange(min=1), default=1, help="Samples from one result to the next.")
@click.option("--dilation", type=click.IntRange(min=1), default=1, help="Samples from one tap to the next.")
@click.option("--groups", type=click.IntRange(min=1), default=1, help="Channel groups of a layer.")
@options.backend
@options.workers
@options.shown_as_json
def explain(
    shape: tuple[int, ...],
    kernel: str,
    dtype: str,
    op: str,
    channel_axis: int | str | None,
    backend: tuple[str, ...] | None,
    workers: int | None,
    as_json: bool,
    **keywords: Any,
) -> None:
    """Say who would filter an array of SHAPE (1024x1024) with KERNEL, and why not the others."""
    x = np.broadcast_to(np.zeros((), dtype), shape)  # a shape and a dtype: no memory, whatever the shape
    axis = None if channel_axis == "none" else channel_axis
    sizes = _sizes(kernel)
    free = len(shape) - (axis is not None)
    weights = read_kernel(kernel, min(max(free, 1), 3)) if sizes is None else _stand_in(sizes, x.dtype)
    rank = weights.ndim if weights.ndim <= 3 else weights.ndim - 2
    if rank > 3:
        raise click.ClickException(f"a kernel has 1 to 3 axes, or 4 to 5 for a layer; got shape {weights.shape}")
    explanation = ce.explain(
        x, weights, op=f"{op}{rank}d", channel_axis=axis, backend=backend, workers=workers, **keywords
    )
    if as_json:
        print_json(explanation.to_dict())
        return
    click.echo(str(explanation.problem))
    rows = []
    for row in (line.to_dict() for line in explanation.rows):
        priced = row["seconds"] is not None
        error = "exact" if row["error"] == 0 else f"{row['error']:.2g} {row['bound']}" if priced else ""
        price = [seconds_text(row["seconds"]), bytes_text(row["memory"]), error] if priced else ["", "", ""]
        rows.append([row["backend"], row["method"], *price, row["status"]])
    print_table(["backend", "method", "time", "memory", "error bound", ""], rows)
