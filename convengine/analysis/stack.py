"""Layers as a receptive field sees them: kernel sizes, steps and borders along each axis, whoever's layers they are."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from convengine.arguments import per_axis, read_boundary, read_pads
from convengine.boundary import ELSEWHERE
from convengine.errors import InvalidProblem

__all__ = ["Axis", "Window", "axes_of", "read_stack"]

# Classes of convengine.nn and of PyTorch whose results depend on the sample at their own place; "2d" and so on cut off.
POINTWISE = (
    {"BatchNorm", "Dropout", "Identity"}
    | {"ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "GELU", "SiLU"}
    | {"Hardswish", "Sigmoid", "Softplus", "Tanh"}
)


@dataclass(frozen=True, slots=True)
class Window:
    """Where one layer looks: a convolution, a pooling or, transposed, the adjoint of one.

    Parameters
    ----------
    kernel_size, stride, dilation : int or tuple of int
        For all axes, or one per spatial axis.
    padding : int or tuple of int or of (before, after)
        Samples added on each side; in a transposed layer, samples cut off.
    transposed : bool
        Whether results and samples of x change places.
    output_padding : int or tuple of int
        Of a transposed layer: samples more than the smallest result; only the size of the result depends on it.
    boundary : str or tuple of str
        What the padding is made of, in numpy.pad's words; matters where the size of x is given.
    name : str
        For the table.

    Examples
    --------
    >>> from convengine import analysis
    >>> analysis.receptive_field([analysis.Window(3, padding=1), analysis.Window(2, stride=2, name="pool")])
    layer  kernel  stride  dilation  padding  size  jump  offset
    conv   3       1       1         1        3     1     0
    pool   2       2       1         0        4     2     1/2
    """

    kernel_size: Any
    stride: Any = 1
    dilation: Any = 1
    padding: Any = 0
    transposed: bool = False
    output_padding: Any = 0
    boundary: Any = "constant"
    name: str = ""


NAMES = tuple(field.name for field in fields(Window))


@dataclass(frozen=True, slots=True)
class Axis:
    """One layer along one axis."""

    size: int
    stride: int
    dilation: int
    before: int
    after: int
    transposed: bool
    output_padding: int
    boundary: str

    @property
    def reach(self) -> int:
        """Distance between the first and the last tap."""
        return self.dilation * (self.size - 1)


def read_stack(layers: Any) -> tuple[Window, ...]:
    """Return the windows of some layers, in order; a layer that looks at one place only has none."""
    found = tuple(_windows(layers, "layers"))
    if not found:
        raise InvalidProblem(f"a receptive field needs at least one layer with a kernel; got {layers!r}")
    return found


def _windows(value: Any, place: str) -> Iterator[Window]:
    if isinstance(value, Window):
        yield value
    elif hasattr(value, "kernel_size"):
        said = {name: getattr(value, name) for name in NAMES[:-1] if hasattr(value, name)}
        if hasattr(value, "padding_mode"):  # PyTorch's word
            said["boundary"] = ELSEWHERE.get(value.padding_mode, ("", value.padding_mode))[1]
        if said.get("padding") == "valid":  # and two more
            said["padding"] = 0
        elif said.get("padding") == "same":  # the odd sample behind
            totals = [step * (size - 1) for step, size in zip(value.dilation, value.kernel_size, strict=True)]
            said["padding"] = tuple((total // 2, total - total // 2) for total in totals)
        yield Window(**said, name=type(value).__name__)
    elif re.sub(r"[123]d$", "", type(value).__name__) in POINTWISE:
        return
    elif isinstance(layers := getattr(value, "layers", value), Iterable) and not isinstance(layers, str | bytes):
        for at, layer in enumerate(layers):
            if isinstance(layer, tuple):
                if not 1 <= len(layer) <= 4:
                    raise InvalidProblem(
                        "a layer must be (kernel_size, stride, dilation, padding), the last three optional; "
                        f"got {layer!r} as {place}[{at}]"
                    )
                yield Window(*layer)
            else:
                yield from _windows(layer, f"{place}[{at}]")
    else:
        raise InvalidProblem(
            f"{place} must be a layer with a kernel_size, an analysis.Window, a tuple (kernel_size, stride, dilation, "
            f"padding) or a sequence of these; got {type(value).__name__}; leave out what works on each place alone, "
            "and stop before what looks at all of x, as a dense layer does"
        )


def axes_of(windows: tuple[Window, ...]) -> list[tuple[Axis, ...]]:
    """The layers along each axis; numbers stand for all axes."""
    lengths = {
        len(value)
        for window in windows
        for value in (getattr(window, name) for name in NAMES if name not in ("transposed", "name"))
        if isinstance(value, tuple | list)
    }
    if len(lengths) > 1:
        raise InvalidProblem(f"all layers must have the same number of spatial axes; got {sorted(lengths)}")
    ndim = lengths.pop() if lengths else 1
    return list(zip(*(_axes(window, ndim) for window in windows), strict=True))


def _axes(window: Window, ndim: int) -> tuple[Axis, ...]:
    if window.transposed not in (True, False):
        raise InvalidProblem(f"transposed must be True or False; got {window.transposed!r}")
    sizes = per_axis(window.kernel_size, ndim, "kernel_size", 1)
    strides, dilations = per_axis(window.stride, ndim, "stride", 1), per_axis(window.dilation, ndim, "dilation", 1)
    more = per_axis(window.output_padding, ndim, "output_padding", 0)
    pads = read_pads(None, window.padding, None, sizes, ndim)
    rules = read_boundary(window.boundary, ndim)
    axes = zip(sizes, strides, dilations, pads, more, rules, strict=True)
    return tuple(
        Axis(size, stride, dilation, before, after, bool(window.transposed), extra, str(rule))
        for size, stride, dilation, (before, after), extra, rule in axes
    )
