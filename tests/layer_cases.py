"""Random layers with their inputs, and what the oracle says that they owe; what the tests of layers share."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convengine import nn
from convengine.testing import Reference, check, componentwise, gradient_reference, reference

CONVOLUTIONS = {1: nn.Conv1D, 2: nn.Conv2D, 3: nn.Conv3D}
TRANSPOSED = {1: nn.ConvTranspose1D, 2: nn.ConvTranspose2D, 3: nn.ConvTranspose3D}
THEIRS = {"constant": "zeros", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}  # PyTorch's words
BOUNDARIES = ("constant", "edge", "reflect", "symmetric", "wrap")


@dataclass(frozen=True)
class LayerCase:
    """A layer in words: `said` are its keywords."""

    transposed: bool
    ndim: int
    outputs: int
    said: dict[str, Any]
    x_shape: tuple[int, ...]
    seed: int

    @property
    def kind(self) -> Any:
        return (TRANSPOSED if self.transposed else CONVOLUTIONS)[self.ndim]

    def layer(self, dtype: Any = np.float64) -> Any:
        return self.kind(self.outputs, **self.said, dtype=dtype, rng=self.seed)

    def values(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
        return np.random.default_rng((self.seed, len(shape), *shape)).standard_normal(shape).astype(dtype)


def draw(rng: np.random.Generator, ndim: int, transposed: bool, symmetric: bool = False) -> LayerCase:
    """A layer that fits its input; `symmetric` ones are those that PyTorch has too."""

    def numbers(low: int, high: int) -> tuple[int, ...]:
        return tuple(map(int, rng.integers(low, high, ndim, endpoint=True)))

    groups = int(rng.integers(1, 3, endpoint=True))
    inputs, outputs = (int(groups * rng.integers(1, 2, endpoint=True)) for _ in range(2))
    kernel, stride, dilation = numbers(1, 4 if ndim < 3 else 3), numbers(1, 3), numbers(1, 2)
    widths = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    most = 2 if transposed else 3
    before = numbers(0, most)
    after = before if symmetric else numbers(0, most)
    spatial = numbers(5, 7)  # more than both pads of a transposed layer, and than one where PyTorch mirrors
    if not transposed:
        spatial = tuple(max(n, w - 2 * min(b, a)) for n, w, b, a in zip(spatial, widths, before, after, strict=True))
    words = BOUNDARIES if not symmetric else ("constant",) if transposed else tuple(THEIRS)
    said = {
        "kernel_size": kernel,
        "stride": stride,
        "dilation": dilation,
        "groups": groups,
        "padding": tuple(zip(before, after, strict=True)),
        "boundary": str(rng.choice(words)),
        "bias": bool(rng.integers(0, 2)),
        "in_channels": inputs if rng.integers(0, 2) else None,
    }
    if transposed:
        said["output_padding"] = tuple(int(rng.integers(0, s)) for s in stride)
    batch = () if rng.integers(0, 4) == 0 else (int(rng.integers(1, 3, endpoint=True)),)
    return LayerCase(transposed, ndim, outputs, said, (*batch, inputs, *spatial), int(rng.integers(2**31)))


def row_sums(dy: Any, ndim: int) -> Reference:
    """The sum over all but the channels, as a correlation with ones."""
    rows = np.moveaxis(dy, -ndim - 1, 0).reshape(dy.shape[-ndim - 1], -1)
    sums = reference("corr1d", rows, np.ones(rows.shape[1], dy.dtype), axes=-1)
    return replace(sums, value=sums.value[:, 0], final=sums.final[:, 0], magnitude=sums.magnitude[:, 0])


def with_bias(sums: Reference, bias: Any, ndim: int) -> Reference:
    """A gradient with one more term, as the transposed layer adds it."""
    if bias is None:
        return sums
    wide = bias.astype(np.longdouble).reshape(-1, *(1,) * ndim)
    value = sums.value + wide
    return replace(
        sums,
        value=value,
        final=value.astype(sums.dtype),
        magnitude=sums.magnitude + abs(wide),
        taps=sums.taps + 1,
        has_bias=True,
    )


def owed(case: LayerCase, layer: Any, x: Any, dy: Any) -> dict[str, Reference]:
    """The result and the three gradients, from the definition of correlation and its adjoints alone."""
    names = ("stride", "padding", "dilation", "groups", "boundary")
    name, said = f"corr{case.ndim}d", {key: getattr(layer, key) for key in names}
    weight, bias = layer.weight, layer.bias
    large, small = (dy, x) if case.transposed else (x, dy)
    down = reference(name, large, weight, bias=None if case.transposed else bias, **said)
    up = gradient_reference(f"{name}_grad_input", small, weight, x_shape=large.shape, **said)
    by_weight = gradient_reference(f"{name}_grad_kernel", large, small, kernel_shape=weight.shape, **said)
    answers = {"y": with_bias(up, bias, case.ndim), "dx": down} if case.transposed else {"y": down, "dx": up}
    return answers | {"weight_grad": by_weight} | ({} if bias is None else {"bias_grad": row_sums(dy, case.ndim)})


def hold(owes: dict[str, Reference], given: dict[str, Any], who: str) -> None:
    """Assert that every answer lies within its proven bound."""
    for what, answer in owes.items():
        try:
            check(given[what], answer, componentwise(answer))
        except AssertionError as error:
            raise AssertionError(f"{who}: {what}: {error}") from None


def ours(layer: Any, x: Any, dy: Any) -> dict[str, Any]:
    """The result and the gradients of one pass there and back."""
    layer.zero_grad()
    y = layer(x)
    return {"y": y, "dx": layer.backward(dy), "weight_grad": layer.weight_grad, "bias_grad": layer.bias_grad}


def book():
    """A picture of the book, and its edges."""
    x = np.ones((6, 8))
    x[:, 2:6] = 0
    return x, x[:, :-1] - x[:, 1:]


def integers(rng, shape):
    """Small whole numbers as floats: sums of their products are exact."""
    return rng.integers(-8, 9, shape).astype(np.float64)


def network():
    """Layers with weights and without, one within another, that take `X`."""
    inner = nn.Sequential(nn.ReLU(), nn.ConvTranspose2D(2, 2, bias=False, rng=1))
    return nn.Sequential(nn.Conv2D(3, 2, rng=0), inner, nn.Flatten(), nn.Linear(4, rng=2))


X = np.random.default_rng(5).standard_normal((2, 1, 4, 4)).astype(np.float32)
