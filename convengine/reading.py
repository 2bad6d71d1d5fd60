"""Reads all user arguments together into a Problem: how x, kernel and out lie, which shapes and dtypes follow."""

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from convengine.arguments import (
    per_axis,
    read_axes,
    read_axis,
    read_bias,
    read_boundary,
    read_fill,
    read_integer,
    read_output_dtype,
    read_pads,
    result_dtype,
)
from convengine.boundary import Boundary
from convengine.errors import InvalidProblem
from convengine.problem import Problem, integer_sum_dtype, is_integer, sum_dtype

__all__ = ["Reading", "forget", "read"]

LARGEST = 2**40  # samples of a padded axis; their indices alone would fill terabytes


class Reading(NamedTuple):
    """What the arguments mean: the problem, the canonical kernel and bias, and how x and out lie to it."""

    problem: Problem
    kernel: np.ndarray[Any, Any]  # canonical, flipped and conjugated as asked; of any strides
    bias: np.ndarray[Any, Any] | None  # (C_out,), or (1,) for a filter, in the sum's dtype
    x_axes: tuple[int, ...]  # x.transpose(x_axes) is canonical
    out_axes: tuple[int, ...]  # out.transpose(out_axes) is canonical
    out_shape: tuple[int, ...]  # as the user sees it
    kernel_axes: tuple[int, ...]  # the user's kernel.transpose(kernel_axes) is canonical, but for flip and conjugation


def read(
    ndim: int,
    flip: bool,
    x: Any,
    kernel_value: Any,
    *,
    bias: Any,
    mode: Any,
    boundary: Any,
    fill_value: Any,
    padding: Any,
    center: Any,
    stride: Any,
    dilation: Any,
    groups: Any,
    axes: Any,
    channel_axis: Any,
    conjugate: Any,
    dtype: Any,
    overflow: Any,
    out: Any,
    memory: str,
) -> Reading:
    """Read the public arguments; x is an array already (`read_array`)."""
    asked, kernel = read_output_dtype(dtype, out, x.dtype, kernel_value)
    if not isinstance(conjugate, bool | np.bool_):
        raise InvalidProblem(f"conjugate must be True or False; got {conjugate!r}")
    x_ndim, layer = x.ndim, kernel.ndim == ndim + 2
    if not layer and kernel.ndim != ndim:
        raise InvalidProblem(
            f"a {ndim}-D correlation takes a filter of {ndim} axes or a layer of {ndim + 2}; "
            f"got a kernel of shape {kernel.shape}"
        )
    if layer and x_ndim not in (ndim + 1, ndim + 2):
        raise InvalidProblem(
            f"a layer kernel of shape {kernel.shape} needs x of {ndim + 1} axes, or {ndim + 2} with a batch; "
            f"got shape {x.shape}"
        )
    arrays = layer, x_ndim, x.dtype, kernel.dtype, asked, bias is not None, memory
    words = overflow, mode, boundary, fill_value, padding, center, stride, dilation, groups, axes, channel_axis
    told = asked is not None and asked.metadata
    if _is_plain(words) and not (x.dtype.metadata or kernel.dtype.metadata or told):
        chars = x.dtype.char + kernel.dtype.char + (asked.char if asked is not None else "")
        meaning = _kept_meaning(chars, ndim, *arrays, *words)
    else:
        meaning = _Meaning.of(ndim, *arrays, *words)
    form = meaning.form(kernel.shape)
    fields = form.fields
    if layer:
        _require_channels(x.shape, meaning, form)
        kernel = kernel.transpose(meaning.kernel_axes)
    x_shape = tuple([x.shape[axis] for axis in meaning.x_axes])
    colours = not layer and axes is None and channel_axis is None and x_ndim == ndim + 1 and x.shape[-1] in (3, 4)
    out_spatial, steps = _out_spatial(x_shape[x_ndim - ndim :], form, x.shape[-1] if colours else 0)
    lead = x_shape[: x_ndim - ndim - layer]
    out_shape = (*lead, kernel.shape[0], *out_spatial) if layer else (*lead, *out_spatial)
    if math.prod(out_shape) >= 2**62 // 16:
        raise InvalidProblem(f"the result of shape {out_shape} is larger than any memory")
    problem = Problem.sized(fields, x_shape, out_shape)
    if steps != fields["stride"]:
        problem = replace(problem, stride=steps)
    if flip:
        kernel = np.flip(kernel, tuple(range(kernel.ndim - ndim, kernel.ndim)))
    if conjugate and kernel.dtype.kind == "c":
        kernel = kernel.conj()
    added = None
    if bias is not None:
        dtypes = x.dtype, kernel.dtype, problem.out_dtype
        summed = np.dtype(np.int64) if is_integer(*dtypes) else sum_dtype(*dtypes)
        added = read_bias(bias, kernel.shape[0] if layer else 1, layer, summed)
    user_shape = tuple([out_shape[axis] for axis in meaning.back])
    return Reading(problem, kernel, added, meaning.x_axes, meaning.x_axes, user_shape, meaning.kernel_axes)


