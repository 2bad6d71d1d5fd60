"""The demonstration: filters on real photographs through every usable backend, timed, proven and shown."""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import convengine as ce
from convengine.cli import options
from convengine.cli.pictures import MAX_PIXELS, PNG
from convengine.cli.reading import opened
from convengine.cli.terminal import print_json, print_table, progress
from convengine.cli.writing import check_target, replacing
from convengine.filters import named
from convengine.tables import fraction_text, seconds_text

if TYPE_CHECKING:
    from convengine.testing import Reference

__all__ = ["demo"]

Array = np.ndarray[Any, Any]
Photographs = dict[str, Array]
CALLS = 7  # timed calls of each operation and backend, after one that is not
HOW: dict[str, Any] = {"mode": "same", "boundary": "reflect"}


@dataclass(frozen=True, slots=True)
class Operation:
    """A filter of the demonstration: its title, its kernel's name, and whether it keeps the photograph's integers."""

    title: str
    kernel: str
    photograph: str = "grey"
    exact: bool = False

    def arguments(self, photographs: Photographs) -> tuple[Array, Array, dict[str, Any]]:
        """What the operation is called with: float32 of 0 to 1, or the 8-bit integers as they are."""
        x = photographs[self.photograph]
        kernel = named.parse(self.kernel)
        how = HOW | ({"channel_axis": -1} if x.ndim == 3 else {})
        if self.exact:
            return x, kernel, how
        return x.astype(np.float32) / np.float32(255), kernel.astype(np.float32), how


OPERATIONS = (
    Operation("blur", "gaussian:2"),
    Operation("sharpen", "sharpen"),
    Operation("edge detector", "[[1, -1]]", exact=True),
    Operation("Sobel x", "sobel-x"),
    Operation("Sobel y", "sobel-y"),
    Operation("sharpen, RGB", "sharpen", photograph="RGB"),
)


@dataclass(slots=True)
class Line:
    """How one backend did one operation."""

    operation: str
    kernel: str
    backend: str
    method: str = ""
    seconds: float | None = None
    error: float | None = None  # the largest, over its proven bound
    bound: str = ""
    difference: float | None = None  # from the first backend, over the largest result
    fault: str = ""
    failed: bool = False  # it answered, wrongly, or broke down
    value: Any = field(default=None, repr=False)

    def cells(self) -> list[str]:
        """The line as a table shows it."""
        if self.seconds is None or self.error is None:
            return [self.operation, self.backend, self.method, "", "", "", self.fault]
        fraction = fraction_text(self.error)
        error = {"exact": "exact", "normwise": f"{fraction} normwise"}.get(self.bound, fraction)
        if self.difference is None:
            return [self.operation, self.backend, self.method, seconds_text(self.seconds), error, "", ""]
        same = "same bits" if self.difference == 0 else f"{self.difference:.1e}"
        return [self.operation, self.backend, self.method, seconds_text(self.seconds), error, same, ""]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "value"}


def _photographs() -> Photographs:
    """Two photographs of 512 x 512 that scikit-image carries in its package: nothing is downloaded."""
    folder = Path(str(files("skimage") / "data"))
    found = {}
    for name, file in (("grey", "camera.png"), ("RGB", "astronaut.png")):
        with opened(folder / file, max_pixels=MAX_PIXELS) as pages:
            found[name] = next(pages.each).samples
    return found


def _measured(operation: Operation, backend: str, photographs: Photographs, answer: "Reference") -> Line:
    """Run one operation through one backend: method, time, error over bound."""
    from convengine.testing import check
    from convengine.testing.runner import bound, fetch, place

    line = Line(operation.title, operation.kernel, backend)
    host, kernel, how = operation.arguments(photographs)
    x = place(backend, host)

    def call() -> Any:
        return ce.corr2d(x, kernel, backend=backend, **how)

    try:
        line.value = fetch(call())
    except ce.NoBackend as error:
        reasons = [text.strip() for text in str(error).splitlines()[1:]]
        line.fault = "; ".join(text for text in reasons if not text.startswith("backends that can"))
        return line
    except ce.BackendError as error:
        line.fault, line.failed = str(error), True
        return line
    row = ce.explain(x, kernel, op="corr2d", backend=backend, **how).chosen
    assert row is not None and row.offer is not None
    line.method = row.method
    line.bound = str(row.to_dict()["bound"])
    # A device's answer counts when it is back on the host.
    line.seconds = _median_seconds(call if x is host else lambda: fetch(call()))
    try:
        line.error = check(line.value, answer, bound(row.offer, answer))
    except AssertionError as error:
        line.fault, line.failed = f"WRONG: {error}", True
    return line


