"""Keeps what calls on plain arrays said, each with its filter, for compiled code that finds it again in one step."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from convengine import config, running
from convengine.call import Call
from convengine.native.calls import Planned, Table
from convengine.plugin import WORKERS, Filter

__all__ = ["keep", "planned", "table"]

MOST_AXES = 8  # of arrays that calls.pyx knows
LIMIT = 32 << 20  # bytes; what is slow to compute gains nothing here, and is kept elsewhere


def table(defaults: Iterable[Any]) -> Table:
    """Return a table of calls, empty; `defaults` are what their words mostly are."""
    made = Table(
        **config.SOURCES,
        workers=WORKERS,
        logs=running.log.isEnabledFor,
        defaults=tuple(defaults),
        limit=LIMIT,
    )
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=made.renew)
    return made


def keep(
    kept: Table, call: Call, x: Any, kernel: Any, out: Any, bias: Any, said: tuple[Any, ...], drawn: tuple[Any, ...]
) -> None:
    """Keep a call that ran with these arguments, if it is nothing but its filter.

    `said` is what `Table.run` gets; `drawn` what the options were drawn from, `config.standing`.
    """
    if not (type(x) is type(kernel) is np.ndarray) or (filter_ := _filter(call)) is None or call.prepared is None:
        return
    kept.keep(x, kernel, out, bias, said, standing=drawn, nbytes=call.nbytes, **_served(call, filter_))


def planned(call: Call, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Planned | None:
    """A planned call that ran, in one step for arrays of its shape and dtype; None if it is more than its filter."""
    if call.reading.problem.memory != "host" or len(shape) > MOST_AXES or (filter_ := _filter(call)) is None:
        return None
    return Planned(shape, dtype, variable=WORKERS, logs=running.log.isEnabledFor, **_served(call, filter_))


def _served(call: Call, filter_: Filter) -> dict[str, Any]:
    """How the filter of a call serves it."""
    reading = call.reading
    assert call.prepared is not None
    return {
        "filter": filter_,
        "settle": call.settle,
        "out_shape": reading.out_shape,
        "out_dtype": reading.problem.result_dtype,
        "axes": None if call.identity else (reading.x_axes, reading.out_axes),
        "workers": call.prepared.options.workers,
    }


def _filter(call: Call) -> Filter | None:
    """The prepared filter of a call; None where something else has to be done, too."""
    more = call.integer_limits or call.flipped or call.conjugated
    empty = 0 in (*call.reading.out_shape, *call.reading.problem.x_shape)
    if more or empty or call.prepared is None or call.prepared.options.verbose:
        return None
    return call.prepared.settled
