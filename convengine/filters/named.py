"""Kernels by name, as the command line takes them: "sobel-x", "gaussian:2,1", or a list such as "[[1,-1]]"."""

import difflib
import json
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from convengine.errors import InvalidProblem
from convengine.filters import blobs, detail, edges, smooth, texture
from convengine.filters.parameters import Kernel, PerAxis, count, dimensions, per_axis

__all__ = ["names", "parse"]

SHOW = reprlib.Repr()  # texts in errors stay short, and deep lists are not walked to their end
SHOW.maxstring = 80


@dataclass(frozen=True, slots=True)
class Named:
    """A line of the table: what a name means, what may stand after its colon, and who builds it."""

    help: str
    build: Callable[..., Kernel]  # called with the numbers after the colon, and with ndim unless planar
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    per_axis: bool = False  # its only parameter comes once, or once per axis
    planar: bool = False  # made for two axes only

    def syntax(self, name: str) -> str:
        """Write how the name is used, optional parts in brackets: "unsharp:SIGMA[,AMOUNT]"."""
        text = ",".join(self.required)
        for i, parameter in enumerate(self.optional):
            text += f"[,{parameter}" if i or self.required else f"[{parameter}"
        if self.per_axis:
            text += f"[,{(self.required + self.optional)[0]}...]"
        text += "]" * len(self.optional)
        return f"{name}:{text}" if self.required else name + text.replace("[", "[:", 1)

    def takes(self, values: int) -> bool:
        """Tell whether so many numbers may stand after the colon; a wrong number of axes is the kernel's to refuse."""
        return values >= len(self.required) and (self.per_axis or values <= len(self.required) + len(self.optional))


def _identity(size: PerAxis[int] = 1, *, ndim: int) -> Kernel:
    return detail.identity(per_axis("size", size, ndim, lambda name, value: count(name, value, 1)))


def _laplacian(connectivity: int = 1, *, ndim: int) -> Kernel:
    return blobs.laplacian(ndim, connectivity=connectivity)


def _derivative(order: int = 1, accuracy: int = 2, *, axis: int, ndim: int) -> Kernel:
    return edges.derivative(order, axis=axis, accuracy=accuracy, ndim=ndim)


def _gabor(wavelength: float, angle: float = 0.0, sigma: float | None = None) -> Kernel:
    return texture.gabor(wavelength, angle, sigma=sigma)


TABLE = {
    "binomial": Named("rows of Pascal's triangle, N + 1 samples", smooth.binomial, ("N",), per_axis=True),
    "box": Named("mean over SIZE samples", smooth.box, ("SIZE",), per_axis=True),
    "disk": Named("mean over a disk of RADIUS pixels", smooth.disk, ("RADIUS",), planar=True),
    "gaussian": Named("Gaussian blur, SIGMA in pixels", smooth.gaussian, ("SIGMA",), per_axis=True),
    "motion": Named(
        "mean along a line of LENGTH pixels, ANGLE in radians from +x to +y", smooth.motion, ("LENGTH",), ("ANGLE",),
        planar=True,
    ),
    "edge": Named("[1, -1] along x, the book's edge detector", edges.edge),
    "laplacian": Named("neighbours minus centre; 2-D: 1 = 4, 2 = 8 neighbours", _laplacian, (), ("CONNECTIVITY",)),
    "log": Named("Laplacian of a Gaussian, SIGMA in pixels", blobs.log, ("SIGMA",), per_axis=True),
    "dog": Named("Gaussian of sigma LOW minus that of HIGH", blobs.difference_of_gaussians, ("LOW",), ("HIGH",)),
    "gabor": Named(
        "wave under a Gaussian, WAVELENGTH and SIGMA in pixels, ANGLE in radians", _gabor, ("WAVELENGTH",),
        ("ANGLE", "SIGMA"), planar=True,
    ),
    "identity": Named("1 in the middle of SIZE samples", _identity, (), ("SIZE",), per_axis=True),
    "sharpen": Named("identity minus AMOUNT times the Laplacian", detail.sharpen, (), ("AMOUNT",)),
    "unsharp": Named("adds AMOUNT times what a blur of SIGMA removes", detail.unsharp, ("SIGMA",), ("AMOUNT",)),
    "emboss": Named("relief lit from the top left", detail.emboss, planar=True),
}  # fmt: skip
AXES = {"x": -1, "y": -2, "z": -3}
TABLE |= {
    f"{build.__name__}-{letter}": Named(
        f"{build.__name__.capitalize()}'s gradient along {letter}, positive where it grows", partial(build, axis=axis)
    )
    for build in (edges.sobel, edges.prewitt, edges.scharr)
    for letter, axis in AXES.items()
}
TABLE |= {
    f"derivative-{letter}": Named(
        f"central difference along {letter}", partial(_derivative, axis=axis), (), ("ORDER", "ACCURACY")
    )
    for letter, axis in AXES.items()
}


