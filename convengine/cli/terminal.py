"""What the commands print with: tables, JSON, progress and the one line of an error.

On a terminal tables and progress are drawn by rich; elsewhere a table is aligned plain text and progress is silent.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import click

from convengine.tables import table

__all__ = ["complain", "plain", "print_json", "print_table", "progress"]

LEAST_FOLDED = 16  # columns of a terminal for a table's last column, where it is folded
PATIENCE = 0.5  # seconds of silence before a progress bar appears: work shorter than that needs none


def complain(text: str, *, kind: str = "error: ") -> None:
    """Print one line on stderr, whatever the text holds: a file's name may hold a line break."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    click.echo(f"convengine: {kind}{line}", err=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, which has no NaN and no infinity: they become null."""
    click.echo(json.dumps(plain(value), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """The value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()  # None: closed before the program started


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text under a header."""
    if not _is_terminal(sys.stdout):
        click.echo(table(header, rows))
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    *fixed, last = (max(map(cell_len, column)) for column in zip(header, *rows, strict=True))
    if console.width - sum(fixed) - len(fixed) < min(last, LEAST_FOLDED):
        click.echo(table(header, rows))  # the terminal breaks the lines, and no column becomes a ribbon of letters
        return
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in header[:-1]:
        drawn.add_column(name, no_wrap=True)
    drawn.add_column(header[-1], overflow="fold")
    for row in rows:
        drawn.add_row(*map(Text, row))  # Text: brackets in a reason are no markup
    console.print(drawn)


@contextmanager
def progress(text: str, total: float) -> Iterator[Callable[[float], None]]:
    """Yield a function that adds to what is done; on a terminal, a bar appears on stderr when the work is long."""
    if not _is_terminal(sys.stderr) or os.environ.get("TERM") in ("dumb", "unknown"):  # these cannot move the cursor
        yield lambda step: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(escape(text), total=total)
    start = time.monotonic()

    def advance(step: float) -> None:
        bar.advance(task, step)
        if not bar.live.is_started and time.monotonic() - start > PATIENCE:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
