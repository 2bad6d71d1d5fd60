"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from convengine.boundary import Boundary

__all__ = [
    *("DTYPES", "all_backends", "backend", "boundary", "channel_axis_of", "kernel_is", "mode", "op", "shown_as_json"),
    "workers",
]

F = TypeVar("F", bound=Callable[..., Any])
DTYPES = (
    *("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
kernel_is = (
    "KERNEL is a name with its numbers (sobel-x, gaussian:2; 'convengine kernels' lists them), a file (weights.npy) "
    "or a list ([[1,-1]], quoted)."
)


def _names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(","))
    if not all(names):
        raise click.BadParameter(f"needed are names with commas between, as in cython,fft; got {value!r}")
    return names


def backend(command: F) -> F:
    """Add --backend: who may compute."""
    return _backend(command, "Who may compute, with commas between; default: the cheapest that can.")


def all_backends(command: F) -> F:
    """Add --backend: who is to be run."""
    return _backend(command, "Which are run, with commas between; default: all that are installed.")


def _backend(command: F, text: str) -> F:
    return click.option("--backend", metavar="NAME[,NAME...]", callback=_names, help=text)(command)


def workers(command: F) -> F:
    """Add --workers."""
    text = "Threads; default: every CPU this process may run on."
    return click.option("--workers", type=click.IntRange(min=1), help=text)(command)


def shown_as_json(command: F) -> F:
    """Add --json, as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def op(command: F) -> F:
    """Add --op."""
    text = "Cross-correlation, or convolution: the kernel flipped."
    return click.option("--op", type=click.Choice(["corr", "conv"]), default="corr", show_default=True, help=text)(
        command
    )


def mode(default: str) -> Callable[[F], F]:
    """Add --mode."""
    text = "Where the kernel may stand: inside, centred on every sample, or wherever it meets one."
    return click.option(
        "--mode", type=click.Choice(["valid", "same", "full"]), default=default, show_default=True, help=text
    )


def boundary(default: str) -> Callable[[F], F]:
    """Add --boundary."""
    words = click.Choice([rule.value for rule in Boundary])
    text = "What lies beyond the edge, in numpy.pad's words."
    return click.option("--boundary", type=words, default=default, show_default=True, help=text)


def channel_axis_of(what: str) -> Callable[[F], F]:
    """Add --channel-axis, an int, "none", or None where nothing is said."""

    def read(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
        if value is None or value == "none":
            return value
        try:
            return int(value)
        except ValueError:
            raise click.BadParameter(f"needed is a whole number, or none; got {value!r}") from None

    text = f"The axis of {what} to leave alone, -1 for colour last; none: there is none."
    return click.option("--channel-axis", metavar="AXIS|none", callback=read, help=text)
