"""Receptive fields: which samples of the input each result of a stack of layers sees."""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from convengine.analysis.footprint import sources
from convengine.analysis.question import read_shapes
from convengine.analysis.shapes import transposed_shape
from convengine.analysis.stack import Axis, Window, axes_of, read_stack
from convengine.arguments import per_axis
from convengine.boundary import FILL
from convengine.errors import InvalidProblem
from convengine.tables import table

__all__ = ["ReceptiveField", "receptive_field"]

Array: TypeAlias = np.ndarray[Any, Any]
Number: TypeAlias = int | Fraction


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one result of a stack of layers sees, along each spatial axis; prints as a table. Made by `receptive_field`.

    Attributes
    ----------
    layers : tuple of Window
        The layers with kernels, from the input on.
    size : tuple of int
        Samples from the first to the last that a result may see. Where layers are transposed, results see different
        numbers: the largest.
    jump : tuple of int or Fraction
        Distance, in samples of the input, between the centres of neighbouring results.
    offset : tuple of int or Fraction
        Centre of the first result's field, in samples of the input. A field's ends are taken as real numbers, in a
        transposed layer too, so that the centre of result i is ``offset + jump * i``.

    Examples
    --------
    >>> from convengine import analysis
    >>> field = analysis.receptive_field([(3, 2), (3, 1)])
    >>> field.size, field.jump, field.offset
    ((7,), (2,), (3,))
    >>> field.interval(1)  # 3 samples on each side of 3 + 2 * 1
    (range(2, 9),)
    """

    layers: tuple[Window, ...]
    size: tuple[int, ...]
    jump: tuple[Number, ...]
    offset: tuple[Number, ...]

    def samples(self, index: Any, x_shape: Any = None) -> tuple[Array, ...]:
        """Return the samples that one result sees, along each axis.

        Parameters
        ----------
        index : int or tuple of int
            Which result, from 0 on.
        x_shape : int or tuple of int, optional
            Spatial sizes of the input. What lies outside, of it and of each layer's result, is then made as the layer's
            boundary says, and constant padding is not seen. Default: an input without ends, counted from its place 0;
            samples before it have negative numbers.

        Returns
        -------
        tuple of increasing arrays of int
            Where layers are dilated or strided, there may be gaps.

        Raises
        ------
        InvalidProblem
            If there is no such result, or the input is too small for the layers.

        Examples
        --------
        >>> from convengine import analysis
        >>> analysis.receptive_field([(3, 1, 2, 2)]).samples(1)
        (array([-1,  1,  3]),)
        >>> analysis.receptive_field([(3, 1, 2, 2)]).samples(1, x_shape=8)
        (array([1, 3]),)
        """
        axes = axes_of(self.layers)
        places = per_axis(index, len(axes), "index", 0)
        if x_shape is None:
            return tuple(_seen(layers, place) for layers, place in zip(axes, places, strict=True))
        sizes = per_axis(x_shape, len(axes), "x_shape", 0)
        return tuple(_seen_within(layers, place, size) for layers, place, size in zip(axes, places, sizes, strict=True))

    def interval(self, index: Any, x_shape: Any = None) -> tuple[range, ...]:
        """Return the interval of samples that one result sees, along each axis.

        Parameters
        ----------
        index, x_shape
            As for `samples`.

        Returns
        -------
        tuple of range
            From the first sample seen to the last; empty where none is.

        Raises
        ------
        InvalidProblem
            As `samples`.

        Examples
        --------
        >>> from convengine import analysis
        >>> field = analysis.receptive_field([((3, 3), 1, 1, 1), ((2, 2), 2)])
        >>> field.interval((0, 4))
        (range(-1, 3), range(7, 11))
        >>> field.interval((0, 4), x_shape=(10, 10))
        (range(0, 3), range(7, 10))
        """
        return tuple(
            range(int(seen[0]), int(seen[-1]) + 1) if len(seen) else range(0) for seen in self.samples(index, x_shape)
        )

    def __repr__(self) -> str:
        axes = axes_of(self.layers)
        rows = []
        for at, window in enumerate(self.layers):
            here = [layers[at] for layers in axes]
            fields = [_field(layers[: at + 1]) for layers in axes]
            pads = [f"{axis.before}" if axis.before == axis.after else f"{axis.before}+{axis.after}" for axis in here]
            columns: list[list[Any]] = [
                [axis.size for axis in here],
                [axis.stride for axis in here],
                [axis.dilation for axis in here],
                pads,
                *([getattr(field, name) for field in fields] for name in ("size", "jump", "offset")),
            ]
            name = window.name or ("transposed" if window.transposed else "conv")
            rows.append([name, *(", ".join(map(str, column)) for column in columns)])
        return table(["layer", "kernel", "stride", "dilation", "padding", "size", "jump", "offset"], rows)


def receptive_field(layers: Any) -> ReceptiveField:
    """Find the receptive field of a stack of layers: which samples of the input its results see.

    Parameters
    ----------
    layers : sequence of layers
        From the input on. A layer is a `Window`, a tuple (kernel_size, stride, dilation, padding), the last three
        optional, or anything with these attributes, and `transposed`: the layers of convengine.nn, of PyTorch.
        Activations are passed over. A Sequential, of either, is a sequence too.

    Returns
    -------
    ReceptiveField
        `size`, `jump` and `offset` per axis; `interval` and `samples` of a result; prints as a table, a line for what
        the results of each layer see.

    Raises
    ------
    InvalidProblem
        If something is not a layer, or sees all of x, as a dense layer does; the text says which.

    Notes
    -----
    A layer of kernel size k, stride s, dilation d and padding p before takes the field of size r, jump j and offset c
    to one of size r + (k - 1)*d*j, jump s*j and offset c + j*((k - 1)*d/2 - p); a transposed layer has jump j/s and
    offset c + (p - (k - 1)*d/2)*j/s, and the sizes of its fields are counted. (Araujo, Norris and Sim 2019, Computing
    receptive fields of convolutional neural networks, Distill, for layers that are not transposed.)

    Examples
    --------
    Two layers of k x k see (2k - 1) x (2k - 1):

    >>> from convengine import analysis
    >>> analysis.receptive_field([((5, 5),), ((5, 5),)]).size
    (9, 9)
    >>> analysis.receptive_field([(7, 2, 1, 3), (3, 2, 1, 1), analysis.Window(4, 2, padding=1, transposed=True)])
    layer       kernel  stride  dilation  padding  size  jump  offset
    conv        7       2       1         3        7     2     0
    conv        3       2       1         1        11    4     0
    transposed  4       2       1         1        15    2     -1
    """
    windows = read_stack(layers)
    fields = [_field(axis) for axis in axes_of(windows)]
    size, jump, offset = (tuple(getattr(one, name) for one in fields) for name in ("size", "jump", "offset"))
    return ReceptiveField(windows, size, jump, offset)


@dataclass(frozen=True, slots=True)
class _AxisField:
    size: int
    jump: Number
    offset: Number


def _field(layers: tuple[Axis, ...]) -> _AxisField:
    """What the results of a stack see along one axis."""
    first = last = Fraction(0)  # of the field of result 0, as real numbers
    jump = Fraction(1)
    for layer in layers:
        if layer.transposed:
            jump /= layer.stride
            first, last = first + jump * (layer.before - layer.reach), last + jump * layer.before
        else:
            first, last = first - jump * layer.before, last + jump * (layer.reach - layer.before)
            jump *= layer.stride
    size = int(last - first) + 1
    if any(layer.transposed for layer in layers):
        seen = (_seen(layers, place) for place in range(_period(layers)))
        size = max((int(places[-1] - places[0]) + 1 for places in seen if len(places)), default=0)
    return _AxisField(size, _plain(jump), _plain((first + last) / 2))


def _plain(number: Fraction) -> Number:
    return int(number) if number.denominator == 1 else number


def _period(layers: tuple[Axis, ...]) -> int:
    """After how many results the fields repeat, moved by a whole number of samples of each layer."""
    shift, period = Fraction(1), 1
    for layer in reversed(layers):
        shift = shift / layer.stride if layer.transposed else shift * layer.stride
        period = math.lcm(period, shift.denominator)
    return period


def _seen(layers: tuple[Axis, ...], place: int) -> Array:
    """Samples that a result sees in an input without ends."""
    places = np.array([place])
    for layer in reversed(layers):
        taps = layer.dilation * np.arange(layer.size)
        if layer.transposed:  # the results i of the operation with stride*i + taps - before at one of these places
            reached = places[:, None] + layer.before - taps
            places = np.unique(reached[reached % layer.stride == 0] // layer.stride)
        else:
            places = np.unique(layer.stride * places[:, None] + taps - layer.before)
    return places


def _seen_within(layers: tuple[Axis, ...], place: int, size: int) -> Array:
    """Samples that a result sees in an input of `size`, borders included."""
    maps = []
    for layer in layers:
        how: dict[str, Any] = {"stride": layer.stride, "dilation": layer.dilation, "boundary": layer.boundary}
        how["padding"] = [(layer.before, layer.after)]
        if layer.transposed:
            wide = transposed_shape(size, layer.size, op="corr1d", output_padding=layer.output_padding, **how)
        else:
            wide = (size,)
        problem = read_shapes(wide, layer.size, "corr1d", how, 1).problem
        maps.append(sources(problem)[0])
        size = wide[0] if layer.transposed else problem.out_spatial[0]
    if place >= size:
        raise InvalidProblem(f"index must be 0 .. {size - 1} along an axis with {size} results; got {place}")
    places = np.array([place])
    for layer, line in zip(reversed(layers), reversed(maps), strict=True):
        if layer.transposed:
            places = np.flatnonzero(np.isin(line, places).any(axis=1))
        else:
            places = np.setdiff1d(line[places], FILL)
    return places
