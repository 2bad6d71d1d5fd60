"""The machine and the run: what is written beside every figure."""

import os
import platform
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from convengine._version import __version__
from convengine.native import cpu

__all__ = ["Load", "describe"]

STAT = Path("/proc/stat")
IDLE = (3, 4)  # fields of its first line: idle, waiting for a disk
STEAL = 7  # taken by the machine's host


def describe(threads: int, levels: list[str]) -> dict[str, Any]:
    """Versions, CPU, threads, date."""
    return {
        "convengine": __version__,
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": cpu.name(),
        "cpus": os.cpu_count(),
        "levels": list(cpu.levels()),
        "forced_levels": levels,
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith("CONVENGINE_")},
        "executable": sys.executable,
    }


class Load:
    """What others made of the CPUs during a run: figures of a busy machine mislead."""

    def __init__(self) -> None:
        self._before = _ticks()
        self._own = _own_seconds()

    def others(self) -> float | None:
        """The share of the CPUs' time that neither was idle nor went to this process and its ended children.

        None where the system does not tell.
        """
        now = _ticks()
        if now is None or self._before is None:
            return None
        spent = [after - before for after, before in zip(now, self._before, strict=True)]
        total = sum(spent)
        if total <= 0:
            return 0.0
        second = os.sysconf("SC_CLK_TCK")
        foreign = total - sum(spent[field] for field in IDLE) - (_own_seconds() - self._own) * second
        return min(max(foreign / total, 0.0), 1.0)


def _ticks() -> list[int] | None:
    """Of all CPUs: user, nice, system, idle, waiting, interrupts (two), stolen."""
    if not STAT.exists():
        return None
    first = STAT.read_text().splitlines()[0]
    return [int(field) for field in first.split()[1 : STEAL + 2]]


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
