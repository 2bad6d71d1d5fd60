"""The process of one library: reads requests on standard input, one JSON text a line, and answers in the same way.

What libraries print goes to standard error: standard output belongs to the answers.
"""

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from convengine.bench import memory
from convengine.bench.contest import Job, Route
from convengine.bench.tasks import Task
from convengine.bench.timing import measure

__all__ = ["main"]

TRIAL = 0.05  # seconds that each route is timed to find the fastest
LIKELY = 1.2  # times as slow as the fastest in the trial, a route is still timed with it
MOST_TEXT = 300  # characters of an error


def main() -> None:
    """Serve the library that the command line names, until standard input ends."""
    entry, arguments, threads = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        _confine(threads)
        module, name = entry.split(":")
        subject = getattr(import_module(module), name)(**arguments)
        _serve(subject, threads, answers)


def _confine(threads: int) -> None:
    """Leave the process as many CPUs as it may have threads: some libraries can't be told otherwise."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def _serve(subject: Any, threads: int, answers: TextIO) -> None:
    for line in sys.stdin:
        try:
            answer = _answer(subject, threads, json.loads(line))
        except Exception as error:  # noqa: BLE001  # whatever a library raises is the parent's to tell
            text = "; ".join(line.strip() for line in str(error).splitlines())[:MOST_TEXT]
            answer = {"failed": f"{type(error).__name__}: {text}" if text else type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(subject: Any, threads: int, request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "hello":
            return {"version": subject.version()}
        case "time":
            return _timed(subject, threads, request)
        case "limits":
            return dict(subject.at(Task.from_dict(request["task"]), request["level"], request["seconds"]))
        case "machine":
            counts = request["nbytes"]
            copies = [found for count in counts for found in subject.copies(count, request["seconds"])]
            return {"peaks": subject.peaks(), "copies": copies}
        case "pool":
            return {"regions": subject.regions()}
        case "modules":
            return {"modules": memory.modules(subject, _job(request, threads))}
        case "memory":
            return memory.peak(subject, lambda: _job(request, threads), request["modules"])
    raise ValueError(f"unknown request {request['do']!r}")


def _job(request: dict[str, Any], threads: int) -> Job:
    task, folder = Task.from_dict(request["task"]), Path(request["folder"])
    x, kernel = np.load(folder / "x.npy"), np.load(folder / "kernel.npy")
    return Job(task, x, kernel, np.zeros(task.shape, task.dtype), threads)


def _timed(subject: Any, threads: int, request: dict[str, Any]) -> dict[str, Any]:
    """Time the routes that were asked for, or all that may be the fastest, and answer with the one that is.

    Where none was asked for, their results are saved, to be checked.
    """
    job, folder = _job(request, threads), Path(request["folder"])
    routes = subject.routes(job)
    if isinstance(routes, str):
        return {"refused": routes, "skipped": []}
    known = {route.name: route for route in routes}
    names, skipped = request["routes"], []
    if names is None:
        tried = Trial(job.task, routes, request["patience"])
        names, skipped = tried.likely, tried.skipped
    if not names:
        return {"refused": tried.reason, "skipped": skipped}
    found = []
    for number, name in enumerate(names):
        run = known[name].start()
        timing = measure(run.call, request["seconds"] / len(names))
        found.append({"route": name, "method": run.method, "bound": asdict(run.bound), **asdict(timing)})
        if request["routes"] is None:
            job.out.fill(1)  # what a call before left there must not pass for this one's
            np.save(folder / f"result-{number}.npy", np.asarray(run.result(run.call())))
    return {"found": found, "skipped": skipped}


class Trial:
    """The routes of a task, each tried for a moment.

    Attributes
    ----------
    likely : list of str
        The fastest, and those so little slower that another moment might tell otherwise.
    skipped : list of str
        Those that would take too long or break down, with the reason.
    """

    def __init__(self, task: Task, routes: list[Route], patience: float) -> None:
        self.skipped: list[str] = []
        self._patience, self._endless = patience, 0
        times = {}
        for route in routes:
            expected = task.products / route.rate if route.rate else 0.0
            if expected > patience:
                self._endless += 1
                self.skipped.append(f"{route.name}: a call would take some {expected:.2g} s")
                continue
            try:
                times[route.name] = measure(route.start().call, TRIAL).seconds
            except Exception as error:  # noqa: BLE001  # a route that breaks down is one that is not taken
                self.skipped.append(f"{route.name}: {type(error).__name__}: {error}")
        self.likely = [name for name, seconds in times.items() if seconds <= LIKELY * min(times.values())]

    @property
    def reason(self) -> str:
        """Why no route is left."""
        if self._endless == len(self.skipped):
            return f"a call would take more than {self._patience:g} s"
        return "; ".join(self.skipped)


if __name__ == "__main__":
    main()
