"""The demonstration's picture: two photographs and their feature maps."""

import logging
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

__all__ = ["HEIGHT", "WIDTH", "draw"]

WIDTH, HEIGHT = 2000, 880  # pixels
DPI = 100
Array = np.ndarray[Any, Any]
Filter = Callable[[Array, str], Array]

COLUMNS = (
    ("photograph", "the input"),
    ("blur", "Gaussian, sigma of 2 pixels"),
    ("sharpen", "input minus its Laplacian"),
    ("edge detector", "[[1, -1]]; grey is zero"),
    ("Sobel", "gradient length; black is zero"),
)
INK, PALE = "#1a1a1a", "#666666"


def _maps(x: Array, filtered: Filter) -> list[Array]:
    """What the columns show of a photograph of 0 to 1, as samples of 0 to 1."""
    blurred, sharp, edge = (filtered(x, kernel) for kernel in ("gaussian:2", "sharpen", "[[1, -1]]"))
    gradient = np.hypot(filtered(x, "sobel-x"), filtered(x, "sobel-y"))
    return [x, blurred, np.clip(sharp, 0, 1), _signed(edge), _bright(gradient)]


def _signed(y: Array) -> Array:
    """Zero as mid grey; the strongest hundredth of the samples beyond black and white."""
    reach = float(np.quantile(np.abs(y), 0.99)) or 1.0
    return np.asarray(np.clip(0.5 + y / (2 * reach), 0, 1))


def _bright(y: Array) -> Array:
    """Zero as black; the strongest hundredth of the samples as white."""
    return np.asarray(np.clip(y / (float(np.quantile(y, 0.99)) or 1.0), 0, 1))


def draw(file: BinaryIO, photographs: dict[str, Array], filtered: Filter) -> None:
    """Write a PNG of WIDTH x HEIGHT with a row for each 8-bit photograph; `filtered(x, kernel)` makes its maps."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # a font cache being built is nobody's concern
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(photographs), len(COLUMNS))
    figure.subplots_adjust(left=0.02, right=0.994, bottom=0.012, top=0.905, wspace=0.03, hspace=0.03)
    for row, (name, photograph) in zip(axes, photographs.items(), strict=True):
        maps = _maps(photograph.astype(np.float32) / np.float32(255), filtered)
        for axis, samples in zip(row, maps, strict=True):
            axis.imshow(samples, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=16, color=INK, labelpad=8)
    for axis, (title, subtitle) in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=19, color=INK, pad=30)
        axis.text(0.5, 1.025, subtitle, transform=axis.transAxes, ha="center", va="bottom", fontsize=13, color=PALE)
    figure.savefig(file, format="png")