PLAIN = {type(None), str, int}


def _is_plain(words: tuple[Any, ...]) -> bool:
    """Whether equal ones mean the same: True and 1.0 are equal to 1, -0.0 to 0.0."""
    kinds = {*map(type, words)} - PLAIN
    return not kinds or (kinds == {tuple} and all(_is_plain(word) for word in words if type(word) is tuple))


class _Form(NamedTuple):
    """What the arguments mean for a shape of kernel, whatever the sizes of x."""

    fields: dict[str, Any]  # of the problem, but its sizes: `Problem.sized`
    widths: tuple[int, ...]  # of the dilated kernel


MEANINGS, FORMS = 128, 64  # that are kept, and of each of them; a form holds some 4 KB


@dataclass(slots=True)
class _Meaning:
    """What the arguments mean, whatever the sizes of x and of the kernel."""

    ndim: int
    kind: dict[str, Any]  # the fields of a problem that are known by now
    x_axes: tuple[int, ...]
    back: tuple[int, ...]  # what undoes them
    kernel_axes: tuple[int, ...]
    placing: tuple[Any, Any, Any]  # mode, padding, center: how the kernel comes to lie
    fill: Any
    asked: np.dtype[Any] | None  # dtype of the result; None for that of the sums, where they are integers
    integer: bool  # x and the kernel are
    kinds: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict)
    forms: dict[tuple[int, ...], _Form] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        ndim: int,
        layer: bool,
        x_ndim: int,
        x_dtype: np.dtype[Any],
        kernel_dtype: np.dtype[Any],
        asked: np.dtype[Any] | None,
        has_bias: bool,
        memory: str,
        overflow: Any,
        mode: Any,
        boundary: Any,
        fill_value: Any,
        padding: Any,
        center: Any,
        stride: Any,
        dilation: Any,
        groups: Any,
        axes: Any,
        channel_axis: Any,
    ) -> "_Meaning":
        """Check all that needs no shapes."""
        if not isinstance(overflow, str) or overflow not in ("saturate", "wrap", "raise"):
            raise InvalidProblem(f"overflow must be 'saturate', 'wrap' or 'raise'; got {overflow!r}")
        in_order = tuple(range(x_ndim))
        x_axes, kernel_axes = in_order, tuple(range(ndim + 2 * layer))
        if layer:
            x_axes, kernel_axes = _layer_axes(x_ndim, ndim, axes, channel_axis)
        else:
            channel = None if channel_axis is None else read_axis(channel_axis, x_ndim, "channel_axis")
            spatial = read_axes(axes, x_ndim, ndim, channel)
            if spatial != in_order[x_ndim - ndim :]:
                x_axes = (*(axis for axis in range(x_ndim) if axis not in spatial), *spatial)
        integer = is_integer(x_dtype, kernel_dtype)
        kind = {
            "op": "forward",
            "x_dtype": x_dtype,
            "kernel_dtype": kernel_dtype,
            "has_bias": has_bias,
            "overflow": overflow,
            "boundary": read_boundary(boundary, ndim),
            "stride": per_axis(stride, ndim, "stride", 1),
            "dilation": per_axis(dilation, ndim, "dilation", 1),
            "groups": read_integer(groups, "groups", 1),
            "memory": memory,
        }
        return cls(
            ndim=ndim,
            kind=kind,
            x_axes=x_axes,
            back=in_order if x_axes == in_order else tuple(sorted(in_order, key=x_axes.__getitem__)),
            kernel_axes=kernel_axes,
            placing=(mode, padding, center),
            fill=read_fill(fill_value, x_dtype),
            asked=asked if integer else result_dtype(asked, x_dtype, kernel_dtype),
            integer=integer,
        )

    def form(self, given: tuple[int, ...]) -> _Form:
        """Check what needs the kernel's shape."""
        if (known := self.forms.get(given)) is not None:
            return known
        kind, ndim = self.kind, self.ndim
        shape, layer = given, len(given) > ndim
        if layer:
            shape = tuple([given[axis] for axis in self.kernel_axes])
        elif kind["groups"] != 1:
            raise InvalidProblem(
                f"groups={kind['groups']} needs a layer, a kernel of {ndim + 2} axes; got a filter of shape {given}"
            )
        taps = shape[len(shape) - ndim :]
        if 0 in taps or (0 in shape and not (layer and shape[1] == 0)):
            raise InvalidProblem(f"the kernel must have at least one tap; got shape {shape}")
        dilations, widths = kind["dilation"], taps
        if max(dilations) > 1:
            dilations = tuple(d if k > 1 else 1 for d, k in zip(dilations, taps, strict=True))  # one tap has no gap
            widths = tuple(d * (k - 1) + 1 for d, k in zip(dilations, taps, strict=True))
        pads = read_pads(*self.placing, widths, ndim)
        form = _Form({**self._kind_of(shape[layer:], dilations, pads), "kernel_shape": shape, "pads": pads}, widths)
        if len(self.forms) >= FORMS:
            self.forms.clear()
        self.forms[given] = form
        return form

    def _kind_of(
        self, summed: tuple[int, ...], dilations: tuple[int, ...], pads: tuple[tuple[int, int], ...]
    ) -> dict[str, Any]:
        """The fields, and what is kept with them, of all problems with this dilation, fill value and dtype of sums."""
        fill, out_dtype, sums = self.fill, self.asked, None
        if type(fill) is not int or fill:  # else it is 0, wherever it may come in
            rules = zip(self.kind["boundary"], pads, strict=True)
            fill = fill if any(rule is Boundary.CONSTANT and any(pair) for rule, pair in rules) else 0
        if self.integer:
            dtypes = self.kind["x_dtype"], self.kind["kernel_dtype"]
            sums = integer_sum_dtype(*dtypes, math.prod(summed))
            out_dtype = sums if out_dtype is None else out_dtype
        key = dilations, fill is self.fill, sums
        if (known := self.kinds.get(key)) is None:
            known = {**self.kind, "out_dtype": out_dtype, "fill_value": fill, "dilation": dilations}
            known["kind"] = known
            known = self.kinds.setdefault(key, known)
        return known


