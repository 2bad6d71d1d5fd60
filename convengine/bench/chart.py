"""The picture of a run: time against kernel width, a line for each method of ours and each peer, logarithmic."""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from convengine.bench.results import Comparison
from convengine.tables import seconds_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw", "figure"]

# Okabe and Ito's colours, which people tell apart however they see colours; the yellow is too pale for a line on white.
# Ours have black and the blues first; markers tell apart what repeats.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = "os^DvP*X<>"
PALE = "#777777"
DPI, WIDTH, HEIGHT = 150, 7.6, 5.2  # inches of a panel
COLUMNS = 3
GAP = 0.05  # between two labels, of the height of a panel
LIMITS = ("fastest copy", "direct at peak")

Points = list[tuple[float, float]]


def draw(file: BinaryIO, comparisons: Sequence[Comparison]) -> None:
    """Write it as a PNG."""
    figure(comparisons).savefig(file, format="png", dpi=DPI)


def figure(comparisons: Sequence[Comparison]) -> "Figure":
    """Draw a panel for each shape and dtype; where each has one kernel only, a panel for each kernel, over sizes."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a font cache being built is nobody's concern
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels, over, what = _panels(comparisons)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    drawn = Figure(figsize=(WIDTH * columns, HEIGHT * rows), facecolor="white", layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(rows, columns, squeeze=False).ravel()
    names = list(dict.fromkeys(entry.name for one in comparisons for entry in (*one.ours, *one.peers)))
    for axis, (title, panel) in zip(axes, panels.items(), strict=False):
        _panel(axis, title, sorted(panel, key=over), over, what, names)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return drawn


def _panels(
    comparisons: Sequence[Comparison],
) -> tuple[dict[str, list[Comparison]], Callable[[Comparison], float], str]:
    """The panels by title, what their x axis is, and its name."""

    def grouped(title: Callable[[Comparison], str]) -> dict[str, list[Comparison]]:
        groups: dict[str, list[Comparison]] = {}
        for one in comparisons:
            groups.setdefault(title(one), []).append(one)
        return groups

    shapes = grouped(lambda one: f"{_kind(one)}, {one.task.dtype}, {_size(one.task.shape)}")
    if any(len({one.task.kernel_shape for one in panel}) > 1 for panel in shapes.values()):
        return shapes, lambda one: one.task.kernel_shape[-1], "kernel width"
    kernels = grouped(lambda one: f"{_kind(one)}, {one.task.dtype}, kernel {_size(one.task.kernel_shape)}")
    return kernels, lambda one: one.task.shape[-1], "array width"


def _kind(one: Comparison) -> str:
    return {"image": "image", "gaussian": "Gaussian", "signal": "signal"}[one.task.kind]


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _panel(
    axis: "Axes",
    title: str,
    comparisons: Sequence[Comparison],
    over: Callable[[Comparison], float],
    what: str,
    names: Sequence[str],
) -> None:
    ends: list[tuple[float, float, str, str]] = []
    ours = {entry.name for one in comparisons for entry in one.ours}
    for number, name in enumerate(names):
        found = [entry for one in comparisons for entry in one.entries if entry.name == name]
        points = [(over(one), e.median) for one, e in zip(comparisons, found, strict=True) if e.ok]
        if points:
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(
                *zip(*points, strict=True),
                label=name,
                color=colour,
                marker=MARKERS[number % len(MARKERS)],
                linewidth=2.6 if name in ours else 1.4,
                markersize=6 if name in ours else 4.5,
                zorder=3 if name in ours else 2,
            )
            ends.append((*points[-1], name, colour))
    for name, points in zip(LIMITS, _limits(comparisons, over), strict=True):
        if points:
            axis.plot(*zip(*points, strict=True), label=name, color=PALE, linestyle="--", linewidth=1, zorder=1)
            ends.append((*points[-1], name, PALE))
    axis.set(xscale="log", yscale="log", title=title, xlabel=what, ylabel="time of one call")
    ticks = sorted({over(one) for one in comparisons})
    axis.set_xticks(ticks, [f"{tick:g}" if tick < 1e5 else f"{tick:.0e}" for tick in ticks], minor=False)
    axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    axis.yaxis.set_major_formatter(lambda value, _: seconds_text(value))
    axis.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    _label(axis, ends)


def _limits(comparisons: Sequence[Comparison], over: Callable[[Comparison], float]) -> tuple[Points, Points]:
    """The time of the fastest copy, and that of the direct sum at the peak of multiply-adds."""
    copies, peaks = [], []
    for one in comparisons:
        if one.copy_seconds:
            copies.append((over(one), min(one.copy_seconds)))
        if one.flops:
            fastest = max(max(rates) for rates in one.flops.values())
            peaks.append((over(one), 2 * one.task.products / fastest))
    return copies, peaks


def _label(axis: "Axes", ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Write names at the right, none over another, each joined to the end of its line."""
    if not ends:
        return
    axis.figure.canvas.draw()  # the limits of the axes are known only then
    place: Any = axis.transData + axis.transAxes.inverted()
    ordered = sorted(ends, key=lambda end: end[1])
    heights = _apart([float(place.transform((x, y))[1]) for x, y, _, _ in ordered])
    for (x, y, name, colour), height in zip(ordered, heights, strict=True):
        axis.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3},
        )


def _apart(heights: list[float]) -> list[float]:
    """Ascending heights, moved so that neighbours are GAP apart and the last is not above the panel."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + GAP) if placed else height)
    top = 1.0
    for number in reversed(range(len(placed))):
        placed[number] = min(placed[number], top)
        top = placed[number] - GAP
    return placed
