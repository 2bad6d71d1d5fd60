"""What this machine can do at most, measured in a process of its own, in turn with the libraries."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convengine.bench.tasks import Array, Task
from convengine.bench.timing import measure
from convengine.native import cpu, limits

__all__ = ["Limits"]

ALIGNMENT = 64
PEAK_SECONDS = 0.02
REGION_PAUSES = {"at once": 0.0, "after 20 us": 20e-6, "after 1 ms, asleep": 1e-3}  # seconds between two regions


def _room(count: int) -> Array:
    """That many bytes, aligned and touched."""
    room = np.ones(count + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + count]


def _copies(count: int, threads: int) -> dict[str, Callable[[], Any]]:
    """Every way to copy so many bytes."""
    source, target = _room(count), _room(count)

    def way(workers: int, nontemporal: bool) -> Callable[[], Any]:
        return lambda: limits.copy(source, target, nontemporal=nontemporal, workers=workers)

    ways: dict[str, Callable[[], Any]] = {"np.copyto": lambda: np.copyto(target, source)}
    for workers in sorted({1, threads}):
        text = f"{workers} thread{'s' * (workers > 1)}"
        ways[f"plain, {text}"] = way(workers, False)
        if limits.streams():
            ways[f"non-temporal, {text}"] = way(workers, True)
    return ways


class Limits:
    """Answers for the machine as a library answers for itself."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def version(self) -> str:
        """Name the CPU."""
        return cpu.name()

    def at(self, task: Task, level: str, seconds: float) -> dict[str, Any]:
        """The limits for a task: the peak in its dtype, if it is a float, and the fastest copy of its size."""
        ways = _copies(task.nbytes, self._threads)
        copies = {name: measure(way, seconds / len(ways)).seconds for name, way in ways.items()}
        fastest = min(copies, key=copies.__getitem__)
        flops = limits.flops(level, task.dtype, workers=self._threads, seconds=PEAK_SECONDS) if task.is_float else None
        return {"flops": flops, "copy_seconds": copies[fastest], "copy": fastest}

    def peaks(self) -> list[dict[str, Any]]:
        """The peak of every level and float dtype, on one thread and on all."""
        return [
            {
                "level": level,
                "dtype": dtype,
                "threads": workers,
                "flops": limits.flops(level, dtype, workers=workers, seconds=5 * PEAK_SECONDS),
            }
            for level in cpu.levels()
            for dtype in ("float32", "float64")
            for workers in sorted({1, self._threads})
        ]

    def copies(self, count: int, seconds: float) -> list[dict[str, Any]]:
        """Every way to copy so many bytes."""
        return [
            {"nbytes": count, "copy": name, "seconds": measure(way, seconds).seconds}
            for name, way in _copies(count, self._threads).items()
        ]

    def regions(self) -> list[dict[str, Any]]:
        """What a parallel region on all threads costs, however long the pool has waited for it."""
        found = []
        for name, idle in REGION_PAUSES.items():
            costs = np.sort(limits.region(self._threads, idle=idle))
            found.append({"threads": self._threads, "pause": name, **_quartiles(costs)})
        return found


def _quartiles(values: Array) -> dict[str, float]:
    low, middle, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    return {"seconds": middle, "low": low, "high": high}