@lru_cache(maxsize=MEANINGS)
def _kept_meaning(chars: str, *given: Any) -> _Meaning:
    """A meaning, kept; `chars` tell dtypes apart that are equal, as those of long and long long."""
    return _Meaning.of(*given)


def forget() -> None:
    """Forget what was kept of arguments."""
    _kept_meaning.cache_clear()


def _layer_axes(x_ndim: int, ndim: int, axes: Any, channel_axis: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How a layer's x (and out) and its kernel lie to canonical order."""
    if axes is not None:
        raise InvalidProblem(
            f"a layer takes no axes; got axes={axes!r}; move the axes of x, or use a filter of {ndim} axes"
        )
    batched = x_ndim == ndim + 2
    order: tuple[int, ...] = tuple(range(x_ndim))
    kernel_order: tuple[int, ...] = tuple(range(ndim + 2))
    if channel_axis is not None:
        at = read_axis(channel_axis, x_ndim, "channel_axis")
        if at == x_ndim - 1:
            order = (*order[:batched], x_ndim - 1, *order[batched:-1])
            kernel_order = (kernel_order[-1], kernel_order[-2], *kernel_order[:-2])
        elif at != batched:
            raise InvalidProblem(
                f"channel_axis of a layer must be -1, or {int(batched)} (channels first); got {channel_axis!r}"
            )
    return order, kernel_order


def _require_channels(x_shape: tuple[int, ...], meaning: _Meaning, form: _Form) -> None:
    """Raise where the channels of x, kernel and groups do not fit one another."""
    groups, (c_out, per_group, *taps) = form.fields["groups"], form.fields["kernel_shape"]
    c_in = x_shape[meaning.x_axes[len(x_shape) - len(taps) - 1]]
    if c_in != per_group * groups or c_out % groups:
        raise InvalidProblem(
            f"x has {c_in} channels and the kernel {per_group} per group with {groups} groups and {c_out} outputs; "
            f"x needs {per_group * groups} channels, and outputs a multiple of groups; "
            "for channels last say channel_axis=-1"
        )


def _out_spatial(sizes: tuple[int, ...], form: _Form, colours: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Output sizes, and strides that reach no further than the outputs.

    Raises where the kernel does not fit or an empty axis has no samples to extend; `colours` are the samples of an axis
    that may be meant for them, or 0.
    """
    fields, out, reach = form.fields, [], []
    axes = zip(sizes, form.widths, fields["pads"], fields["boundary"], fields["stride"], strict=True)
    for n, width, (before, after), rule, step in axes:
        if n == 0 and rule is not Boundary.CONSTANT:
            raise InvalidProblem(f"boundary={rule.value!r} needs samples to extend; got x with spatial shape {sizes}")
        padded = n + before + after
        room = padded - width + 1
        if room < 1 and not (room == 0 and n == 0):
            pads, taps = fields["pads"], fields["kernel_shape"][-len(sizes) :]
            how = f"padding={pads}" if any(map(any, pads)) else "mode='valid'"
            raise InvalidProblem(
                f"{how} needs the kernel to fit inside x; "
                f"got kernel {taps}{f', {form.widths} dilated,' if form.widths != taps else ''} and x {sizes}; "
                "pad x or use mode='same'"
                + (f"; if the last axis of x, of {colours}, holds colours, say channel_axis=-1" if colours else "")
            )
        if padded > LARGEST or width > LARGEST:
            raise InvalidProblem(
                f"an axis of {n} samples padded to {padded}, under a kernel {width} wide, is larger than any memory"
            )
        reach.append(min(step, max(room, 1)))  # a longer one takes the first output too, and no other
        out.append(-(-room // step))
    return tuple(out), tuple(reach)