def _median_seconds(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _compared(operation: Operation, backends: list[str], photographs: Photographs, answer: "Reference") -> list[Line]:
    """One line for each backend, compared with the first that answered."""
    lines = [_measured(operation, backend, photographs, answer) for backend in backends]
    answered = [line for line in lines if line.value is not None]
    for line in answered[1:]:
        first = answered[0].value.astype(np.float64)
        line.difference = float(np.abs(line.value - first).max() / np.abs(first).max())
    return lines


@click.command()
@click.option(
    "--output",
    type=click.Path(path_type=Path, readable=False),
    default="demo.png",
    show_default=True,
    help="The picture.",
)
@options.all_backends
@options.shown_as_json
def demo(output: Path, backend: tuple[str, ...] | None, as_json: bool) -> int:
    """Filter two photographs through every usable backend, and draw a picture of what comes out.

    The photographs come with scikit-image. Blur, sharpening and Sobel run in float32, the edge detector [[1, -1]] in
    exact integers. A line shows the median time of a call; the largest error over its proven bound, for each result or,
    where it says normwise, for all together; and the largest difference from the first backend, relative to the largest
    result. Exit code 1 if an answer is wrong.
    """
    if check_target(output) is not PNG:
        raise click.ClickException(f"{output}: the picture is a PNG; give a name that ends in .png")
    usable, unusable = _sorted(backend)
    photographs = _photographs()
    lines: list[Line] = []
    with progress("operations", len(OPERATIONS) + 1) as advance:
        from convengine.testing import reference

        for operation in OPERATIONS:
            x, kernel, how = operation.arguments(photographs)
            lines += _compared(operation, usable, photographs, reference("corr2d", x, kernel, **how))
            advance(1)
        _draw(output, photographs)
        advance(1)
    fastest = _fastest(lines)
    if as_json:
        print_json(
            {
                "picture": str(output),
                "lines": [line.to_dict() for line in lines],
                "fastest": fastest,
                "unusable": unusable,
                "ok": not any(line.failed for line in lines),
            }
        )
    else:
        _report(output, lines, fastest, unusable)
    return 1 if any(line.failed for line in lines) else 0


def _sorted(asked: tuple[str, ...] | None) -> tuple[list[str], dict[str, str]]:
    """The backends to run, and why the others can't."""
    found = ce.backends()
    if unknown := [name for name in asked or () if name not in found]:
        raise ce.NoBackend(f"no backend is called {unknown[0]!r}; installed: {', '.join(found)}; see ce.backends()")
    wanted = {name: info for name, info in found.items() if asked is None or name in asked}
    usable = [name for name, info in wanted.items() if info.usable]
    unusable = {name: info.reason for name, info in wanted.items() if not info.usable}
    if not usable:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unusable.items())
        raise ce.NoBackend(f"no backend is usable: {reasons or 'none is installed'}")
    return usable, unusable


def _fastest(lines: list[Line]) -> dict[str, str]:
    """The fastest backend of each operation, among the right ones."""
    fastest: dict[str, Line] = {}
    for line in lines:
        if line.error is not None and line.seconds is not None:
            best = fastest.setdefault(line.operation, line)
            if line.seconds < (best.seconds or 0):
                fastest[line.operation] = line
    return {operation: line.backend for operation, line in fastest.items()}


def _report(output: Path, lines: list[Line], fastest: dict[str, str], unusable: dict[str, str]) -> None:
    header = ["operation", "backend", "method", "time", "error / bound", "differs by", ""]
    rows = [line.cells() for line in lines]
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    print_table(header, rows)
    for name, reason in unusable.items():
        click.echo(f"not usable: {name}: {reason}")
    ranking = Counter(fastest.values()).most_common()
    click.echo("fastest: " + ", ".join(f"{name} in {count} of {len(fastest)} operations" for name, count in ranking))
    click.echo(f"picture: {output}")


def _draw(output: Path, photographs: Photographs) -> None:
    """Draw what the engine's own choice of backend answers: all that answered rightly look the same."""
    from convengine.cli.figure import draw

    def filtered(x: Array, kernel: str) -> Array:
        how = HOW | ({"channel_axis": -1} if x.ndim == 3 else {})
        result: Array = ce.corr2d(x, named.parse(kernel).astype(x.dtype), **how)
        return result

    with replacing(output) as file:
        draw(file, photographs, filtered)
