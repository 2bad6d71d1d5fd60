"""The charts of the front page, as SVG."""

import io
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from convengine.bench.chart import COLOURS, MARKERS
from convengine.tables import seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["history", "times"]

Line = Sequence[tuple[float, float]]
SIZE = (4.8, 4.4)  # inches: as wide as a column of the page, so that letters keep their size


def times(lines: Mapping[str, Line], over: str, label: str) -> str:
    """Draw time over a size, both logarithmic: a line for each library, ours thick."""

    def draw(axis: "Axes") -> None:
        for number, (name, points) in enumerate(lines.items()):
            ours = name.startswith("convengine")
            axis.plot(
                *zip(*points, strict=True),
                label=name,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                linewidth=2.6 if name == "convengine" else 1.6 if ours else 1.2,
                linestyle="-" if ours else "--",
                markersize=5,
                zorder=4 if name == "convengine" else 3,
            )
        ticks = sorted({x for points in lines.values() for x, _ in points})
        axis.set(xscale="log", yscale="log", xlabel=over, ylabel="time of one call")
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.yaxis.set_major_formatter(lambda value, _: seconds_text(value))

    return _svg(draw, label)


def history(lines: Mapping[str, Sequence[float]], commits: Sequence[str], label: str) -> str:
    """Draw relative times over commits, NaN where there are none: a line for each group of benchmarks."""

    def draw(axis: "Axes") -> None:
        for number, (name, values) in enumerate(lines.items()):
            axis.plot(
                range(len(commits)),
                values,
                label=name,
                color=COLOURS[number % len(COLOURS)],
                marker=MARKERS[number % len(MARKERS)],
                linewidth=1.8,
                markersize=5,
            )
        axis.set_xticks(range(len(commits)), commits, rotation=45, ha="right", family="monospace", fontsize=8)
        axis.set(ylabel="time, the first commit's = 1")
        finite = [value for values in lines.values() for value in values if math.isfinite(value)]
        axis.set_ylim(0, 1.15 * max(finite))

    return _svg(draw, label)


def _svg(draw: Callable[["Axes"], None], label: str) -> str:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a font cache being built is nobody's concern
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Letters stay letters, which a reader can select and a screen reader can read; the hash makes names repeatable.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "convengine", "font.size": 10}):
        figure = Figure(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(figure)
        axis = figure.subplots()
        draw(axis)
        axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = file.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{label}">', drawn, count=1)
    # Several drawings stand in one page: their names must differ.
    prefix = re.sub(r"\W+", "-", label)
    drawn = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', drawn)
    return re.sub(r'(url\(#|href="#)', rf"\1{prefix}-", drawn)
