"""Who is timed, by name: convengine's own choice, its backends and methods, and the libraries to use instead.

"convengine" is the automatic choice, "convengine/fft" a backend of ours, "opencv" a peer of `convengine bench`.
asv runs each case in a process of its own: no library's threads disturb another's.
"""

import functools
import os
from importlib import import_module

import numpy as np

import convengine as ce
from convengine.bench.contest import Job
from convengine.bench.ours import Ours
from convengine.bench.peers import PEERS
from convengine.bench.tasks import Task
from convengine.bench.worker import Trial
from convengine.native import cpu

METHODS = ("cython", "fft", "scipy")
OURS = ("convengine", *(f"convengine/{method}" for method in METHODS))
FILTERING = ("opencv", "ndimage", "signal", "torch")  # peers that filter images
LIBRARIES = (*OURS, *FILTERING)
THREADS = ("one", "all")
PATIENCE = 0.1  # seconds; what would take longer for one call is n/a

__all__ = ["FILTERING", "LIBRARIES", "OURS", "PATIENCE", "THREADS", "call", "confine", "refuse"]


def refuse(reason):
    """Make asv write n/a."""
    raise NotImplementedError(reason)  # asv's own sign, in setup, for n/a


def confine(threads):
    """Leave this process one CPU, or all; return how many. Some libraries can't be told otherwise."""
    count = 1 if threads == "one" else cpu.available_workers()
    if count < cpu.available_workers():
        if not hasattr(os, "sched_setaffinity"):
            refuse("this system binds no process to a CPU")
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(count))
    return count


def _refuse_slow(task, x, kernel, backend, workers):
    """A backend of ours tells its price, which is never so far off that it matters here."""
    how = {"mode": "same", "boundary": task.boundary, "backend": backend or None, "workers": workers}
    chosen = ce.explain(x, kernel, op=task.operation, **how).chosen
    if chosen is not None and chosen.offer.seconds > PATIENCE:
        refuse(f"a call would take some {chosen.offer.seconds:.2g} s")


@functools.cache  # asv sets a case up again before each sample
def call(library, kind, shape, kernel_shape, dtype, threads="all"):
    """The fastest way in which a library computes a task, warmed up; n/a where it can't."""
    count = confine(threads)
    task = Task(kind, shape, kernel_shape, dtype)
    x, kernel = task.arrays()
    if library.startswith("convengine"):
        backend, _, method = library.removeprefix("convengine").lstrip("/").partition("/")
        subject = Ours(backend or None, method)
        _refuse_slow(task, x, kernel, backend, count)
    else:
        peer = PEERS[library]
        if peer.missing:
            refuse(f"pip install {peer.install}")
        os.environ |= peer.environment
        module, name = peer.entry.split(":")
        subject = getattr(import_module(module), name)()
        subject.version()
    routes = subject.routes(Job(task, x, kernel, np.zeros(task.shape, task.dtype), count))
    if isinstance(routes, str):
        refuse(routes)
    trial = Trial(task, routes, PATIENCE)
    if not trial.likely:
        refuse(trial.reason)
    return next(route for route in routes if route.name == trial.likely[0]).start().call