def names() -> dict[str, str]:
    """List the kernels that `parse` knows by name.

    Returns
    -------
    dict of str
        From each name to a line with its syntax (optional parts in brackets) and its meaning.

    Examples
    --------
    >>> from convengine.filters import named
    >>> named.names()["gaussian"]
    'gaussian:SIGMA[,SIGMA...]: Gaussian blur, SIGMA in pixels'
    """
    return {name: f"{TABLE[name].syntax(name)}: {TABLE[name].help}" for name in sorted(TABLE)}


def parse(text: str, *, ndim: int = 2) -> npt.NDArray[Any]:
    """Read a kernel from text: a name with its numbers, or a list.

    Parameters
    ----------
    text : str
        A name of `names` with its numbers after a colon, or a JSON list of numbers, nested 1 to 3 deep.
    ndim : int
        Number of axes of a named kernel: 1, 2 or 3. A list has its own.

    Returns
    -------
    array
        float64; int64 from a list of whole numbers.

    Raises
    ------
    InvalidProblem
        If the name is unknown, the numbers after it are wrong, or the list is not rectangular, finite and filled.

    Examples
    --------
    >>> from convengine.filters import named
    >>> named.parse("sobel-x", ndim=1)
    array([-1.,  0.,  1.])
    >>> named.parse("[[1, -1]]")
    array([[ 1, -1]])
    """
    ndim, text = dimensions(ndim), text.strip()
    if text.startswith("["):
        return _literal(text)
    name, colon, after = text.partition(":")
    name = name.strip().lower()
    if name not in TABLE:
        close = difflib.get_close_matches(name, TABLE, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise InvalidProblem(
            f"unknown kernel {SHOW.repr(name)}; {hint}needed is a list such as [[1,-1]] "
            f"or one of {', '.join(sorted(TABLE))}"
        )
    entry = TABLE[name]
    try:
        values = tuple(_number(item) for item in after.split(",")) if colon else ()
        if not entry.takes(len(values)):
            raise InvalidProblem(f"got {len(values)} values")
        if entry.planar and ndim != 2:
            raise InvalidProblem(f"it is made for 2 axes; got ndim={ndim}")
        arguments = (values,) if entry.per_axis and len(values) > 1 else values
        return entry.build(*arguments) if entry.planar else entry.build(*arguments, ndim=ndim)
    except InvalidProblem as error:
        raise InvalidProblem(f"kernel {SHOW.repr(text)}: {error}; write {entry.syntax(name)}") from error


def _number(item: str) -> int | float:
    """Read a number between commas; what it may be is the kernel's to say."""
    for read in (int, float):
        try:
            return read(item)
        except ValueError:
            continue
    raise InvalidProblem(f"needed are numbers between the commas; got {SHOW.repr(item)}")


def _literal(text: str) -> npt.NDArray[Any]:
    """Read a JSON list of numbers as an array."""
    shown = SHOW.repr(text)
    try:
        nested = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidProblem(f"a kernel needs a JSON list of numbers such as [[1,-1]]; got {shown}: {error}") from error
    shape: list[int] = []
    level = nested
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    if len(shape) > 3 or 0 in shape:
        raise InvalidProblem(
            f"a kernel needs 1 to 3 axes of 1 sample or more; got shape {SHOW.repr(tuple(shape))} from {shown}"
        )
    flat = [nested]
    for size in shape:
        for row in flat:
            if not isinstance(row, list) or len(row) != size:
                raise InvalidProblem(f"a kernel needs rows of one length, {size} here; got {SHOW.repr(row)} in {shown}")
        flat = [item for row in flat for item in row]
    for item in flat:
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            raise InvalidProblem(f"a kernel needs numbers, all as deep as the first; got {SHOW.repr(item)} in {shown}")
        if not (-(2**63) <= item < 2**63 if isinstance(item, int) else math.isfinite(item)):
            raise InvalidProblem(
                f"a kernel needs finite numbers, and whole ones in int64; got {SHOW.repr(item)} in {shown}"
            )
    return np.array(flat, np.int64 if all(isinstance(item, int) for item in flat) else np.float64).reshape(shape)
