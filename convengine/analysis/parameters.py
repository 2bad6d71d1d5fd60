"""How many parameters a layer has, against the dense layer that translation invariance and locality make it from."""

import math
from dataclasses import dataclass
from typing import Any

from convengine.analysis.question import read_shapes
from convengine.errors import InvalidProblem
from convengine.tables import table

__all__ = ["ParameterCount", "parameter_count"]


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters of a layer and of the dense layers that it constrains; prints as a table. Made by `parameter_count`.

    Attributes
    ----------
    weights, shared_weights, dense_weights : int
        Of the layer; of a layer that is translation invariant, but not local; of the dense layer.
    biases, dense_biases : int
        One per output channel; of the dense layer, one per result. 0 without bias.

    Examples
    --------
    >>> from convengine import analysis
    >>> count = analysis.parameter_count((16, 3, 3, 3), (3, 32, 32), padding=1)
    >>> count.weights, count.biases, count.layer
    (432, 16, 448)
    >>> count.dense, count.ratio
    (50348032, 112384.0)
    """

    weights: int
    shared_weights: int
    dense_weights: int
    biases: int
    dense_biases: int

    @property
    def layer(self) -> int:
        """Parameters of the layer."""
        return self.weights + self.biases

    @property
    def shared(self) -> int:
        """Parameters with one weight for each offset, however far."""
        return self.shared_weights + self.biases

    @property
    def dense(self) -> int:
        """Parameters with one weight for each sample and result."""
        return self.dense_weights + self.dense_biases

    @property
    def ratio(self) -> float:
        """How many parameters the dense layer has for one of this layer's."""
        return self.dense / self.layer

    def to_dict(self) -> dict[str, int | float]:
        """Return plain values, for JSON."""
        return {"layer": self.layer, "shared": self.shared, "dense": self.dense, "ratio": self.ratio}

    def __repr__(self) -> str:
        lines = [
            ("dense", self.dense_weights, self.dense_biases, self.dense),
            ("+ translation invariance", self.shared_weights, self.biases, self.shared),
            ("+ locality: this layer", self.weights, self.biases, self.layer),
        ]
        rows = [
            [name, f"{weights:,}", f"{biases:,}", f"{total:,}", f"{self.dense / total:.4g}" if total else "-"]
            for name, weights, biases, total in lines
        ]
        return table(["", "weights", "biases", "parameters", "times fewer"], rows)


def parameter_count(
    kernel_shape: Any, x_shape: Any, bias: bool = True, *, op: str | None = None, **keywords: Any
) -> ParameterCount:
    """Count the parameters of a layer, and those of the dense layer that it constrains.

    Parameters
    ----------
    kernel_shape : tuple of int
        Of a layer or a filter.
    x_shape : tuple of int
        What the layer takes; batch axes do not count.
    bias : bool, optional
        Whether there is one, for each output channel; in the dense layer, for each result.
    op : {"corr1d", "corr2d", "corr3d", "conv1d", "conv2d", "conv3d"}, optional
        The operation. Default: correlation with a filter of the kernel's rank; a kernel of 4 or 5 axes is a layer.
    **keywords
        As for the operation; those that decide the result's shape matter.

    Returns
    -------
    ParameterCount
        `layer`, `dense` and `ratio`; prints as a table.

    Raises
    ------
    InvalidProblem
        As the operation; for a layer without parameters.
    TypeError
        For a keyword that no operation takes.

    Notes
    -----
    A dense layer has a weight for each pair of a sample of x and a result. Translation invariance leaves one for each
    offset between the two, and pair of channels: along an axis of n samples with m results and the stride s, these are
    n + s*(m - 1) offsets; 2*n - 1 for results at all samples. Locality leaves those offsets that the kernel has, and
    groups those pairs of channels that share a group.

    Examples
    --------
    A picture of a million pixels, to as many hidden units; then one weight per offset from -999 to 999; then a kernel
    that reaches 2 pixels far:

    >>> from convengine import analysis
    >>> count = analysis.parameter_count((5, 5), (1000, 1000), bias=False, mode="same")
    >>> count
                              weights            biases  parameters         times fewer
    dense                     1,000,000,000,000  0       1,000,000,000,000  1
    + translation invariance  3,996,001          0       3,996,001          2.503e+05
    + locality: this layer    25                 0       25                 4e+10
    >>> count.layer, count.dense, count.ratio
    (25, 1000000000000, 40000000000.0)
    """
    if not isinstance(bias, bool):
        raise InvalidProblem(f"bias must be True or False, whether the layer has one; got {bias!r}")
    problem = read_shapes(x_shape, kernel_shape, op, keywords, 2).problem
    c_in, c_out = problem.channels
    sizes = list(zip(problem.spatial, problem.out_spatial, problem.stride, strict=True))
    # Offsets k - s*i: a run of n for each result; the runs meet unless the stride is longer than the axis.
    offsets = math.prod(n + (m - 1) * min(s, n) if n and m else 0 for n, m, s in sizes)
    results = c_out * math.prod(problem.out_spatial)
    count = ParameterCount(
        weights=math.prod(problem.kernel_shape),
        shared_weights=c_in * c_out * offsets,
        dense_weights=c_in * math.prod(problem.spatial) * results,
        biases=c_out if bias else 0,
        dense_biases=results if bias else 0,
    )
    if not count.layer:
        raise InvalidProblem(
            f"there is nothing to count: a kernel of shape {kernel_shape!r} without bias has no parameters"
        )
    return count
