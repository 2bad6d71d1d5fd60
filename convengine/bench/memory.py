"""Peak memory of one call, in a fresh process: the most that was resident, less what was before the call."""

import gc
import resource
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from convengine.bench.contest import Job
from convengine.bench.tasks import Task

__all__ = ["modules", "peak"]

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # what clear_refs takes for it, see proc(5)


def modules(subject: Any, job: Job) -> list[str]:
    """The modules that are loaded once a call has been made."""
    _only_run(subject, job)
    return sorted(name for name in sys.modules if not name.startswith("__"))


def peak(subject: Any, job: Callable[[], Job], loaded: list[str]) -> dict[str, Any]:
    """Measure the peak of the first call, which prepares the kernel too, beside x, the kernel and out.

    The modules that it would load are loaded before, and a small filter has been run: the code of libraries is no part
    of what a call needs. Beyond that nothing is warm.
    """
    for name in loaded:
        _import(name)
    small = Task("image", (16, 16), (3, 3), "float32")
    x, kernel = small.arrays()
    _only_run(subject, Job(small, x, kernel, np.zeros_like(x), 1))
    work = job()
    work.out.fill(1)  # touched: its pages are not the call's
    gc.collect()
    before = _reset()
    method = _only_run(subject, work)
    return {"before": before, "bytes": _most() - before, "method": method}


def _import(name: str) -> None:
    try:
        import_module(name)
    except ImportError:  # loaded by tricks of its own: then its parents do it again
        return


def _only_run(subject: Any, job: Job) -> str:
    routes = subject.routes(job)
    if isinstance(routes, str):
        raise ValueError(routes)
    run = routes[0].start()
    run.call()
    return str(run.method)


def _field(name: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise OSError(f"{STATUS} has no {name}")


def _reset() -> int:
    """Forget the peak so far, where the system can; the bytes resident now, or the peak."""
    if not CLEAR.exists():
        return _most()
    CLEAR.write_text(RESET_PEAK)
    return _field("VmRSS:")


def _most() -> int:
    if STATUS.exists():
        return _field("VmHWM:")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1 << 10)
