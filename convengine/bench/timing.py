"""Timing a call: warmed up, often enough, and the median."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

__all__ = ["Timing", "measure"]

BATCH = 1e-4  # seconds that the clock is read once for: its reading takes 50 ns
WARM = 0.01  # seconds of calls before the first that counts: caches, clock rates, threads
LEAST = 3  # batches
SLOW = 0.5  # seconds from which on one call says enough: the rounds say how it varies


@dataclass(frozen=True, slots=True)
class Timing:
    """The median seconds of a call, and how many were made."""

    seconds: float
    calls: int


def measure(call: Callable[[], Any], seconds: float, clock: Callable[[], float] = perf_counter) -> Timing:
    """Time a call for about `seconds`, without the garbage collector."""
    once, warm = _seconds_of(call, 1, clock), 0.0
    while warm + once < WARM:
        once = _seconds_of(call, 1, clock)
        warm += once
    if once >= SLOW:
        return Timing(_seconds_of(call, 1, clock), 1)
    batch = max(1, int(BATCH / max(once, 1e-9)))
    enabled = gc.isenabled()
    gc.disable()
    try:
        times: list[float] = []
        until = clock() + seconds
        while len(times) < LEAST or clock() < until:
            times.append(_seconds_of(call, batch, clock))
    finally:
        if enabled:
            gc.enable()
    return Timing(statistics.median(times) / batch, len(times) * batch)


def _seconds_of(call: Callable[[], Any], count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        call()
    return clock() - start
